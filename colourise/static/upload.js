// A file of the reader's goes to the kernel in parts.
const PART = 1 << 20;  // bytes; a Jupyter server cuts the connection at messages of more than ten million
function render({model, el}) {
  el.innerHTML = `<label class="colourise-file"><input type="file" data-lm-suppress-shortcuts="true"
    accept="image/*,.heic,.heif,.tif,.tiff">Choose a photograph, or drop it here</label>`;
  const label = el.firstElementChild, input = label.querySelector('input');
  const send = async file => {
    if (!file) return;
    const of = Math.max(1, Math.ceil(file.size/PART)), id = Date.now();
    const head = {id, of, name: file.name, size: file.size};
    if (file.size > model.get('most')) return model.send({...head, part: 0});
    for (let part = 0; part < of; part++)
      model.send({...head, part}, undefined, [await file.slice(part*PART, (part + 1)*PART).arrayBuffer()]);
  };
  input.addEventListener('change', () => send(input.files[0]).finally(() => {input.value = ''}));
  for (const [name, over] of [['dragover', true], ['dragleave', false], ['drop', false]])
    label.addEventListener(name, e => {
      e.preventDefault(); e.stopPropagation();
      label.classList.toggle('over', over);
      if (name == 'drop') send(e.dataTransfer.files[0]);
    });
}
export default {render}
