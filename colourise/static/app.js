// The page of colourise-app. Photographs go to the server that sent this page, and nowhere else.
const $ = s => document.querySelector(s), token = location.hash.slice(1), body = document.body;
const photos = new Map();  // id → what the server said last, with `file`, `card`, what is wanted of it, and its pictures' addresses
const PALETTE = {skin: '#d8a48a', 'light skin': '#ecc8b0', 'brown hair': '#5a3a22', wood: '#8a5a30', 'brick red': '#a33b2a', rose: '#d58a94',
  cream: '#e8dcc0', 'grass green': '#5f7f3a', 'sky blue': '#8fb6d9', navy: '#2b3a63', purple: '#6a4a80', 'grey, no colour': '#808080'};
const SIZES = [64, 96, 128, 192, 256, 384, 512];
let current = null, news = 0, chosen = -1, colour = PALETTE['brick red'], most = Infinity, uploading = 0, ended = false;
const queue = [];

const make = (tag, props = {}, ...inside) => {
  const el = Object.assign(document.createElement(tag), props);
  el.append(...inside);
  return el;
};
const percent = x => Math.round(Math.min(100, Math.max(0, x))*100)/100;
const trouble = text => {$('#trouble').textContent = text; $('#trouble').hidden = !text};

async function ask(path, options = {}) {
  const answer = await fetch(path, {...options, headers: {'X-Token': token}});
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}
const picture = async (p, kind) => URL.createObjectURL(await (await ask(`photos/${p.id}/${kind}`)).blob());

// ------------------------------------------------------------------------------------------------ files that come

async function* filesIn(entry) {  // of a dropped file or folder
  if (entry.isFile) yield await new Promise((ok, no) => entry.file(ok, no));
  if (!entry.isDirectory) return;
  const reader = entry.createReader();
  for (let more; (more = await new Promise((ok, no) => reader.readEntries(ok, no))).length;)
    for (const e of more)
      for await (const f of filesIn(e))
        if (/^[^.].*\.(jpe?g|jpe|jfif|png|apng|webp|tiff?|bmp|gif|jp2|ppm|pgm|hei[cf]|avif)$/i.test(f.name)) yield f;
}

function add(file) {
  const id = crypto.randomUUID(), p = {id, file, name: file.name, state: 'uploading', settings: {colour: 1, render_size: null, hints: []}};
  photos.set(id, p);
  queue.push(p);
  draw(p);
  if (!current) show(p);
  upload();
}

function upload() {  // two at a time; XMLHttpRequest says how far it is
  while (uploading < 2 && queue.length) {
    const p = queue.shift(), send = p.send = new XMLHttpRequest();
    if (!photos.has(p.id)) continue;
    uploading++;
    send.open('PUT', `photos/${p.id}?name=${encodeURIComponent(p.name)}`);
    send.setRequestHeader('X-Token', token);
    send.upload.onprogress = e => {p.sent = e.loaded/e.total; draw(p)};
    send.onloadend = () => {
      uploading--;
      if (send.status != 200 && photos.has(p.id))
        Object.assign(p, {state: 'failed', lost: true, said: send.responseText || `${p.name} can’t be read.`});
      draw(p);
      upload();
    };
    send.send(p.file);
  }
}

for (const [name, over] of [['dragover', true], ['dragleave', false], ['drop', false]])
  addEventListener(name, e => {
    e.preventDefault();
    body.classList.toggle('dragging', over && !$('#picker').open);
  });
addEventListener('drop', async e => {
  const files = [...e.dataTransfer.files], entries = [...e.dataTransfer.items].map(i => i.webkitGetAsEntry?.());
  if ($('#picker').open) return refer(files[0]);
  if (!entries.some(x => x?.isDirectory)) return files.forEach(add);
  for (const entry of entries) for await (const f of filesIn(entry)) add(f);
});
$('#drop input').addEventListener('change', e => {[...e.target.files].forEach(add); e.target.value = ''});

