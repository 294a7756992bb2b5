"Files: downloads from a server that misbehaves, writing that is killed, shared or short of room, and memory that ran out."
import errno, functools, hashlib, http.server, multiprocessing, os, random, signal, socket, socketserver, threading, time
from pathlib import Path
import pytest
from colourise import files
from colourise.files import (ColouriseError, FileError, digest, download, in_threads, out_of_memory, progress, read_json, reason,
                             replacing, shown, sweep, write_atomic, write_json)

def everything(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))


# --- a server that can misbehave ----------------------------------------------------------------------------------

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        s.asked.append(self.path)
        if s.status != 200: return self.send_error(s.status)
        self.send_response(200)
        if s.length: self.send_header('Content-Length', str(len(s.content)))
        self.end_headers()
        if s.silent: return time.sleep(s.silent)
        self.wfile.write(s.content[:s.breaks.pop(0) if s.breaks else None])

    def log_message(self, *args): pass

class Server(socketserver.ThreadingTCPServer):
    "Serves `content`; `breaks` lists after how many bytes the next connections end."
    allow_reuse_address = daemon_threads = True
    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content,self.breaks,self.asked,self.length,self.status,self.silent = CONTENT,[],[],True,200,0
        self.url = f'http://127.0.0.1:{self.server_address[1]}/file'

CONTENT = random.Random(1).randbytes(900_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()

@pytest.fixture
def server():
    s = Server()
    threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
    yield s
    s.shutdown(); s.server_close()

def get(server, dest, **kwargs): return download(server.url, dest, **dict(size=len(CONTENT), sha256=DIGEST, wait=.01) | kwargs)


# --- downloads ----------------------------------------------------------------------------------------------------

def test_a_download_is_whole_and_right(server, tmp_path):
    dest = get(server, tmp_path/'new'/'folder'/'x')
    assert dest == tmp_path/'new'/'folder'/'x' and dest.read_bytes() == CONTENT and everything(dest.parent) == ['x']
    assert get(server, tmp_path/'y', sha256=DIGEST[:8].upper(), size=None).read_bytes() == CONTENT # a prefix, as in torchvision's names
    assert get(server, tmp_path/'z', sha256=None, size=None).read_bytes() == CONTENT

def test_broken_connections_are_tried_again(server, tmp_path):
    server.breaks = [300_000, 0]
    assert get(server, tmp_path/'x').read_bytes() == CONTENT and len(server.asked) == 3 and everything(tmp_path) == ['x']

def test_a_server_that_always_breaks_is_given_up(server, tmp_path):
    server.breaks = [200_000]*50
    with pytest.raises(FileError, match='the connection broke off.*by hand at .*/x, or do without') as e: get(server, tmp_path/'x', hint=', or do without')
    assert len(server.asked) == 4 and everything(tmp_path) == [] and server.url in str(e.value)

def test_a_short_answer_is_noticed(server, tmp_path):
    "A server that doesn't say how much will come, and ends early."
    server.length, server.breaks = False, [300_000, 300_000]
    with pytest.raises(FileError, match='has 300000 bytes instead of 900000; it was thrown away'): get(server, tmp_path/'x')
    with pytest.raises(FileError, match='has the sha256 .* instead of'): get(server, tmp_path/'x', size=None)
    assert everything(tmp_path) == []

def test_another_file_than_expected_leaves_nothing(server, tmp_path):
    for wrong in (dict(sha256='0'*64), dict(sha256='0123abcd'), dict(size=900_001)):
        with pytest.raises(FileError, match='thrown away.*by hand at'): get(server, tmp_path/'x', **wrong)
    assert everything(tmp_path) == [] and len(server.asked) == 3     # it would be the same again

def test_what_is_there_is_checked_and_not_fetched(server, tmp_path):
    (tmp_path/'x').write_bytes(CONTENT)
    assert get(server, tmp_path/'x') == tmp_path/'x' and server.asked == []
    (tmp_path/'x').write_bytes(b'by hand, but wrong')
    for one in (dict(size=None), dict(sha256=None)):
        with pytest.raises(FileError, match='delete it, and it will be fetched'): get(server, tmp_path/'x', **one)
    assert (tmp_path/'x').read_bytes() == b'by hand, but wrong' and server.asked == []

def test_missing_on_the_server_fails_at_once(server, tmp_path):
    server.status = 404
    with pytest.raises(FileError, match='the server answers 404'): get(server, tmp_path/'x')
    assert len(server.asked) == 1
    server.status = 503                                              # may pass
    with pytest.raises(FileError, match='the server answers 503'): get(server, tmp_path/'x', tries=3)
    assert len(server.asked) == 4 and everything(tmp_path) == []
    with pytest.raises(FileError, match='this is no address'): download('no/address', tmp_path/'x')

def test_a_busy_server_is_asked_again(server, tmp_path, monkeypatch):
    server.status = 503
    monkeypatch.setattr('time.sleep', lambda s: setattr(server, 'status', 200)) # after a while it has time
    assert get(server, tmp_path/'x').read_bytes() == CONTENT and len(server.asked) == 2

def test_no_network_names_the_way_out(tmp_path, monkeypatch):
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]   # a port where nobody listens
    slept = []
    monkeypatch.setattr('time.sleep', slept.append)
    with pytest.raises(FileError) as e: download(f'http://127.0.0.1:{port}/f', tmp_path/'x')
    assert f"http://127.0.0.1:{port}/f can't be downloaded: no connection" in str(e.value) and f'by hand at {tmp_path/"x"}.' in str(e.value)
    assert 0 < sum(slept) < 5 and everything(tmp_path) == []         # tries again, but not for long

