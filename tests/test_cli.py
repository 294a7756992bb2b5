"""The commands as processes: a course of tiny notebooks that fails, goes on, is interrupted, and mistakes of all kinds."""
import json, os, re, signal, shutil, subprocess, sys, time
from pathlib import Path
import pytest
from fastcore.nbio import mk_cell, new_nb, read_nb, write_nb
from conftest import REPO, clean_env, run

def write(course, name, *cells):
    write_nb(new_nb([mk_cell(s, id=f'cell{i}') for i, s in enumerate(cells)]), course/'nbs'/f'{name}.ipynb')

NOTE = "open('../visits.txt', 'a').write('{}\\n')" # each run of a notebook leaves a line

@pytest.fixture
def course(tmp_path):
    "A course of three notebooks in a folder whose name holds a blank."
    c = tmp_path/'my course'
    (c/'nbs').mkdir(parents=True)
    (c/'colourise').mkdir() # empty: what is done here shouldn't hang on the real package, which a developer may just be changing
    shutil.copy(REPO/'settings.ini', c)
    for name in ('index', '00_first', '10_second'): write(c, name, NOTE.format(name))
    return c

def go(course, *options, preset='test', **env): return run('colourise-course', '--preset', preset, *options, cwd=course, **env)

def visits(course):
    "Which notebooks were run since the last call."
    f = course/'visits.txt'
    names = f.read_text().split() if f.is_file() else []
    f.unlink(missing_ok=True)
    return names

def result(course, name, i=-1, preset='test'):
    "What cell `i` of the executed copy shows."
    return read_nb(course/'runs'/preset/'notebooks'/f'{name}.ipynb').cells[i].outputs[0].data['text/plain']

def test_runs_in_order_and_then_says_that_all_is_done(course):
    r = go(course)
    assert r.returncode == 0, r.stderr
    assert visits(course) == ['00_first', '10_second', 'index']
    lines = [l for l in r.stdout.splitlines() if l.startswith('[')]
    assert len(lines) == 3 and all(' s ' in l for l in lines) and '\x1b' not in r.stdout and '\r' not in r.stdout
    assert {p.name for p in (course/'runs/test/notebooks').iterdir()} == {'00_first.ipynb', '10_second.ipynb', 'index.ipynb'}
    r = go(course)
    assert r.returncode == 0 and 'done already' in r.stdout and visits(course) == []

def test_failing_cell_is_reported_and_the_next_call_goes_on_from_there(course):
    write(course, '10_second', NOTE.format('10_second'), 'x = 1', "y = x/0\nprint('never')")
    r = go(course)
    assert r.returncode == 1 and visits(course) == ['00_first', '10_second']
    for part in ('nbs/10_second.ipynb', 'cell 3 of 3, line 1', 'y = x/0', 'ZeroDivisionError: division by zero'): assert part in r.stderr
    assert 'Traceback' not in r.stderr and '\x1b' not in r.stderr and len(r.stderr.splitlines()) < 15
    assert any(o.output_type == 'error' for o in read_nb(course/'runs/test/notebooks/10_second.ipynb').cells[2].outputs)
    write(course, '10_second', NOTE.format('10_second'), 'x = 1', 'x/2')
    r = go(course)
    assert r.returncode == 0 and visits(course) == ['10_second', 'index'] and result(course, '10_second') == '0.5'

def test_changes_make_stale_what_comes_after(course):
    (course/'nbs/index.ipynb').unlink()
    go(course), visits(course)
    write(course, '10_second', NOTE.format('10_second'), '2')
    assert go(course).returncode == 0 and visits(course) == ['10_second']
    assert go(course, '--set', 'seed=5').returncode == 0 and visits(course) == ['00_first', '10_second']
    (course/'runs/test/notebooks/10_second.ipynb').unlink()
    assert go(course, '--set', 'seed=5').returncode == 0 and visits(course) == ['10_second']