// ------------------------------------------------------------------------------------------------ what the server says

async function listen() {
  while (true) {
    try {
      const said = await (await ask(`photos?since=${news}`)).json();
      if (ended) {ended = false; trouble('')}
      news = said.news; most = said.most;
      if (!$('#size').options.length) sizes(said.render_size);
      for (const p of said.changed) hear(p);
      for (const p of [...photos.values()]) if (p.news && !said.all.includes(p.id)) forget(p);
    } catch (e) {
      trouble(e.message.startsWith('Open') ? e.message : 'colourise-app has ended. Start it again, and open the address that it prints.');
      ended = true;
      await new Promise(ok => setTimeout(ok, 3000));
    }
  }
}

function hear(said) {
  const p = photos.get(said.id) || {settings: said.settings}, shown = p.shown;
  const {settings, ...rest} = said;
  Object.assign(p, rest);
  if (!photos.has(p.id)) photos.set(p.id, p);
  draw(p);
  if (p.shown && p.shown != shown) refresh(p);
  if (!current) show(p);
}

async function refresh(p) {  // the newest pictures; one request at a time for each photograph, and an older answer never follows a newer
  if (p.fetching) {p.stale = true; return}
  p.fetching = true;
  do {
    p.stale = false;
    try {
      const thumb = await picture(p, 'thumb');
      URL.revokeObjectURL(p.thumb); p.thumb = thumb;
      draw(p);
      if (p == current) await load(p);
    } catch { /* removed meanwhile, or ended */ }
  } while (p.stale);
  p.fetching = false;
}

async function load(p) {  // into the viewer, decoded first so that nothing flickers
  const turn = p.shown, before = p.before || await picture(p, 'before'), after = p.after && p.loaded == turn ? p.after : await picture(p, 'after');
  await Promise.all([before, after].map(src => Object.assign(new Image(), {src}).decode().catch(() => 0)));
  if (p.after != after) URL.revokeObjectURL(p.after);
  Object.assign(p, {before, after, loaded: turn});
  if (p == current) stage(p);
}

// ------------------------------------------------------------------------------------------------ cards

const STATES = {uploading: 'loading …', waiting: 'waiting …', colouring: 'colouring …', saving: 'making the full size …', ready: 'in colour'};

function draw(p) {
  if (!photos.has(p.id)) return;
  body.classList.remove('empty');
  $('#album').hidden = false;
  if (!p.card) {
    const button = make('button', {type: 'button', onclick: () => show(p, true)});
    p.card = make('li', {}, button);
    button.append(make('i', {className: 'none', textContent: '·'}), make('b'), make('span'), make('progress', {max: 1}));
    $('#cards').append(p.card);
  }
  const [button] = p.card.children, [pic, name, said, progress] = button.children, busy = !['ready', 'failed'].includes(p.state);
  p.card.className = p.state;
  button.setAttribute('aria-current', p == current);
  name.textContent = p.name;
  said.textContent = p.said || STATES[p.state] || '';
  progress.hidden = !busy;
  progress.ariaLabel = `${p.name}: ${STATES[p.state]}`;
  if (p.state == 'uploading' && p.sent < 1) progress.value = p.sent || 0; else progress.removeAttribute('value');
  if (p.thumb && pic.src != p.thumb) {
    if (pic.tagName == 'IMG') pic.src = p.thumb; else pic.replaceWith(make('img', {src: p.thumb, alt: ''}));
  } else if (p.state == 'failed' && pic.tagName == 'I') pic.textContent = '✕';
  if (p == current) facts(p);
  const all = [...photos.values()], of = s => all.filter(x => s.includes(x.state)).length, bad = of(['failed']), done = all.filter(x => x.shown).length;
  $('#status').textContent = `${done} of ${all.length} in colour` + (bad ? `, ${bad} can’t be used` : '');
  $('#zip button').disabled = !done;
}

