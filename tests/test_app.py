"""The server of colourise-app: who may ask it, what it holds, what it gives back, and that nothing is left of it."""
import io, json, os, re, signal, subprocess, sys, time, zipfile
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from threading import Thread
import numpy as np, pytest
from PIL import Image
from colourise.app import server
from colourise.batch import colour_bytes
from colourise.colour import enlarge
from colourise.infer import Colouriser
from colourise.photo import embedded
from conftest import REPO, clean_env

class Blue:
    "In place of a `Colouriser`: what is tested is the server. All becomes blue, after `slow` seconds; counts what it is asked."
    name, render_size, slow, asked = 'blue', 64, 0, 0
    def render(self, photo, render_size=None, flip=None):
        self.asked += 1
        time.sleep(self.slow)
        return np.tile(np.float32([-.05, -.02, .24]), (8, 8, 1))
    def colourise(self, photo, render_size=None, colour=1., flip=None, hints=()):
        return photo.with_colours(enlarge(photo.grey, self.render(photo), colour))

class Page:
    "A running server, and what our page asks of it."
    def __init__(self, net, **options):
        self.server, sock, url = server(net, **options)
        self.thread = Thread(target=self.server.run, kwargs=dict(sockets=[sock]))
        self.thread.start()
        self.address, self.token = url.removeprefix('http://').split('/#')
    def ask(self, method, path, body=None, raw=False, timeout=300, **headers):
        own = {'Host': self.address, 'Origin': f'http://{self.address}', 'X-Token': self.token}
        own = {k: v for k, v in (own | {k.replace('_', '-'): v for k, v in headers.items()}).items() if v is not None}
        c = HTTPConnection(self.address, timeout=timeout)
        c.request(method, path, body, own)
        r = c.getresponse()
        return (r, r.read()) if raw else (r.status, r.read())
    def put(self, id, name, data): return self.ask('PUT', f'/photos/{id}?name={name}', data)
    def want(self, id, colour=1., render_size=None, hints=()):
        return self.ask('POST', f'/photos/{id}', json.dumps(dict(colour=colour, render_size=render_size, hints=hints)))
    def told(self): return {p['id']: p for p in json.loads(self.ask('GET', '/photos?since=0')[1])['changed']}
    def done(self, seconds=600):
        "What the page knows of its photographs, as soon as nothing is left to do."
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = self.told()
            if all(p['state'] in ('ready', 'failed') for p in told.values()): return told
            time.sleep(.05)
        raise AssertionError(told)
    def zip(self): return zipfile.ZipFile(io.BytesIO(self.ask('POST', '/zip', f'token={self.token}')[1]))
    def end(self):
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

@pytest.fixture
def page():
    p = Page(Blue())
    yield p
    p.end()

@pytest.fixture(scope='module')
def net(): return Colouriser.from_pretrained(REPO/'colourise/model.safetensors')

def picture(size=(60, 40), format='JPEG', mode='L', **more):
    "A picture file of a gradient."
    img = Image.fromarray(np.linspace(40, 220, size[0]*size[1]).reshape(size[1], size[0]).astype(np.uint8)).convert(mode)
    img.save(f := io.BytesIO(), format, **more)
    return f.getvalue()

def opened(data): return Image.open(io.BytesIO(data))


# --- who may ask ----------------------------------------------------------------------------------------------

FOREIGN = [dict(Origin='https://example.org'), dict(Origin='null'), dict(Origin='http://127.0.0.1:1'), dict(Host='colours.example.org'),
           dict(Host='127.0.0.1.example.org'), dict(Sec_Fetch_Site='cross-site'), dict(Sec_Fetch_Site='same-site'), dict(X_Token='sesame'),
           dict(X_Token=None), dict(X_Token='\xe4')]

@pytest.mark.parametrize('headers', FOREIGN, ids=lambda h: '-'.join(map(str, *h.items())))
def test_strangers_are_refused(page, headers):
    page.put('1', 'a.jpg', picture())
    before = page.done()
    for method, path, body in (('PUT', '/photos/2?name=b.jpg', picture()), ('POST', '/photos/1', '{}'), ('DELETE', '/photos/1', None), ('GET', '/photos', None),
                               ('GET', '/photos/1/after', None), ('GET', '/photos/1/file', None)):
        status, said = page.ask(method, path, body, **headers)
        assert status in (400, 403) and len(said) < 100, (method, path)
    if 'X_Token' not in headers: assert page.ask('POST', '/zip', f'token={page.token}', **headers)[0] in (400, 403)
    assert page.done() == before

def test_who_changes_something_says_where_it_comes_from(page):
    assert page.ask('PUT', '/photos/1', picture(), Origin=None)[0] == 403 and page.told() == {}
    assert page.ask('POST', '/zip', 'token=sesame')[0] == page.ask('POST', '/zip', '')[0] == 403
    assert page.ask('GET', '/photos', Origin=None)[0] == 200 # reading with the secret word

