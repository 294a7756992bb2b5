"""Two real processes, launched by Accelerate and connected by gloo, train together; one of them is killed."""
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pandas as pd
from conftest import REPO, clean_env

BIN = Path(sys.executable).parent
LAUNCH = [str(BIN/'accelerate'), 'launch', '--multi_gpu', '--num_processes', '2']
TRAIN = LAUNCH + ['--no_python', str(BIN/'colourise-train'), '--preset', 'test', '--device', 'cpu', '--until', 'stage1', '--set', 'stages.batch=3', '--set', 'stage1.epochs=4']

def environment(tmp, port):
    return clean_env(ACCELERATE_USE_CPU='true', OMP_NUM_THREADS='1', COLOURISE_ROOT=str(tmp), MASTER_PORT=str(port), PYTHONPATH=str(REPO))

def launch(cmd, tmp, port):
    cmd = cmd[:len(LAUNCH)] + ['--main_process_port', str(port)] + cmd[len(LAUNCH):]
    return subprocess.Popen(cmd, env=environment(tmp, port), cwd=tmp, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding='utf-8')

def test_processes_share_the_work_and_end_equal(tmp_path):
    p = launch(LAUNCH + [str(REPO/'tests'/'two_processes.py'), str(tmp_path)], tmp_path, 29611)
    out, err = p.communicate(timeout=240)
    assert p.returncode == 0, err[-3000:]
    a, b = (json.loads((tmp_path/f'{r}.json').read_text()) for r in range(2))
    assert len(a['states']) == 2 and a['states'] == b['states']     # parameters and running statistics, after each epoch
    photos = ['astronaut', 'chelsea', 'china', 'coffee', 'flower', 'motorcycle_left']
    assert [sorted(x + y) for x, y in zip(a['seen'], b['seen'])] == [photos]*2 and len(a['seen'][0]) == len(b['seen'][0]) == 3
    assert a['decoded'] > 0 and b['decoded'] == 0                   # one builds the cache, the other reads it
    assert out.count('photographs to train') == 1 and out.count('stage1 epoch 2') == 1

def pid_of(rank, tmp):
    "The process that trains as `rank` below `tmp`."
    for d in Path('/proc').glob('[0-9]*'):
        try: env = (d/'environ').read_bytes().split(b'\0')
        except OSError: continue
        if f'RANK={rank}'.encode() in env and f'COLOURISE_ROOT={tmp}'.encode() in env: return int(d.name)

def test_run_goes_on_after_one_process_was_killed(tmp_path):
    p = launch(TRAIN + ['-o', str(tmp_path/'out')], tmp_path, 29612)
    for line in p.stdout:
        if 'stage1 epoch 3' in line: break                         # so the second is kept; the third may or may not be
    os.kill(pid_of(1, tmp_path), signal.SIGKILL)
    _, err = p.communicate(timeout=120)
    assert p.returncode != 0
    assert 'Process 1 of 2' in err and 'The same command goes on from the last whole epoch.' in err, err[-3000:]
    time.sleep(1)
    assert pid_of(0, tmp_path) is None
    p = launch(TRAIN + ['-o', str(tmp_path/'out')], tmp_path, 29613)
    out, err = p.communicate(timeout=240)
    assert p.returncode == 0, err[-3000:]
    first = int(out.split('from epoch ')[1].split(',')[0])
    assert first >= 3
    history = pd.read_csv(tmp_path/'out'/'stage1'/'history.csv')
    assert history.epoch.tolist() == [1, 2, 3, 4]

def test_a_mistake_is_said_once(tmp_path):
    p = launch(TRAIN + ['--set', 'stage1.epochs=none'], tmp_path, 29614)
    out, err = p.communicate(timeout=120)
    assert p.returncode != 0 and err.count('epochs must be a whole number') == 1, err[-3000:]
