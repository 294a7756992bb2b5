"""The command `colourise` of the installed wheel, far from the repository and without a network, on photographs of every kind and on files that are none; and the network behind it, which must paint what PyTorch paints."""
import fcntl, io, os, pty, re, select, signal, struct, subprocess, sys, termios, zlib
from types import SimpleNamespace
import numpy as np, pytest, torch
from conftest import run
from PIL import ExifTags, Image, ImageCms, ImageOps
from colourise import batch, cli
from colourise.colour import enlarge, lab_chroma
from colourise.infer import Colouriser, seen_shape
from colourise.modelfile import ModelError, find_model, read_model
from colourise.photo import read
from colourise.unet import colour_unet, load_model, save_model

ODD = ['with blank.png', '-dash.png', 'new\nline.png'] + [os.fsdecode(b'caf\xe9.png')]*(sys.platform == 'linux')

def photo(seed=0, size=(64, 48)):
    "A smooth picture in colour, away from black and white."
    small = np.random.default_rng(seed).integers(60, 190, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)

def grey(img): return np.asarray(img.convert('RGB').convert('L'), dtype=float)

def swapped_profile():
    "A colour profile in which red and blue change places."
    b = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for old,new in ((b'rXYZ', b'xxxx'), (b'bXYZ', b'rXYZ'), (b'xxxx', b'bXYZ'), ('sRGB'.encode('utf-16be'), 'swap'.encode('utf-16be'))): b = b.replace(old, new)
    return b

def exif_of(**tags):
    "EXIF with tags such as Orientation=6, a time and a place."
    e = Image.Exif()
    for k,v in tags.items(): e[ExifTags.Base[k]] = v
    e.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = '1931:05:01 12:00:00'
    e.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = 'N'
    return e


# --- an album with one of each kind -------------------------------------------------------------------------------

def kinds():
    "Name in the album: the picture, how it is saved, name of the result, the upright picture that one should see."
    rgb,l = photo(1),photo(2).convert('L')
    half = Image.linear_gradient('L').resize(rgb.size)
    see_through = rgb.copy(); see_through.putalpha(half)
    palette = rgb.quantize(16)
    deep = Image.fromarray(np.asarray(l).astype(np.uint16)*257)
    sepia = ImageOps.colorize(l, '#20140a', '#f0dcb4')
    frames = [photo(i).quantize(32) for i in range(3)]
    one_bit,cmyk = l.convert('1'),rgb.convert('CMYK')
    swapped = Image.merge('RGB', rgb.split()[::-1])
    yield 'plain.jpg', rgb, dict(exif=exif_of(Make='Leica', Software='Scanner 2', Orientation=1)), 'plain.jpg', rgb
    for o in range(2, 9):
        exif = exif_of(Orientation=o)
        turned = rgb.copy(); turned.info['exif'] = exif.tobytes()
        yield f'turned/{o}.jpg', rgb, dict(exif=exif), f'turned/{o}.jpg', ImageOps.exif_transpose(turned)
    yield 'deep.png', deep, {}, 'deep.png', l
    yield 'deep scan.tif', deep, {}, 'deep scan.tif', l
    yield 'palette.png', palette, dict(transparency=3), 'palette.png', palette
    yield 'alpha.png', see_through, {}, 'alpha.png', see_through
    yield 'veil.webp', see_through, dict(lossless=True), 'veil.webp', see_through
    yield 'grey alpha.png', see_through.convert('LA'), {}, 'grey alpha.png', see_through
    yield 'cmyk.jpg', cmyk, dict(quality=95), 'cmyk.jpg', cmyk
    yield 'print.tif', cmyk, {}, 'print.tif', cmyk
    yield 'sepia.jpeg', sepia, dict(quality=95), 'sepia.jpeg', sepia
    yield 'line art.png', one_bit, {}, 'line art.png', one_bit
    yield 'fax.tiff', one_bit, dict(compression='group4'), 'fax.tiff', one_bit
    yield 'moving.gif', frames[0], dict(save_all=True, append_images=frames[1:]), 'moving.png', frames[0]
    yield 'profile.png', rgb, dict(icc_profile=swapped_profile()), 'profile.png', swapped
    yield 'broken profile.png', rgb, dict(icc_profile=b'no profile'*20), 'broken profile.png', rgb
    yield 'tiny.png', photo(3, (8, 8)), {}, 'tiny.png', photo(3, (8, 8))
    yield 'long.jpg', photo(4, (200, 4000)), {}, 'long.jpg', photo(4, (200, 4000))
    yield 'BIG.PNG', rgb, {}, 'BIG.PNG', rgb
    yield 'phone.heic', rgb, dict(quality=95), 'phone.jpg', rgb
    yield 'wrong name.jpg', see_through, dict(format='PNG'), 'wrong name.png', see_through
    yield 'folder.jpg/inside.bmp', rgb, {}, 'folder.jpg/inside.png', rgb
    for n in ODD: yield n, rgb, {}, n, rgb

