"""The notebooks, the package, the README and the recipe say the same thing, and the notebooks are fit to be read."""
import re, tomllib
import pytest
from fastcore.nbio import read_nb
from conftest import REPO, run

NOTEBOOKS = sorted((REPO/'nbs').glob('*.ipynb'))
every_notebook = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)

def code_cells(path): return [c for c in read_nb(path).cells if c.cell_type == 'code']
def outputs(path): return [o for c in code_cells(path) for o in c.outputs]
def joined(x): return x if isinstance(x, str) else ''.join(x)

def texts(path):
    "All that can be read in the notebook: sources, printed text, and outputs but for pictures."
    nb = read_nb(path)
    yield from (c.source for c in nb.cells)
    for o in outputs(path):
        yield joined(o.get('text', ''))
        yield from (joined(v) for k, v in o.get('data', {}).items() if k.startswith('text/'))

def exports(path):
    "The modules that the notebook exports to."
    return re.findall(r'^#\|\s*default_exp:?\s+(\S+)', '\n'.join(c.source for c in code_cells(path)), re.M)

def changed(tree, pattern):
    "Files in the copy that differ from the repository's, or are only in one of both."
    names = {p.relative_to(d) for d in (tree, REPO) for p in d.glob(pattern)}
    return sorted(str(n) for n in names if not all((d/n).is_file() for d in (tree, REPO)) or (tree/n).read_bytes() != (REPO/n).read_bytes())

def test_package_is_what_the_notebooks_export(tree):
    r = run('nbdev-export', cwd=tree)
    assert r.returncode == 0, r.stderr
    assert changed(tree, 'colourise/*.py') == []

def test_notebooks_are_clean(tree):
    r = run('nbdev-clean', cwd=tree)
    assert r.returncode == 0, r.stderr
    assert changed(tree, 'nbs/*.ipynb') == []

def test_readme_is_what_the_index_makes():
    r = run('python', 'tools/build_readme.py', '--check', cwd=REPO)
    assert r.returncode == 0, r.stderr

def test_readme_links_lead_somewhere():
    text = re.sub(r'^```.*?^```', '', (REPO/'README.md').read_text(encoding='utf-8'), flags=re.M | re.S)
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', text)
    local = [l.split('#')[0] for l in (a or b for a, b in links) if not re.match(r'[a-z]+:|#', l)]
    assert [l for l in local if not (REPO/l).exists()] == []

def test_readme_names_every_notebook():
    text = (REPO/'README.md').read_text(encoding='utf-8')
    assert [p.name for p in NOTEBOOKS if p.stem != 'index' and f'nbs/{p.name}' not in text] == []

def test_each_module_has_one_notebook():
    made = [m for p in NOTEBOOKS for m in exports(p)]
    there = {p.stem for p in (REPO/'colourise').glob('*.py')} - {'__init__', '_modidx'}
    assert sorted(made) == sorted(there)

def test_numbers_give_one_order():
    numbers = [p.name[:2] for p in NOTEBOOKS if p.stem != 'index']
    assert all(n.isdigit() for n in numbers) and len(set(numbers)) == len(numbers)

@every_notebook
def test_begins_with_title_and_subtitle(path):
    first = read_nb(path).cells[0]
    assert first.cell_type == 'markdown' and re.match(r'# .+\n\n> .+', first.source)

@every_notebook
def test_no_cell_is_skipped(path):
    skipping = re.compile(r'^#\|\s*(eval:\s*false|notest|skip)', re.M)
    assert [c.source for c in code_cells(path) if skipping.search(c.source)] == []

@every_notebook
def test_outputs_are_there_and_fit_to_be_read(path):
    outs = outputs(path)
    assert outs, 'the notebook was committed without its outputs'
    assert [o for o in outs if o.output_type == 'error'] == []
    assert [joined(o.text) for o in outs if o.get('name') == 'stderr'] == []
    assert [t for t in texts(path) if re.search(r'\b[A-Z]\w*Warning: ', t)] == []

@every_notebook
def test_no_paths_of_one_machine(path):
    somewhere = re.compile(r'(?<![\w.:/])/(wor[k]|roo[t]|tm[p]|hom[e]|User[s]|op[t]|va[r])/\w')
    assert [t[max(0, m.start()-80):m.end()+80] for t in texts(path) if (m := somewhere.search(t))] == []

@every_notebook
def test_is_small(path): assert path.stat().st_size < 1.5e6

def test_wheel_and_commands_are_named_as_settled():
    project = tomllib.loads((REPO/'pyproject.toml').read_text(encoding='utf-8'))['project']
    assert project['name'] == 'colourise-unet'
    for name, target in project['scripts'].items():
        assert target == f"colourise.cli:{name.replace('-', '_')}"

ORDER = 'recipe several metrics data unet loss train infer results widgets bench pretrain ship cli'.split() # as in DESIGN.md, leaves first

def test_modules_import_only_leftwards():
    for path in (REPO/'colourise').glob('[a-z]*.py'):
        used = set(re.findall(r'^\s*from (?:colourise)?\.(\w+) import', path.read_text(encoding='utf-8'), re.M))
        assert used <= set(ORDER[:ORDER.index(path.stem)]), path.name

def test_git_has_no_large_files():
    r = run('git', 'ls-files', '-z', cwd=REPO)
    if r.returncode: pytest.skip('not a clone')
    assert [n for n in r.stdout.split('\0') if n and (REPO/n).is_file() and (REPO/n).stat().st_size > 3e6] == ['colourise/model.safetensors']
    assert sum(p.stat().st_size for p in NOTEBOOKS) < 12e6
