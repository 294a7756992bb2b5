"Sets of photographs: broken ones, the cache, the test set, DIV2K and batches, with everything that can go wrong outside a notebook."
import functools, hashlib, http.server, io, multiprocessing, os, random, shutil, signal, socket, threading, time, zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image, ImageCms
from colourise import data, photo
from colourise.colour import luma
from colourise.data import Archive, Augment, DataError, cached, colour_dls, fetch_div2k, pad_batch, photo_sets, survey
from colourise.files import FileError
from colourise.photo import embedded, find, read, shrink
from colourise.recipe import load_recipe

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def course(tmp_path, monkeypatch):
    "An empty course, so that no test sees the real cache or downloads."
    monkeypatch.setenv('COLOURISE_ROOT', str(tmp_path/'course'))
    for k in ('COLOURISE_DIV2K_URL', 'COLOURISE_DATA', 'COLOURISE_TEST', 'COLOURISE_SET'): monkeypatch.delenv(k, raising=False)
    return tmp_path/'course'

@pytest.fixture
def recipe(): return load_recipe('test')


def picture(seed=0, size=(100, 80), colour=True):
    "A colourful picture that differs for each seed."
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return small if colour else small.convert('L').convert('RGB')

def save(path, *args, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(*args, **kwargs).save(path)
    return path

def names(photos): return {p.path.name for p in photos}

def everything(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))


# --- DIV2K, with a stand-in of three photographs -----------------------------------------------------------------

def png(seed): f = io.BytesIO(); picture(seed).save(f, 'png'); return f.getvalue()

def zipped(members):
    "Bytes of a zip file; `members` maps names (or ZipInfo) to content."
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w') as z:
        for k,v in members.items(): z.writestr(k, v)
    return f.getvalue()

@pytest.fixture
def expect(monkeypatch):
    "Called with a zip file's content: DIV2K is now that file."
    def table(content, count=3):
        kind = Archive('little.zip', len(content), hashlib.sha256(content).hexdigest(), 'little/X4', count)
        monkeypatch.setattr(data, 'DIV2K', {('x4', 'train'): kind})
    monkeypatch.setenv('COLOURISE_DIV2K_URL', 'http://127.0.0.1:9') # where nobody listens
    return table

@pytest.fixture
def server(tmp_path, monkeypatch):
    "Serves the folder `served`; `asked` lists the paths."
    asked,folder = [],tmp_path/'served'
    folder.mkdir()
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=folder)) as s:
        s.asked,s.folder = asked,folder
        threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=.01), daemon=True).start()
        yield s
        s.shutdown()

GOOD = zipped({'little/': b'', **{f'little/X4/{i:04d}x4.png': png(i) for i in range(3)}, 'little/readme.txt': b'hello', '__MACOSX/._0000x4.png': b'?'})

def test_div2k_is_fetched_checked_and_unpacked(server, course, monkeypatch, expect):
    (server.folder/'little.zip').write_bytes(GOOD)
    expect(GOOD); monkeypatch.setenv('COLOURISE_DIV2K_URL', f'http://127.0.0.1:{server.server_address[1]}/')
    folder = fetch_div2k('x4', 'train')
    assert folder == course/'data'/'little'/'X4'
    assert everything(course/'data') == ['little', 'little/X4'] + [f'little/X4/{i:04d}x4.png' for i in range(3)]    # no zip, no rest
    assert np.array_equal(np.asarray(read(folder/'0001x4.png').rgb8), np.asarray(picture(1)))
    n = len(server.asked)
    assert n >= 1 and fetch_div2k('x4', 'train') == folder and len(server.asked) == n                               # there already
    (folder/'0001x4.png').unlink()
    with pytest.raises(DataError, match='2 photographs instead of 3'): fetch_div2k('x4')

def test_what_was_sent_instead_of_div2k_is_thrown_away(server, course, monkeypatch, expect):
    (server.folder/'little.zip').write_bytes(GOOD[::-1])
    expect(GOOD); monkeypatch.setenv('COLOURISE_DIV2K_URL', f'http://127.0.0.1:{server.server_address[1]}')
    with pytest.raises(FileError, match='thrown away.*little.zip.*data=embedded'): fetch_div2k('x4')
    assert not [p for p in course.rglob('*') if p.is_file()]

