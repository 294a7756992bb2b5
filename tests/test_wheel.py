"""The package as a stranger gets it: a wheel in an environment of its own, used far from the repository and without a network."""
import io, json, shutil, subprocess, urllib.request, venv, zipfile
import numpy as np, pytest
from conftest import ENV, PROJECT, REPO, TRAIN, bin_of, clean_env, in_env, pip
from PIL import Image
from colourise.colour import colourfulness
from colourise.modelfile import read_header
from colourise.photo import embedded
from colourise.recipe import load_recipe, presets

PRESETS = presets(REPO/'settings.ini')
MODEL_HEADER = read_header(REPO/'colourise/model.safetensors')

def python(offline, code, **kw):
    "What `code` prints."
    r = offline('python', '-c', code, **kw)
    assert r.returncode == 0, r.stderr[-3000:]
    return r.stdout.strip()

def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = {n for n in names if n.startswith('colourise/')}
    beside = {f'colourise/{n}' for n in ('settings.ini', 'model-card.md', 'model.safetensors', 'unet.onnx', 'unet-advised.onnx', 'adviser.safetensors', 'adviser.onnx', 'adviser-card.md')}
    static = {f'colourise/static/{p.name}' for p in (REPO/'colourise/static').iterdir()}
    assert package == {f'colourise/{p.name}' for p in (REPO/'colourise').glob('*.py')} | beside | static
    assert {n.rsplit('.')[-1] for n in static} >= {'js', 'css', 'html'} and (REPO/'colourise/unet.onnx').stat().st_size < 1e6
    assert all('.dist-info/' in n for n in set(names)-package)
    assert any(n.endswith('licenses/LICENSE') for n in names)

def test_the_network_is_cut_off(offline):
    for code in ("socket.create_connection(('127.0.0.1', 9))", "socket.socket().connect(('127.0.0.1', 9))", "socket.getaddrinfo('example.org', 443)",
                 "__import__('requests').get('https://example.org')", "__import__('urllib.request').request.urlopen('http://127.0.0.1:9')"):
        r = offline('python', '-c', f'import socket; {code}')
        assert r.returncode and 'the network is cut off' in r.stderr, code

def test_requirements_are_complete(installed): assert 'No broken requirements' in pip('check')

def test_the_base_install_is_small(installed):
    "Files and bytecode of the package and of what it needs, as pip installs them; neither pip itself nor the plug-in for HEIC is counted."
    code = """if 1:
        from importlib.metadata import distributions
        others = 'pip', 'setuptools', 'pillow-heif'
        files = {d.locate_file(f) for d in distributions() if d.metadata['Name'].lower().replace('_', '-') not in others for f in d.files}
        print(sum(f.stat().st_size for f in files if f.is_file()))"""
    r = in_env('-c', code)
    assert r.returncode == 0, r.stderr
    assert 60*2**20 < int(r.stdout) <= 205*2**20

def test_the_environments_are_what_they_are_taken_for(offline, offline_train):
    "The first has no PyTorch; the second has it, and the package of both is the wheel's."
    where = "import colourise; print(colourise.__file__)"
    assert offline('python', '-c', 'import torch').returncode
    assert python(offline, where) == python(offline_train, f'import torch, fastai; {where}') and python(offline, where).startswith(str(ENV))
    assert python(offline_train, 'import torch; print(torch.__file__)').startswith(str(TRAIN))
    assert offline_train('python', '-c', 'import jupyterlab').returncode # comes with [course]

