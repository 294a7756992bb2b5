"""Put the sliders of the lessons, as they are in the notebooks, on a page of their own, nbs/images/sliders.html: build_sliders.py [--check]

The page needs nothing else, not even a network, so the sliders move for those who read the notebooks where no scripts run.
With --check nothing is written, and the exit status is 1 if the page isn't what the notebooks make."""
import html, re, sys
from pathlib import Path
from fastcore.nbio import read_nb

NBS = Path(__file__).resolve().parent.parent/'nbs'
STYLE = 'body {max-width: 660px; margin: 2em auto; padding: 0 1em; font-family: sans-serif; color: #222; background: #fff}'
STYLED = re.compile('<style>(.*?)</style>\n?', re.S)

def text_of(x): return x if isinstance(x, str) else ''.join(x)

def sliders(nb):
    "The sliders in the outputs of a notebook, as HTML."
    found = (text_of(o.get('data', {}).get('text/html', '')) for c in nb.cells for o in c.get('outputs', []))
    return [h for h in found if '<div class="colourise-compare' in h]

def page():
    parts = ['<h1>The sliders of the course</h1><p>Drag a divider, or click on it and use the arrow keys.</p>']
    for file in sorted(NBS.glob('*.ipynb')):
        nb = read_nb(file)
        if found := sliders(nb):
            title = re.match('# (.+)', nb.cells[0].source)[1]
            parts += [f'<h2 id="{file.stem}"><a href="../{file.name}">{html.escape(title)}</a></h2>', *found]
    body = '\n'.join(parts)
    styles = '\n'.join(dict.fromkeys([STYLE, *STYLED.findall(body)])) # that of the sliders once, instead of in each
    head = f'<meta charset="utf-8"><title>Sliders of the course</title><style>{styles}</style>'
    return f'<!doctype html>\n<html lang="en">{head}\n{STYLED.sub("", body)}\n</html>\n'

if __name__ == '__main__':
    file, made = NBS/'images/sliders.html', page()
    if '--check' not in sys.argv: file.write_text(made, encoding='utf-8')
    elif not file.is_file() or file.read_text(encoding='utf-8') != made: sys.exit('nbs/images/sliders.html is not what the notebooks make: type  make export')