def test_without_a_network_the_way_out_is_named(course, expect, monkeypatch):
    expect(GOOD); monkeypatch.setattr('time.sleep', lambda s: None)
    with pytest.raises(FileError, match=f"by hand at {course/'data'/'little.zip'}.*data=FOLDER.*data=embedded"): fetch_div2k('x4')

def test_a_zip_put_there_by_hand_is_used(course, expect):
    (course/'data').mkdir(parents=True)
    (course/'data'/'little.zip').write_bytes(GOOD)
    (course/'data'/'little'/'.X4.unpacking').mkdir(parents=True)      # what a killed call leaves
    (course/'data'/'little'/'.X4.unpacking'/'half.png').touch()
    expect(GOOD)
    folder = fetch_div2k('x4')
    assert len(find(folder)) == 3 and everything(folder.parent) == ['X4'] + [f'X4/{i:04d}x4.png' for i in range(3)]

def link(name, to):
    info = zipfile.ZipInfo(name); info.create_system = 3; info.external_attr = 0o120777 << 16
    return {info: to}

BAD = dict(traversal={'little/../../../evil.png': b'x'}, absolute={'/evil.png': b'x'}, windows={'C:\\evil.png': b'x'}, backslashes={'..\\..\\evil.png': b'x'},
           link=link('little/evil.png', '/etc/passwd'), folder_link=link('little/X4', '/tmp'))

@pytest.mark.parametrize('kind', BAD)
def test_nothing_of_a_malicious_zip_leaves_its_folder(course, kind, expect):
    content = zipped({f'little/{i:04d}x4.png': png(i) for i in range(3)} | BAD[kind])
    (course/'data').mkdir(parents=True)
    (course/'data'/'little.zip').write_bytes(content)
    expect(content, 3 if kind == 'folder_link' else 4)
    folder = fetch_div2k('x4')
    assert [p for p in course.parent.rglob('*') if p.is_symlink() or p.is_file() and p.parent != folder] == []

def test_a_zip_with_two_photographs_of_one_name_is_refused(course, expect):
    content = zipped({f'little/{i:04d}x4.png': png(i) for i in range(3)} | {'a/0001x4.png': b'x'})
    (course/'data').mkdir(parents=True)
    (course/'data'/'little.zip').write_bytes(content)
    expect(content, 4)
    with pytest.raises(DataError, match='3 photographs instead of 4; it was not unpacked'): fetch_div2k('x4')

@pytest.mark.parametrize('content,why', [(b'no zip at all', 'damaged'), (GOOD[:-40], 'damaged'), (zipped({'0001x4.png': png(1)}), '1 photographs instead of 3'),
                                         (GOOD.replace(png(1)[60:90], bytes(30), 1), 'damaged')], ids=['nonsense', 'truncated', 'too few', 'bad checksum'])
def test_a_damaged_zip_leaves_no_folder(course, content, why, expect):
    (course/'data').mkdir(parents=True)
    (course/'data'/'little.zip').write_bytes(content)
    expect(content)
    with pytest.raises(DataError, match=why): fetch_div2k('x4')
    assert not (course/'data'/'little'/'X4').exists() and not list(course.rglob('*.png'))

def test_the_real_table():
    assert len(data.DIV2K) == 6
    for (which,split),a in data.DIV2K.items():
        assert len(a.sha256) == 64 and a.count == (800 if split == 'train' else 100) and split in a.zip and a.bytes > 3e7

def test_div2k_splits(course, monkeypatch, recipe):
    "Training takes the training photographs, `test = auto` the validation ones, and they stay apart."
    parts = dict(train=range(6), valid=range(10, 13))
    table = {('x2', s): Archive(f'{s}.zip', 1, '', s, len(r)) for s,r in parts.items()}
    for s,r in parts.items():
        for i in r: save(course/'data'/s/f'{i:04d}x2.png', i)
    monkeypatch.setattr(data, 'DIV2K', table)
    sets = photo_sets(recipe.override('data=div2k-x2'), [32])
    assert names(sets.train) | names(sets.valid) == {f'{i:04d}x2.png' for i in parts['train']} and len(sets.valid) == 1
    assert names(sets.test) == {f'{i:04d}x2.png' for i in parts['valid']} and [p.name for p in sets.faces] == list(recipe.source.faces)


# --- photographs as they come -------------------------------------------------------------------------------------