def fetch_forever(url, dest): download(url, dest)

def test_a_killed_download_leaves_no_file(server, tmp_path):
    server.silent = 60
    p = multiprocessing.get_context('spawn').Process(target=fetch_forever, args=(server.url, tmp_path/'x'))
    p.start()
    wait_for(lambda: everything(tmp_path))
    p.kill(); p.join()
    assert not (tmp_path/'x').exists()
    server.silent = 0
    assert get(server, tmp_path/'x').read_bytes() == CONTENT

def test_ctrl_c_leaves_nothing(server, tmp_path, monkeypatch):
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr('requests.Response.iter_content', stop)
    with pytest.raises(KeyboardInterrupt): get(server, tmp_path/'x')
    assert everything(tmp_path) == []

def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path/'file').write_text('in the way')
    with pytest.raises(FileError, match="can't be written"): get(server, tmp_path/'file'/'x')

def test_the_bar_of_a_download_is_seen_on_a_terminal_only(server, tmp_path, capsys, monkeypatch):
    get(server, tmp_path/'unseen')
    assert capsys.readouterr() == ('', '')                           # pytest's streams are no terminal
    monkeypatch.setattr(files, 'bars_show', lambda: True)
    monkeypatch.setattr(files, 'progress', functools.partial(progress, mininterval=0))
    server.content, server.breaks = CONTENT*4, [1_500_000]
    get(server, tmp_path/'seen', size=len(CONTENT)*4, sha256=None)
    out, err = capsys.readouterr()
    assert out == '' and 'seen: ' in err and '/3.60M' in err and '100%' in err


# --- writing ------------------------------------------------------------------------------------------------------

def wait_for(ready, seconds=60):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.01)

def rewrite(path):
    "Writes a megabyte of one letter, then of the other, for ever."
    while True:
        for letter in 'ab': write_atomic(path, letter*1_000_000)

def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    for i in range(5):
        p = multiprocessing.get_context('fork').Process(target=rewrite, args=(tmp_path/'x',))
        p.start()
        wait_for((tmp_path/'x').exists)
        time.sleep(.01 + i*.007)
        p.kill(); p.join()
        text = (tmp_path/'x').read_text()
        assert len(text) == 1_000_000 and len(set(text)) == 1
    left = everything(tmp_path)
    sweep(tmp_path)
    assert everything(tmp_path) == left                              # too young: somebody may be writing
    for p in tmp_path.glob('.colourise-*'): os.utime(p, (0, 0))
    sweep(tmp_path)
    assert everything(tmp_path) == ['x']

def test_many_writers_of_one_file_do_not_mix(tmp_path):
    contents = [str(i)*100_000 for i in range(8)]
    list(in_threads(lambda c: [write_atomic(tmp_path/'x', c) for _ in range(20)], contents, 8))
    assert (tmp_path/'x').read_text() in contents and everything(tmp_path) == ['x']

@pytest.mark.parametrize('error', [ValueError('no'), OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()], ids=['mistake', 'full', 'ctrl-c'])
def test_what_fails_changes_nothing(tmp_path, error):
    (tmp_path/'x.npy').write_text('old')
    with pytest.raises(FileError if isinstance(error, OSError) else type(error)) as e:
        with replacing(tmp_path/'x.npy') as temp:
            assert temp.parent == tmp_path and temp.name.startswith('.') and temp.suffix == '.npy' # so that np.save adds no other
            temp.write_text('half of the n')
            raise error
    assert (tmp_path/'x.npy').read_text() == 'old' and everything(tmp_path) == ['x.npy']
    if isinstance(error, OSError): assert "x.npy can't be written (No space left on device)" in str(e.value) and e.value.__cause__ is error

def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path/'file').touch(); os.mkfifo(tmp_path/'pipe')
    for place in (tmp_path, tmp_path/'pipe', tmp_path/'file'/'x', tmp_path/('n'*300)):
        with pytest.raises(FileError, match="can't be written"): write_atomic(place, b'')
    assert everything(tmp_path) == ['file', 'pipe']