def test_localhost_is_this_computer_too(page):
    own = f"localhost:{page.address.split(':')[1]}"
    assert page.ask('PUT', '/photos/1?name=a.jpg', picture(), Host=own, Origin=f'http://{own}')[0] == 200
    assert page.ask('PUT', '/photos/2?name=a.jpg', picture(), Host=own)[0] == 403 # one name, but another origin

def test_it_listens_to_this_computer_alone():
    _, sock, url = server(Blue())
    with sock: assert sock.getsockname()[0] == '127.0.0.1' and url.startswith('http://127.0.0.1:')

def test_the_page_holds_nothing_of_others(page):
    for path in ('/', '/app.js', '/app.css', '/compare.css'):
        r, body = page.ask('GET', path, raw=True, X_Token=None, Origin=None)
        policy = r.headers['content-security-policy']
        assert r.status == 200 and "default-src 'self'" in policy and 'unsafe' not in policy and '*' not in policy
        assert r.headers['cache-control'] == 'no-store' and not [h for h in r.headers if h.startswith('access-control')]
        assert re.findall(rb'(?:https?:)?//[\w.-]+\.\w+', body) == []
    html = (REPO/'colourise/static/app.html').read_text(encoding='utf-8')
    assert not re.search(r'\son\w+=|\sstyle=|<style|javascript:', html) # the policy forbids them

def test_no_file_of_this_computer_is_served(page):
    for path in ('/settings.ini', '/static/app.html', '/..%2fapp.py', '/../app.py', '/photos/..%2f..%2fapp.py/after'):
        assert page.ask('GET', path)[0] in (404, 403), path


# --- photographs ----------------------------------------------------------------------------------------------

def test_a_broken_file_fails_alone(page):
    page.put('1', 'good.jpg', picture())
    page.put('2', 'letter.jpg', b'Dear aunt')
    page.put('3', 'cut.jpg', picture((600, 400))[:2000])
    page.put('4', 'empty.png', b'')
    page.put('5', 'fine.png', picture(format='PNG'))
    told = page.done()
    assert [p['state'] for p in told.values()] == ['ready', 'failed', 'failed', 'failed', 'ready']
    for id in '234': assert told[id]['name'] in told[id]['said'] and len(told[id]['said'].splitlines()) == 1 and 'Traceback' not in told[id]['said']
    assert page.ask('GET', '/photos/2/after')[0] == 404
    status, said = page.ask('GET', '/photos/2/file')
    assert status == 422 and b'letter.jpg' in said
    assert page.zip().namelist() == ['good-colour.jpg', 'fine-colour.png']

def test_an_error_that_nobody_foresaw_is_said_too(page):
    Blue.render, old = (lambda *a, **k: 1/0), Blue.render
    try:
        page.put('1', 'odd.jpg', picture())
        assert 'odd.jpg' in (said := page.done()['1']['said']) and 'division by zero' in said
    finally: Blue.render = old
    page.put('2', 'next.jpg', picture())
    assert page.done()['2']['state'] == 'ready'

def test_fifty(page):
    for i in range(50): assert page.put(str(i), f'old{i % 40}.jpg', picture())[0] == 200
    told = page.done()
    assert len(told) == 50 and {p['state'] for p in told.values()} == {'ready'}
    with page.zip() as z:
        assert len(set(z.namelist())) == 50 and {'old0-colour.jpg', 'old0-colour-2.jpg', 'old39-colour.jpg'} <= {*z.namelist()} and z.testzip() is None
        assert {opened(z.read(n)).size for n in z.namelist()} == {(60, 40)}

def test_the_full_size_is_what_the_command_makes(net, tmp_path):
    "With its EXIF and resolution, 16 bits where it came with 16; through the real model, with a hint."
    exif = Image.Exif()
    exif[0x13b], exif[0x132] = 'Aunt Emma', '1931:05:01 12:00:00'
    exif.get_ifd(0x8825)[1] = 'N'
    exif[0x112] = 6 # lies on its side
    old = picture((300, 200), exif=exif, dpi=(600, 600))
    scan = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 6000).reshape(60, 100).astype(np.uint16)).save(scan, 'PNG')
    page = Page(net)
    try:
        page.put('1', 'old.jpg', old)
        page.put('2', 'scan.png', scan.getvalue())
        page.want('1', .8, 32, [[50, 50, '#a33b2a']])
        page.done()
        status, made = page.ask('GET', '/photos/1/file')
        with page.zip() as z: all_of_them = {n: z.read(n) for n in z.namelist()}
    finally: page.end()
    assert status == 200 and made == colour_bytes(net, old, 'old.jpg', colour=.8, render_size=32, hints=[('50.0%', '50.0%', '#a33b2a')])[1]
    assert [*all_of_them] == ['old-colour.jpg', 'scan-colour.png'] and all_of_them['old-colour.jpg'] == made
    new = opened(made)
    assert new.size == (200, 300) and new.info['dpi'] == (600, 600) and 'icc_profile' in new.info
    kept = new.getexif()
    assert (kept[0x13b], kept[0x132], kept.get_ifd(0x8825)[1]) == ('Aunt Emma', '1931:05:01 12:00:00', 'N') and 'colours added' in kept[0x131]
    (tmp_path/'scan.png').write_bytes(all_of_them['scan-colour.png'])
    assert all_of_them['scan-colour.png'][24] == 16 # bits, as its header says

