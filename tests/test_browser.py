"""The widgets in a real browser: JupyterLab 4, Notebook 7, and a page without a kernel.

Chromium is Debian's package (apt-get install chromium), driven by Playwright. Where it is missing these tests are skipped, loudly;
with COLOURISE_NEED_BROWSER=1, as in CI, they fail. The screenshots are in runs/screenshots, for people to look at."""
import io, json, os, re, shutil, signal, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import nbformat, numpy as np, pytest, skimage.data
from PIL import Image
from conftest import REPO, clean_env
from colourise.widgets import CompareSlider, split_picture

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
NEEDED = os.environ.get('COLOURISE_NEED_BROWSER', '0') not in ('', '0')
FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
SHOTS = REPO/'runs/screenshots'
SIZE = dict(width=1280, height=800)
NOISE = [ # errors of Notebook 7.6 itself while it loads; a notebook with the one cell `1` has them too
    "Cannot read properties of undefined (reading 'schema')", # always: its keyboard settings
    "Command 'filebrowser:open-path' not registered.",        # when JupyterLab was open on the same server before
    'Window name candidate']                                  # when another window of JupyterLab is open
MOVED = 1/255 # mean difference of two screenshots above which something has changed


if not CHROMIUM and not NEEDED:
    pytest.skip('NOT TESTED: the widgets in a real browser, because chromium is missing (apt-get install chromium)', allow_module_level=True)

CELLS = ['''
import numpy as np, pandas as pd
from colourise.infer import Colouriser
from colourise.photo import embedded, read
from colourise.unet import colour_unet
from colourise.widgets import *

photos = {n: read(embedded()[n]).rgb8.resize((480, 320)) for n in ('coffee', 'chelsea', 'rocket')}
untrained = {n: w.numpy() for n, w in colour_unet(backbone='random', seed=1).state_dict().items()}
class Results: # colours of its own instead of a trained network's: what is tested is the browser
    names,stages = list(photos),['stage1', 'stage2']
    def picture(self, name, what, stage=None, colour=1., render_size=None):
        grey,truth = np.asarray(photos[name].convert('L'))[..., None]/255, np.asarray(photos[name])/255
        tint = {'stage1': [1, .8, .6], 'stage2': [.6, .8, 1]}[stage]
        return dict(grey=photos[name].convert('L'), truth=truth, prediction=grey + (grey*tint - grey)*colour).get(what, abs(truth - grey))
    def scores(self, stage=None): return pd.DataFrame(dict(delta_e00=[7., 12.5, 3.25], colourfulness=[30., 50., 40.]), index=self.names)
''', "CompareSlider(photos['chelsea'].convert('L'), photos['chelsea'], alt='a cat')",
    'ResultBrowser(Results(), sizes=(32, 64))',
    "ColourisePanel(Colouriser(untrained, {}, 'untrained'), 'chelsea', render_size=64, sizes=(32, 64))"]

# ------------------------------------------------------------------------------------------------ servers and pages

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

class Server:
    "A Jupyter server of its own, for JupyterLab and Notebook: settings, keys and runtime files in `folder`, notebooks in `folder/nb`."
    def __init__(self, folder):
        self.port, self.nb, self.log = free_port(), folder/'nb', folder/'server.log'
        self.nb.mkdir()
        (folder/'config/labconfig').mkdir(parents=True)
        news = {'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}} # asks a site for news, and the reader whether it may
        (folder/'config/labconfig/page_config.json').write_text(json.dumps(news))
        env = clean_env(JUPYTER_CONFIG_DIR=str(folder/'config'), JUPYTER_DATA_DIR=str(folder/'data'), JUPYTER_RUNTIME_DIR=str(folder/'runtime'),
                        IPYTHONDIR=str(folder/'ipython'), COLOURISE_ROOT=str(folder))
        cmd = [Path(sys.executable).with_name('jupyter-notebook'), '--no-browser', '--allow-root', f'--port={self.port}', '--ServerApp.port_retries=0',
               '--IdentityProvider.token=secret', f'--ServerApp.root_dir={self.nb}', '--LabApp.expose_app_in_browser=True', '--JupyterNotebookApp.expose_app_in_browser=True']
        with open(self.log, 'w') as log: self.process = subprocess.Popen(cmd, cwd=self.nb, env=env, stdout=log, stderr=log, start_new_session=True)
    def address(self, path): return f'http://127.0.0.1:{self.port}/{path}?token=secret'
    def ask(self, where, **body):
        "What the server's interface answers."
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(self.address(where), data), timeout=20) as r: return json.load(r)
    def wait(self, seconds=60):
        end = time.monotonic()+seconds
        while time.monotonic() < end and self.process.poll() is None:
            try: return self.ask('api')
            except OSError: time.sleep(.1)
        raise RuntimeError(f'The Jupyter server did not start:\n{self.log.read_text()[-3000:]}')
    def notebook(self, name, kernel, cells=[nbformat.v4.new_code_cell(c.strip()) for c in CELLS]):
        "A new notebook with the running `kernel`."
        meta = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=meta), self.nb/name)
        self.ask('api/sessions', path=name, name=name, type='notebook', kernel=dict(id=kernel))
    def stop(self):
        self.process.send_signal(signal.SIGTERM) # asks for no confirmation, and stops the kernels
        try: self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

