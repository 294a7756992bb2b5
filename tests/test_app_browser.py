"""The page of colourise-app in a real browser: dropped files, the divider, knobs, hints, downloads, keyboard and phone.

The browser is that of test_browser.py. The page's policy forbids eval, so `until` asks again and again instead of `wait_for_function`."""
import io, time, zipfile
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from conftest import REPO
from colourise.infer import Colouriser
from colourise.photo import embedded
from test_app import Page as Served, picture
from test_browser import Page, SHOTS, cut, drag
from test_browser import context # noqa: F401, a fixture

WAIT = 300 # seconds, for a machine that does something else as well

def until(page, script, seconds=WAIT, arg=None):
    "Wait until `script` is true on the page."
    end = time.monotonic() + seconds
    while not page.evaluate(script, arg):
        assert time.monotonic() < end, f'never true: {script}'
        page.wait_for_timeout(50)

@pytest.fixture(scope='module')
def net(): return Colouriser.from_pretrained(REPO/'colourise/model.safetensors')

@pytest.fixture
def app(context, net): # noqa: F811
    "The page, just opened; afterwards there may be no error, and no request to anybody else."
    served, page, asked = Served(net), Page(context), []
    page.page.set_default_timeout(WAIT*1000)
    page.page.on('request', lambda r: asked.append(r.url))
    page.goto(f'http://{served.address}/#{served.token}')
    page.served = served
    try:
        yield page
        assert page.errors == []
        assert [u for u in asked if not u.startswith((f'http://{served.address}/', 'blob:', 'data:'))] == [] and asked
    finally:
        page.page.set_viewport_size(dict(width=1280, height=800))
        page.close()
        served.end()

def named(name, data, mime='image/jpeg'): return dict(name=name, mimeType=mime, buffer=data)
def give(app, *files): app.set_input_files('#drop input', [named(f.name, f.read_bytes()) if isinstance(f, Path) else f for f in files])
def coloured(app, n, of): app.locator('#status', has_text=f'{n} of {of} in colour').wait_for()
def shown(app): # of the photograph in the viewer
    app.locator('#stage .colourise-compare img').last.wait_for()
    until(app, "[...document.querySelectorAll('#stage img')].every(i => i.complete && i.naturalWidth)")
def after(app): return app.locator('#stage .colourise-compare img').last.get_attribute('src')
def colour_of(app, x, y): # at a share of the coloured picture: its pixels, as the page has them
    return np.array(app.evaluate('''([x, y]) => {
      const i = [...document.querySelectorAll('#stage img')].at(-1), c = new OffscreenCanvas(i.naturalWidth, i.naturalHeight).getContext('2d');
      c.drawImage(i, 0, 0);
      return [...c.getImageData(x*i.naturalWidth, y*i.naturalHeight, 1, 1).data].slice(0, 3)}''', [x, y]))
def changed(app, before): until(app, "s => {const i = [...document.querySelectorAll('#stage img')].at(-1); return i.src != s && i.complete}", arg=before)

DROP = '''([where, files]) => {
  const data = new DataTransfer();
  for (const [name, type, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  for (const kind of ['dragover', 'drop'])
    document.querySelector(where).dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}'''

def test_dropped_coloured_compared_and_downloaded(app):
    assert app.locator('#drop').get_by_text('Drop photographs here').is_visible() and not app.locator('#viewer').is_visible()
    app.shot(app.page, 'app-empty')
    exif = Image.Exif()
    exif[0x13b] = 'Aunt Emma'
    Image.open(embedded()['astronaut']).convert('L').resize((1800, 1800)).save(f := io.BytesIO(), 'JPEG', exif=exif, dpi=(300, 300))
    app.evaluate(DROP, ['#drop', [['emma.jpg', 'image/jpeg', [*f.getvalue()]]]])
    coloured(app, 1, 1)
    shown(app)
    assert np.ptp(colour_of(app, .5, .5)) > 5 # no grey
    slider = app.locator('#stage .colourise-compare')
    assert [c.inner_text() for c in slider.locator('figcaption').all()] == ['grey', 'colour']
    drag(app, slider, 20)
    assert cut(slider) == pytest.approx(20, abs=1)
    knob = slider.locator('input')
    knob.focus()
    for key, value in (('End', 100), ('ArrowLeft', 99), ('Home', 0), ('ArrowRight', 1), ('ArrowUp', 2)):
        app.keyboard.press(key)
        assert cut(slider) == float(knob.input_value()) == value
    assert knob.get_attribute('aria-valuetext') == '2 % grey, 98 % colour'
    old = after(app)
    app.locator('#amount').focus()
    app.keyboard.press('Home') # no colour at all
    changed(app, old)
    until(app, "document.querySelector('#amount-is').textContent == '0.00'")
    end = time.monotonic() + WAIT
    while np.ptp(colour_of(app, .5, .5)) > 3 and time.monotonic() < end: app.wait_for_timeout(100)
    assert np.ptp(colour_of(app, .5, .5)) <= 3
    old = after(app)
    app.keyboard.press('End')
    changed(app, old)
    old = after(app)
    app.locator('#size').select_option('128')
    changed(app, old)
    with app.expect_download() as d: app.get_by_role('button', name='Download', exact=True).click()
    assert d.value.suggested_filename == 'emma-colour.jpg'
    with Image.open(d.value.path()) as img:
        assert img.size == (1800, 1800) and img.getexif()[0x13b] == 'Aunt Emma' and img.info['dpi'] == (300, 300) and 'colours added' in img.getexif()[0x131]
        assert np.ptp(np.asarray(img, int)[900, 900]) > 5