def test_24_megapixels(page):
    big = picture((6000, 4000), quality=85)
    page.put('1', 'big.jpg', big)
    assert page.done()['1']['size'] == [6000, 4000]
    assert max(opened(page.ask('GET', '/photos/1/after')[1]).size) <= 1600 and max(opened(page.ask('GET', '/photos/1/thumb')[1]).size) <= 320
    with page.zip() as z: assert opened(z.read('big-colour.jpg')).size == (6000, 4000)

def test_it_holds_no_more_than_it_may():
    one = picture((300, 200), 'BMP')
    page = Page(Blue(), most=2*len(one) + 100)
    try:
        assert [page.put(str(i), f'{i}.bmp', one)[0] for i in range(4)] == [200, 200, 422, 422]
        status, said = page.put('4', 'four.bmp', one)
        assert 'four.bmp' in said.decode() and 'at once' in said.decode() and len(said.splitlines()) == 1
        assert [*page.done()] == ['0', '1']
        assert page.ask('DELETE', '/photos/0')[0] == 200 and page.put('5', '5.bmp', one)[0] == 200 # there is room again, and once
        assert page.put('6', '6.bmp', one)[0] == 422
    finally: page.end()

def test_an_upload_that_breaks_off_takes_no_room():
    page = Page(Blue(), most=10**6)
    try:
        c = HTTPConnection(page.address, timeout=20)
        c.putrequest('PUT', '/photos/1?name=a.jpg', skip_host=True)
        for k, v in dict(Host=page.address, Origin=f'http://{page.address}').items(): c.putheader(k, v)
        c.putheader('X-Token', page.token)
        c.putheader('Content-Length', '900000')
        c.endheaders()
        c.send(bytes(800_000))
        c.close()
        end = time.monotonic() + 20
        while (said := json.loads(page.ask('GET', '/photos')[1]))['held'] and time.monotonic() < end: time.sleep(.05)
        assert said['held'] == 0 and said['all'] == []
    finally: page.end()


# --- wishes ---------------------------------------------------------------------------------------------------

def saturation(data): return np.ptp(np.asarray(opened(data).convert('RGB'), float), axis=2).mean()

def test_the_last_wish_counts_and_the_network_is_asked_once():
    net = Blue()
    page = Page(net)
    try:
        page.put('1', 'a.jpg', picture())
        page.done()
        strong = saturation(page.ask('GET', '/photos/1/after')[1])
        for i in range(20): assert page.want('1', i/20)[0] == 200
        assert page.want('1', 0.)[0] == 200
        told = page.done()['1']
        assert told['turn'] == told['shown'] == 22 and told['settings']['colour'] == 0
        assert saturation(page.ask('GET', '/photos/1/after')[1]) < 3 < strong
        assert net.asked == 1
        page.want('1', 1., 128)
        page.done()
        assert net.asked == 2 # another render size is another question
    finally: page.end()

def test_a_wish_goes_before_what_waits():
    net = Blue()
    net.slow = .3
    page = Page(net)
    try:
        for i in range(8): page.put(str(i), f'{i}.jpg', picture())
        while not page.told()['0']['shown']: time.sleep(.02)
        page.want('0', .5)
        while page.told()['0']['shown'] < 2: time.sleep(.02)
        assert [p['state'] for p in page.told().values()].count('waiting') >= 3 # the others still wait
        assert {p['state'] for p in page.done().values()} == {'ready'} and net.asked == 8 # once each
    finally: page.end()

def test_a_wish_while_it_is_coloured_is_not_lost():
    net = Blue()
    net.slow = .5
    page = Page(net)
    try:
        page.put('1', 'a.jpg', picture())
        while page.told()['1']['state'] != 'colouring': time.sleep(.01)
        page.want('1', 0.)
        while page.told()['1']['shown'] < 2: time.sleep(.02)
        assert saturation(page.ask('GET', '/photos/1/after')[1]) < 3
    finally: page.end()