KINDS = {name: SimpleNamespace(img=img, how=how, out=out, seen=seen) for name,img,how,out,seen in kinds()}

def png(w, h, data):
    "A PNG that says it has `w`×`h` pixels, whatever its `data`."
    chunk = lambda kind, d: struct.pack('>I', len(d)) + kind + d + struct.pack('>I', zlib.crc32(kind + d))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')

def hostile(album, out):
    "Put what can't be colourised into the album; returns part of the sentence for each."
    jpeg,lossless = io.BytesIO(),io.BytesIO()
    photo(5, (200, 200)).save(jpeg, 'JPEG'); photo(5, (200, 200)).save(lossless, 'PNG')
    for name,content in {'bomb.png': png(60000, 60000, bytes(100_000)), 'cut.jpg': jpeg.getvalue()[:-900], 'cut\nline.png': lossless.getvalue()[:3000],
                         'corrupt.png': lossless.getvalue()[:200] + b'?'*40 + lossless.getvalue()[240:], 'letter.jpg': b'Dear aunt', 'empty.webp': b''}.items():
        (album/name).write_bytes(content)
    torn = io.BytesIO()
    photo(5, (200, 200)).save(torn, 'TIFF', compression='tiff_lzw')
    (album/'torn.tif').write_bytes(torn.getvalue()[:500] + b'\xff'*500 + torn.getvalue()[1000:]) # libtiff would write lines of its own
    (album/'self.jpg').symlink_to('self.jpg')
    (album/'lost.jpg').symlink_to('nowhere.jpg')
    (album/'up').symlink_to('..', target_is_directory=True)
    os.mkfifo(album/'pipe.png')
    for d in ('blocked', 'twins'): (album/d).mkdir()
    photo().save(album/'blocked/x.png')
    (out/'blocked').write_text('a file where a folder is needed')
    for n in ('twins/a.bmp', 'twins/a.png'): photo().save(album/n)
    return {'bomb.png': 'megapixels', 'cut.jpg': "can't be read", r'cut\nline.png': "can't be read", 'corrupt.png': "can't be read", 'letter.jpg': 'not a picture',
            'empty.webp': 'empty', 'torn.tif': "can't be read", 'self.jpg': 'where this link leads', 'lost.jpg': 'where this link leads', 'pipe.png': 'a pipe or a device', 'x.png': 'is no folder', 'a.png': 'both become'}


@pytest.fixture(scope='session')
def model(tmp_path_factory):
    "A model that knows nothing, and paints everything a little redder."
    net = colour_unet('random', seed=0)
    net.layers[-1].bias.data += torch.tensor([.1, 0., -.1])
    return save_model(net, tmp_path_factory.mktemp('model')/'model.safetensors', stage='stage1', recipe=dict(preset='made up'))

@pytest.fixture(scope='session')
def colour(wheel_command, model):
    "Run `colourise` of the installed wheel in a folder; bytes for `stdin` give bytes back."
    def run(*args, cwd, stdin=None, **env):
        how = dict(input=stdin) if stdin is not None else dict(text=True, encoding='utf-8', stdin=subprocess.DEVNULL)
        cmd = wheel_command('colourise', *args, COLOURISE_MODEL=str(model), OMP_NUM_THREADS='2', **env)
        return subprocess.run(**cmd, cwd=cwd, capture_output=True, timeout=300, **how)
    return run

