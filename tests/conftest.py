"""What the tests share: the repository, a copy of it, and our commands as processes with a clean environment."""
import os, shutil, subprocess, sys
from pathlib import Path
import pytest

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

@pytest.fixture(scope='session')
def repo(): return REPO

@pytest.fixture(scope='session')
def tree(tmp_path_factory):
    "A copy of the repository as it stands, without what git ignores."
    dest = tmp_path_factory.mktemp('tree')/'repo'
    return Path(shutil.copytree(REPO, dest, ignore=shutil.ignore_patterns(*LEFT_OUT)))