function facts(p) {
  const size = p.size ? `${p.size[0]}×${p.size[1]} pixels` : '', busy = STATES[p.state] && p.state != 'ready' ? STATES[p.state] : '';
  $('#facts').textContent = p.said || [size, ...(p.notes || []), busy].filter(Boolean).join('; ');
  $('#facts').className = p.said ? 'bad' : '';
  $('#stage').classList.toggle('busy', !!busy);
  for (const el of document.querySelectorAll('aside :is(#amount, #size, #same, #hinting, #save)')) el.disabled = !p.shown;
}

function forget(p) {
  photos.delete(p.id);
  p.card?.remove();
  for (const url of [p.thumb, p.before, p.after]) URL.revokeObjectURL(url);
  const next = [...photos.values()].at(-1);
  if (next) draw(next); else {body.classList.add('empty'); $('#album').hidden = $('#viewer').hidden = true}
  if (p != current) return;
  current = null;
  if (next) show(next);
}

// ------------------------------------------------------------------------------------------------ the one that is shown

// The slider of compare.html, made here because this page allows no script and no style within its text.
const compare = make('div', {className: 'colourise-compare', role: 'group'});
const figures = ['grey', 'colour'].map(label => make('figure', {}, make('img'), make('figcaption', {}, make('b', {textContent: label}))));
const knob = make('input', {type: 'range', min: 0, max: 100, step: 'any', value: 50, ariaLabel: 'Divider: grey left of it, colour right of it'});
const move = () => {
  const c = Math.round(knob.value);
  compare.style.setProperty('--cut', `${knob.value}%`);
  knob.setAttribute('aria-valuetext', `${c} % grey, ${100 - c} % colour`);
};
knob.addEventListener('input', move);
const full = make('button', {type: 'button', title: 'Full screen', ariaLabel: 'Full screen',
  onclick: () => document.fullscreenElement ? document.exitFullscreen() : compare.requestFullscreen(),
  innerHTML: '<svg width="12" height="12" viewBox="0 0 12 12" fill="none" stroke="currentColor" stroke-width="1.5"><path d="M1 4V1h3M8 1h3v3M11 8v3H8M4 11H1V8"/></svg>'});
compare.append(...figures, knob, make('i'), full);
move();

const layer = make('div', {id: 'layer', tabIndex: 0, role: 'group', hidden: true,
  ariaLabel: 'Hints: arrow keys move the cross, Enter puts a hint'}, make('span', {className: 'cross'}));
$('#stage').append(make('div', {className: 'colourise-live'}, compare), layer);
$('#stage').firstChild.style.display = 'contents';

function stage(p) {
  compare.hidden = !p.size;
  for (const f of figures) f.firstChild.hidden = !p.after;
  if (!p.size) return;
  const [w, h] = p.size, wide = `min(100%, max(160px, ${66*w/h}vh))`;
  for (const el of [compare, layer]) Object.assign(el.style, {width: wide, aspectRatio: `${w}/${h}`});
  if (!p.after) return;
  [p.before, p.after].forEach((src, i) => {
    const img = figures[i].firstChild;
    if (img.src != src) img.src = src;
    img.alt = `${p.name}, ${['grey', 'colour'][i]}`;
  });
  compare.ariaLabel = `${p.name}: grey and colour`;
}

function show(p, scroll) {
  const last = current;
  current = p;
  chosen = -1;
  if (last) draw(last);
  $('#viewer').hidden = false;
  $('#name').textContent = p.name;
  $('#saved').textContent = '';
  $('#amount').value = p.settings.colour;
  $('#amount-is').textContent = (+p.settings.colour).toFixed(2);
  if (p.settings.render_size) $('#size').value = p.settings.render_size; else usual();
  draw(p);
  dots();
  stage(p);
  if (p.shown && p.loaded != p.shown) load(p).catch(() => 0);
  if (scroll) $('#viewer').scrollIntoView({block: 'nearest'});
}

