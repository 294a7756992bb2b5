"The course itself: all notebooks, in order, on the preset `test`."
import shutil
from conftest import REPO, run

def test_every_notebook_runs_from_top_to_bottom():
    shutil.rmtree(REPO/'runs/test', ignore_errors=True)
    r = run('colourise-course', '--preset', 'test', cwd=REPO, timeout=1800)
    print(r.stdout)                                       # how long each took: pytest -rP shows it
    assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