def test_odd_wishes_are_refused_and_the_picture_stays(page):
    page.put('1', 'a.jpg', picture())
    page.done()
    for odd in ({}, [], 'x', dict(colour=3, render_size=None, hints=[]), dict(colour=float('nan'), render_size=64, hints=[]), dict(colour=1, render_size=64, hints=[[1]])):
        status, said = page.ask('POST', '/photos/1', json.dumps(odd))
        assert status == 422 and said, odd
    assert page.ask('POST', '/photos/1', b'\xff{')[0] == 422 and page.done()['1']['turn'] == 1
    before = page.ask('GET', '/photos/1/after')[1]
    for hint, part in (([50, 50, 'rred'], 'is no colour'), ([150, 50, 'red'], 'outside the picture')):
        page.want('1', hints=[hint])
        told = page.done()['1']
        assert part in told['said'] and told['state'] == 'ready' and page.ask('GET', '/photos/1/after')[1] == before
    page.want('1', .5)
    assert page.done()['1']['said'] == ''

def test_a_hint_shows_where_it_was_put(page):
    Image.fromarray(np.repeat(np.uint8([[90, 160]]), 50, 1).repeat(60, 0)).save(f := io.BytesIO(), 'PNG') # two halves
    page.put('1', 'halves.png', f.getvalue())
    page.want('1', hints=[[25, 50, '#a33b2a']])
    page.done()
    left, right = np.asarray(opened(page.ask('GET', '/photos/1/after')[1]), int)[30, [20, 80]]
    assert left[0] > left[2] + 30 and right[2] > right[0] + 20 # red, and still blue

def test_what_is_removed_is_gone(page):
    page.put('1', 'a.jpg', picture())
    page.done()
    assert page.ask('DELETE', '/photos/1')[0] == 200 and page.told() == {}
    for method, path in (('DELETE', '/photos/1'), ('GET', '/photos/1/after'), ('GET', '/photos/1/file')): assert page.ask(method, path)[0] == 404
    assert page.put('2', '..%2F..%2Fetc%2Fodd%20name.jpg', picture())[0] == 200 and page.done()['2']['name'] == 'odd name.jpg'


# --- the command ----------------------------------------------------------------------------------------------

COMMAND = [sys.executable, '-c', 'import sys; from colourise.cli import colourise_app; sys.exit(colourise_app())', '--no-browser']

def files_below(folder): return [str(p) for p in folder.rglob('*') if p.is_file()]

@pytest.mark.skipif(sys.platform == 'win32', reason='Ctrl-C is sent as a signal')
def test_ctrl_c_ends_it_and_nothing_is_left_on_disk(tmp_path):
    for name in ('cwd', 'tmp', 'home'): (tmp_path/name).mkdir()
    env = clean_env(PYTHONPATH=str(REPO), TMPDIR=str(tmp_path/'tmp'), HOME=str(tmp_path/'home'), PYTHONDONTWRITEBYTECODE='1')
    p = subprocess.Popen(COMMAND, cwd=tmp_path/'cwd', env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        page = Page.__new__(Page)
        page.address, page.token = p.stdout.readline().strip().removeprefix('http://').split('/#')
        assert page.address.startswith('127.0.0.1:') and len(page.token) > 20
        page.put('1', 'cat.png', embedded()['chelsea'].read_bytes())
        assert page.done()['1']['state'] == 'ready' and page.ask('GET', '/photos/1/file')[0] == 200
        with page.zip() as z: assert z.namelist() == ['cat-colour.png']
        assert files_below(tmp_path) == []
        if os.path.isdir(fds := f'/proc/{p.pid}/fd'): # nor a file that has no name any more
            open_now = [os.readlink(f'{fds}/{n}') for n in os.listdir(fds) if os.path.lexists(f'{fds}/{n}')]
            assert [f for f in open_now if f.startswith('/') and not f.startswith(('/dev', '/proc')) and os.access(f, os.W_OK) and 'deleted' in f] == []
        def wait_for_news(): # a page that is still open; whether it is told goodbye or cut off is left to the server
            with suppress(OSError, HTTPException): page.ask('GET', '/photos?since=999')
        waiting = Thread(target=wait_for_news)
        waiting.start()
        time.sleep(.3)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=120)
        waiting.join(30)
        assert not waiting.is_alive()
        assert (p.returncode, err) == (0, '') and out.splitlines()[-1] == 'Ended.'
    finally: p.kill()
    assert files_below(tmp_path) == []

def test_a_port_that_is_taken_is_said_in_a_sentence(page):
    from colourise.app import AppError
    with pytest.raises(AppError, match="can't be used.*--port"): server(Blue(), port=int(page.address.split(':')[1]))
    with pytest.raises(AppError, match="can't be used"): server(Blue(), port=70000)