def test_the_environment_is_mended_when_it_is_broken(installed, monkeypatch, tmp_path):
    "A stamp alone isn't believed: what is half-installed is noticed, and made anew."
    import conftest
    assert conftest.trouble() == ''
    made, fresh = [], tmp_path/'fresh'
    venv.create(fresh, with_pip=True)

    def create(folder, clear, with_pip): # of which only the first takes long
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(fresh, folder, symlinks=True)
    monkeypatch.setattr(conftest.venv, 'create', create)
    monkeypatch.setattr(conftest, 'ENV', tmp_path/'env')
    monkeypatch.setattr(conftest, 'CLEAN', tmp_path)
    monkeypatch.setattr(conftest, 'NEEDS', ['pip'])
    monkeypatch.setattr(conftest, 'pip', lambda *args: made.append(args))
    conftest.make_environment()
    stamp = (tmp_path/'stamp').read_text()
    conftest.make_environment()
    assert len(made) == 1 # sound, so nothing is done
    monkeypatch.setattr(conftest, 'NEEDS', ['pip', 'no-such-package'])
    assert 'No module named' in conftest.trouble()
    with pytest.raises(AssertionError, match='broken'): conftest.make_environment()
    assert len(made) == 2 and not (tmp_path/'stamp').exists()
    monkeypatch.setattr(conftest, 'NEEDS', ['pip'])
    conftest.make_environment()
    shutil.rmtree(next((tmp_path/'env').rglob('site-packages'))/'pip')
    conftest.make_environment()
    assert len(made) == 4 and (tmp_path/'stamp').read_text() == stamp and conftest.trouble() == ''

LIGHT = 'files colour photo modelfile recipe hints look infer batch cli'.split()

def test_importing_is_light_and_silent(offline, offline_train):
    "Without an extra all of the wing of the photographs can be imported; where PyTorch is there, it is left alone; cli doesn't even load NumPy."
    heavy = "print([m for m in ('torch', 'fastai', 'matplotlib', 'pandas', 'scipy') if m in sys.modules])"
    code = f"import sys, {', '.join(f'colourise.{m}' for m in LIGHT)}; {heavy}"
    assert python(offline, code) == python(offline_train, code) == '[]'
    assert python(offline_train, f'import sys, colourise.infer; {heavy}') == '[]'
    assert python(offline, "import sys, colourise.cli; print([m for m in ('numpy', 'PIL', 'onnxruntime') if m in sys.modules])") == '[]'
    r = offline('python', '-W', 'error', '-c', f"import {', '.join(f'colourise.{m}' for m in LIGHT)}")
    assert (r.returncode, r.stderr) == (0, '')

def test_every_module_comes_from_the_wheel_and_the_network_colours_any_size(offline_all):
    "In one process, because loading PyTorch takes seconds. Nothing is warned of."
    code = """if 1:
        import colourise, importlib, pkgutil, sys
        names = [m.name for m in pkgutil.iter_modules(colourise.__path__) if m.name[0] != '_']
        mods = [importlib.import_module(f'colourise.{n}') for n in names]
        assert all(m.__file__.startswith(sys.prefix) for m in mods), mods
        assert all(hasattr(m, n) for m in mods for n in m.__all__)
        print(*names)
        import torch
        net = colourise.unet.colour_unet(backbone='random', seed=1).eval()
        with torch.no_grad(): out = net(torch.rand(1, 1, 65, 96))
        print(tuple(out.shape), sum(p.numel() for p in net.parameters()) > 40e6)"""
    r = offline_all('python', '-c', code)
    assert (r.returncode, r.stderr) == (0, '')
    names,net = r.stdout.splitlines()
    assert set(names.split()) == {p.stem for p in (REPO/'colourise').glob('[a-z]*.py')}
    assert net == '(1, 3, 65, 96) True'

@pytest.mark.parametrize('preset', PRESETS)
def test_presets_are_those_of_the_repository(offline, preset):
    code = f"import json; from colourise.recipe import load_recipe; print(json.dumps(load_recipe({preset!r}).as_dict()))"
    assert json.loads(python(offline, code)) == json.loads(json.dumps(load_recipe(preset, settings=REPO/'settings.ini').as_dict()))

@pytest.mark.parametrize('name', PROJECT['scripts'])
def test_commands_have_help(offline, name):
    r = offline(name, '--help')
    assert (r.returncode, r.stderr) == (0, '')
    assert f'usage: {name}' in r.stdout and 'Example' in r.stdout

@pytest.mark.parametrize('command, extra', [('colourise-train', 'train'), ('colourise-pretrain', 'train'), ('colourise-export', 'train'),
    ('colourise-bench --preset test', 'train'), ('colourise-data --check', 'train'), ('colourise-evaluate --data .', 'train'),
    ('colourise-app', 'app')])