def test_embedded_photographs_need_no_network(recipe, monkeypatch):
    def cut(*args): raise AssertionError('somebody wanted the network')
    monkeypatch.setattr(socket.socket, 'connect', cut); monkeypatch.setattr(socket, 'getaddrinfo', cut)
    sets = photo_sets(recipe)
    assert [len(x) for x in (sets.train, sets.valid, sets.test)] == [6, 1, 1] and not sets.set_aside
    assert {p.name for p in sets.test} == {'grace_hopper'} and {p.name for p in sets.valid} == {'rocket'}

def test_training_sees_colour_profiles_and_orientation(tmp_path, recipe):
    "In a profile's colours red and blue change places; the photograph lies on its side, and its size is told upright."
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    swapped = srgb.replace(b'rXYZ', b'xxxx').replace(b'bXYZ', b'rXYZ').replace(b'xxxx', b'bXYZ').replace('sRGB'.encode('utf-16be'), 'swap'.encode('utf-16be'))
    lying = Image.Exif(); lying[0x0112] = 6
    plain = picture(4, (320, 240))
    plain.save(tmp_path/'plain.png')
    plain.save(tmp_path/'scanned.jpg', quality=100, subsampling=0, icc_profile=swapped, exif=lying)
    (one, two),aside = survey([tmp_path/'plain.png', tmp_path/'scanned.jpg'], recipe, [32, 64])
    assert not aside and (one.width, one.height) == (320, 240) and (two.width, two.height) == (240, 320)
    for size in (32, 64):
        want = np.rot90(cached(one, size, recipe), -1)[..., ::-1].astype(float)   # turned clockwise, red and blue exchanged
        assert np.abs(want - want[..., ::-1]).mean() > 20                         # else nothing would be tested
        got = cached(two, size, recipe)
        assert got.shape == want.shape and np.abs(got - want).mean() < 2
    sets = photo_sets(recipe.override(f'data={tmp_path}', 'stage1.size=32'), [32])
    _,c = next(iter(colour_dls(sets, recipe.override('stage1.size=32').stage('stage1'), recipe, 'cpu').valid))
    shown = cached(sets.valid[0], 32, recipe)
    assert (c[0].mean((1, 2))*255 - torch.from_numpy(shown.mean((0, 1)))).abs().max() < 10 # the batch is made of these

def test_a_large_jpeg_is_shrunk_alike_whatever_sizes_are_asked_for(tmp_path, recipe):
    "Large ones are decoded smaller; how small must not depend on what else is wanted, or the cache wouldn't be reproducible."
    photo_of = lambda d: survey([tmp_path/'large.jpg'], recipe, d, tmp_path/str(d))[0][0]
    picture(1, (4000, 3880)).save(tmp_path/'large.jpg')
    assert read(tmp_path/'large.jpg', short=640).size == (2000, 1940)
    copies = [cached(photo_of(sizes), 32, recipe, tmp_path/str(sizes)) for sizes in ([32], [32, 48, 512], ())]
    assert (photo_of([32]).width, photo_of([32]).height) == (4000, 3880)
    for c in copies[1:]: assert np.array_equal(c, copies[0])
    assert np.abs(copies[0].astype(int) - shrink(read(tmp_path/'large.jpg').rgb8, 40)).mean() < 1 # and as from all pixels

@pytest.mark.parametrize('error', (MemoryError(), ImportError('no plug-in')))
def test_what_is_not_the_files_fault_is_not_remembered(tmp_path, recipe, monkeypatch, error):
    path = save(tmp_path/'a.png')
    def fails(*args):
        try: raise error
        except Exception as e: raise photo.PhotoError('it needs something') from (e if isinstance(e, MemoryError) else None)
    with monkeypatch.context() as m:
        m.setattr(photo, '_read', fails)
        assert survey([path], recipe, [32])[0] == []
    assert [p.path for p in survey([path], recipe, [32])[0]] == [path]

