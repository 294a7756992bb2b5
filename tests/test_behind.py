"The notebooks behind the lessons that need no trained stage, each by itself; `test_course` runs the others after the lessons."
from conftest import REPO, run

AFTER_THE_STAGES = ['55_report', '72_evaluation', '77_batch', '82_widgets', '87_ship']
BY_THEMSELVES = sorted({p.stem for p in (REPO/'nbs/behind').glob('[0-9]*.ipynb')} - {*AFTER_THE_STAGES})

def test_they_run_from_top_to_bottom():
    r = run('python', 'tests/some_notebooks.py', *BY_THEMSELVES, cwd=REPO, timeout=1800, COLOURISE_RUN='test-behind')
    print(r.stdout)                                       # how long each took: pytest -rP shows it
    assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-4000:]