class Page:
    "A page of the browser, with a note of every error."
    def __init__(self, context):
        self.page, self.errors = context.new_page(), []
        self.page.set_default_timeout(30_000)
        self.page.on('console', lambda m: self.errors.append(f'{m.text} ({m.location.get("url")})') if m.type == 'error' else None)
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
    def __getattr__(self, name): return getattr(self.page, name)
    def run(self, command, **args): self.page.evaluate('([c, a]) => void jupyterapp.commands.execute(c, a)', [command, args])
    def shot(self, what, name=None):
        "`what` (page or element) as an array in [0,1]; kept under `name`."
        png = what.screenshot(animations='disabled')
        if name: (SHOTS/f'{name}.png').write_bytes(png)
        return np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))/255
    def cell(self, i):
        c = self.page.locator('.jp-Notebook .jp-Cell').nth(i)
        c.scroll_into_view_if_needed()
        return c

KERNEL = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"

class Notebook(Page):
    "The notebook in one of the two applications, run to its end."
    def __init__(self, context, server, app, name=None):
        super().__init__(context)
        self.server, self.app = server, app
        self.page.goto(server.address(f"{dict(lab='lab/tree', notebook='notebooks')[app]}/{name or app}.ipynb"))
        self.page.wait_for_function(f'window.jupyterapp && ({KERNEL})', timeout=60_000)
        self.run('notebook:run-all-cells')
    def finished(self):
        self.page.wait_for_function('jupyterapp.shell.currentWidget.content.widgets.every(c => c.model.type != "code" || c.model.executionCount)', timeout=90_000)
        return self

@pytest.fixture(scope='module')
def context(tmp_path_factory):
    from playwright.sync_api import sync_playwright
    if not CHROMIUM: pytest.fail('COLOURISE_NEED_BROWSER is set, but chromium is missing: apt-get install chromium')
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        c = p.chromium.launch_persistent_context(tmp_path_factory.mktemp('chromium'), executable_path=CHROMIUM, args=FLAGS, headless=True, viewport=SIZE,
                                                 reduced_motion='reduce') # a slider that sweeps would move under the mouse
        yield c
        c.close()

@pytest.fixture(scope='module')
def notebooks(request, tmp_path_factory):
    "A notebook in JupyterLab and one in Notebook; they share a kernel, as importing fastai twice would take longer than the tests."
    server = Server(tmp_path_factory.mktemp('jupyter'))
    try:
        context = request.getfixturevalue('context') # starts meanwhile
        server.wait()
        kernel = server.ask('api/kernels', name='python3')['id']
        for app in ('lab', 'notebook'): server.notebook(f'{app}.ipynb', kernel)
        lesson = nbformat.read(REPO/'nbs/78_widgets.ipynb', 4).cells
        server.notebook('lesson.ipynb', kernel, lesson[:next(i for i, c in enumerate(lesson) if 'Leafing through a run' in c.source)])
        pages = [Notebook(context, server, app) for app in ('lab', 'notebook')]
        yield {p.app: p.finished() for p in pages}
    finally: server.stop()

@pytest.fixture(params=['lab', 'notebook'])
def book(request, notebooks):
    b = notebooks[request.param]
    b.bring_to_front()
    yield b
    assert [e for e in b.errors if not any(n in e for n in NOISE)] == []