let standard = 64;
function sizes(own) {
  standard = own;
  for (const s of [...new Set([...SIZES, own])].sort((a, b) => a - b))
    $('#size').append(make('option', {value: s, textContent: `${s} px${s == own ? ' (usual)' : ''}`}));
  usual();
}
function usual() {$('#size').value = standard}

async function change(p, settings) {  // the server takes the newest wish, whatever it is doing
  Object.assign(p.settings, settings);
  if (p.sending) {p.again = true; return}
  p.sending = true;
  do {
    p.again = false;
    try {await ask(`photos/${p.id}`, {method: 'POST', body: JSON.stringify(p.settings)})}
    catch (e) {p.said = e.message; draw(p)}
  } while (p.again);
  p.sending = false;
}

$('#amount').addEventListener('input', e => {
  $('#amount-is').textContent = (+e.target.value).toFixed(2);
  change(current, {colour: +e.target.value});
});
$('#size').addEventListener('change', e => change(current, {render_size: +e.target.value}));
$('#same').addEventListener('click', () => {
  const {colour, render_size} = current.settings;
  for (const p of photos.values()) if (p != current && !p.lost && p.state != 'uploading') change(p, {colour, render_size});
});
$('#remove').addEventListener('click', async () => {
  const p = current;
  p.send?.abort();
  forget(p);
  if (!p.lost && p.news) await ask(`photos/${p.id}`, {method: 'DELETE'}).catch(e => trouble(e.message));
});