@pytest.fixture(scope='session')
def done(colour, tmp_path_factory):
    "The album after one call: its folder, that of the results, the process, and what it should have said."
    import pillow_heif
    pillow_heif.register_heif_opener()
    home = tmp_path_factory.mktemp('home')
    album,out = home/'album',home/'out'
    out.mkdir()
    for name,k in KINDS.items():
        (album/name).parent.mkdir(parents=True, exist_ok=True)
        k.img.save(album/name, **k.how)
    sentences = hostile(album, out)
    run = colour('album', '-r', '-o', 'out', '--compare', '--render-size', '32', '-v', cwd=home)
    return SimpleNamespace(home=home, album=album, out=out, run=run, sentences=sentences)

def test_results_are_all_there_and_nothing_else(done):
    assert done.run.returncode == 1 and done.run.stdout == ''
    expected = {k.out for k in KINDS.values()} | {'twins/a.png', 'blocked'}
    compare = {os.path.splitext(n)[0] + '-compare.jpg' for n in expected - {'blocked'}}
    assert {p.relative_to(done.out).as_posix() for p in done.out.rglob('*') if not p.is_dir()} == expected | compare

@pytest.mark.parametrize('name', KINDS, ids=ascii)
def test_size_grey_and_colours(done, name):
    k = KINDS[name]
    with Image.open(done.out/k.out) as img:
        assert img.size == k.seen.size
        diff = np.abs(grey(img) - grey(k.seen))
        assert diff.mean() <= 1, diff.mean()
        r,_,b = np.asarray(img.convert('RGB'), dtype=float).transpose(2, 0, 1)
        assert (r-b).mean() > 20 or name in ('line art.png', 'fax.tiff') # between black and white there is no place for colours
    assert getattr(img, 'n_frames', 1) == 1

@pytest.mark.parametrize('name', KINDS, ids=ascii)
def test_metadata(done, name):
    with Image.open(done.out/KINDS[name].out) as img:
        assert re.search(r'colourise [\d.]+: colours added by made_up/stage1-[0-9a-f]{8}$', img.getexif()[ExifTags.Base.Software])
        assert 'sRGB' in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(img.info['icc_profile'])))
        assert img.getexif().get(ExifTags.Base.Orientation, 1) == 1

def test_what_the_camera_noted_is_kept(done):
    for name in ('plain.jpg', 'turned/6.jpg'):
        e = Image.open(done.out/name).getexif()
        assert e.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == '1931:05:01 12:00:00'
        assert e.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == 'N'
    e = Image.open(done.out/'plain.jpg').getexif()
    assert e[ExifTags.Base.Make] == 'Leica' and e[ExifTags.Base.Software].startswith('Scanner 2')

@pytest.mark.parametrize('name', ['alpha.png', 'veil.webp', 'grey alpha.png', 'wrong name.jpg', 'palette.png'])
def test_transparency_is_kept(done, name):
    with Image.open(done.out/KINDS[name].out) as img, Image.open(done.album/name) as old:
        assert img.mode == 'RGBA' and img.getchannel('A').tobytes() == old.convert('RGBA').getchannel('A').tobytes()

def test_16_bits_stay_16_bits(done):
    for name in ('deep.png', 'deep scan.tif'):
        old,new = read(done.album/name),read(done.out/name)
        assert new.bits == 16 and np.abs(new.grey.astype(float) - old.grey).mean() <= 1 # of 65,535
        assert np.ptp(new.rgb.astype(int), axis=2).mean() > 2000

def test_colours_are_managed(done):
    "The profile matters: without it, the grey would be another one."
    assert np.abs(grey(Image.open(done.out/'profile.png')) - grey(Image.open(done.album/'profile.png'))).mean() > 3

def test_comparison(done):
    with Image.open(done.out/'plain-compare.jpg') as img:
        w,h = KINDS['plain.jpg'].seen.size
        assert img.height == h and 2*w <= img.width < 2.2*w
        left,right = (np.asarray(img.crop(box), dtype=float) for box in ((0, 0, w, h), (img.width-w, 0, img.width, h)))
    assert np.ptp(left, axis=2).mean() < 3 < np.ptp(right, axis=2).mean()