# ------------------------------------------------------------------------------------------------ what is tried

def drag(page, slider, to, steps=8):
    "Take the divider of `slider` with the mouse and move it to `to` percent."
    box, now = slider.bounding_box(), float(slider.locator('input').input_value())
    x = lambda percent: box['x'] + box['width']*percent/100
    y = box['y'] + box['height']/2
    page.mouse.move(x(now), y)
    page.mouse.down()
    page.mouse.move(x(to), y, steps=steps)
    page.mouse.up()
    page.mouse.move(2, 2)

def cut(slider): return float(slider.evaluate("s => getComputedStyle(s).getPropertyValue('--cut').replace('%', '')"))

def looks_like(shot, picture):
    "Is `shot` of a slider `picture`, but for labels, handle and the grain of JPEG?"
    off = abs(shot - np.asarray(picture.convert('RGB').resize(shot.shape[1::-1]))/255).mean(2)[40:]
    return np.percentile(off, 80) < .03

def try_divider(page, slider, before, after):
    "Drag the divider with mouse and keys; what is seen is what `split_picture` makes."
    first = page.shot(slider)
    drag(page, slider, 20)
    assert cut(slider) == pytest.approx(20, abs=1)
    second = page.shot(slider)
    assert abs(first - second).mean() > MOVED
    assert looks_like(second, split_picture(before, after, cut(slider)))
    knob = slider.locator('input')
    knob.focus()
    for key, value in (('End', 100), ('ArrowLeft', 99), ('Home', 0), ('ArrowRight', 1), ('ArrowUp', 2)):
        page.keyboard.press(key)
        assert cut(slider) == float(knob.input_value()) == value
    assert knob.get_attribute('aria-valuetext').startswith('2 % ')
    drag(page, slider, 50)

def cat():
    photo = Image.fromarray(skimage.data.chelsea()).resize((480, 320))
    return photo.convert('L'), photo

def test_divider(book):
    slider = book.cell(1).locator('.colourise-compare')
    active = book.evaluate('jupyterapp.shell.currentWidget.content.activeCellIndex')
    try_divider(book, slider, *cat())
    assert book.evaluate('jupyterapp.shell.currentWidget.content.activeCellIndex') in (active, 1) # the arrow keys moved the divider, not the selection
    assert [i.get_attribute('alt') for i in slider.locator('img').all()] == ['a cat, grey', 'a cat, colour']
    tree = slider.aria_snapshot()
    assert 'slider "Divider: grey left of it, colour right of it"' in tree, tree

def test_a_lesson_in_jupyterlab(context, notebooks):
    "The lesson on sliders, as far as it needs no run of the course: opened, run, and a slider dragged."
    page = Notebook(context, notebooks['lab'].server, 'lab', 'lesson').finished()
    plain, upright = (page.locator('.jp-OutputArea .colourise-compare').nth(i) for i in (0, 1))
    plain.scroll_into_view_if_needed()
    drag(page, plain, 25)
    assert cut(plain) == pytest.approx(25, abs=1)
    upright.scroll_into_view_if_needed()
    assert upright.locator('select').first.locator('option').count() == 4
    page.shot(page.page, 'lesson')
    assert [e for e in page.errors if not any(n in e for n in NOISE)] == []
    page.close()

def test_the_page_of_sliders(offline):
    "All sliders of the lessons, from a file, without a network."
    offline.goto((REPO/'nbs/images/sliders.html').as_uri())
    sliders = offline.locator('.colourise-compare').all()
    assert len(sliders) >= 8
    for i, s in enumerate(sliders):
        s.scroll_into_view_if_needed()
        s.locator('input').press('Home')
        assert cut(s) == 0, i
    offline.shot(offline.page, 'sliders')
    assert offline.errors == [] and offline.asked == []

def test_where_styles_and_scripts_are_taken_out(offline, tmp_path):
    "As on a code-hosting page: what is left are two pictures, each with its name, and no half of a menu."
    import bleach
    grey, photo = cat()
    html = CompareSlider(grey, photo, alt='a cat', more={'red': Image.new('RGB', photo.size, 'firebrick')}).to_html()
    left = bleach.clean(re.sub('<style>.*?</style>', '', html, flags=re.S), {'div', 'figure', 'figcaption', 'img', 'b', 'small'},
                        {'img': ['src', 'alt', 'width']}, ['data'], strip=True)
    (tmp_path/'stripped.html').write_text(f'<!doctype html><meta charset=utf-8>{left}', encoding='utf-8')
    offline.goto((tmp_path/'stripped.html').as_uri())
    assert [i.get_attribute('alt') for i in offline.locator('img').all()] == ['a cat, grey', 'a cat, colour']
    assert offline.locator('body').inner_text().split('\n')[0].split() == ['grey'] and 'red' not in offline.locator('body').inner_text()
    offline.shot(offline.page, 'stripped')

