"""The benchmark as a command, on the smallest sizes."""
import os, sys
import pandas as pd, pytest, torch
from conftest import run

@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    "The finished command and its table; it races against itself, too."
    folder = tmp_path_factory.mktemp('bench')
    r = run('colourise-bench', '--preset', 'test', '--against', sys.executable, '-o', folder/'bench', cwd=folder, timeout=600,
            COLOURISE_ROOT=str(folder), OMP_NUM_THREADS='1')
    assert r.returncode == 0, r.stderr[-3000:]
    return r.stdout, pd.read_csv(folder/'bench'/'bench.csv').set_index(['what', 'who']), folder

def test_bench_prints_and_keeps_its_table(measured):
    said, table, folder = measured
    titles = table.index.get_level_values('what').unique()
    for part in ('a photograph at 64 px', 'building the cache', 'training step at', 'network alone at', 'JPEG to JPEG, rendered', 'from typing', 'megabytes'):
        title = next(t for t in titles if part in t)
        assert title in said and 'ours' in table.loc[title].index
    assert table['median'].notna().all() and (table['least'] <= table['ratio']).all() and (table['ratio'] <= table['most']).all()
    assert str(folder) not in table.to_string()
    assert torch.cuda.is_available() or "the article's schedule: not measured, no CUDA GPU here" in said

def test_what_ours_gains_is_far_from_chance(measured):
    table = measured[1]
    assert table.ratio['a photograph at 64 px, cache built', 'ours'] > 20 # at most two decodes against none
    assert table.ratio['a photograph at 64 px, cache built', 'fastai, shrunk once'] > 1.3 # two small decodes against two large ones; a busy machine brought 1.9

def test_another_version_is_raced(measured):
    "Here it is this very version, so both are alike."
    table = measured[1]
    for title in (t for t in table.index.get_level_values('what').unique() if 'from typing' in t or 'default settings' in t):
        assert table['median'][title, 'the other version'] > 0 and 1/4 < table.ratio[title, 'ours'] < 4
    assert table.ratio['megabytes installed', 'ours'] == 1 and 100 < table['median']['megabytes installed', 'ours'] < 400

def test_the_whole_schedule_is_timed_with_a_cache_of_its_own(monkeypatch):
    "Here nothing is trained; where there is a CUDA GPU, the benchmark trains the article's schedule."
    from colourise import bench
    asked = []
    monkeypatch.setattr(bench, 'train_course', lambda recipe, out, device: asked.append((recipe, out, device, os.environ['COLOURISE_ROOT'])))
    (title, seconds), = bench.whole_schedule('embedded').items()
    (recipe, out, device, root), = asked
    assert title.startswith("the article's schedule, ") and title.endswith(' photographs') and seconds[bench.OURS].item() > 0
    assert (recipe.preset, len(recipe.stages), recipe.network.backbone, recipe.loss.vgg, device) == ('article', 5, 'random', 'random', 'cuda')
    assert out.startswith(root) and not os.path.exists(root) and os.environ.get('COLOURISE_ROOT') != root

def test_bench_refuses_what_is_not_there(tmp_path):
    (tmp_path/'file').write_text('')
    r = run('colourise-bench', '-o', 'file', cwd=tmp_path)
    assert r.returncode == 2 and "'file' is a file" in r.stderr
    r = run('colourise-bench', '--against', 'no/python', cwd=tmp_path)
    assert r.returncode == 2 and r.stderr == "colourise-bench: There is no Python 'no/python'.\n"

def test_without_options_no_weights_are_downloaded():
    "The preset `article` trains with ImageNet's weights; its benchmark needs none, and an error names its cause."
    code = """if 1:
        from colourise.bench import Bench, BenchError, STEPS, Worker, bench_losses
        from colourise.recipe import load_recipe
        recipe = load_recipe('article')
        assert recipe.loss.vgg == 'imagenet'
        bench_losses(recipe)
        try:
            with Worker("raise OSError('the disk is full')"): pass
        except BenchError as e: print(e)"""
    from conftest import REPO
    r = run('python', '-c', code, cwd=REPO, PYTHONPATH=str(REPO/'tests/offline'), OMP_NUM_THREADS='1')
    assert (r.returncode, r.stdout) == (0, 'What was to be measured has ended: OSError: the disk is full\n'), r.stderr[-2000:]