def test_a_command_that_needs_an_extra_says_what_to_type(offline, command, extra):
    r = offline(*command.split())
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and r.stderr.startswith(command.split()[0] + ': ')
    assert 'pip install' in r.stderr and f'[{extra}]' in r.stderr and dict(train='torch', app='starlette')[extra] in r.stderr

def test_a_mistake_is_found_before_an_extra_is_asked_for(offline):
    r = offline('colourise-train', '--preset', 'smaple')
    assert r.returncode == 2 and 'choose one of' in r.stderr and 'pip' not in r.stderr

def test_training_without_repository_and_network(offline, offline_train, tmp_path):
    train = ['colourise-train', '--preset', 'test', '--seed', '7', '--until', 'stage1', '-o', 'out']
    r = offline_train(*train, timeout=900)
    assert r.returncode == 0, r.stdout + r.stderr
    assert 'Warning' not in r.stderr
    out = tmp_path/'out'
    stages = json.loads((out/'summary.json').read_text(encoding='utf-8'))['stages']
    assert [s['stage'] for s in stages] == ['stage1']
    assert all((out/s['stage']/f).is_file() for s in stages for f in ('model.safetensors', 'history.csv', 'grid.jpg'))
    before = {p: p.read_bytes() for p in out.rglob('model.safetensors')}
    assert offline_train(*train, timeout=900).returncode == 0
    assert {p: p.read_bytes() for p in out.rglob('model.safetensors')} == before # what is trained is not trained again
    shutil.copy(embedded()['coffee'], tmp_path/'old.png')
    r = offline('colourise', '--model', 'out', 'old.png') # as in the README: the folder of a run
    assert r.returncode == 0, r.stderr
    with Image.open(tmp_path/'old-colour.png') as new, Image.open(tmp_path/'old.png') as old: assert new.size == old.size
    assert 'stage1' in Image.open(tmp_path/'old-colour.png').getexif()[0x131] # Software
    (tmp_path/'album').mkdir()
    Image.open(tmp_path/'old.png').resize((96, 64)).save(tmp_path/'album'/'coffee.png')
    (tmp_path/'album'/'bad.jpg').write_bytes(b'no picture')
    r = offline_train('colourise-evaluate', '--model', 'out', '--data', 'album', '-o', 'report', '--side', '64')
    assert r.returncode == 0 and 'Left out: ' in r.stdout and 'bad.jpg' in r.stdout, r.stdout + r.stderr
    made = json.loads((tmp_path/'report'/'metrics.json').read_text(encoding='utf-8'))
    assert made['photographs'] == 1 and list(made['left_out']) == ['bad.jpg'] and made['lpips'] == 'not available'
    assert {'report.html', 'photographs.csv'} <= {f.name for f in (tmp_path/'report').iterdir()}
    r = offline('colourise-evaluate', '--data', 'nowhere')
    assert r.returncode == 2 and r.stderr == "colourise-evaluate: There is no folder 'nowhere'.\n"

def test_a_photograph_gets_its_colours_right_after_installation(offline, tmp_path):
    "No model is named, none is downloaded."
    Image.open(embedded()['chelsea']).convert('L').save(tmp_path/'old.jpg')
    r = offline('colourise', 'old.jpg')
    assert (r.returncode, r.stdout) == (0, ''), r.stderr
    with Image.open(tmp_path/'old-colour.jpg') as new, Image.open(tmp_path/'old.jpg') as old:
        assert (new.size, new.mode) == (old.size, 'RGB') and colourfulness(new.convert('RGB')) > 8
        assert np.abs(np.asarray(new.convert('L'), float) - np.asarray(old, float)).mean() < 1.5 # its own grey, but for JPEG's rounding
        assert new.getexif()[0x131].split('-')[0].endswith(MODEL_HEADER['stage'])
    r = offline('colourise', '--version')
    assert 'model.safetensors' in r.stdout and (tmp_path/r.stdout.split(': ')[-1].strip()).is_file()

