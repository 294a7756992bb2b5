"""What the tests share: the repository, a copy of it, our commands as processes with a clean environment, and the wheel in one of its own."""
import hashlib, json, os, shutil, signal, subprocess, sys, tomllib, venv
from pathlib import Path
import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler) # started in the background: what we start would ignore Ctrl-C too
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # before torch: workers that all use all cores wait for each other

REPO = Path(__file__).resolve().parent.parent
LEFT_OUT = ('.git', '.venv*', 'runs', 'models', 'cache', 'DIV2K*', 'dist', 'build', '__pycache__', '.ipynb_checkpoints', '.pytest_cache', '*.egg-info')

def clean_env(**more):
    "The environment without what decides where and what our commands run; with `more`."
    drop = ('COLOURISE_', 'PYTHONPATH', 'PYTHONSTARTUP')
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)} | more

def run(*cmd, cwd, timeout=300, **env):
    "Run `cmd`; a command of ours is taken from the environment of this Python. Returns the finished process, with text."
    exe = Path(sys.executable).with_name(str(cmd[0]))
    cmd = [str(exe) if exe.is_file() else str(cmd[0]), *map(str, cmd[1:])]
    return subprocess.run(cmd, cwd=cwd, env=clean_env(**env), timeout=timeout, capture_output=True, text=True, encoding='utf-8')

LONGEST_FIRST = ['test_course', 'test_wheel', 'test_browser', 'test_several', 'test_killed', 'test_bench', 'test_cli'] # so that no worker is left alone with them at the end
TOGETHER = dict(test_colourise='test_wheel')                                             # they share an environment

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "Each file stays with one worker (make test runs two)."
    for i in items: i.add_marker(pytest.mark.xdist_group(TOGETHER.get(i.path.stem, i.path.stem)))
    place = {name: n for n,name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda i: place.get(TOGETHER.get(i.path.stem, i.path.stem), len(place)))

@pytest.fixture(scope='session')
def repo(): return REPO

@pytest.fixture(scope='session')
def tree(tmp_path_factory):
    "A copy of the repository as it stands, without what git ignores."
    dest = tmp_path_factory.mktemp('tree')/'repo'
    return Path(shutil.copytree(REPO, dest, ignore=shutil.ignore_patterns(*LEFT_OUT)))


# --- the wheel, in a clean environment ------------------------------------------------------------------------

PROJECT = tomllib.loads((REPO/'pyproject.toml').read_text(encoding='utf-8'))['project']
NEEDS = PROJECT['dependencies'] + PROJECT['optional-dependencies']['heic']
ENV = REPO/'.venv-wheel'

def bin_of(env): return env/('Scripts' if sys.platform == 'win32' else 'bin')

def pip(*args):
    cmd = [bin_of(ENV)/'python', '-m', 'pip', '--disable-pip-version-check', *args]
    r = subprocess.run(cmd, env=clean_env(), capture_output=True, text=True, timeout=1800)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]

@pytest.fixture(scope='session')
def environment():
    "An environment with the package's dependencies and the HEIC plug-in, made anew only when these change."
    stamp, key = ENV/'stamp', hashlib.sha256(json.dumps([sys.version, NEEDS]).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != key:
        print('\nInstalling the dependencies of the wheel, which takes some minutes ...', file=sys.__stderr__, flush=True)
        venv.create(ENV, clear=True, with_pip=True)
        pip('install', '--quiet', *NEEDS)
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

@pytest.fixture(scope='session')
def wheel_command(installed, no_network):
    "A command of the clean environment without network, as `args` and `env` of `subprocess.run`."
    def f(name, *args, **env):
        env = clean_env(PYTHONPATH=str(REPO/'tests/offline'), PYTHONSAFEPATH='1', **env)
        return dict(args=[*no_network, bin_of(installed)/name, *args], env=env)
    return f

@pytest.fixture
def offline(wheel_command, tmp_path):
    "Run a command of the clean environment in an empty folder, without network."
    def run(name, *args, timeout=300, **env):
        return subprocess.run(**wheel_command(name, *args, **env), cwd=tmp_path, capture_output=True, text=True, encoding='utf-8', timeout=timeout)
    return run