def knob(cell, label): return cell.locator('.widget-inline-hbox').filter(has=cell.page.get_by_text(label, exact=True))

def test_result_browser(book):
    cell = book.cell(2)
    slider, numbers = cell.locator('.colourise-compare'), cell.locator('table')
    pictures = lambda: [i.get_attribute('alt') for i in slider.locator('img').all()]
    becomes = lambda alts: book.wait_for_function("([s, alts]) => String([...s.querySelectorAll('img')].map(i => i.alt)) == String(alts)", arg=[slider.element_handle(), alts])
    drag(book, slider, 30)
    first = book.shot(slider)
    assert pictures() == ['coffee, grey', 'coffee, prediction, stage2'] and '7.00' in numbers.inner_text()
    knob(cell, 'photograph').locator('.noUi-handle').press('ArrowRight')
    becomes(['chelsea, grey', 'chelsea, prediction, stage2'])
    assert cell.get_by_role('slider', name='photograph').count() == 1
    cell.locator('table', has_text='12.50').wait_for() # the numbers may come a moment after the pictures
    assert abs(book.shot(slider) - first).mean() > MOVED
    assert cut(slider) == pytest.approx(30, abs=1) # the divider stays where the reader left it
    knob(cell, 'stage').locator('.noUi-handle').press('ArrowLeft')
    becomes(['chelsea, grey', 'chelsea, prediction, stage1'])
    second = book.shot(slider)
    box = knob(cell, 'colour amount').locator('.noUi-handle').bounding_box()
    book.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    book.mouse.down()
    book.mouse.move(box['x'] - 200, box['y'], steps=5)
    book.mouse.up()
    cell.get_by_text('measured with colour amount 1').wait_for()
    book.wait_for_function("s => s.complete", arg=slider.locator('img').last.element_handle())
    assert abs(book.shot(slider) - second).mean() > MOVED
    knob(cell, 'left side').locator('select').select_option('truth')
    knob(cell, 'right side').locator('select').select_option('heat map')
    becomes(['chelsea, truth', 'chelsea, heat map, stage1'])
    knob(cell, 'sorted by').locator('select').select_option('ΔE00')
    handle = knob(cell, 'photograph').locator('.noUi-handle')
    book.wait_for_function("h => h.getAttribute('aria-valuenow') == '2.0'", arg=handle.element_handle()) # the cat has the largest ΔE00 of the three
    handle.press('Home')
    becomes(['rocket, truth', 'rocket, heat map, stage1'])
    knob(cell, 'sorted by').locator('select').select_option('as they come')
    book.wait_for_function("h => h.getAttribute('aria-valuenow') == '2.0'", arg=handle.element_handle())
    assert knob(cell, 'sorted by').locator('select').evaluate('s => s.selectedOptions[0]?.label.replace(/\\s/g, " ")') == 'as they come'

def test_panel(book, tmp_path):
    cell = book.cell(3)
    slider = cell.locator('.colourise-compare')
    photo, scan = tmp_path/'attic find.png', cat()[1].resize((2400, 1800))
    scan.save(photo, compress_level=0)
    assert photo.stat().st_size > 12e6 # more than a Jupyter server takes in one message
    upload = cell.locator('input[type=file]')
    upload.set_input_files(photo)
    cell.get_by_text('attic find.png: 2400×1800 pixels, coloured by untrained').wait_for()
    book.wait_for_function("s => s.getAttribute('aria-label').startsWith('attic find')", arg=slider.element_handle())
    drag(book, slider, 98)
    assert looks_like(book.shot(slider), scan.convert('L'))
    drag(book, slider, 50)
    with book.expect_download() as d: cell.get_by_role('button', name='Save in full size').click()
    assert d.value.suggested_filename == 'attic find-colour.jpg'
    with Image.open(d.value.path()) as img: assert (img.format, img.size) == ('JPEG', (2400, 1800))
    cell.get_by_role('link', name='attic find-colour.jpg').wait_for()
    (tmp_path/'letter.txt').write_text('Dear photograph')
    upload.set_input_files(tmp_path/'letter.txt')
    alert = cell.get_by_role('alert')
    alert.wait_for()
    assert 'letter.txt' in alert.inner_text() and 'Traceback' not in cell.inner_text()
    assert slider.get_attribute('aria-label').startswith('attic find') # the picture stays
    knob(cell, 'or a sample').locator('select').select_option('coffee')
    cell.get_by_text('coffee.png: 600×400 pixels').wait_for()
    assert not cell.get_by_role('alert').count()

