"Run notebooks, each by itself, as the course does, on the preset `test`: some_notebooks.py NAME ... What fails is said at the end."
import os, sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
os.environ['COLOURISE_ROOT'] = str(REPO)
from colourise.course import _environment, _run_notebook, _trunk
from colourise.files import ColouriseError
from colourise.recipe import load_recipe, run_dir

recipe, failures = load_recipe('test'), []
env, folder = _environment(REPO, 'test', [], recipe, None), run_dir(recipe)/'notebooks'
with _trunk(env) as grow:
    for name in sys.argv[1:]:
        copy, head = folder/f'{name}.ipynb', f'{name:<16}'
        try: seconds = _run_notebook(REPO/f'nbs/behind/{name}.ipynb', copy, head, env, grow)
        except ColouriseError as e: failures.append(str(e))
        else: print(f'{seconds:6.1f} s', flush=True)
sys.exit('\n\n'.join(failures) or None)
