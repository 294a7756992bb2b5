// A CompareSlider among other widgets: new pictures are put in when they are decoded, the divider stays where it is.
function render({model, el}) {
  el.classList.add('colourise-live');
  el.innerHTML = model.get('html');
  const box = el.firstElementChild, input = box.querySelector('input');
  let turn = 0;
  const help = ({target}) => {  // ipywidgets' sliders beside us ask for neither the arrow keys nor a name
    if (!el.parentElement?.contains(target)) return;
    target.setAttribute('data-lm-suppress-shortcuts', 'true');
    if (target.role != 'slider') return;
    target.ariaLabel = target.closest('.widget-inline-hbox').querySelector('.widget-label').textContent;
  };
  document.addEventListener('focusin', help);
  input.addEventListener('change', () => {model.set('cut', +input.value); model.save_changes()});
  model.on('change:cut', () => {input.value = model.get('cut'); input.oninput()});
  model.on('change:html', async () => {
    const mine = ++turn, fresh = Object.assign(document.createElement('div'), {innerHTML: model.get('html')});
    await Promise.all([...fresh.querySelectorAll('img')].map(i => i.decode().catch(() => 0)));  // no flicker
    if (mine != turn) return;                                                // newer pictures are on their way
    const now = fresh.firstElementChild, knob = now.querySelector('input'), old = box.querySelectorAll('figure');
    now.querySelectorAll('figure').forEach((f, i) => old[i].replaceWith(f));
    box.style.cssText = now.style.cssText;
    box.ariaLabel = now.ariaLabel; input.ariaLabel = knob.ariaLabel;
    Object.assign(input.dataset, knob.dataset);
    input.oninput();
  });
  return () => document.removeEventListener('focusin', help);
}
export default {render}