OVERLAPS = """cell => {
  const parts = [...cell.querySelectorAll('.widget-hbox > *, .colourise-compare, table, [role=status]')].filter(e => e.offsetHeight && !e.matches('.colourise-compare *'))
    .map(e => [e.className + ' ' + e.innerText.slice(0, 30), e.getBoundingClientRect()]), room = cell.querySelector('.jp-OutputArea').getBoundingClientRect(), bad = [];
  parts.forEach(([a, r], i) => {
    if (r.right > room.right + 1) bad.push(`${a} is too wide`);
    for (const [b, q] of parts.slice(i + 1)) if (r.left < q.right - 1 && q.left < r.right - 1 && r.top < q.bottom - 1 && q.top < r.bottom - 1) bad.push(`${a} overlaps ${b}`);
  });
  return bad;
}"""

@pytest.mark.parametrize('theme', ['JupyterLab Light', 'JupyterLab Dark'])
def test_looks(book, theme):
    book.run('apputils:change-theme', theme=theme)
    book.wait_for_function("t => document.body.dataset.jpThemeName == t", arg=theme)
    book.wait_for_timeout(300)
    for i, name in ((1, 'slider'), (2, 'browser'), (3, 'panel')):
        out = book.cell(i).locator('.jp-Cell-outputWrapper')
        out.scroll_into_view_if_needed()
        book.shot(book.page, f"{book.app}-{theme.split()[-1].lower()}-{name}")
        assert book.cell(i).evaluate(OVERLAPS) == []
        box = out.bounding_box()
        assert box['height'] < SIZE['height']-100 # all of a widget fits on the screen

# ------------------------------------------------------------------------------------------------ without a kernel

@pytest.fixture(scope='module')
def saved(notebooks):
    "The notebook as JupyterLab saves it, without the widgets' state."
    lab = notebooks['lab']
    lab.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save') }")
    nb = nbformat.read(lab.server.nb/'lab.ipynb', 4)
    assert all(c.outputs for c in nb.cells[1:])
    nb.metadata.pop('widgets', None)
    return nb

@pytest.fixture
def offline(context):
    "A page for which there is nothing but files; what it asks others for is noted."
    p, asked = Page(context), []
    p.route(lambda url: not url.startswith(('file:', 'data:', 'blob:')), lambda r: (asked.append(r.request.url), r.fulfill(body='', content_type='text/javascript')))
    p.asked = asked
    yield p
    p.close()

def test_exported_page(saved, offline, tmp_path):
    from nbconvert import HTMLExporter
    (tmp_path/'page.html').write_text(HTMLExporter().from_notebook_node(saved)[0], encoding='utf-8')
    offline.goto((tmp_path/'page.html').as_uri())
    sliders = offline.locator('.colourise-compare')
    assert sliders.count() == 3 and 'model not found' not in offline.locator('body').inner_text() # browser and panel show what they showed last
    sliders.nth(0).scroll_into_view_if_needed()
    try_divider(offline, sliders.nth(0), *cat())
    offline.shot(offline.page, 'exported')
    assert offline.errors == []

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_page_of_nothing_else(offline, theme, tmp_path):
    html = CompareSlider(*cat(), alt='a cat').to_html()
    (tmp_path/'slider.html').write_text(f'<!doctype html><meta charset=utf-8><meta name=color-scheme content="light dark"><title>A cat</title>{html}', encoding='utf-8')
    offline.emulate_media(color_scheme=theme)
    offline.goto((tmp_path/'slider.html').as_uri())
    slider = offline.locator('.colourise-compare')
    try_divider(offline, slider, *cat())
    offline.shot(offline.page, f'page-{theme}')
    assert offline.errors == [] and offline.asked == []