$('#save').addEventListener('click', async () => {
  const p = current, say = text => {if (p == current) $('#saved').textContent = text};
  say('Making the full size …');
  try {
    const answer = await ask(`photos/${p.id}/file`), url = URL.createObjectURL(await answer.blob());
    const name = decodeURIComponent(answer.headers.get('Content-Disposition').split("''")[1]);
    make('a', {href: url, download: name}).click();
    say(`${name} is in your downloads.`);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (e) {say(e.message)}
});
$('#zip').token.value = token;

// ------------------------------------------------------------------------------------------------ hints

const cross = {x: 50, y: 50};
const hintsOf = () => current?.settings.hints || [];
const place = (el, x, y) => Object.assign(el.style, {left: `${x}%`, top: `${y}%`});

function dots() {
  const on = $('#hinting').ariaPressed == 'true', hints = hintsOf(), focused = layer.contains(document.activeElement) && document.activeElement.tagName == 'BUTTON';
  layer.hidden = !on || !current?.shown;
  $('#hints').hidden = !on;
  $('#hinting').textContent = on ? 'Done with hints' : hints.length ? `Colour hints (${hints.length})` : 'Put colour hints';
  layer.querySelectorAll('button').forEach(b => b.remove());
  hints.forEach(([x, y, c], i) => {
    const dot = make('button', {type: 'button', ariaPressed: i == chosen, ariaLabel: `Hint ${i + 1}: ${c}; arrow keys move it, Delete removes it`});
    dot.style.background = c;
    dot.dataset.i = i;
    place(dot, x, y);
    layer.append(dot);
    if (focused && i == chosen) dot.focus();
  });
  $('#unhint').disabled = chosen < 0;
  $('#colour').value = colour;
  for (const b of $('#palette').children) b.ariaPressed = b.dataset.colour == colour;
}

function hint(x, y) {
  const hints = [...hintsOf(), [percent(x), percent(y), colour]];
  chosen = hints.length - 1;
  change(current, {hints});
  dots();
}
function shift(i, x, y) {
  const hints = hintsOf().map((h, j) => j == i ? [percent(x), percent(y), h[2]] : h);
  change(current, {hints});
  place(layer.querySelector(`[data-i="${i}"]`), ...hints[i]);
}
function unhint() {
  if (chosen < 0) return;
  change(current, {hints: hintsOf().filter((_, i) => i != chosen)});
  chosen = -1;
  dots();
  layer.focus();
}
function paint(c) {
  colour = c;
  if (chosen >= 0) change(current, {hints: hintsOf().map((h, i) => i == chosen ? [h[0], h[1], c] : h)});
  dots();
}
const spot = e => {
  const r = layer.getBoundingClientRect();
  return [(e.clientX - r.left)/r.width*100, (e.clientY - r.top)/r.height*100];
};

let cutBefore = 50;
$('#hinting').addEventListener('click', e => {  // meanwhile all of the picture is in colour, or a hint's effect might hide under the grey
  const on = e.target.ariaPressed != 'true';
  e.target.ariaPressed = on;
  if (on) cutBefore = knob.value;
  knob.value = on ? 0 : cutBefore;
  move();
  chosen = -1;
  dots();
});
layer.addEventListener('click', e => {if (e.target == layer) hint(...spot(e))});
layer.addEventListener('pointerdown', e => {
  if (!e.target.dataset.i) return;
  const dot = e.target, i = +dot.dataset.i, go = e => shift(i, ...spot(e));
  chosen = i; colour = hintsOf()[i][2];
  dot.setPointerCapture(e.pointerId);
  dot.addEventListener('pointermove', go);
  for (const end of ['pointerup', 'pointercancel']) dot.addEventListener(end, () => {
    dot.removeEventListener('pointermove', go);
    dots();
  }, {once: true});
});
layer.addEventListener('keydown', e => {
  const by = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key], k = e.shiftKey ? 10 : 1;
  const i = e.target.dataset.i === undefined ? -1 : +e.target.dataset.i;
  if (by) {
    e.preventDefault();
    if (i >= 0) {
      const [x, y] = hintsOf()[i];
      chosen = i;
      return shift(i, x + by[0]*k, y + by[1]*k);
    }
    cross.x = percent(cross.x + by[0]*k); cross.y = percent(cross.y + by[1]*k);
    place(layer.firstChild, cross.x, cross.y);
  } else if (e.key == 'Enter' && i < 0) {e.preventDefault(); hint(cross.x, cross.y)}
  else if (['Delete', 'Backspace'].includes(e.key) && (i >= 0 || chosen >= 0)) {e.preventDefault(); if (i >= 0) chosen = i; unhint()}
});
layer.addEventListener('focusin', e => {
  if (e.target.dataset.i === undefined || +e.target.dataset.i == chosen) return;
  chosen = +e.target.dataset.i; colour = hintsOf()[chosen][2];
  for (const b of layer.querySelectorAll('button')) b.ariaPressed = +b.dataset.i == chosen;
  $('#unhint').disabled = false;
  $('#colour').value = colour;
});
place(layer.firstChild, 50, 50);
for (const [name, c] of Object.entries(PALETTE)) {
  const b = make('button', {type: 'button', title: name, ariaLabel: name, onclick: () => paint(c)});
  b.dataset.colour = c;
  b.style.background = c;
  $('#palette').append(b);
}
$('#colour').addEventListener('input', e => paint(e.target.value));
$('#unhint').addEventListener('click', unhint);

// ------------------------------------------------------------------------------------------------ a colour from a picture

const picker = $('#picker'), canvas = $('#sample'), ink = canvas.getContext('2d', {willReadFrequently: true}), eye = {x: 0, y: 0};
const references = [];  // pictures that were chosen only to take colours from; they don't leave the page

