"Run notebooks, each by itself, as the course does, on the preset `test`: some_notebooks.py NAME ..."
import os, sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
os.environ['COLOURISE_ROOT'] = str(REPO)
from colourise.course import _environment, _run_notebook
from colourise.recipe import load_recipe, run_dir

recipe = load_recipe('test')
for name in sys.argv[1:]:
    copy = run_dir(recipe)/'notebooks'/f'{name}.ipynb'
    seconds = _run_notebook(REPO/f'nbs/behind/{name}.ipynb', copy, f'{name:<16}', _environment(REPO, 'test', [], recipe, None))
    print(f'{seconds:6.1f} s', flush=True)
