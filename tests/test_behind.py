"The notebooks behind the lessons that need no trained stage, each by itself; `test_course` runs the others after the lessons."
import pytest
from conftest import REPO, run

AFTER_THE_STAGES = ['55_report', '72_evaluation', '77_batch', '82_widgets', '87_ship']
BY_THEMSELVES = sorted({p.stem for p in (REPO/'nbs/behind').glob('[0-9]*.ipynb')} - {*AFTER_THE_STAGES})

@pytest.mark.parametrize('name', BY_THEMSELVES)
def test_it_runs_from_top_to_bottom(name):
    r = run('python', 'tests/some_notebooks.py', name, cwd=REPO, timeout=900, COLOURISE_RUN='test-behind')
    print(r.stdout)
    assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