async function look(src, button) {
  const img = Object.assign(new Image(), {src});
  try {await img.decode()} catch {$('#picker-says').textContent = 'The browser can’t show this picture: choose another.'; return}
  for (const b of $('#sources').children) b.ariaPressed = b == button;
  const k = Math.min(1, 1200/Math.max(img.naturalWidth, img.naturalHeight));
  canvas.width = Math.max(1, img.naturalWidth*k); canvas.height = Math.max(1, img.naturalHeight*k);
  ink.drawImage(img, 0, 0, canvas.width, canvas.height);
  canvas.img = img;
  canvas.hidden = false;
  aim(canvas.width/2, canvas.height/2, false);
}
function colourAt(x, y) {  // the mean of 5×5 pixels
  const {data} = ink.getImageData(Math.round(x) - 2, Math.round(y) - 2, 5, 5), sum = [0, 0, 0];
  let n = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) {n++; for (const c of [0, 1, 2]) sum[c] += data[i + c]}
  return '#' + sum.map(s => Math.round(s/Math.max(n, 1)).toString(16).padStart(2, '0')).join('');
}
function aim(x, y, cross) {
  eye.x = Math.min(canvas.width - 1, Math.max(0, x)); eye.y = Math.min(canvas.height - 1, Math.max(0, y));
  ink.drawImage(canvas.img, 0, 0, canvas.width, canvas.height);
  const c = colourAt(eye.x, eye.y);
  if (cross) {
    const r = canvas.width/60;
    for (const [line, style] of [[4, '#000'], [2, '#fff']])
      {ink.lineWidth = line; ink.strokeStyle = style; ink.beginPath(); ink.arc(eye.x, eye.y, r, 0, 7); ink.stroke()}
  }
  $('#swatch').style.background = c;
  $('#picker-says').textContent = `${c}: click to take it.`;
  return c;
}
const take = c => {picker.close(); paint(c)};
const under = e => {const r = canvas.getBoundingClientRect(); return [(e.clientX - r.left)/r.width*canvas.width, (e.clientY - r.top)/r.height*canvas.height]};
canvas.addEventListener('pointermove', e => aim(...under(e), false));
canvas.addEventListener('click', e => take(aim(...under(e), false)));
canvas.addEventListener('keydown', e => {
  const by = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key], k = canvas.width/(e.shiftKey ? 10 : 100);
  if (by) {e.preventDefault(); aim(eye.x + by[0]*k, eye.y + by[1]*k, true)}
  if (e.key == 'Enter') {e.preventDefault(); take(aim(eye.x, eye.y, false))}
});

function source(src, name) {
  const b = make('button', {type: 'button', title: name, ariaLabel: name, ariaPressed: false}, make('img', {src, alt: ''}));
  b.onclick = () => look(src, b);
  $('#sources').append(b);
  return b;
}
function refer(file) {
  if (!file) return;
  const src = URL.createObjectURL(file);
  references.unshift([src, file.name]);
  const b = source(src, file.name);
  $('#sources').prepend(b);
  look(src, b);
}
async function coloured(file) {  // does the picture as it came have colours that a browser can show?
  try {
    const small = await createImageBitmap(file, {resizeWidth: 32, resizeHeight: 32});
    const c = new OffscreenCanvas(32, 32).getContext('2d');
    c.drawImage(small, 0, 0);
    const {data} = c.getImageData(0, 0, 32, 32);
    for (let i = 0; i < data.length; i += 4) if (Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)) > 24) return true;
  } catch { /* the browser doesn't know its format */ }
  return false;
}
$('#pick').addEventListener('click', async () => {
  $('#sources').replaceChildren();
  canvas.hidden = true;
  $('#picker-says').textContent = 'Choose a picture.';
  $('#swatch').style.background = '';
  picker.showModal();
  for (const [src, name] of references) source(src, name);
  for (const p of photos.values()) {  // as it came if that has colours, else as it is now
    if (p.file && (p.own ??= await coloured(p.file))) source(p.came ??= URL.createObjectURL(p.file), `${p.name}, as it came`);
    else if (p.thumb) {
      const b = source(p.thumb, `${p.name}, in colour`);
      b.onclick = async () => look(await picture(p, 'after'), b);
    }
  }
});
$('#reference').addEventListener('change', e => {refer(e.target.files[0]); e.target.value = ''});
$('#close').addEventListener('click', () => picker.close());

body.classList.add('empty');
listen();
