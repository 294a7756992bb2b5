"The course: all notebooks, in order, on the preset `test`; and what tiny courses show about order, copies and a fresh start that is interrupted."
import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest
from fastcore.nbio import mk_cell, new_nb, read_nb, write_nb
from conftest import REPO, clean_env, run
from test_behind import AFTER_THE_STAGES
from colourise import course as running
from colourise.files import ColouriseError

def test_lessons_and_what_needs_their_stages_run_from_top_to_bottom():
    shutil.rmtree(REPO/'runs/test', ignore_errors=True)
    (REPO/'models/resnet34-test.safetensors').unlink(missing_ok=True) # perhaps of an earlier recipe
    for command in (['colourise-course', '--preset', 'test'], ['python', 'tests/some_notebooks.py', *AFTER_THE_STAGES]):
        r = run(*command, cwd=REPO, timeout=1800)
        print(r.stdout)                                   # how long each took: pytest -rP shows it
        assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]


# --- tiny courses -------------------------------------------------------------------------------------------------

CALL = "import sys\nfrom colourise.course import run_course\nrun_course('test', sys.argv[2:], sys.argv[1] == 'again', behind=True)"

@pytest.fixture
def course(tmp_path):
    (tmp_path/'nbs/behind').mkdir(parents=True); (tmp_path/'colourise').mkdir()
    shutil.copy(REPO/'settings.ini', tmp_path)
    return tmp_path

def write(course, name, *cells):
    nb = new_nb([mk_cell(s, 'markdown' if s.startswith('# ') else 'code', id=f'cell{i}') for i,s in enumerate(cells)])
    nb.metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'), language_info=dict(name='python'))
    nb.cells[0].metadata = dict(tags=['mine'])
    write_nb(nb, course/f'nbs/{name}.ipynb')

def go(course, *changes, again=False): return run('python', '-c', CALL, 'again' if again else 'on', *changes, cwd=course)

def copy(course, name): return read_nb(course/f'runs/test/notebooks/{name}.ipynb')

def shown(course, name, i=-1): return eval(copy(course, name).cells[i].outputs[0].data['text/plain'])

def test_notebooks_behind_run_between_the_lessons_in_their_own_folder(course):
    for name in ('10_lesson', 'behind/05_files', 'behind/88_course', 'index', '00_start', '.hidden', '_draft'): write(course, name, 'import os; os.getcwd()')
    r = go(course)
    assert r.returncode == 0, r.stderr
    assert [l.split(']')[1].split()[0] for l in r.stdout.splitlines() if l.startswith('[')] == ['00_start', '05_files', '10_lesson', '88_course', 'index']
    here = course.resolve()
    assert sorted(p.stem for p in (course/'runs/test/notebooks').iterdir()) == ['00_start', '05_files', '10_lesson', '88_course', 'index'] # one flat folder
    assert (shown(course, '05_files'), shown(course, '10_lesson')) == (f'{here}/nbs/behind', f'{here}/nbs')

def test_a_course_is_its_lessons_unless_all_is_asked_for(course):
    for name in ('10_lesson', 'behind/05_files', 'index'): write(course, name, '1')
    ran = lambda *options: [l.split(']')[1].split()[0] for l in run('colourise-course', '--preset', 'test', *options, cwd=course).stdout.splitlines() if l.startswith('[')]
    assert ran() == ['10_lesson', 'index'] and ran('--behind') == ['05_files', '10_lesson', 'index']

def test_copies_hold_the_notebook_and_its_outputs_and_nothing_else(course):
    cells = '# Title', 'x = 2', 'x**5', '1/0 if __import__("os").path.exists("../fail") else x'
    write(course, '00_first', *cells)
    def the_same():
        before, after = read_nb(course/'nbs/00_first.ipynb'), copy(course, '00_first')
        assert [(c.id, c.source, c.cell_type, c.metadata) for c in before.cells] == [(c.id, c.source, c.cell_type, c.metadata) for c in after.cells]
        assert [c.execution_count for c in after.cells if c.cell_type == 'code'] == [1, 2, 3] and after.metadata.kernelspec == before.metadata.kernelspec
        assert 'papermill' not in json.dumps(after.metadata) and shown(course, '00_first', 2) == 32
    assert go(course).returncode == 0
    the_same()
    (course/'fail').touch(); (course/'runs/test/course.json').unlink()
    r = go(course)                                        # papermill would put warnings into the copy of one that fails
    assert r.returncode == 1 and 'nbs/00_first.ipynb stopped in cell 4 of 4, line 1' in r.stderr
    the_same()
    assert [o.ename for o in copy(course, '00_first').cells[3].outputs] == ['ZeroDivisionError']

