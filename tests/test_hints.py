"""What the owner of a photograph may ask of `colourise` beyond colours, as processes: hints, contact sheets, and one look for an album."""
import numpy as np, pytest
from PIL import Image
from conftest import REPO, run
from colourise.colour import lab_ab
from colourise.photo import embedded

def colourise(folder, *args): return run('colourise', *args, cwd=folder, PYTHONPATH=str(REPO), OMP_NUM_THREADS='1')
def ab(path): return np.stack(lab_ab(np.asarray(Image.open(path).convert('RGB'))/255), -1)

@pytest.fixture(scope='module')
def old():
    "A grey photograph of two halves, dark and bright, with a little grain."
    grey = np.repeat([90, 160], 80)[None] + np.random.default_rng(0).normal(0, 1, (100, 160))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))

@pytest.fixture
def home(tmp_path, old):
    old.save(tmp_path/'old.png')
    return tmp_path

def test_a_hint_colours_what_it_is_put_on_and_nothing_else(home):
    (home/'hints.txt').write_text('# two more\n75%,90%=#a33b2a # the other half\n30,30=green\n')
    for out,args in dict(plain=(), one=('--hint', '20,50=#a33b2a'), file=('--hint', '10%,50%=green', '--hints', 'hints.txt')).items():
        r = colourise(home, 'old.png', *args, '-o', f'{out}.png')
        assert r.returncode == 0, r.stderr
    plain,one,both = (ab(home/f'{n}.png') for n in ('plain', 'one', 'file'))
    left,right = np.s_[:, :70],np.s_[:, 90:]
    assert one[left][..., 0].min() > 20 and np.abs(one - plain)[right].mean() < 2
    assert both[left][..., 0].max() < -15 and both[right][..., 0].min() > 20
    grey = lambda name: np.asarray(Image.open(home/name).convert('L'), int)
    assert np.abs(grey('one.png') - grey('old.png')).max() <= 1

def test_hints_are_for_the_upright_photograph(home, old):
    old.rotate(90, expand=True).save(home/'turned.jpg', quality=95, exif=(e := Image.Exif(), e.__setitem__(274, 6))[0]) # 6: turn it to the right
    r = colourise(home, 'turned.jpg', '--hint', '20,50=red')
    assert r.returncode == 0, r.stderr
    a = ab(home/'turned-colour.jpg')[..., 0]
    assert a.shape == (100, 160) and a[:, :70].mean() > 30 + a[:, 90:].mean()

@pytest.mark.parametrize('args, part', [
    (['old.png', '--hint', '160,5=red'], 'has 160×100 pixels'), (['old.png', '--hint', '101%,5%=red'], 'outside the picture'),
    (['old.png', '--hint', '5,5=redd'], "'redd' is no colour"), (['old.png', '--hint', '5=red'], 'X,Y=COLOUR'),
    (['old.png', '--hints', 'none.txt'], "'none.txt' can't be read"), (['.', '--hint', '5,5=red'], 'a single photograph'),
    (['old.png', 'new.png', '--hint', '5,5=red'], 'a single photograph'), (['old.png', '--sheet', '--hint', '5,5=red'], 'hints out'),
    (['old.png', '--same-look'], 'name more than one'), (['.', '--same-look'], 'name more than one')])
def test_senseless_requests(home, args, part):
    r = colourise(home, *args)
    assert r.returncode == 2 and part in r.stderr and len(r.stderr.splitlines()) == 1 and r.stderr.startswith('colourise: ')
    assert [p.name for p in home.iterdir()] == ['old.png']

def test_without_scipy_it_says_what_to_type(home):
    code = """if 1:
        import importlib.util as u, sys
        find = u.find_spec
        u.find_spec = lambda name, *args: None if name == 'scipy' else find(name, *args)
        from colourise.cli import colourise
        sys.exit(colourise(['old.png', '--hint', '5,5=red']))"""
    r = run('python', '-c', code, cwd=home, PYTHONPATH=str(REPO))
    assert r.returncode == 1 and r.stderr == "colourise: scipy not installed: type  pip install 'colourise-unet[app]'\n"

def test_a_contact_sheet(home):
    r = colourise(home, 'old.png', '--sheet')
    assert r.returncode == 0 and 'old.png → old-sheet.jpg' in r.stderr, r.stderr
    with Image.open(home/'old-sheet.jpg') as img: assert img.format == 'JPEG' and 1500 < img.width < 2000 and img.height < 1100
    before = (home/'old-sheet.jpg').stat().st_mtime_ns
    r = colourise(home, '.', '--sheet') # the sheet itself is no photograph of the folder
    assert (r.returncode, r.stderr) == (0, 'Nothing to do: 1 done already; --overwrite makes anew.\n') and (home/'old-sheet.jpg').stat().st_mtime_ns == before
    r = colourise(home, 'old.png', '--sheet', '-o', 'settings.png')
    assert r.returncode == 0 and Image.open(home/'settings.png').format == 'PNG'

def test_one_look_for_an_album(tmp_path):
    names = 'chelsea', 'rocket', 'flower', 'coffee'
    for n in names: Image.open(embedded()[n]).convert('L').resize((120, 90)).save(tmp_path/f'{n}.png')
    (tmp_path/'letter.jpg').write_text('Dear aunt')
    for out,args in dict(own=(), same=('--same-look',)).items():
        r = colourise(tmp_path, '.', '-o', out, *args)
        assert r.returncode == 1 and '4 photographs colourised, 1 failed.' in r.stderr and r.stderr.count('letter.jpg') == 1, r.stderr
    spread = {d: np.std([ab(tmp_path/d/f'{n}.png').mean((0, 1)) for n in names], axis=0).sum() for d in ('own', 'same')}
    assert spread['same'] < .8*spread['own'], spread
    kept = (tmp_path/'same/rocket.png').read_bytes()
    (tmp_path/'same/rocket.png').unlink() # a batch that goes on gives the same
    colourise(tmp_path, '.', '-o', 'same', '--same-look')
    assert (tmp_path/'same/rocket.png').read_bytes() == kept