def test_again_runs_everything_and_tells_the_notebooks(course):
    told = "import os; str(os.environ.get('COLOURISE_AGAIN'))"
    write(course, '00_first', NOTE.format('00_first'), told)
    (course/'nbs/10_second.ipynb').unlink()
    assert go(course).returncode == 0 and visits(course) == ['00_first', 'index'] and result(course, '00_first') == "'None'"
    write(course, 'index', '1/0')
    assert go(course, '--again').returncode == 1 and visits(course) == ['00_first']
    wish = result(course, '00_first') # names this wish, so that a stage can tell whether it was begun for it
    assert re.fullmatch(r"'\d{8}T\d{6}'", wish)
    write(course, 'index', told) # a fresh start that was broken off is still the same one when it goes on
    assert go(course).returncode == 0 and visits(course) == [] and result(course, 'index') == wish
    write(course, 'index', told, '1')
    assert go(course).returncode == 0 and result(course, 'index', 0) == "'None'" # and is over when all is done

def test_notebooks_know_what_to_run(course, tmp_path):
    "Called in a subfolder, with folders that are named from there, while another python3 kernel is registered."
    photos, other = tmp_path/'some photographs', tmp_path/'jupyter/kernels/python3'
    photos.mkdir()
    other.mkdir(parents=True)
    (other/'kernel.json').write_text(json.dumps(dict(argv=['false'], display_name='not ours', language='python')))
    write(course, '00_first', 'import os, sys', 'from colourise.recipe import course_recipe, root, run_dir', 'r = course_recipe()',
          "[os.getcwd(), str(root()), str(run_dir(r)), r.preset, r.source.data, r.source.test, r.photos.seed, r.stages[0].epochs, sys.prefix]")
    r = go(course/'nbs', '--data', '../../some photographs', '--test', 'none', '--set', 'seed=9', '--set', 'stage1.epochs=4',
           JUPYTER_PATH=str(tmp_path/'jupyter'), JUPYTER_PREFER_ENV_PATH='0')
    assert r.returncode == 0, r.stderr
    c = str(course.resolve())
    assert eval(result(course, '00_first')) == [f'{c}/nbs', c, f'{c}/runs/test', 'test', str(photos.resolve()), 'none', 9, 4, sys.prefix]
    assert visits(course) == ['10_second', 'index']

def test_dead_kernel(course):
    write(course, '00_first', 'import os', 'os.kill(os.getpid(), 9)', '1')
    r = go(course)
    assert r.returncode == 1 and visits(course) == [] and 'cell 2 of 3' in r.stderr and 'memory' in r.stderr and 'Traceback' not in r.stderr

@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM], ids=['ctrl-c', 'terminate'])
def test_interruption_leaves_no_process_behind(course, sig):
    write(course, '10_second', 'import os, subprocess, time', "p = subprocess.Popen(['sleep', '300'])",
          "open('../pids.txt.part', 'w').write(f'{os.getpid()} {p.pid}'); os.rename('../pids.txt.part', '../pids.txt'); time.sleep(300)")
    cmd = [Path(sys.executable).with_name('colourise-course'), '--preset', 'test']
    p = subprocess.Popen(cmd, cwd=course, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (course/'pids.txt').is_file() or p.poll() is not None)
    p.send_signal(sig)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'stopped in cell 3' in out
    assert err.strip() == 'colourise-course: Stopped. The same command goes on from here.'
    pids = [int(n) for n in (course/'pids.txt').read_text().split()]
    wait_for(lambda: not any(map(alive, pids)))
    visits(course), write(course, '10_second', NOTE.format('10_second'))
    assert go(course).returncode == 0 and visits(course) == ['10_second', 'index']

def alive(pid):
    "Is process `pid` running? (One that has ended but was not yet fetched by its parent is not.)"
    try: os.kill(pid, 0)
    except OSError: return False
    stat = Path(f'/proc/{pid}/stat')
    try: return not stat.exists() or stat.read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError: return False

def wait_for(ready, seconds=60):
    end = time.monotonic()+seconds
    while not ready():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.1)

def test_table_of_stages(course):
    rows = [dict(stage='stage1', size=64, valid_loss=0.12345678, delta_e00=11.25, device='cpu'), dict(stage='stage2', size=128, valid_loss=0.1, delta_e00=10.5, device='cpu')]
    write(course, 'index', 'import json, pathlib', f"pathlib.Path('../runs/test/summary.json').write_text(json.dumps(dict(stages={rows!r})))")
    lines = [l.split() for l in go(course).stdout.splitlines()]
    for line in (['stage1', 'stage2'], ['size', '64', '128'], ['valid', 'loss', '0.123', '0.1'], ['ΔE00,', 'validation', '11.2', '10.5'],
                 ['Look', 'in', 'runs/test:']): assert line in lines

