"""What the tests share: the repository, a copy of it, our commands as processes with a clean environment, and the wheel in one of its own."""
import hashlib, json, os, shutil, signal, subprocess, sys, tomllib, venv, zipfile
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler) # started in the background: what we start would ignore Ctrl-C too
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # before torch: workers that all use all cores wait for each other

REPO = Path(__file__).resolve().parent.parent
LEFT_OUT = ('.git', '.venv*', 'runs', 'models', 'cache', 'unzipped', 'DIV2K*', 'dist', 'build', '__pycache__', '.ipynb_checkpoints', '.pytest_cache', '*.egg-info')

def clean_env(**more):
    "The environment without what decides where and what our commands run; with `more`."
    drop = ('COLOURISE_', 'PYTHONPATH', 'PYTHONSTARTUP')
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)} | more

def run(*cmd, cwd, timeout=300, input=None, **env):
    "Run `cmd`; a command of ours is taken from the environment of this Python. Returns the finished process, with text."
    exe = Path(sys.executable).with_name(str(cmd[0]))
    cmd = [str(exe) if exe.is_file() else str(cmd[0]), *map(str, cmd[1:])]
    return subprocess.run(cmd, cwd=cwd, env=clean_env(**env), timeout=timeout, input=input, capture_output=True, text=True, encoding='utf-8')

LONGEST_FIRST = ['test_course', 'test_behind', 'test_wheel', 'test_browser', 'test_distributed', 'test_killed', 'test_bench', 'test_cli']

def pytest_collection_modifyitems(items):
    "The longest files first, so that neither worker is left alone with one at the end (a file stays with one worker: make test)."
    place = {name: n for n,name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda i: place.get(i.path.stem, len(place)))

@pytest.fixture(scope='session')
def repo(): return REPO

@pytest.fixture(scope='session')
def tree(tmp_path_factory):
    "A copy of the repository as it stands, without what git ignores."
    dest = tmp_path_factory.mktemp('tree')/'repo'
    return Path(shutil.copytree(REPO, dest, ignore=shutil.ignore_patterns(*LEFT_OUT)))


# --- the wheel, in a clean environment ------------------------------------------------------------------------
# .venv-wheel/env is what `pip install` gives somebody who only colours photographs: the base dependencies (and the HEIC plug-in).
# .venv-wheel/train is what [train] adds to it: links to those packages of this Python that [train] asks for, directly or indirectly,
# and to no others. Installing them a second time would cost gigabytes and minutes, and test PyPI more than us.

PROJECT = tomllib.loads((REPO/'pyproject.toml').read_text(encoding='utf-8'))['project']
EXTRAS = PROJECT['optional-dependencies']
NEEDS = PROJECT['dependencies'] + EXTRAS['heic']
CLEAN = REPO/'.venv-wheel'
ENV, TRAIN = CLEAN/'env', CLEAN/'train'

def bin_of(env): return env/('Scripts' if sys.platform == 'win32' else 'bin')

def in_env(*args):
    "Run the Python of the clean environment with `args`; returns the finished process."
    return subprocess.run([bin_of(ENV)/'python', *map(str, args)], env=clean_env(PYTHONSAFEPATH='1'), capture_output=True, text=True, timeout=1800)

def pip(*args):
    "pip in the clean environment, which must succeed; returns what it printed."
    r = in_env('-m', 'pip', '--disable-pip-version-check', *args)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    return r.stdout

def trouble():
    "What is wrong with the clean environment; empty if nothing is."
    if not bin_of(ENV).is_dir(): return 'not there'
    modules = {'pillow': 'PIL', 'pillow-heif': 'pillow_heif'}
    names = {r.name for r in map(Requirement, NEEDS) if not r.marker or r.marker.evaluate()}
    for args in (['-m', 'pip', 'check'], ['-c', f"import {', '.join(sorted(modules.get(n, n.replace('-', '_')) for n in names))}"]):
        r = in_env(*args)
        if r.returncode: return (r.stdout + r.stderr)[-1000:]
    return ''

@contextmanager
def clean_folder():
    "One process at a time changes what lies in the folder of the clean environment."
    CLEAN.mkdir(exist_ok=True)
    with FileLock(CLEAN/'lock'): yield CLEAN