def test_bad_photographs_are_set_aside_and_counted(tmp_path, recipe):
    f = tmp_path/'photos'
    for i in range(4): save(f/f'good{i}.jpg', i)
    jpg,pg = (f/'good0.jpg').read_bytes(), png(0)
    (f/'empty.jpg').touch()
    (f/'text.jpg').write_text('<html>404</html>')
    (f/'truncated.jpg').write_bytes(jpg[:len(jpg)//2])
    (f/'truncated.png').write_bytes(pg[:len(pg)//2])
    (f/'flipped.png').write_bytes(pg[:len(pg)//2] + bytes(200) + pg[len(pg)//2 + 200:])
    (f/'dangling.jpg').symlink_to(tmp_path/'nowhere')
    save(f/'tiny.png', 7, size=(500, 30))
    save(f/'grey.png', 8, colour=False); picture(9).convert('L').save(f/'grey1.png')
    shutil.copy(f/'good0.jpg', f/'sub.jpg')
    sets = photo_sets(recipe.override(f'data={f}'), [32, 48])
    assert names(sets.train + sets.valid) == {f'good{i}.jpg' for i in range(4)}
    why = {p.name: r.split(':')[0] for p,r in sets.set_aside.items()}
    damaged = ['empty.jpg', 'text.jpg', 'truncated.jpg', 'truncated.png', 'flipped.png', 'dangling.jpg']
    assert why == dict.fromkeys(damaged, 'damaged') | {'tiny.png': 'too small', 'grey.png': 'nearly grey', 'grey1.png': 'nearly grey', 'sub.jpg': 'second copy'}
    table = sets._repr_markdown_()
    assert '| set aside: damaged | 6 |' in table and '| set aside: nearly grey | 2 |' in table and str(tmp_path) not in table + repr(sets)

def test_nothing_left_is_an_error(tmp_path, recipe):
    (tmp_path/'a').mkdir(); (tmp_path/'a'/'x.jpg').write_text('no')
    with pytest.raises(DataError, match='1 set aside: damaged'): photo_sets(recipe.override(f'data={tmp_path/"a"}'), [32])
    save(tmp_path/'b'/'x.jpg')
    with pytest.raises(DataError, match='too few'): photo_sets(recipe.override(f'data={tmp_path/"b"}'), [32])
    with pytest.raises(DataError, match='test set'): photo_sets(recipe.override(f'test={tmp_path/"a"}'), [32])
    (tmp_path/'c').mkdir()
    with pytest.raises(DataError, match='no photograph'): photo_sets(recipe.override(f'data={tmp_path/"c"}'), [32])


# --- who may see what ----------------------------------------------------------------------------------------------

def test_test_photographs_never_train(tmp_path, recipe):
    mine,theirs = tmp_path/'mine', tmp_path/'mine'/'test'            # the test folder lies inside the training folder
    for i in range(8): save(mine/f'{i}.png', i)
    for i in range(20, 23): save(theirs/f'{i}.png', i)
    shutil.copy(theirs/'20.png', mine/'renamed.png')                  # a copy under another name
    shutil.copy(theirs/'21.png', mine/'deep.JPG'); (mine/'link.png').symlink_to(theirs/'22.png'); (mine/'folder').symlink_to(theirs)
    save(theirs/'grey.png', 30, colour=False)                         # stays in the test set, though it is grey
    for seed in range(3):
        sets = photo_sets(recipe.override(f'data={mine}', f'test={theirs}', f'seed={seed}', 'valid_share=0.3'), [32])
        seen = {p.sha256 for p in sets.train + sets.valid}
        files = [hashlib.sha256(p.read_bytes()).hexdigest() for p in find(theirs)]
        assert len(files) == 4 and not seen & set(files)
        assert names(sets.train + sets.valid) == {f'{i}.png' for i in range(8)} and names(sets.test) == {'20.png', '21.png', '22.png', 'grey.png'}
        assert not names(sets.train) & names(sets.valid) and len(sets.valid) == 2
        held = {p.name for p,r in sets.set_aside.items() if r == 'in the test set'}
        assert {'renamed.png', 'deep.JPG', 'link.png'} <= held

def test_fixed_faces_are_held_out_of_other_photographs(tmp_path, recipe):
    for i in range(4): save(tmp_path/f'{i}.png', i)
    shutil.copy(embedded()['coffee'], tmp_path/'cup.png')
    sets = photo_sets(recipe.override(f'data={tmp_path}', 'faces=coffee, china'), [32])
    assert [p.name for p in sets.faces] == ['coffee', 'china']
    assert [r for p,r in sets.set_aside.items() if p.name == 'cup.png'] == ['one of the fixed faces'] and 'cup.png' not in names(sets.train + sets.valid)
    assert sets.test == []

def test_embedded_photographs_give_way_to_a_test_folder(tmp_path, recipe):
    shutil.copy(embedded()['astronaut'], tmp_path/'someone.png'); shutil.copy(embedded()['rocket'], tmp_path)
    sets = photo_sets(recipe.override(f'test={tmp_path}'), [32])
    assert not {'astronaut', 'rocket'} & {p.name for p in sets.train + sets.valid}
    assert sets.valid and len(sets.train + sets.valid) == 5

def test_one_more_photograph_does_not_deal_the_cards_again(tmp_path, recipe):
    for i in range(40): save(tmp_path/f'{i}.png', i)
    r = recipe.override(f'data={tmp_path}', 'valid_share=0.2')
    before = photo_sets(r, [32])
    assert len(before.valid) == 8 and photo_sets(r, [32]) == before
    for p in list(tmp_path.glob('1?.png')): p.rename(p.with_stem('z' + p.stem))       # names don't matter
    assert {p.sha256 for p in photo_sets(r, [32]).valid} == {p.sha256 for p in before.valid}
    save(tmp_path/'new.png', 99)
    assert len({p.sha256 for p in photo_sets(r, [32]).valid} & {p.sha256 for p in before.valid}) >= 7
    assert {p.sha256 for p in photo_sets(r.override('seed=1'), [32]).valid} != {p.sha256 for p in before.valid}


# --- the cache -------------------------------------------------------------------------------------------------------

@pytest.fixture
def decoded(monkeypatch):
    "Counts photographs that are decoded."
    count,real = [],photo._read
    monkeypatch.setattr(photo, '_read', lambda *args: count.append(args) or real(*args))
    return count

def test_each_photograph_is_decoded_once(tmp_path, recipe, decoded):
    paths = [save(tmp_path/f'{i}.png', i) for i in range(5)] + [tmp_path/'bad.jpg']
    (tmp_path/'bad.jpg').write_text('no')
    first = survey(paths, recipe, [32, 48, 64])
    assert len(decoded) == 6                                          # three sizes, one decode
    assert survey(paths, recipe, [64, 32]) == first and len(decoded) == 6
    assert [p.path for p in first[0]] == paths[:5]
    for p in first[0]: cached(p, 48, recipe)
    assert len(decoded) == 6
    survey(paths, recipe, [32, 96]); assert len(decoded) == 11        # a new size; the damaged one isn't tried again
    survey(paths, recipe.override('min_colourfulness=200'), [32])
    assert len(decoded) == 11                                         # facts are known, whatever is asked of them

def test_the_cache_is_keyed_on_content_and_size(tmp_path, course, recipe, decoded):
    path = save(tmp_path/'a.png', 1)
    old, = survey([path], recipe, [32, 48])[0]
    a32,a48 = (cached(old, s, recipe) for s in (32, 48))
    assert min(a32.shape[:2]) == round(32*recipe.photos.cache_zoom) and min(a48.shape[:2]) == round(48*recipe.photos.cache_zoom)
    assert min(cached(old, 32, recipe.override('cache_zoom=2')).shape[:2]) == 64
    save(path, 2)                                                     # the same name, another photograph
    new, = survey([path], recipe, [32, 48])[0]
    assert new.sha256 != old.sha256 and not np.array_equal(cached(new, 32, recipe), a32)
    assert np.array_equal(cached(new, 32, recipe), shrink(picture(2), 40))
    decoded.clear()
    shutil.copy(path, tmp_path/'copy.png')                            # another name, the same photograph: decoded, but stored once
    survey([tmp_path/'copy.png'], recipe, [32])
    assert len(list((course/'data'/'cache'/'32').glob('*.npy'))) == 3 and len(decoded) == 1

def test_a_damaged_or_missing_cache_file_is_made_again(tmp_path, course, recipe):
    photo, = survey([save(tmp_path/'a.png')], recipe, [32])[0]
    want = cached(photo, 32, recipe)
    file, = (course/'data'/'cache'/'32').glob('*.npy')
    for spoil in (file.unlink, lambda: file.write_bytes(b''), lambda: file.write_bytes(file.read_bytes()[:500])):
        spoil()
        assert np.array_equal(cached(photo, 32, recipe), want) and np.array_equal(np.load(file), want)
    for facts in (course/'data'/'cache'/'survey').glob('*'): facts.write_text('{"sha')
    assert survey([tmp_path/'a.png'], recipe, [32])[0] == [photo]

def slow_build(folder):
    "What the killed process does: it writes half a file, and waits a little, so that it can be killed in the middle of one."
    whole = np.save
    def slow(f, a): Path(f).write_bytes(b'half'); time.sleep(0.02); whole(f, a)
    np.save = slow
    survey(find(folder), load_recipe('test'), [32, 48])

def test_a_killed_build_goes_on(tmp_path, course, recipe, decoded):
    for i in range(60): save(tmp_path/'photos'/f'{i}.png', i)
    cache = course/'data'/'cache'
    child = multiprocessing.get_context('fork').Process(target=slow_build, args=(tmp_path/'photos',))
    child.start()
    facts = lambda: len(list(cache.glob('survey/[!.]*.json')))
    halves = lambda: [f for f in cache.glob('*/.colourise-*.npy') if f.read_bytes() == b'half']
    deadline = time.time() + 60
    while child.is_alive() and time.time() < deadline:
        if facts() < 10: time.sleep(0.005); continue
        os.kill(child.pid, signal.SIGSTOP); os.waitpid(child.pid, os.WUNTRACED) # look while nothing moves
        if halves(): break                                            # it is in the middle of something
        os.kill(child.pid, signal.SIGCONT); time.sleep(0.003)
    os.kill(child.pid, signal.SIGKILL); child.join()
    assert child.exitcode == -signal.SIGKILL, 'the build ended before it could be killed'
    done = facts()
    assert 10 <= done < 60 and halves()
    for f in cache.glob('*/[!.]*.npy'): assert np.load(f).ndim == 3   # but no result is incomplete
    photos,aside = survey(find(tmp_path/'photos'), recipe, [32, 48])
    assert len(photos) == 60 and not aside and len(decoded) == 60 - done
    for p in photos:
        for size in (32, 48): assert np.array_equal(cached(p, size, recipe), shrink(read(p.path).rgb8, round(size*recipe.photos.cache_zoom)))

def test_leftovers_of_killed_builds_are_swept(tmp_path, course, recipe):
    old,new = (course/'data'/'cache'/'32'/f'.colourise-{n}.npy' for n in ('old', 'new'))
    old.parent.mkdir(parents=True); old.touch(); new.touch()
    os.utime(old, (time.time() - 7200,)*2)
    survey([save(tmp_path/'a.png')], recipe, [32])
    assert not old.exists() and new.exists()                          # a new one may be another process at work

def test_a_full_disk_says_so(tmp_path, course, recipe, monkeypatch):
    def full(f, a): Path(f).write_bytes(b'half'); raise OSError(28, 'No space left on device')
    paths = [save(tmp_path/f'{i}.png', i) for i in range(3)]
    monkeypatch.setattr(np, 'save', full)
    with pytest.raises(FileError, match='No space left'): survey(paths, recipe, [32])
    assert not list((course/'data'/'cache').rglob('*.npy'))


# --- batches -----------------------------------------------------------------------------------------------------------

def test_input_and_target_agree_and_padding_is_never_seen(recipe):
    photos = [np.asarray(picture(i, size)) for i,size in enumerate([(80, 60), (60, 60), (60, 120), (61, 77)])]
    x,sizes = pad_batch(photos)
    magenta = torch.tensor([255, 0, 255], dtype=torch.uint8)[:, None, None].expand(x.shape).clone()
    for m,p in zip(magenta, photos): m[:, :p.shape[0], :p.shape[1]] = torch.from_numpy(p.copy()).permute(2, 0, 1)
    wild = recipe.override('crop_min=0.05', 'max_warp=0.45', 'warp_p=1', 'max_lighting=0.9')
    for seed in range(20):
        for train in (True, False):
            side = (33, 150)[seed % 2]                                # shrunk and enlarged
            augment = Augment(wild, side, train=train)
            torch.manual_seed(seed); grey,colour = augment((x, sizes))
            torch.manual_seed(seed); _,again = augment((magenta, sizes))
            assert torch.equal(again, colour)
            assert grey.shape == (4, 1, side, side) and colour.shape == (4, 3, side, side) and colour.dtype == grey.dtype == torch.float32
            assert torch.equal(grey, luma(colour)) and 0 <= colour.min() and colour.max() <= 1

def test_every_augmentation_can_be_switched_off(recipe):
    photo = np.asarray(picture(1, (48, 48)))
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)/255
    off = dict(crop_min='crop_min=1', flip_p='flip_p=0', max_lighting='max_lighting=0', max_warp='max_warp=0')
    def run(on):
        torch.manual_seed(3)
        r = recipe.override('lighting_p=1', 'warp_p=1', *[v for k,v in off.items() if k != on], *(['flip_p=1'] if on == 'flip_p' else []))
        return Augment(r, 48)(pad_batch([photo]*8))[1]
    assert (run(None) - x).abs().max() < 1e-5                         # all off: the photograph itself
    assert (run('flip_p') - x.flip(-1)).abs().max() < 1e-5
    for on in ('crop_min', 'max_lighting', 'max_warp'):
        out = run(on)
        assert (out - x).abs().mean() > 0.005 and (out[0] - out[1]).abs().mean() > 0.005, on   # each photograph its own
    order = x.flatten().argsort()
    for lit in run('max_lighting'): assert lit.flatten()[order].diff().min() > -1e-5          # what is brighter stays brighter

def test_validation_shows_the_largest_middle_square(recipe):
    photo = np.zeros((40, 80, 3), np.uint8); photo[:, 20:60] = 200; photo[10:30, 30:50] = 90
    _,c = Augment(recipe, 40, train=False)(pad_batch([photo]))
    assert torch.allclose(c[0]*255, torch.from_numpy(photo[:, 20:60]).permute(2, 0, 1).float(), atol=1e-2)

def seeded(dls, seed):
    random.seed(seed); np.random.seed(seed); torch.manual_seed(seed)
    dls.train.rng = random.Random(seed)
    return list(dls.train)

def test_epochs_are_reproducible(tmp_path, recipe):
    for i in range(11): save(tmp_path/f'{i}.png', i)
    r = recipe.override(f'data={tmp_path}', 'stage1.batch=6', 'stage1.repeats=2', 'stage1.size=32')
    sets = photo_sets(r, [32])
    assert (len(sets.train), len(sets.valid)) == (10, 1)
    dls = colour_dls(sets, r.stage('stage1'), r, device='cpu')
    one,two,other = (seeded(dls, s) for s in (5, 5, 6))
    assert len(one) == len(dls.train) == 3 and all(g.shape == (6, 1, 32, 32) and c.shape == (6, 3, 32, 32) for g,c in one)   # the last 2 of 20 are left
    for (g,c),(g2,c2) in zip(one, two, strict=True): assert torch.equal(g, g2) and torch.equal(c, c2)
    assert not torch.equal(one[0][1], other[0][1])
    for (g,c),(g2,c2) in zip(list(dls.valid), list(dls.valid), strict=True): assert torch.equal(c, c2)
    loaded = colour_dls(sets, r.stage('stage1'), r, device='cpu')
    loaded.train = loaded.train.new(num_workers=2)                    # as on a GPU: processes load, the result is the same
    for (g,c),(g2,c2) in zip(one, seeded(loaded, 5), strict=True): assert torch.equal(g, g2) and torch.equal(c, c2)

def test_an_epoch_visits_each_photograph_the_same_number_of_times(tmp_path, recipe, monkeypatch):
    for i in range(7): save(tmp_path/f'{i}.png', i)
    r = recipe.override(f'data={tmp_path}', 'stage1.batch=6', 'stage1.repeats=3', 'stage1.size=32')
    sets = photo_sets(r, [32])
    seen = []
    real = data.cached
    monkeypatch.setattr(data, 'cached', lambda p, *args: seen.append(p.name) or real(p, *args))
    n = len(list(colour_dls(sets, r.stage('stage1'), r, device='cpu').train))
    assert n == 3 and len(seen) == 18 and {seen.count(p.name) for p in sets.train} == {3}
    few = r.override('stage1.batch=100')                               # more than there are: the only batch is kept
    (g,c), = colour_dls(sets, few.stage('stage1'), few, device='cpu').train
    assert len(c) == 18

def test_folders_and_zip_files_make_one_set(tmp_path, course, recipe):
    for i in range(3): save(tmp_path/'a'/f'{i}.png', i)
    (tmp_path/'b').mkdir()
    (tmp_path/'b/more.zip').write_bytes(zipped({'one/0.png': png(7), 'two/0.png': png(8), 'readme.txt': b'?', '../out.png': png(9)}))
    (tmp_path/'c.zip').write_bytes(zipped({'0.png': png(10)}))
    r = recipe.override(f"data={tmp_path/'a'}, {tmp_path/'b'},{tmp_path/'c.zip'}")
    sets = photo_sets(r, [32])
    assert len(sets.train + sets.valid) == 7 and sets.source == 'a, b, c.zip'
    unzipped = everything(course/'data/unzipped')
    assert sum(n.endswith('.png') for n in unzipped) == 4 and not (tmp_path/'out.png').exists() and not any('readme' in n for n in unzipped)
    shutil.rmtree(tmp_path/'a'); (tmp_path/'a').mkdir()                 # what is unpacked already isn't unpacked again
    (course/'data/unzipped/marker').touch()
    assert len(photo_sets(r.override(f"data={tmp_path/'b'}"), [32]).train) == 2 and (course/'data/unzipped/marker').exists()

def test_several_may_ask_for_one_zip_file_at_once(tmp_path):
    "Nobody takes away what another is unpacking; otherwise photographs would be missing, without a word."
    (tmp_path/'all.zip').write_bytes(zipped({f'{i}.png': b'a small picture' for i in range(2000)}))
    with ThreadPoolExecutor(4) as pool: found = list(pool.map(data.photo_files, [tmp_path/'all.zip']*4))
    assert [len(f) for f in found] == [2000]*4

def test_a_damaged_zip_of_photographs_says_so(tmp_path, recipe):
    (tmp_path/'p.zip').write_bytes(GOOD[:-40])
    with pytest.raises(DataError, match='p.zip is damaged'): photo_sets(recipe.override(f"data={tmp_path/'p.zip'}"), [32])

def test_each_stage_takes_the_photographs_that_are_large_enough(tmp_path, course, recipe):
    for i in range(12): save(tmp_path/'photos'/f'small-{i}.png', i, (80, 70))
    for i in range(12): save(tmp_path/'photos'/f'large-{i}.png', 50+i, (200, 140))
    r = recipe.override(f"data={tmp_path/'photos'}", 'valid_share=0.5', 'valid_max=3', 'stage4.size=128', 'stage4.min_side=128', 'stage5.min_side=1000')
    sets = photo_sets(r)
    assert len(sets.train + sets.valid) == 24
    first,fourth = (sets.for_stage(r.stage(n), r) for n in (1, 4))
    assert first.train == sets.train and len(first.valid) == 3 and {p.name[:5] for p in first.valid} == {'large'} # the largest validate
    assert {p.name[:5] for p in fourth.train + fourth.valid} == {'large'} and fourth.for_stage(r.stage(4), r) == fourth
    kept = {p.name.split('-')[0] for p in (course/'data/cache/128').iterdir()}  # of the small ones no copy for a stage that doesn't want them
    assert kept == {p.sha256[:32] for p in sets.train + sets.valid if p.name.startswith('large')} | {p.sha256[:32] for p in sets.faces}
    with pytest.raises(DataError, match='large enough for stage5.*1000 pixels'): sets.for_stage(r.stage(5), r)

@pytest.mark.parametrize('repeats,most', [(.25, 1), (1, 1), (2.5, 3)])
def test_an_epoch_may_draw_some_of_the_photographs(tmp_path, recipe, monkeypatch, repeats, most):
    for i in range(21): save(tmp_path/f'{i}.png', i)
    r = recipe.override(f'data={tmp_path}', 'stage1.batch=5', f'stage1.repeats={repeats}', 'stage1.size=32')
    sets,seen,real = photo_sets(r, [32]),[],data.cached
    monkeypatch.setattr(data, 'cached', lambda p, *args: seen.append(p.name) or real(p, *args))
    dls = colour_dls(sets, r.stage('stage1'), r, device='cpu')
    epochs = []
    for s in (1, 2, 1): seen.clear(); seeded(dls, s); epochs.append(list(seen))
    assert [len(e) for e in epochs] == [round(len(sets.train)*repeats)//5*5]*3
    assert max(map(epochs[0].count, epochs[0])) == most
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(list(dls.train.new(bs=1))) == round(len(sets.train)*repeats) # smaller batches, no more photographs
