"""The scripts that keep README.md and the notebooks' outputs up to date."""
import base64, json, shutil
import pytest
from fastcore.nbio import mk_cell, new_nb, read_nb, write_nb
from conftest import REPO, run

def output(**data): return dict(output_type='display_data', metadata={}, data={k.replace('_', '/'): v for k, v in data.items()})
def code(source, *outputs, id='c', count=1): return mk_cell(source, id=id, outputs=list(outputs), execution_count=count)
def prose(source, id='p'): return mk_cell(source, 'markdown', id=id)

@pytest.fixture
def project(tmp_path):
    "A project with the tools and an index."
    shutil.copytree(REPO/'tools', tmp_path/'tools', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(REPO/'pyproject.toml', tmp_path)
    (tmp_path/'nbs').mkdir()
    cells = [prose('# Title\n\n[data](10_data.ipynb) [recipe](../settings.ini) [site](https://a.b/c) [part](#part) `[code](10_data.ipynb)`', 'a'),
             code('#| hide\nsecret', output(text_plain='secret'), id='b'),
             code('#| echo: false\n#| fig-alt: three faces\ndraw()', output(image_png=base64.b64encode(b'picture').decode(), text_plain='<Figure>'), id='c'),
             code('1+1', output(text_plain='2'), id='d'), code('table', output(text_markdown='| [x](20_unet.ipynb) |', text_plain='x'), id='e')]
    write_nb(new_nb(cells), tmp_path/'nbs/index.ipynb')
    return tmp_path

def readme(project, *options): return run('python', 'tools/build_readme.py', *options, cwd=project)

def test_readme(project):
    assert readme(project, '--check').returncode == 1
    assert readme(project).returncode == 0
    text = (project/'README.md').read_text(encoding='utf-8')
    for part in ('[data](nbs/10_data.ipynb) [recipe](settings.ini) [site](https://a.b/c) [part](#part) `[code](10_data.ipynb)`',
                 '![three faces](nbs/images/readme-1.png)', '```python\n1+1\n```\n\n```text\n2\n```', '| [x](nbs/20_unet.ipynb) |'): assert part in text
    for part in ('secret', 'draw()', '<Figure>', '#|'): assert part not in text
    assert (project/'nbs/images/readme-1.png').read_bytes() == b'picture'
    assert readme(project, '--check').returncode == 0

def test_readme_notices_pictures_that_are_stale_or_left_over(project):
    readme(project)
    (project/'nbs/images/readme-1.png').write_bytes(b'another')
    (project/'nbs/images/readme-9.png').write_bytes(b'left over')
    r = readme(project, '--check')
    assert r.returncode == 1 and 'readme-1.png' in r.stderr and 'readme-9.png' in r.stderr
    readme(project)
    assert [p.name for p in (project/'nbs/images').iterdir()] == ['readme-1.png'] and readme(project, '--check').returncode == 0

@pytest.fixture
def executed(project):
    "A function that writes executed copies of two notebooks; both then stand in nbs/ without outputs."
    def copies(*cells, name='01_one'):
        (project/'runs').mkdir(exist_ok=True)
        write_nb(new_nb(list(cells)), project/'runs'/f'{name}.ipynb')
    (project/'nbs/index.ipynb').unlink()
    for name in ('01_one', '02_two'): write_nb(new_nb([prose('# New title'), code('1+1', count=None)]), project/'nbs'/f'{name}.ipynb')
    copies(prose('# Title'), code('1+1', output(text_plain='2')), name='02_two')
    return copies

def adopt(project): return run('python', 'tools/adopt_outputs.py', 'runs', cwd=project)

def test_outputs_of_notebooks_behind_the_lessons_are_adopted(project, executed):
    (project/'nbs/behind').mkdir()
    (project/'nbs/02_two.ipynb').rename(project/'nbs/behind/02_two.ipynb')
    r = adopt(project)
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == 'nbs/behind/02_two.ipynb', r.stderr
    assert read_nb(project/'nbs/behind/02_two.ipynb').cells[1].outputs[0].data['text/plain'] == '2'

def test_outputs_are_adopted_and_prose_stays(project, executed):
    executed(prose('# Title'), code('1+1', output(text_plain='two')))
    r = adopt(project)
    assert r.returncode == 0, r.stderr
    title, cell = read_nb(project/'nbs/01_one.ipynb').cells
    assert title.source == '# New title' and cell.outputs[0].data['text/plain'] == 'two' and cell.execution_count is None

def test_adopted_notebooks_say_of_which_run_they_are(project, executed):
    (project/'runs').rename(project/'notebooks')
    stages = [dict(device='2 CPU threads'), dict(device='2 CPU threads')]
    (project/'summary.json').write_text(json.dumps(dict(run='0123abcd', preset='cpu', stages=stages)))
    assert run('python', 'tools/adopt_outputs.py', 'notebooks', cwd=project).returncode == 0
    for _ in range(2): # it stays when notebooks are cleaned
        nb = read_nb(project/'nbs/02_two.ipynb')
        assert nb.metadata['colourise'] == dict(run='0123abcd', preset='cpu', device='2 CPU threads')
        assert run('nbdev-clean', '--fname', 'nbs/02_two.ipynb', cwd=project).returncode == 0

@pytest.mark.parametrize('cell, why', [
    (code('1+2', output(text_plain='3')), 'its code is not what was run'), (code('1+1', count=None), 'it was not run to its end'),
    (code('1+1', dict(output_type='error', ename='E', evalue='', traceback=[])), 'it shows an error')])
def test_other_outputs_are_refused_and_nothing_is_written(project, executed, cell, why):
    executed(prose('# Title'), cell)
    r = adopt(project)
    assert r.returncode == 1 and f'nbs/01_one.ipynb: {why}' in r.stderr
    assert all(read_nb(p).cells[1].outputs == [] for p in (project/'nbs').glob('*.ipynb'))

def test_pairs_of_pictures_are_trained_measured_and_kept(project, tmp_path):
    "Both variants of an idea, for one step each; what is trained already isn't trained again."
    import pandas as pd
    from colourise.photo import embedded
    (project/'nbs/images').mkdir()
    (tmp_path/'apart').mkdir()
    shutil.copy(embedded()['rocket'], tmp_path/'apart')
    tool = 'import sys; sys.path.insert(0, "tools"); import ideas; ideas.BATCH = 2; sys.argv[0] = "ideas.py"; ideas.run()'
    args = ['--data', 'embedded', '--test', 'apart', '--body', 'random', '--minutes', '.0001', '--device', 'cpu', '--keep', 'kept', 'cross']
    for again in (False, True):
        r = run('python', '-c', tool, *args, cwd=project, COLOURISE_ROOT=str(tmp_path), OMP_NUM_THREADS='1')
        assert r.returncode == 0, r.stderr[-2000:]
        table = pd.read_csv(project/'nbs/images/ideas.csv').set_index('variant')
        assert list(table.index) == ['cut', 'cross-connections'] and table[['delta_e00', 'colourfulness', 'hue_distance']].notna().all(axis=None)
        if again: assert table.equals(first)
        first = table
    assert (table.photographs > 0).all() and (project/'nbs/images/idea-cross.jpg').stat().st_size > 10_000

def test_the_adviser_can_be_taught_anew(tmp_path):
    "From a few photographs, so it knows nothing; but it is what the package expects."
    from colourise.modelfile import ModelError, read_model
    from colourise.photo import embedded
    (tmp_path/'photos').mkdir()
    for p in list(embedded().values())[:5]: shutil.copy(p, tmp_path/'photos')
    r = run('python', 'tools/adviser.py', tmp_path/'photos', tmp_path/'photos', tmp_path/'adviser.safetensors', cwd=REPO, COLOURISE_ROOT=str(tmp_path), PYTHONPATH=str(REPO))
    assert r.returncode == 0, r.stdout + r.stderr
    new, ours = (read_model(p, 'adviser') for p in (tmp_path/'adviser.safetensors', REPO/'colourise/adviser.safetensors'))
    assert {k: v.shape for k, v in new[0].items()} == {k: v.shape for k, v in ours[0].items()} and new[1]['gain'] == ours[1]['gain']
    assert (tmp_path/'adviser.safetensors').stat().st_size < 6.5e6
    with pytest.raises(ModelError, match='architecture'): read_model(tmp_path/'adviser.safetensors') # it is no U-Net