def test_bars_are_off_and_places_are_absolute(course):
    (course/'nbs/my photographs').mkdir()
    write(course, '00_first', 'import os', "from colourise.recipe import course_recipe as r; [os.environ['TQDM_DISABLE'], r().source.data, r().photos.seed]")
    r = run('python', '-c', CALL, 'on', 'seed=7', 'data=my photographs', cwd=course/'nbs')
    assert r.returncode == 0, r.stderr
    assert shown(course, '00_first') == ['1', str((course/'nbs/my photographs').resolve()), 7]

def test_a_notebook_that_is_none(course):
    write(course, '00_first', '1'); (course/'nbs/10_second.ipynb').write_text('<<<<<<< HEAD')
    r = go(course)
    assert r.returncode == 1 and "nbs/10_second.ipynb can't be read as a notebook" in r.stderr and not (course/'runs/test/notebooks').exists()

# What a stage does with the token of a fresh start: what was begun under it goes on, anything older is thrown away.
STAGE = '''import json, os, time
from pathlib import Path
file, again = Path('../{0}.json'), os.environ.get('COLOURISE_AGAIN')
info = json.loads(file.read_text()) if file.exists() else {{}}
if again and info.get('again') != again: info = {{}}
info = dict(again=again, epochs=info.get('epochs', 0))
while info['epochs'] < 4:
    info['epochs'] += 1; info['trained'] = info.get('trained', 0) + 1
    file.write_text(json.dumps(info))
    if info['epochs'] == 2 and Path('../wait').exists(): Path('../waiting').touch(); time.sleep(300)
[info['epochs'], info.get('trained', 0), again]'''

def test_a_fresh_start_that_is_killed_keeps_the_half_trained_stage(course):
    for name in ('61_stage1', '62_stage2'): write(course, name, STAGE.format(name))
    assert go(course).returncode == 0 and [shown(course, n) for n in ('61_stage1', '62_stage2')] == [[4, 4, None]]*2
    write(course, '62_stage2', STAGE.format('62_stage2'), '1')
    assert go(course).returncode == 0 and shown(course, '62_stage2', 0) == [4, 0, None] # trained already, by what it kept
    (course/'wait').touch()
    p = subprocess.Popen([sys.executable, '-c', CALL, 'again'], cwd=course, env=clean_env(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (course/'waiting').exists():
        assert time.monotonic() < end and p.poll() is None
        time.sleep(.1)
    p.kill(); p.wait()
    assert json.loads((course/'61_stage1.json').read_text())['epochs'] == 2             # the old one is gone, the new one half-trained
    (course/'wait').unlink()
    token = json.loads((course/'runs/test/course.json').read_text())['again']
    r = go(course)
    assert r.returncode == 0, r.stderr
    assert shown(course, '61_stage1') == [4, 2, token]                                  # went on from its second epoch
    assert shown(course, '62_stage2', 0) == [4, 4, token]                               # of before the fresh start, so anew
    assert json.loads((course/'runs/test/course.json').read_text())['again'] is None
    assert 'done already' in go(course).stdout

def stat(process): # its state and its parent; a process that has ended may stay as a zombie
    try: return (process/'stat').read_text().rsplit(')')[1].split()[:2]
    except (FileNotFoundError, ProcessLookupError): return 'Z', None

@pytest.mark.skipif(sys.platform != 'linux', reason='here each kernel is a process of its own')
def test_a_killed_trunk_is_said_in_one_sentence(tmp_path, monkeypatch):
    "The process from which all kernels branch; what has branched from it ends, too."
    monkeypatch.setattr(running, '_gpus', ())
    call = ['-f', str(tmp_path/'kernel.json')], str(tmp_path), []
    with running._trunk(dict(os.environ)) as grow:
        branch, end = Path(f'/proc/{grow(*call)}'), time.monotonic() + 60
        while not (tmp_path/'kernel.json').exists() and time.monotonic() < end: time.sleep(.1)
        os.kill(int(stat(branch)[1]), signal.SIGKILL)
        with pytest.raises(ColouriseError, match='start the course again'): grow(*call)
        while stat(branch)[0] != 'Z' and time.monotonic() < end: time.sleep(.1)
        assert stat(branch)[0] == 'Z'