def test_links_stay_links_and_names_may_be_long(tmp_path):
    (tmp_path/'link').symlink_to(tmp_path/'real')
    write_atomic(tmp_path/'link', 'ü')
    assert (tmp_path/'link').is_symlink() and (tmp_path/'real').read_bytes() == 'ü'.encode()
    write_atomic(tmp_path/('n'*200 + '.' + 'm'*50), b'1')            # 251 of 255 bytes
    umask = os.umask(0o022); os.umask(umask)
    assert (tmp_path/'real').stat().st_mode & 0o777 == 0o666 & ~umask # as any other new file

def test_facts(tmp_path):
    assert read_json(tmp_path/'x.json') == {}
    write_json(tmp_path/'x.json', dict(a=[1, None], where='Zürich'))
    assert read_json(tmp_path/'x.json') == dict(a=[1, None], where='Zürich') and 'Zürich' in (tmp_path/'x.json').read_text()
    with pytest.raises(TypeError): write_json(tmp_path/'x.json', dict(a=object()))
    assert read_json(tmp_path/'x.json')['a'] == [1, None]
    (tmp_path/'x.json').write_text('{"a": ')
    with pytest.raises(FileError, match="x.json can't be read .*delete it"): read_json(tmp_path/'x.json')

def test_digests(tmp_path):
    (tmp_path/'x').write_bytes(CONTENT)
    assert digest(tmp_path/'x') == digest(CONTENT) == DIGEST and digest('é', 8) == hashlib.sha256('é'.encode()).hexdigest()[:8]

def test_paths_as_shown(tmp_path, monkeypatch):
    monkeypatch.setenv('COLOURISE_ROOT', str(tmp_path/'course'))
    assert shown(tmp_path/'course'/'runs') == Path('runs') and shown(tmp_path/'else') == tmp_path/'else'
    monkeypatch.chdir(tmp_path)
    assert shown('course/runs') == Path('runs') and files.near(tmp_path/'course') == 'course' and files.near(Path('/')) == '/'


# --- many at once -------------------------------------------------------------------------------------------------

def test_results_come_in_order_and_an_error_stops_the_rest():
    begun = []
    def slow(i): begun.append(i); time.sleep(.01*(5-i)); return i
    assert list(in_threads(slow, range(5), 3)) == [*range(5)]
    begun.clear()
    def fails(i): begun.append(i); time.sleep(.005); return 1/(i-2)
    with pytest.raises(ZeroDivisionError): list(in_threads(fails, range(1000), 2))
    assert len(begun) < 500
    begun.clear()
    results = in_threads(slow, range(5), 1)
    assert next(results) == 0
    results.close()                                                   # whoever stops looking stops the work
    assert len(begun) < 5

def test_bars_are_hidden_in_a_log(capsys, monkeypatch):
    assert list(progress(range(3))) == [0, 1, 2] and capsys.readouterr() == ('', '')
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    monkeypatch.delenv('TQDM_DISABLE', raising=False)
    assert list(progress(range(3), unit=' cats', leave=True)) == [0, 1, 2] and 'cats/s' in capsys.readouterr().err
    monkeypatch.setenv('TQDM_DISABLE', '1')
    assert list(in_threads(abs, range(3), 1)) == [0, 1, 2] and capsys.readouterr().err == ''
    monkeypatch.delenv('TQDM_DISABLE')
    assert list(progress(range(3), disable=True)) == [0, 1, 2] and capsys.readouterr().err == ''


# --- memory -------------------------------------------------------------------------------------------------------

def test_real_shortage_of_memory_is_recognised():
    "NumPy's and PyTorch's own messages, for as many bytes as no machine has."
    import numpy as np, torch
    for ask in (lambda: np.zeros(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: bytearray(1 << 60)):
        with pytest.raises(Exception) as e: ask()
        assert out_of_memory(e.value) and reason(e.value) == 'out of memory'

@pytest.mark.parametrize('error, is_it', [
    (RuntimeError('CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 23.65 GiB total capacity)'), True),
    (RuntimeError('MPS backend out of memory (MPS allocated: 9.05 GB)'), True), (RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED'), True),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."), True),
    (RuntimeError('[enforce fail at alloc_cpu.cpp:83] data. DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes.'), True),
    (RuntimeError('[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code. bad allocation'), True), (RuntimeError('std::bad_alloc'), True),
    (RuntimeError('[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9437184'), True),
    (MemoryError(), True), (OSError(errno.ENOMEM, 'Cannot allocate memory'), True), (RuntimeError('mmap: Cannot allocate memory'), True),
    (RuntimeError('shape mismatch'), False), (FileNotFoundError(errno.ENOENT, 'No such file', 'out of memory.jpg'), False),
    (ColouriseError("out of memory.jpg can't be read."), False), (KeyboardInterrupt(), False), (OSError(errno.ENOSPC, 'No space left on device'), False)])
def test_shortage_of_memory_by_its_words(error, is_it): assert out_of_memory(error) is is_it
