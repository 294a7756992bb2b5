"""The package as a stranger gets it: a wheel in an environment of its own, used far from the repository and without a network."""
import hashlib, json, shutil, subprocess, sys, tomllib, venv, zipfile
from pathlib import Path
import pytest
from conftest import REPO, clean_env
from colourise.recipe import load_recipe, presets

PROJECT = tomllib.loads((REPO/'pyproject.toml').read_text(encoding='utf-8'))['project']
PRESETS = presets(REPO/'settings.ini')
ENV = REPO/'.venv-wheel'

def bin_of(env): return env/('Scripts' if sys.platform == 'win32' else 'bin')

def pip(*args):
    cmd = [bin_of(ENV)/'python', '-m', 'pip', '--disable-pip-version-check', *args]
    r = subprocess.run(cmd, env=clean_env(), capture_output=True, text=True, timeout=1800)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]

@pytest.fixture(scope='session')
def environment():
    "An environment with the package's dependencies, made anew only when these change."
    stamp, key = ENV/'stamp', hashlib.sha256(json.dumps([sys.version, PROJECT['dependencies']]).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != key:
        print('\nInstalling the dependencies of the wheel, which takes some minutes ...', file=sys.__stderr__, flush=True)
        venv.create(ENV, clear=True, with_pip=True)
        pip('install', '--quiet', *PROJECT['dependencies'])
        stamp.write_text(key)
    return ENV

@pytest.fixture(scope='session')
def wheel(tree, tmp_path_factory):
    "The wheel, made from the source distribution that is made from a copy of the repository."
    out = tmp_path_factory.mktemp('dist')
    cmd = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, tree]
    r = subprocess.run(cmd, env=clean_env(), capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    return next(out.glob('*.whl'))

@pytest.fixture(scope='session')
def installed(environment, wheel):
    pip('install', '--quiet', '--no-index', '--no-deps', '--force-reinstall', wheel)
    return environment

@pytest.fixture(scope='session')
def no_network():
    "What to put before a command so that it has no network, where the system allows it."
    cut = ['unshare', '-rn']
    return cut if shutil.which('unshare') and subprocess.run([*cut, 'true'], capture_output=True).returncode == 0 else []

@pytest.fixture
def offline(installed, no_network, tmp_path):
    "Run a command of the clean environment in an empty folder, without network."
    def run(name, *args, timeout=300, **env):
        env = clean_env(PYTHONPATH=str(REPO/'tests/offline'), PYTHONSAFEPATH='1', **env)
        cmd = [*no_network, bin_of(installed)/name, *args]
        return subprocess.run(cmd, cwd=tmp_path, env=env, capture_output=True, text=True, encoding='utf-8', timeout=timeout)
    return run

def python(offline, code, **kw):
    "What `code` prints."
    r = offline('python', '-c', code, **kw)
    assert r.returncode == 0, r.stderr[-3000:]
    return r.stdout.strip()

def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = {n for n in names if n.startswith('colourise/')}
    assert package == {f'colourise/{p.name}' for p in (REPO/'colourise').glob('*.py')} | {'colourise/settings.ini'}
    assert all('.dist-info/' in n for n in set(names)-package)
    assert any(n.endswith('licenses/LICENSE') for n in names)

def test_the_network_is_cut_off(offline):
    for code in ("socket.create_connection(('127.0.0.1', 9))", "socket.socket().connect(('127.0.0.1', 9))", "socket.getaddrinfo('example.org', 443)",
                 "__import__('requests').get('https://example.org')", "__import__('urllib.request').request.urlopen('http://127.0.0.1:9')"):
        r = offline('python', '-c', f'import socket; {code}')
        assert r.returncode and 'the network is cut off' in r.stderr, code

def test_requirements_are_complete(installed): pip('check')

def test_every_module_imports_and_comes_from_the_wheel(offline):
    code = """if 1:
        import colourise, importlib, pkgutil, sys
        names = [m.name for m in pkgutil.iter_modules(colourise.__path__) if m.name[0] != '_']
        mods = [importlib.import_module(f'colourise.{n}') for n in names]
        assert all(m.__file__.startswith(sys.prefix) for m in mods), mods
        assert all(hasattr(m, n) for m in mods for n in m.__all__)
        print(*names)"""
    assert set(python(offline, code).split()) == {p.stem for p in (REPO/'colourise').glob('[a-z]*.py')}

def test_importing_is_light_and_silent(offline):
    code = "import sys, colourise, colourise.recipe, colourise.cli; print([m for m in ('torch', 'fastai', 'matplotlib') if m in sys.modules])"
    assert python(offline, code) == '[]'
    r = offline('python', '-W', 'error', '-c', 'import colourise.recipe, colourise.cli')
    assert (r.returncode, r.stderr) == (0, '')

def test_importing_everything_warns_of_nothing(offline):
    r = offline('python', '-c', 'import colourise.train')
    assert (r.returncode, r.stdout, r.stderr) == (0, '', '')

@pytest.mark.parametrize('preset', PRESETS)
def test_presets_are_those_of_the_repository(offline, preset):
    code = f"import json; from colourise.recipe import load_recipe; print(json.dumps(load_recipe({preset!r}).as_dict()))"
    assert json.loads(python(offline, code)) == json.loads(json.dumps(load_recipe(preset, settings=REPO/'settings.ini').as_dict()))

@pytest.mark.parametrize('name', PROJECT['scripts'])
def test_commands_have_help(offline, name):
    r = offline(name, '--help')
    assert (r.returncode, r.stderr) == (0, '')
    assert f'usage: {name}' in r.stdout and 'Example' in r.stdout

def test_the_network_colours_any_size(offline):
    code = """if 1:
        import torch
        from colourise.unet import colour_unet
        net = colour_unet(backbone='random', seed=1).eval()
        with torch.no_grad(): out = net(torch.rand(1, 1, 65, 96))
        print(tuple(out.shape), sum(p.numel() for p in net.parameters()) > 40e6)"""
    assert python(offline, code) == '(1, 3, 65, 96) True'

def test_training_without_repository_and_network(offline, tmp_path):
    train = ['colourise-train', '--preset', 'test', '--seed', '7', '--until', 'stage2', '-o', 'out']
    r = offline(*train, timeout=900)
    assert r.returncode == 0, r.stdout + r.stderr
    assert 'Warning' not in r.stderr
    out = tmp_path/'out'
    stages = json.loads((out/'summary.json').read_text(encoding='utf-8'))['stages']
    assert [s['stage'] for s in stages] == [f'stage{i}' for i in range(1, 3)]
    assert all((out/s['stage']/f).is_file() for s in stages for f in ('model.safetensors', 'history.csv', 'grid.jpg'))
    before = {p: p.read_bytes() for p in out.rglob('model.safetensors')}
    assert offline(*train, timeout=900).returncode == 0
    assert {p: p.read_bytes() for p in out.rglob('model.safetensors')} == before # what is trained is not trained again

def test_no_network_is_said_in_one_sentence(offline):
    r = offline('colourise-train', '--preset', 'test', '--set', 'backbone=imagenet', HOME='.', TORCH_HOME='.')
    assert r.returncode == 1 and r.stderr.startswith('colourise-train: ') and 'Traceback' not in r.stderr
    assert 'random' in r.stderr # the way out

def test_the_course_needs_its_repository_and_its_extra(offline, tmp_path):
    r = offline('colourise-course')
    assert r.returncode == 1 and 'no notebooks here' in r.stderr and len(r.stderr.splitlines()) == 1
    shutil.copytree(REPO/'nbs', tmp_path/'nbs')
    shutil.copy(REPO/'settings.ini', tmp_path)
    r = offline('colourise-course', '--preset', 'test')
    assert r.returncode == 1 and ".[course]" in r.stderr and len(r.stderr.splitlines()) == 1