@pytest.mark.parametrize('name, options, part', [
    ('colourise-course', ['--preset', 'smaple'], 'choose one of article, sample, cpu, test'),
    ('colourise-course', ['--preset', 'test', '--data', 'no/such'], "no folder 'no/such'"),
    ('colourise-course', ['--preset', 'test', '--test', 'no/such'], "no folder 'no/such'"),
    ('colourise-train', ['--preset', 'test', '--data', 'no/such'], "no folder 'no/such'"),
    ('colourise-train', ['--preset', 'smaple'], 'choose one of article, sample, cpu, test'),
    ('colourise-train', ['--set', 'stage1.epoch=3'], "did you mean 'epochs'"),
    ('colourise-train', ['--set', 'stage9.epochs=3'], "no stage 'stage9'"),
    ('colourise-train', ['--set', 'stage1.epochs=0'], 'must be positive'),
    ('colourise-train', ['--set', 'epochs'], 'key=value'),
    ('colourise-train', ['--seed', 'seven'], 'seven'),
    ('colourise-train', ['--device', 'abacus'], "can't use the device 'abacus'"),
    ('colourise-data', ['--which', 'x3'], 'x3'),
    ('colourise-export', ['-o', 'model.pth'], "'model.pth' is no file name that ends in .onnx"),
    ('colourise-pretrain', ['--preset', 'cpu', '-o', 'x.safetensors', '--device', 'toaster'], 'toaster'),
    ('colourise-evaluate', [], '--data'),
    ('colourise-evaluate', ['--data', '.', '--train', 'nowhere'], "There is no folder 'nowhere'."),
    ('colourise-bench', ['--against', 'no/python'], "no Python 'no/python'"),
    ('colourise-bench', ['--data', 'nowhere'], "There is no folder 'nowhere'."),
])
def test_senseless_requests(course, name, options, part):
    r = run(name, *options, cwd=course)
    assert r.returncode == 2 and part in r.stderr and 'Traceback' not in r.stderr
    assert r.stderr.splitlines()[-1].startswith(f'{name}: ')

def test_empty_photograph_folder_is_said_in_one_sentence(course):
    (course/'empty').mkdir()
    r = run('colourise-train', '--preset', 'test', '--data', 'empty', cwd=course)
    assert r.returncode == 1 and 'no photograph' in r.stderr and len(r.stderr.splitlines()) == 1

def test_photographs_that_are_not_there_are_reported(course):
    r = run('colourise-data', '--which', 'x4', '--check', cwd=course)
    assert r.returncode == 1 and r.stdout.count('not there') == 2

def test_commands_load_nothing_heavy_to_help_or_to_complain():
    code = """if 1:
        import sys
        from colourise import cli
        commands = [getattr(cli, n) for n in dir(cli) if n.startswith('colourise')]
        assert len(commands) == 9
        for f in commands:
            try: f(['--help'])
            except SystemExit as e: assert not e.code
        assert cli.colourise_train(['--preset', 'smaple']) == cli.colourise_export(['-o', 'model.pth']) == 2
        heavy = 'torch', 'fastai', 'nbclient', 'papermill', 'matplotlib', 'numpy', 'PIL', 'onnxruntime', 'requests'
        print([m for m in heavy if m in sys.modules])"""
    r = run('python', '-c', code, cwd=REPO)
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == '[]', r.stdout[-500:] + r.stderr

def test_options_keep_their_old_names(course):
    "Numbers of the recipe whose names have changed since are still understood."
    for old in ('balance=0.5', 'judge=last', 'bench_rounds=2', 'lesson_size=64', 'pretrain_batch=16'):
        r = run('colourise-train', '--preset', 'test', '--set', old, '--data', 'no/such', cwd=course)
        assert r.returncode == 2 and "no folder 'no/such'" in r.stderr, (old, r.stderr)
