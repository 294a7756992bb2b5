"""Take the outputs of executed copies over into the notebooks: adopt_outputs.py runs/sample/notebooks [NAME ...]

Only outputs are taken, so prose that was mended since stays; the notebook's metadata say of which run they are. A copy whose code differs from the notebook's, that was not
run to its end, or that shows an error is refused; then nothing at all is written."""
import json, subprocess, sys
from pathlib import Path
from fastcore.nbio import read_nb, write_nb

def code_cells(nb): return [c for c in nb.cells if c.cell_type == 'code']

def refusal(nb, copy):
    "Why the outputs of `copy` can't be those of notebook `nb`, or None."
    ours, theirs = code_cells(nb), code_cells(copy)
    if [c.source for c in ours] != [c.source for c in theirs]: return 'its code is not what was run'
    if any(c.source.strip() and c.get('execution_count') is None for c in theirs): return 'it was not run to its end'
    if any(o.output_type == 'error' for c in theirs for o in c.outputs): return 'it shows an error'

def about(folder):
    "What the metadata say of the run whose notebooks are in `folder`."
    try: summary = json.loads((Path(folder).parent/'summary.json').read_text())
    except FileNotFoundError: return None # none of its stages is trained yet
    return dict(run=summary['run'], preset=summary['preset'], device=', '.join(dict.fromkeys(s['device'] for s in summary['stages'])))

def main(folder, *names):
    repo = Path(__file__).resolve().parent.parent
    copies = sorted(p for p in Path(folder).glob('*.ipynb') if not names or p.stem in names)
    place = {p.name: p for p in (repo/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts} # also those of nbs/behind
    if not copies: sys.exit(f"There are no executed notebooks in '{folder}': run make course first.")
    pairs = [(place[p.name], read_nb(p)) for p in copies if p.name in place]
    pairs = [(p, read_nb(p), copy) for p, copy in pairs]
    bad = [f'{p.relative_to(repo)}: {why}' for p, nb, copy in pairs if (why := refusal(nb, copy))]
    if bad: sys.exit('Nothing was changed, because of\n  ' + '\n  '.join(bad) + '\nRun make course BEHIND=1 again.')
    run = about(folder)
    for path, nb, copy in pairs:
        if run: nb.metadata['colourise'] = run
        for ours, theirs in zip(code_cells(nb), code_cells(copy)): ours['outputs'] = theirs['outputs']
        write_nb(nb, path)
        subprocess.run([Path(sys.executable).with_name('nbdev-clean'), '--fname', path], cwd=repo, check=True)
        print(path.relative_to(repo))

if __name__ == '__main__':
    if len(sys.argv) < 2: sys.exit(__doc__)
    main(*sys.argv[1:])
