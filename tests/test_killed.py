"A training process that is killed (SIGKILL) at the moments that matter goes on as if nothing had happened."
import json, os, signal, subprocess, sys
from pathlib import Path
import pandas as pd, pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
CHANGES = ['stages.size=32', 'stages.repeats=1', 'stage1.epochs=3', 'stage2.epochs=1', 'finder_steps=6', 'patience=9']

VICTIM = '''
import json, os, signal, sys, traceback, torch
from pathlib import Path
from colourise import learner, report, train
from colourise.recipe import load_recipe
torch.set_num_threads(1)
changes, until, runs = json.loads(sys.argv[1])
count = 0
def now():
    global count
    count += 1
    return count == nth
def die(): os.kill(os.getpid(), signal.SIGKILL)

after_loss, save, replace, init = learner.LogEpochs.after_loss, torch.save, os.replace, train.StageRun.__init__
def in_a_batch(self):                      # after a training batch's loss, before its step
    if self.learn.training and now(): die()
    after_loss(self)
def in_a_write(data, file):                # with half of the optimiser's state on the disk
    save(data, file)
    if now(): os.truncate(file, os.path.getsize(file)//2); die()
def before_a_rename(file):
    def f(old, new):
        if Path(new).name == file and now(): die()
        replace(old, new)
    return f
def between_stages(self, recipe, stage, *args, **kw):
    if stage == 'stage2' and now(): die()
    init(self, recipe, stage, *args, **kw)

def train_here(out, where, nth_time):
    global nth
    nth = nth_time
    if where == 'batch': learner.LogEpochs.after_loss = in_a_batch
    elif where == 'write': torch.save = in_a_write
    elif where == 'between': train.StageRun.__init__ = between_stages
    elif where: os.replace = before_a_rename(where)
    train.train_course(load_recipe('test', *changes), out, 'cpu', until=until, on_stage_end=report.keep_grid)

for run in runs:                           # each in a process of its own, which needn't import anything any more
    pid = os.fork()
    if pid == 0:
        try: train_here(*run)
        except BaseException: traceback.print_exc(); os._exit(1)
        sys.stdout.flush(); os._exit(0)
    print('ended', os.waitpid(pid, 0)[1], flush=True)
'''

def train(*runs, changes=CHANGES, until='stage2'):
    "Run the victims one after the other; returns how each ended (0, or what `waitpid` says) and what was printed."
    env = dict(os.environ, OMP_NUM_THREADS='1', COLOURISE_ROOT=str(ROOT), PYTHONPATH=str(ROOT))
    runs = [[str(out), where, nth] for out,where,nth in runs]
    done = subprocess.run([sys.executable, '-c', VICTIM, json.dumps([changes, until, runs])], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return [int(l.split()[1]) for l in done.stdout.splitlines() if l.startswith('ended')], done.stdout + done.stderr

@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp('unbroken')
    ended,said = train((out, None, 0))
    assert ended == [0], said
    return out

def same(a, b):
    "Relative difference of two lists of numbers, at most."
    return max(abs(x-y)/max(abs(x), abs(y), 1e-8) for x,y in zip(a, b, strict=True))

def test_killed_run_equals_unbroken_run(unbroken, tmp_path):
    deaths = [('batch', 2),             # stage 1: the second epoch's only batch
              ('write', 1),             # stage 1: while the second epoch is being kept
              ('resume.pt', 1),         # stage 1: the second epoch is written, but has not replaced the first yet
              ('model.safetensors', 2), # stage 1: the second epoch, between the two files that belong together
              ('stage.json', 1),        # stage 1: all epochs are done, but not the row that says so
              ('grid.jpg', 1),          # stage 1 is trained, its picture is being drawn
              ('between', 1),           # stage 1 is finished, stage 2 has not begun
              ('model.safetensors', 1)] # stage 2: its first epoch
    ended,said = train(*((tmp_path, *d) for d in deaths), (tmp_path, None, 0))
    assert ended == [signal.SIGKILL]*len(deaths) + [0], said
    assert 'stage1 is trained already' in said
    for stage in ('stage1', 'stage2'):
        a,b = (pd.read_csv(d/stage/'history.csv').drop(columns='seconds') for d in (unbroken, tmp_path))
        assert a.shape == b.shape and same(a.values.ravel(), b.values.ravel()) < 1e-4
        a,b = (load_file(d/stage/'model.safetensors') for d in (unbroken, tmp_path))
        for k in a: assert float((a[k].float()-b[k].float()).abs().max()) <= 1e-4*max(float(a[k].float().abs().max()), 1e-8), k
        infos = [json.loads((d/stage/'stage.json').read_text()) for d in (unbroken, tmp_path)]
        for k in ('lr', 'finder', 'max_chroma', 'stopped_early'): assert infos[0][k] == infos[1][k]
        assert infos[0]['row']['best_epoch'] == infos[1]['row']['best_epoch']
        left = {f.name for f in (tmp_path/stage).iterdir()}
        assert left == {'grid.jpg', 'history.csv', 'model.safetensors', 'stage.json'}

def test_another_seed_is_another_run(unbroken, tmp_path):
    "The comparison above can fail: with another seed, weights and history differ by far more."
    ended,said = train((tmp_path, None, 0), changes=[*CHANGES, 'seed=1'], until='stage1')
    assert ended == [0], said
    a,b = (pd.read_csv(d/'stage1'/'history.csv').drop(columns='seconds') for d in (unbroken, tmp_path))
    assert same(a.values.ravel(), b.values.ravel()) > 1e-3
