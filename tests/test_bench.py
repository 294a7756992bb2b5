"""The benchmark as a command, on the smallest sizes."""
import pandas as pd
from conftest import run

def test_bench_prints_and_keeps_its_tables(tmp_path):
    r = run('colourise-bench', '--preset', 'test', '-o', tmp_path/'bench', cwd=tmp_path, COLOURISE_ROOT=str(tmp_path), OMP_NUM_THREADS='1')
    assert r.returncode == 0, r.stderr[-3000:]
    table = pd.read_csv(tmp_path/'bench'/'bench.csv').set_index('what')
    first = next(i for i in table.index if 'photographs per second' in i)
    assert float(table.ratio[first]) > 20 # at most two decodes against none: far from the goal of a hundred, and far from chance
    assert first in r.stdout and "the article's schedule" in r.stdout and ('no CUDA GPU here' in r.stdout) != (tmp_path/'bench'/'schedule.csv').exists()
    grown = pd.read_csv(tmp_path/'bench'/'growth.csv')
    assert set(grown.against) == {'training size', 'batch', 'megapixels', 'photographs'} and grown.seconds.notna().all()
    assert (tmp_path/'bench'/'growth.png').stat().st_size > 10_000
    assert str(tmp_path) not in table.to_string()

def test_bench_refuses_what_is_not_there(tmp_path):
    r = run('colourise-bench', '--data', 'nowhere', cwd=tmp_path)
    assert r.returncode == 2 and r.stderr == "colourise-bench: There is no folder 'nowhere'.\n"
    (tmp_path/'file').write_text('')
    r = run('colourise-bench', '-o', 'file', cwd=tmp_path)
    assert r.returncode == 2 and "'file' is a file" in r.stderr