def test_a_broken_file_and_a_zip_of_the_others(app):
    give(app, embedded()['coffee'], named('letter.jpg', b'Dear aunt'), embedded()['rocket'])
    coloured(app, 2, 3)
    bad = app.locator('#cards .failed')
    bad.wait_for()
    assert bad.count() == 1 and 'letter.jpg' in bad.inner_text() and "can't be read" in bad.inner_text()
    assert app.locator('#status').inner_text() == '2 of 3 in colour, 1 can’t be used'
    with app.expect_download() as d: app.get_by_role('button', name='Download all as zip').click()
    with zipfile.ZipFile(d.value.path()) as z:
        assert sorted(z.namelist()) == ['coffee-colour.png', 'rocket-colour.jpg'] and z.testzip() is None # as they arrived
        with Image.open(z.open('coffee-colour.png')) as img: assert img.size == (600, 400)
    bad.locator('button').click()
    assert 'letter.jpg' in app.locator('#facts').inner_text() and app.get_by_role('button', name='Download', exact=True).is_disabled()
    app.get_by_role('button', name='Remove', exact=True).click()
    assert app.locator('#cards li').count() == 2
    until(app, "fetch('photos?since=0', {headers: {'X-Token': location.hash.slice(1)}}).then(r => r.json()).then(r => r.all.length == 2)")

def test_hints_by_click_by_keys_and_from_a_picture(app):
    give(app, embedded()['astronaut'], named('red.png', picture((40, 40), 'PNG', 'RGB')))
    coloured(app, 2, 2)
    shown(app)
    app.get_by_role('button', name='Put colour hints').click()
    layer, slider = app.locator('#layer'), app.locator('#stage .colourise-compare')
    dots = layer.locator('button')
    old, was, box = after(app), colour_of(app, .3, .8), layer.bounding_box()
    assert box == slider.bounding_box() # the layer lies on the picture
    app.mouse.click(box['x'] + box['width']*.3, box['y'] + box['height']*.8)
    changed(app, old)
    assert dots.count() == 1
    old = after(app)
    app.get_by_role('button', name='navy').click()
    changed(app, old)
    assert (colour_of(app, .3, .8) - was)[2] > 10 # bluer
    old = after(app)
    layer.focus() # with the keys
    for key in ('ArrowRight', 'ArrowRight', 'Shift+ArrowUp', 'Enter'): app.keyboard.press(key)
    changed(app, old)
    assert dots.count() == 2 and 'left: 52%; top: 40%' in dots.nth(1).get_attribute('style')
    old = after(app)
    dots.nth(1).focus()
    app.keyboard.press('ArrowLeft')
    changed(app, old)
    assert 'left: 51%' in dots.nth(1).get_attribute('style')
    dot = dots.first.bounding_box() # dragged
    app.mouse.move(dot['x'] + 12, dot['y'] + 12); app.mouse.down(); app.mouse.move(dot['x'] + 62, dot['y'] + 12, steps=4); app.mouse.up()
    assert float(dots.first.evaluate('d => parseFloat(d.style.left)')) == pytest.approx(30 + 50/box['width']*100, abs=1)
    app.get_by_role('button', name='From a picture').click() # the eyedropper, on a picture that is only chosen for it
    red = io.BytesIO()
    Image.new('RGB', (80, 60), '#c02418').save(red, 'PNG')
    app.set_input_files('#reference', named('coat.png', red.getvalue(), 'image/png'))
    canvas = app.locator('#sample')
    canvas.wait_for()
    app.locator('#picker-says', has_text='#c02418').wait_for()
    app.shot(app.page, 'app-eyedropper')
    old = after(app)
    canvas.click()
    changed(app, old)
    assert not app.locator('#picker').is_visible() and '#c02418' in dots.first.get_attribute('aria-label')
    assert app.locator('#cards li').count() == 2 # it became no photograph of the album
    app.shot(app.page, 'app-hints')
    old = after(app)
    dots.nth(1).focus()
    app.keyboard.press('Delete')
    changed(app, old)
    old = after(app)
    dots.first.focus()
    app.get_by_role('button', name='Remove hint').click()
    changed(app, old)
    assert dots.count() == 0
    app.get_by_role('button', name='Done with hints').click()
    assert not layer.is_visible()