def test_report(offline, tmp_path):
    "The page that colourise-evaluate writes: a click on a heading sorts, another one turns the order around."
    from colourise.infer import Colouriser
    from colourise.photo import embedded
    from colourise.results import Results, evaluate, report
    photos = {f'{n} & co': embedded()[n] for n in ('coffee', 'chelsea', 'rocket')}
    results = Results(photos, dict(model=Colouriser.from_pretrained()), 48, 32)
    table = evaluate(results)
    (tmp_path/'report.html').write_text(report(results, table, 'A <test>.'), encoding='utf-8')
    offline.goto((tmp_path/'report.html').as_uri())
    names = lambda: offline.locator('#each tbody tr th').all_inner_texts()
    assert names() == list(photos)
    for head, column in (('ΔE00', 'delta_e00'), ('CF of truth', 'colourfulness_truth')):
        button, ranked = offline.locator('#each').get_by_role('button', name=head, exact=True), list(table[column].sort_values().index)
        for order, expected in (('ascending', ranked), ('descending', ranked[::-1])):
            button.click()
            assert names() == expected
            assert offline.locator(f'#each th[aria-sort={order}]').inner_text() == head
    offline.locator('#each').get_by_role('button', name='photograph').press('Enter')
    assert names() == sorted(photos) and offline.locator('#each img').count() == 12
    assert all(i.evaluate('i => i.complete && i.naturalWidth == 160') for i in offline.locator('#each img').all())
    offline.shot(offline.page, 'report')
    assert offline.errors == [] and offline.asked == []

def test_touch(offline, tmp_path):
    (tmp_path/'slider.html').write_text(f'<!doctype html>{CompareSlider(*cat()).to_html()}<p style="height:3000px">', encoding='utf-8')
    offline.goto((tmp_path/'slider.html').as_uri())
    slider = offline.locator('.colourise-compare')
    box, finger = slider.bounding_box(), offline.page.context.new_cdp_session(offline.page)
    def swipe(x0, y0, x1, y1):
        points = [dict(x=box['x'] + box['width']*(x0 + (x1-x0)*t/8), y=box['y'] + box['height']*(y0 + (y1-y0)*t/8)) for t in range(9)]
        finger.send('Input.dispatchTouchEvent', dict(type='touchStart', touchPoints=points[:1]))
        for p in points[1:]: finger.send('Input.dispatchTouchEvent', dict(type='touchMove', touchPoints=[p]))
        finger.send('Input.dispatchTouchEvent', dict(type='touchEnd', touchPoints=[]))
    finger.send('Emulation.setTouchEmulationEnabled', dict(enabled=True))
    swipe(.5, .5, .8, .5)
    assert cut(slider) == pytest.approx(80, abs=2) and offline.evaluate('scrollY') == 0
    swipe(.8, .9, .8, .1) # upwards: the page scrolls, the divider stays
    offline.wait_for_function('scrollY > 50')
    assert cut(slider) == pytest.approx(80, abs=2)

def test_up_and_down_with_a_choice_and_a_caption(offline, tmp_path):
    grey, photo = cat()
    red = Image.new('RGB', photo.size, 'firebrick')
    html = CompareSlider(grey, photo, alt='a cat', vertical=True, caption='A cat, & red', more={'red <one>': red}).to_html()
    (tmp_path/'slider.html').write_text(f'<!doctype html><meta charset=utf-8>{html}', encoding='utf-8')
    offline.goto((tmp_path/'slider.html').as_uri())
    slider, knob = offline.locator('.colourise-compare'), offline.get_by_role('slider', name='Divider: grey above it, colour below it')
    box = slider.bounding_box()
    offline.mouse.move(box['x'] + 200, box['y'] + box['height']/2)
    offline.mouse.down(); offline.mouse.move(box['x'] + 200, box['y'] + box['height']*.2, steps=6); offline.mouse.up()
    assert cut(slider) == pytest.approx(20, abs=1)
    knob.press('End')
    assert cut(slider) == 100 and looks_like(offline.shot(slider), grey)
    offline.get_by_label('picture 1').select_option('red <one>')
    assert looks_like(offline.shot(slider), red) and slider.locator('figure img').first.get_attribute('alt') == 'a cat, red <one>'
    knob.press('Home')
    assert knob.get_attribute('aria-valuetext') == '0 % red <one>, 100 % colour' and looks_like(offline.shot(slider), photo)
    knob.evaluate('k => {k.value = 35; k.oninput()}')
    assert offline.get_by_text('A cat, & red').is_visible()
    offline.shot(offline.page, 'vertical')
    assert offline.errors == [] and offline.asked == []