def test_failures_have_a_sentence_each(done):
    err = done.run.stderr
    assert 'Traceback' not in err and 'Warning' not in err and '\r' not in err
    said = err[err.index('these failed:\n'):].splitlines()[1:]
    assert len(said) == len(done.sentences)
    for name,part in done.sentences.items(): assert any(name in s and part in s for s in said), (name, said)
    made = f'{len(KINDS)+1} photographs colourised, {len(said)} failed.'
    assert [l for l in err.splitlines() if '→' not in l and l not in said] == [next(l for l in err.splitlines() if l.startswith('Model ')), made, 'colourise: these failed:']

def test_notes_are_said(done):
    lines = {l.split(' →')[0]: l for l in done.run.stderr.splitlines() if '→' in l}
    assert len(lines) == len(KINDS) + 1
    for name,part in {'moving.gif': 'first of 3 frames', 'wrong name.jpg': 'PNG', 'broken profile.png': 'profile'}.items(): assert part in lines[f'album/{name}'], lines
    assert r'album/new\nline.png' in lines

def test_what_is_done_is_left_alone_and_found_fast(done, colour):
    before = {p: p.stat().st_mtime_ns for p in done.out.rglob('*')}
    names = [f'album/{n}' for n,k in KINDS.items() if '/' not in n and os.path.splitext(n)[0] == os.path.splitext(k.out)[0] and n != 'wrong name.jpg']
    r = colour('-o', 'out', '--compare', '--', *names, cwd=done.home)
    assert (r.returncode, r.stderr) == (0, f'Nothing to do: {len(names)} done already; --overwrite makes anew.\n')
    assert {p: p.stat().st_mtime_ns for p in done.out.rglob('*')} == before

def test_beside_the_photographs_with_every_option(done, colour, tmp_path):
    for n in ODD: photo(1).save(tmp_path/n)
    options = '--overwrite --colour 0 --format webp --quality 60 --flip --no-mark --render-size 48 --device cpu'.split()
    (tmp_path/'-dash-colour.webp').write_text('an old result')
    r = colour('with blank.png', *options, '--', *ODD[1:], cwd=tmp_path)
    assert r.returncode == 0 and r.stderr == f'{len(ODD)} photographs colourised.\n'
    for n in ODD:
        with Image.open(tmp_path/n.replace('.png', '-colour.webp')) as img:
            assert img.format == 'WEBP' and img.size == photo().size and not img.getexif()
            assert np.ptp(np.asarray(img.convert('RGB'), dtype=float), axis=2).mean() < 3 # no colour was asked for
    r = colour('.', '--format', 'webp', cwd=tmp_path) # results beside their photographs are no photographs
    assert r.returncode == 0 and 'Nothing to do' in r.stderr

def test_standard_input_and_output(done, colour, tmp_path):
    r = colour('-', '--format', 'tiff', '--render-size', '32', cwd=tmp_path, stdin=(done.album/'turned/6.jpg').read_bytes())
    assert r.returncode == 0, r.stderr
    with Image.open(io.BytesIO(r.stdout)) as img: assert (img.format, img.size) == ('TIFF', KINDS['turned/6.jpg'].seen.size)
    assert list(tmp_path.iterdir()) == []

def read_terminal(fd):
    "What was written to the terminal since; blank if nothing was, empty when its writer has ended."
    if not select.select([fd], [], [], .02)[0]: return b' '
    try: return os.read(fd, 1 << 16)
    except OSError: return b'' # Linux says so