def make_environment():
    "The clean environment, made anew when the requirements change or when it is broken; stamped only when it is sound."
    stamp, key = CLEAN/'stamp', hashlib.sha256(json.dumps([sys.version, NEEDS]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key and not trouble(): return
    stamp.unlink(missing_ok=True)
    print('\nInstalling what the wheel needs into .venv-wheel ...', file=sys.__stderr__, flush=True)
    venv.create(ENV, clear=True, with_pip=True)
    pip('install', '--quiet', *NEEDS)
    assert not (why := trouble()), f'the clean environment is broken: {why}'
    stamp.write_text(key)

@pytest.fixture(scope='session')
def environment():
    "An environment with the base dependencies of the package and the HEIC plug-in."
    with clean_folder(): make_environment()
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
    "The environment with the wheel in it, which is left alone if it is there already: another process may be running its tests."
    with zipfile.ZipFile(wheel) as z: holds = str(sorted((i.filename, i.CRC) for i in z.infolist()))
    stamp, key = ENV/'wheel', hashlib.sha256(holds.encode()).hexdigest()
    with clean_folder():
        if not stamp.is_file() or stamp.read_text() != key:
            stamp.unlink(missing_ok=True)
            pip('install', '--quiet', '--no-index', '--no-deps', '--force-reinstall', wheel)
            stamp.write_text(key)
    return environment

def needed(requirements):
    "The distributions of this Python that `requirements` ask for, directly or indirectly, by name; ours are followed, but not among them."
    found, seen, todo = {}, set(), [(Requirement(r), '') for r in requirements]
    while todo:
        r, extra = todo.pop()
        name = canonicalize_name(r.name)
        if r.marker and not r.marker.evaluate({'extra': extra}): continue
        for wanted in {'', *r.extras} - {e for n, e in seen if n == name}:
            seen.add((name, wanted))
            if name == PROJECT['name']: more = EXTRAS[wanted] if wanted else PROJECT['dependencies']
            else: more = (found.setdefault(name, distribution(name))).requires or []
            todo += [(Requirement(m), wanted) for m in more]
    return found

def lend(extra):
    "The folder of what `extra` adds: to be put on the path of the clean environment. What is right already is left alone."
    folder, found = CLEAN/extra, needed([f"{PROJECT['name']}[{extra}]"]).values()
    links = {top: d.locate_file(top) for d in found for top in {f.parts[0] for f in d.files or []} - {'..', '__pycache__'}}
    with clean_folder():
        folder.mkdir(exist_ok=True)
        for p in folder.iterdir():
            if p.readlink() != links.get(p.name): p.unlink()
        for top, file in links.items():
            if not (folder/top).is_symlink(): (folder/top).symlink_to(file)
    return folder

@pytest.fixture(scope='session')
def lent(installed): return lend('train')

@pytest.fixture(scope='session')
def lent_app(installed): return lend('app')

@pytest.fixture(scope='session')
def no_network():
    "What to put before a command so that it has no network, where the system allows it."
    cut = ['unshare', '-rn']
    return cut if shutil.which('unshare') and subprocess.run([*cut, 'true'], capture_output=True).returncode == 0 else []

def without_network(no_network, name, args, env, *path):
    "A command of the clean environment, with folders `path` on Python's, as `args` and `env` of `subprocess.run`."
    env = clean_env(PYTHONPATH=os.pathsep.join(map(str, [REPO/'tests/offline', *path])), PYTHONSAFEPATH='1', **env)
    return dict(args=[*no_network, bin_of(ENV)/name, *args], env=env)

@pytest.fixture(scope='session')
def wheel_command(installed, no_network):
    "A command of the clean environment without network, as `args` and `env` of `subprocess.run`."
    return lambda name, *args, **env: without_network(no_network, name, args, env)

@pytest.fixture(scope='session')
def train_command(lent, no_network):
    "The same with the extra [train]."
    return lambda name, *args, **env: without_network(no_network, name, args, env, lent)

def runner(command, folder):
    "A function that runs a command in `folder` and returns the finished process, with text."
    def run(name, *args, timeout=300, **env):
        return subprocess.run(**command(name, *args, **env), cwd=folder, capture_output=True, text=True, encoding='utf-8', timeout=timeout)
    return run

@pytest.fixture
def offline(wheel_command, tmp_path):
    "Run a command of the clean environment in an empty folder, without network."
    return runner(wheel_command, tmp_path)

@pytest.fixture
def offline_all(lent, lent_app, no_network, tmp_path):
    "The same with the extras [train] and [app]."
    return runner(lambda name, *args, **env: without_network(no_network, name, args, env, lent, lent_app), tmp_path)

@pytest.fixture
def offline_train(train_command, tmp_path):
    "The same with the extra [train]."
    return runner(train_command, tmp_path)
