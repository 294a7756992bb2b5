"""Make README.md from nbs/index.ipynb, without Quarto: build_readme.py [--check]

Cells with `#| hide` are left out, as is the code of cells with `#| echo: false`. Pictures are saved in nbs/images;
`#| fig-alt: words` describes them to people who can't see them.
With --check nothing is written, and the exit status is 1 if README.md isn't what the notebook makes."""
import base64, posixpath, re, sys
from pathlib import Path
from fastcore.nbio import read_nb

NOTE = '<!-- Made from nbs/index.ipynb by `make export`: change it there. -->\n\n'
PICTURES = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/svg+xml': 'svg'}
TARGET = re.compile(r'(\]\(|(?:src|href)=")([^)"\s]+)')

def from_root(match):
    "A link as it is written in nbs/, as it must be written one folder higher."
    before, link = match.groups()
    if re.match(r'[a-z]+:|#|/', link): return match[0]
    return before + posixpath.normpath(posixpath.join('nbs', link))

def relink(text):
    "`text` with its links mended, except in code."
    parts = re.split(r'(^```.*?^```|`[^`\n]*`)', text, flags=re.M | re.S)
    return ''.join(p if i % 2 else TARGET.sub(from_root, p) for i, p in enumerate(parts))

def text_of(x): return x if isinstance(x, str) else ''.join(x)

def outputs(cell, pictures):
    "Markdown for the outputs of `cell`; adds its pictures to the dict `pictures`, name to bytes."
    for out in cell.get('outputs', []):
        data = out.get('data', {})
        kind = next((k for k in PICTURES if k in data), None)
        if kind:
            name = f'readme-{len(pictures)+1}.{PICTURES[kind]}'
            raw = text_of(data[kind])
            pictures[name] = raw.encode() if kind == 'image/svg+xml' else base64.b64decode(raw)
            yield f"![{cell.directives.get('fig-alt', '')}](nbs/images/{name})"
        elif 'text/markdown' in data: yield relink(text_of(data['text/markdown']))
        elif 'text/plain' in data or out.get('output_type') == 'stream':
            yield '```text\n' + text_of(data.get('text/plain', out.get('text', ''))).rstrip() + '\n```'

def build(index):
    "Text of the README that notebook `index` makes, and its pictures, name to bytes."
    parts, pictures = [], {}
    for cell in read_nb(index).cells:
        if 'hide' in cell.directives: continue
        if cell.cell_type == 'markdown': parts.append(relink(cell.source))
        if cell.cell_type != 'code': continue
        shown = [l for l in cell.source.splitlines() if not l.startswith('#|')]
        if cell.directives.get('echo') != 'false' and any(shown): parts.append('```python\n' + '\n'.join(shown).strip() + '\n```')
        parts += outputs(cell, pictures)
    return NOTE + '\n\n'.join(p.strip() for p in parts if p.strip()) + '\n', pictures

def main(check):
    repo = Path(__file__).resolve().parent.parent
    folder = repo/'nbs/images'
    text, pictures = build(repo/'nbs/index.ipynb')
    want = {repo/'README.md': text.encode(), **{folder/n: b for n, b in pictures.items()}}
    stale = [p for p, b in want.items() if not p.is_file() or p.read_bytes() != b]
    extra = [p for p in folder.glob('readme-*') if p not in want]
    if check and stale + extra:
        sys.exit(f"Not what nbs/index.ipynb makes: {', '.join(str(p.relative_to(repo)) for p in stale + extra)}; run make export.")
    for p in [] if check else extra: p.unlink()
    for p in [] if check else stale:
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(want[p])

if __name__ == '__main__': main('--check' in sys.argv[1:])
