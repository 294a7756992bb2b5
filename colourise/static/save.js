// A file comes from the kernel and is saved where the browser puts downloads; its link stays, to take it again.
function render({model, el}) {
  el.classList.add('colourise-save');
  el.innerHTML = `<button type="button" data-lm-suppress-shortcuts="true"></button><a></a>`;
  const [button, link] = el.children;
  let mine = false;  // the same widget may be on the page twice
  const show = () => {
    button.disabled = mine || !model.get('what');
    button.textContent = mine ? 'Working …' : 'Save in full size';
  };
  const forget = () => {URL.revokeObjectURL(link.href); link.removeAttribute('href'); link.textContent = ''};
  button.addEventListener('click', () => {mine = true; show(); model.send({})});
  model.on('change:what', () => {forget(); show()});
  model.on('msg:custom', (msg, buffers) => {
    if (!mine) return;
    const data = buffers?.[0];
    mine = false; show();
    if (!data) return;
    link.href = URL.createObjectURL(new Blob([data], {type: msg.mime}));
    link.download = msg.name; link.textContent = `${msg.name}, ${msg.about}`;
    link.click();
  });
  show();
}
export default {render}