def test_a_colour_from_another_photograph(app):
    give(app, embedded()['rocket'], embedded()['coffee'])
    coloured(app, 2, 2)
    app.get_by_role('button', name='Put colour hints').click()
    app.locator('#layer').click(position=dict(x=50, y=50))
    app.get_by_role('button', name='From a picture').click()
    app.get_by_role('button', name='coffee.png, as it came').click() # that one has colours of its own
    app.locator('#sample').focus()
    for key in ('ArrowLeft', 'ArrowLeft', 'Enter'): app.keyboard.press(key)
    label = app.locator('#layer button').get_attribute('aria-label')
    x, y = np.array([600/2 - 12, 400/2]).astype(int)
    taken, true = (int(label.split('#')[1][:6], 16)).to_bytes(3, 'big'), np.asarray(Image.open(embedded()['coffee']).convert('RGB'))[y-2:y+3, x-2:x+3].mean((0, 1))
    assert np.abs(np.array([*taken]) - true).max() < 12

def test_fifty(app):
    give(app, *(named(f'old{i}.jpg', picture((90, 60))) for i in range(50)))
    coloured(app, 50, 50)
    app.locator('#cards li.ready img').nth(49).wait_for() # the last picture is drawn a moment later
    assert app.locator('#cards li.ready img').count() == 50
    app.locator('#cards button').nth(40).click()
    assert app.locator('#name').inner_text() == 'old40.jpg'
    app.shot(app.page, 'app-fifty')
    app.locator('#amount').fill('0.5')
    app.get_by_role('button', name='Use both for all').click()
    until(app, "fetch('photos?since=0', {headers: {'X-Token': location.hash.slice(1)}}).then(r => r.json()).then(r => r.changed.every(p => p.settings.colour == .5))")

def test_a_phone(app):
    app.set_viewport_size(dict(width=390, height=844))
    narrow = lambda: app.evaluate('document.documentElement.scrollWidth <= innerWidth')
    assert narrow()
    give(app, embedded()['astronaut'], embedded()['rocket'], named('a letter with a name that is as long as some people make them, and longer.jpg', b'Dear aunt'))
    coloured(app, 2, 3)
    shown(app)
    assert narrow()
    app.get_by_role('button', name='Put colour hints').click()
    assert narrow() and app.locator('#stage .colourise-compare').bounding_box()['width'] > 300
    app.locator('#palette button').first.scroll_into_view_if_needed()
    app.shot(app.page, 'app-phone')
    app.get_by_role('button', name='From a picture').click()
    assert narrow() and app.locator('#picker').bounding_box()['width'] <= 390
    app.keyboard.press('Escape')

def test_everything_is_reached_with_the_keyboard(app):
    give(app, embedded()['rocket'])
    coloured(app, 1, 1)
    seen = []
    app.evaluate('document.activeElement.blur()')
    for _ in range(30):
        app.keyboard.press('Tab')
        seen.append(app.evaluate("document.activeElement.id || document.activeElement.closest('[id]')?.id"))
    for id in ('drop', 'stage', 'amount', 'size', 'same', 'hinting', 'save', 'remove', 'zip', 'cards'): assert id in seen, (id, seen)

def test_without_the_secret_word_the_page_says_what_to_do(context, net): # noqa: F811
    served, page = Served(net), Page(context)
    try:
        page.goto(f'http://{served.address}/')
        page.get_by_text('Open the address that colourise-app has printed').wait_for()
    finally:
        page.close()
        served.end()