def test_the_page_needs_no_pytorch(installed, lent_app, tmp_path):
    "With [app], from the wheel: a photograph goes in by the page's way and comes out in colour; PyTorch isn't even there."
    env = clean_env(PYTHONPATH=str(lent_app), PYTHONSAFEPATH='1')
    assert subprocess.run([bin_of(ENV)/'python', '-c', 'import torch'], env=env, capture_output=True).returncode
    p = subprocess.Popen([bin_of(ENV)/'colourise-app', '--no-browser'], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        site, token = p.stdout.readline().strip().split('/#')
        def ask(method, path, data=None):
            asked = urllib.request.Request(site + path, data, {'X-Token': token, 'Origin': site}, method=method)
            with urllib.request.urlopen(asked, timeout=300) as r: return r.read()
        assert b'choose files' in ask('GET', '/')
        ask('PUT', '/photos/1?name=cat.png', embedded()['chelsea'].read_bytes())
        with Image.open(io.BytesIO(ask('GET', '/photos/1/file'))) as new: assert new.size == (451, 300) and colourfulness(new.convert('RGB')) > 8
    finally: p.terminate()
    assert 'Traceback' not in p.communicate(timeout=120)[1] and [*tmp_path.iterdir()] == []

def test_training_goes_on_from_the_shipped_model(offline, offline_train, tmp_path):
    r = offline_train('colourise-train', '--preset', 'test', '--until', 'stage1', '--start', 'shipped', '--set', 'stage1.lr=1e-8', '-o', 'tuned', timeout=900)
    assert r.returncode == 0, r.stdout + r.stderr
    header = read_header(tmp_path/'tuned/stage1/model.safetensors')
    assert header['backbone'] == f"{MODEL_HEADER['recipe']['preset']}/{MODEL_HEADER['stage']}"
    assert header['metrics']['colourfulness'] > 5 # from nothing, at such a learning rate, there would be no colour
    r = offline('colourise-train', '--preset', 'test', '--start', 'nowhere.safetensors')
    assert (r.returncode, r.stderr) == (2, "colourise-train: start: there is no model file 'nowhere.safetensors'; name a model.safetensors, or say none or shipped.\n")

def test_the_shipped_model_is_small_and_its_card_is_its_own(wheel):
    assert (REPO/'colourise/model.safetensors').stat().st_size <= 45e6
    card = (REPO/'colourise/model-card.md').read_text(encoding='utf-8')
    assert card.startswith(f"# Model card: {MODEL_HEADER['recipe']['preset']}/{MODEL_HEADER['stage']}\n") and f"multiplied by {MODEL_HEADER['gain']:g}." in card
    assert f"| prediction | {MODEL_HEADER['measured']['delta_e00']:.2f} |" in card and MODEL_HEADER['card'] == 'model-card.md'
    assert MODEL_HEADER['data']['source'] != 'embedded' # the photographs that are shown must be new to it

def test_no_network_is_said_in_one_sentence(offline_train):
    r = offline_train('colourise-train', '--preset', 'test', '--set', 'backbone=imagenet', HOME='.', TORCH_HOME='.')
    assert r.returncode == 1 and r.stderr.startswith('colourise-train: ') and 'Traceback' not in r.stderr
    assert 'random' in r.stderr # the way out

def test_the_course_needs_its_repository_and_its_extra(offline, tmp_path):
    r = offline('colourise-course')
    assert r.returncode == 1 and 'no notebooks here' in r.stderr and len(r.stderr.splitlines()) == 1
    shutil.copytree(REPO/'nbs', tmp_path/'nbs')
    shutil.copy(REPO/'settings.ini', tmp_path)
    r = offline('colourise-course', '--preset', 'test')
    assert r.returncode == 1 and "[course]" in r.stderr and len(r.stderr.splitlines()) == 1

def test_an_exported_model_needs_nothing_of_ours(offline_train, tmp_path):
    "One file for other people's programs: ONNX Runtime alone gives the picture, at any size."
    r = offline_train('colourise-export', '-o', 'model.onnx')
    assert (r.returncode, r.stderr) == (0, '') and 'model.onnx' in r.stdout and 'ONNX Runtime agrees with PyTorch' in r.stdout
    import onnxruntime
    net = onnxruntime.InferenceSession((tmp_path/'model.onnx').read_bytes())
    picture, = net.run(None, {net.get_inputs()[0].name: np.random.default_rng(0).random((1, 1, 96, 64), np.float32)})
    assert picture.shape == (1, 3, 96, 64) and np.isfinite(picture).all()