def test_full_screen(offline, tmp_path):
    (tmp_path/'slider.html').write_text(f'<!doctype html>{CompareSlider(*cat()).to_html()}', encoding='utf-8')
    offline.goto((tmp_path/'slider.html').as_uri())
    slider, button = offline.locator('.colourise-compare'), offline.get_by_role('button', name='Full screen')
    button.click()
    offline.wait_for_function("document.fullscreenElement?.matches('.colourise-compare')")
    assert slider.bounding_box()['width'] >= SIZE['width']
    offline.shot(offline.page, 'full-screen')
    drag(offline, slider, 30)
    assert cut(slider) == pytest.approx(30, abs=1)
    button.click()
    offline.wait_for_function('!document.fullscreenElement')

def test_sweeps_once_unless_motion_is_unwanted(offline, tmp_path):
    (tmp_path/'slider.html').write_text(f'<!doctype html>{CompareSlider(*cat()).to_html()}', encoding='utf-8')
    slider = offline.locator('.colourise-compare')
    seen = {}
    for motion in ('no-preference', 'reduce'):
        offline.emulate_media(reduced_motion=motion)
        offline.goto((tmp_path/'slider.html').as_uri())
        seen[motion] = [(offline.wait_for_timeout(150), cut(slider))[1] for _ in range(20)]
    assert min(seen['no-preference']) < 40 and max(seen['no-preference']) > 60 and seen['no-preference'][-1] == 50
    assert set(seen['reduce']) == {50}
    offline.emulate_media(reduced_motion='no-preference')
    offline.goto((tmp_path/'slider.html').as_uri())
    drag(offline, slider, 20) # whoever drags at once isn't taken away from it
    assert [(offline.wait_for_timeout(300), cut(slider))[1] for _ in range(4)] == [pytest.approx(20, abs=1)]*4
    offline.emulate_media(reduced_motion='reduce')

def test_every_move_is_in_the_next_frame(offline, tmp_path):
    (tmp_path/'slider.html').write_text(f'<!doctype html>{CompareSlider(*cat()).to_html()}', encoding='utf-8')
    offline.goto((tmp_path/'slider.html').as_uri())
    seen = offline.evaluate("""async () => {
      const s = document.querySelector('.colourise-compare'), f = s.querySelector('figure'), k = s.querySelector('input'), seen = [], frame = () => new Promise(requestAnimationFrame);
      await frame();
      for (let i = 0; i < 60; i++) { k.value = i; k.dispatchEvent(new Event('input')); const t = performance.now(); await frame(); seen.push([getComputedStyle(f).clipPath, performance.now() - t]); }
      return seen;
    }""")
    assert [c for c, _ in seen] == [f'inset(0px calc(100% - {i}%) 0px 0px)' if 'calc' in seen[i][0] else f'inset(0px {100-i}% 0px 0px)' for i in range(60)]
    assert np.median([t for _, t in seen]) < 50 # milliseconds; 17 at 60 frames a second

def test_not_trusted_yet(notebooks, saved):
    "Somebody else's notebook: Jupyter takes styles and scripts away, and two pictures with captions are left."
    book = notebooks['notebook']
    saved.cells.append(nbformat.v4.new_markdown_cell('Best wishes')) # no longer what the server has signed
    nbformat.write(saved, book.server.nb/'received.ipynb')
    p = Page(book.page.context)
    p.goto(book.server.address('notebooks/received.ipynb'))
    cell = p.cell(1)
    cell.get_by_text('once the notebook is trusted').wait_for()
    boxes = [i.bounding_box() for i in cell.locator('img').all()]
    p.shot(p.page, 'untrusted')
    assert len(boxes) == 2 and boxes[0]['y'] + boxes[0]['height'] <= boxes[1]['y'] and all(b['width'] > 200 for b in boxes)
    assert not cell.locator('input').is_visible()
    p.close()