def test_interrupted_batch_goes_on(wheel_command, model, colour, tmp_path):
    for i in range(8): photo(i, (1500, 1000)).save(tmp_path/f'{i:02}.png')
    args = ['.', '--render-size', '64', '-o', 'out']
    results = lambda: sorted((tmp_path/'out').glob('*'))
    for sig in (signal.SIGINT, signal.SIGTERM):
        n,(ours,theirs) = len(results()),pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
        p = subprocess.Popen(**wheel_command('colourise', *args, COLOURISE_MODEL=str(model)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        said = b''
        moved = lambda: re.search(b'[1-7]/[78] ', said) # the progress bar
        while not (moved() and len(results()) > n) and (part := read_terminal(ours)): said += part # else it would wait for us to read
        p.send_signal(sig)
        while part := read_terminal(ours): said += part
        os.close(ours)
        assert p.wait(60) == 130
        said = said.decode()
        assert re.search('[1-7]/[78] ', said)
        assert said.rstrip().splitlines()[-1].endswith('colourise: Stopped. The same command goes on from here.') and 'Traceback' not in said
        assert n < len(results()) < 8 and all(f.suffix == '.png' and not f.name.startswith('.') for f in results())
        for f in results(): Image.open(f).load() # each is whole
    n = len(results())
    r = colour(*args, cwd=tmp_path)
    assert (r.returncode, r.stderr) == (0, f'{8-n} photographs colourised, {n} done already.\n') and len(results()) == 8


# --- what is found before anything is loaded ----------------------------------------------------------------------

@pytest.fixture
def here(tmp_path, monkeypatch):
    "We stand in a folder with a photograph, one of the same name in a subfolder, and no model."
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('COLOURISE_MODEL', raising=False)
    (tmp_path/'sea').mkdir()
    for n in ('a.jpg', 'sea/a.jpg'): photo().save(tmp_path/n)
    return tmp_path

@pytest.mark.parametrize('args,part', [
    ([], '--help'), (['a.jpg', '--colour', '3'], 'between 0 and 2'), (['a.jpg', '--colour', 'nan'], 'between 0 and 2'), (['a.jpg', '--quality', '0'], 'between 1 and 100'),
    (['a.jpg', '--render-size', '7'], 'between 32'), (['a.jpg', '-o', 'b.gif'], 'is none of these'), (['a.jpg', 'sea/a.jpg', '-o', 'b.jpg'], 'one file'),
    (['sea', '-o', 'b.jpg'], 'one file'), (['a.jpg', '-o', 'b.png', '--format', 'jpeg'], 'contradict'), (['a.jpg', '-o', 'a.jpg/sub'], 'not a folder'),
    (['-', '-'], 'once'), (['-', '-o', 'sea'], 'no name to keep'), (['a.jpg', 'sea/a.jpg', '-o', '-'], 'takes one picture'), (['-', '--compare'], 'no place beside'),
    (['a.jpg', '--format', 'gif'], 'invalid choice'), (['-a.jpg'], 'unrecognized'), (['a.jpg', '--model', 'nowhere.safetensors', '--device', 'abacus'], 'nowhere'),
])
def test_senseless_requests(here, args, part, capsys):
    try: status = cli.colourise(args)
    except SystemExit as e: status = e.code
    said = capsys.readouterr()
    assert said.out == '' and part in said.err and said.err.splitlines()[-1].startswith('colourise: ')
    assert status == (1 if '--model' in args else 2) and not (here/'out').exists()

def test_no_model_is_said_with_a_way_out(here, capsys, monkeypatch):
    monkeypatch.setenv('COLOURISE_MODEL', 'none')
    assert cli.colourise(['a.jpg']) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and '--model' in said and 'colourise-train' in said

@pytest.mark.parametrize('args,part', [
    (['nobody.jpg'], 'There is no photograph'), (['a.jpg', '-o', '.', '--overwrite'], 'written over a photograph'), (['a.jpg', 'sea/a.jpg', '-o', 'out'], 'both become'),
    (['a.jpg', '-o', 'taken', '--overwrite'], 'is a folder'), (['empty'], 'no photograph in'), (['deep'], '-r looks in its subfolders')])
def test_photographs_that_must_fail(here, args, part, capsys, monkeypatch):
    for d in ('taken/a.jpg', 'empty', 'deep/er'): (here/d).mkdir(parents=True)
    photo().save(here/'deep/er/a.jpg')
    monkeypatch.setattr(batch, '_work', lambda batch, *args, **kw: None) # only what is found before
    before = {p: p.stat().st_mtime_ns for p in here.rglob('*')}
    assert cli.colourise(args) == 1
    said = capsys.readouterr().err
    assert part in said and 'colourise: ' in said
    assert {p: p.stat().st_mtime_ns for p in here.rglob('*')} == before

def test_a_folder_that_is_called_like_a_photograph(here, capsys, model):
    (here/'trips/summer.jpg').mkdir(parents=True)
    assert cli.colourise(['trips', '--model', str(model)]) == 1 and 'is a folder' in capsys.readouterr().err

def test_places_that_may_not_be_touched(here, capsys, monkeypatch, model):
    "Tests may run as root, who may everything, so the system's answer is made up."
    def refuse(path, *args, **kw): raise PermissionError(13, 'Permission denied')
    with monkeypatch.context() as m:
        m.setattr('colourise.photo.open', refuse, raising=False)
        assert cli.colourise(['a.jpg', '--model', str(model)]) == 1
        assert "a.jpg can't be read" in (said := capsys.readouterr().err) and 'Permission denied' in said
    monkeypatch.setattr(os, 'access', lambda p, mode: not mode & os.W_OK)
    assert cli.colourise(['a.jpg']) == 1 and 'may not be written to' in capsys.readouterr().err

def test_an_output_that_is_a_link_to_a_photograph_is_spared(here, capsys):
    (here/'a-colour.jpg').symlink_to('a.jpg')
    os.link(here/'a.jpg', here/'b.jpg')
    for args in (['a.jpg'], ['a.jpg', '-o', 'b.jpg', '--overwrite'], ['sea/a.jpg', 'a.jpg', '-o', '.', '--overwrite']):
        assert cli.colourise([*args, '--model', 'nowhere']) == 1 and 'written over a photograph' in capsys.readouterr().err

HEAVY = 'torch torchvision fastai pandas matplotlib skimage sklearn torchmetrics IPython'.split()

def test_help_version_and_complaints_load_nothing_heavy(offline, tmp_path):
    photo().save(tmp_path/'a.jpg')
    photo().save(tmp_path/'a-colour.jpg')
    code = """if 1:
        import sys
        loaded = lambda *names: [m for m in names if m in sys.modules]
        from colourise.cli import colourise
        try: colourise(['--help'])
        except SystemExit as e: assert not e.code
        print(colourise(['--version']), loaded('numpy', 'PIL', 'tqdm', 'onnxruntime'))
        print([colourise(a) for a in ([], ['nobody.jpg'], ['a.jpg', '--colour', '9'], ['a.jpg'])], loaded('tqdm', 'onnxruntime', 'requests', 'pooch'))"""
    r = offline('python', '-c', code)
    lines = r.stdout.splitlines()
    assert lines[-2:] == ['0 []', '[2, 1, 2, 0] []'], r.stdout[-500:] + r.stderr
    assert any(re.match(r'colourise \d+\.\d+.*default model: model.safetensors', l) for l in lines) and any(l.endswith('model-card.md') for l in lines) and any('colourise old.jpg' in l for l in lines)

def test_colouring_a_photograph_imports_nothing_of_the_training(tmp_path, repo, model):
    "In an environment in which PyTorch and the others could be imported."
    photo().save(tmp_path/'a.jpg')
    code = f"""if 1:
        import sys
        import colourise.infer
        print([m for m in {HEAVY} if m in sys.modules])
        from colourise.batch import process
        status = process(['a.jpg'], 'out', {str(model)!r})
        print(status, [m for m in {HEAVY} + ['requests', 'pooch'] if m in sys.modules])"""
    r = run('python', '-c', code, cwd=tmp_path, PYTHONPATH=str(repo))
    assert r.stdout.splitlines() == ['[]', '0 []'], r.stdout + r.stderr
    assert (tmp_path/'out/a.jpg').is_file()


# --- the network --------------------------------------------------------------------------------------------------

@pytest.fixture(scope='session')
def both():
    "The shipped model, in PyTorch and in ONNX Runtime."
    shipped = find_model(None, 'model.safetensors')
    theirs = load_model(shipped)[0]
    theirs.adviser = None # in ONNX Runtime it is asked beforehand, and its colours come as three channels
    return theirs, {quick: Colouriser.from_pretrained(shipped, quick=quick) for quick in (True, False)}

@pytest.mark.parametrize('quick', (True, False))
@pytest.mark.parametrize('w,h', [(64, 64), (301, 203), (37, 1111), (1900, 41), (8, 8), (1, 1), (3, 200)])
def test_onnx_runtime_paints_what_pytorch_paints(both, w, h, quick):
    theirs,net = both[0],both[1][quick]
    x = np.asarray(photo(w, (w, h)).convert('RGB').resize(seen_shape(w, h, 64)), np.float32)/255 # as if the adviser had coloured it
    with torch.no_grad(): expected = theirs(torch.from_numpy(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(net.predict(x) - expected).max() < 1/255/50

def test_a_float_checkpoint_paints_what_pytorch_paints(model, both):
    net,(theirs,_) = Colouriser.from_pretrained(model),load_model(model)
    x = np.asarray(photo(5).convert('L').resize((96, 64)), np.float32)/255
    with torch.no_grad(): expected = theirs(torch.from_numpy(x)[None, None])[0].permute(1, 2, 0).numpy()
    assert np.abs(net.predict(x) - expected).max() < 1/255/50

def portrait(size=512):
    "A portrait of hard contrasts: near-white walls, near-black hair and coat, a face between them."
    v,u = np.mgrid[-1:1:size*1j, -1:1:size*1j]
    inside = lambda x, y, w, h: ((u-x)/w)**2 + ((v-y)/h)**2 < 1
    g = 246 - 6*u
    g[inside(0, 1.05, .8, .55)] = 14
    g[inside(0, -.2, .46, .58)] = 6
    face = inside(0, -.08, .3, .42)
    g[face] = (215 - 90*np.abs(u - .1) - 25*v)[face]
    for x in (-.12, .12): g[inside(x, -.15, .06, .03)] = 20
    g[inside(0, .62, .16, .2)] = 250
    return g.clip(0, 255).astype(np.uint8)

@pytest.mark.parametrize('size', (64, 128, 256))
def test_hard_contrasts_give_no_neon(both, size):
    "Nor do they where a network extrapolates to colours six times as strong: the bound takes a third of the neon away, and more."
    net,grey = both[1][True],portrait()
    def neon(): return (lab_chroma(enlarge(grey, net.render(grey, size))/255) > 60).mean()
    assert neon() < .02
    gain,bound = net.gain,net.max_chroma
    try:
        net.gain *= 6; bounded = neon()
        net.max_chroma = 1e9; assert neon() > max(1.5*bounded, .05)
    finally: net.gain,net.max_chroma = gain,bound

def test_a_model_asks_the_adviser_if_it_learnt_with_it(model):
    assert Colouriser.from_pretrained(find_model(None, 'model.safetensors'), quick=True).adviser and Colouriser.from_pretrained(model, quick=True).adviser is None

def test_out_of_memory_is_one_sentence(tmp_path, repo, model):
    Image.effect_noise((2000, 1500), 40).save(tmp_path/'a.jpg')
    code = f"""if 1:
        import resource
        from colourise.files import ColouriseError
        from colourise.infer import Colouriser
        net = Colouriser.from_pretrained({str(model)!r}, quick=True)
        used = int(open('/proc/self/statm').read().split()[0])*resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),)*2)
        for size in (64, 2048):
            try: print(net.colourise('a.jpg', size).size)
            except ColouriseError as e: print(type(e).__name__, e)"""
    r = run('python', '-c', code, cwd=tmp_path, PYTHONPATH=str(repo))
    fits,full = r.stdout.splitlines()
    assert fits == '(2000, 1500)' and full.startswith('InferError Out of memory for a render size of 2048: ') and not r.stderr, r.stderr

def test_weights_that_do_not_fit_the_graph_are_refused(model):
    for harm in (lambda s: s.pop('layers.4.conv1.0.weight'), lambda s: s.pop('layers.12.bias'), lambda s: s.update(more=np.zeros(3, np.float32)),
                 lambda s: s.update({'layers.12.bias': np.zeros(4, np.float32)}), lambda s: s.update({'layers.12.bias': np.zeros(3)})):
        state,header = read_model(model)
        harm(state)
        with pytest.raises(ModelError, match='its header promises'): Colouriser(state, header, 'harmed', quick=True)
