"""The exported ONNX file, as a program sees it that has ONNX Runtime and nothing of ours."""
import json, subprocess, sys
import numpy as np, pytest
from colourise.colour import bound_chroma, chroma, lab_chroma, within_gamut
from colourise.infer import Colouriser
from colourise.photo import embedded, read
import torch
from colourise.ship import export_onnx, parity
from colourise.unet import load_model
from conftest import clean_env

ALONE = '''
import sys, json, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
meta = session.get_modelmeta()
(grey,), (rgb,) = session.get_inputs(), session.get_outputs()
np.savez(sys.argv[3], **{k: session.run(None, {'grey': x})[0] for k, x in np.load(sys.argv[2]).items()})
try: session.run(None, {'grey': np.zeros((1, 3, 64, 64), np.float32)})
except Exception: colour_refused = True
others = sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'fastai', 'colourise', 'onnx'))
print(json.dumps(dict(doc=meta.description, facts=meta.custom_metadata_map, grey=grey.shape, rgb=rgb.shape, others=others, colour_refused=colour_refused)))
'''

@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "The shipped model as ONNX, with a larger gain and a low bound, so that both count; and what the export says."
    from colourise.modelfile import find_model, read_model, write_model
    folder = tmp_path_factory.mktemp('onnx')
    state, header = read_model(find_model(None, 'model.safetensors'))
    model = write_model(folder/'model.safetensors', state, **header | dict(format=1, gain=2.5, max_chroma=40))
    return model, folder/'model.onnx', export_onnx(model, folder/'model.onnx')

def expected(net, grey):
    "What `net` makes of `grey` (H, W) when nothing is shrunk or stretched."
    with torch.no_grad(): pred = net.painter(torch.from_numpy(grey)[None, None])[0].permute(1, 2, 0).numpy() # PyTorch's, with the adviser inside
    y, colours = grey[..., None], chroma(pred)*np.float32(net.gain)
    colours = colours*np.minimum(net.max_chroma/np.maximum(lab_chroma(y + colours), 1e-6), 1)[..., None]**2
    assert lab_chroma(y + colours).max() > 30 and abs(bound_chroma(y, colours, net.max_chroma) - colours).max() < 1e-3
    return within_gamut(y, colours)

def test_onnx_runtime_alone(exported, tmp_path):
    model, file, away = exported
    assert max(away.values()) < 1e-4 and 'levels' in parity(away) and [*tmp_path.parent.glob('**/.colourise-*')] == []
    net = Colouriser.from_pretrained(model)
    net.painter = load_model(model)[0].eval()
    pictures = {n: np.asarray(read(p).rgb8.resize(size).convert('L'), np.float32)/255 for (n, p), size in
                zip(list(embedded().items())[:4], ((64, 64), (320, 96), (32, 160), (256, 192)))}
    np.savez(tmp_path/'in.npz', **{n: x[None, None] for n, x in pictures.items()}, two=np.stack([pictures[min(pictures)][None]]*2))
    r = subprocess.run([sys.executable, '-c', ALONE, file, tmp_path/'in.npz', tmp_path/'out.npz'], env=clean_env(), cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    told, out = json.loads(r.stdout), np.load(tmp_path/'out.npz')
    assert told['others'] == [] and told['colour_refused']
    assert told['facts']['gain'] == '2.5' and told['facts']['max_chroma'] == '40' and told['facts']['multiple'] == '32'
    assert json.loads(told['facts']['colourise'])['stage'] == net.header['stage'] and 'multiples of 32' in told['doc']
    assert told['grey'] == ['N', 1, 'H', 'W'] and told['rgb'][1] == 3
    for n, x in pictures.items(): assert abs(out[n][0].transpose(1, 2, 0) - expected(net, x)).max() < 1/255
    assert abs(out['two'] - out[min(pictures)]).max() < 1e-5
