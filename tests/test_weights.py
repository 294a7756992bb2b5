"Weights of the backbone and of the loss network: caches, local files, downloads, and everything that can be wrong with them."
import functools, hashlib, http.server, io, json, os, pickle, shutil, socket, threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np, onnx, onnxruntime as ort, pytest, torch
from conftest import REPO, run
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models

from colourise import modelfile
from colourise.colour import chroma, within_gamut
from colourise.files import ColouriseError, FileError
from colourise.infer import Adviser, Colouriser
from colourise.loss import FeatureLoss, VGGFeatures, loss_terms
from colourise.modelfile import ModelError, read_header, read_model, write_model
from colourise.recipe import load_recipe
from colourise.teacher import adviser, annealed_mean
from colourise.unet import colour_unet, load_model, save_model
from colourise.weights import fetch_weights, fold_norms, imagenet_at_hand

torch.set_num_threads(1)
NOWHERE = 'http://127.0.0.1:9/' # nobody listens there
GRAPH = Path(modelfile.__file__).with_name('unet.onnx')
CUTS = dict(vgg16_bn=(23, 33, 43), vgg16=(16, 23, 30)) # what the loss sees ends before these `features`


@pytest.fixture(autouse=True)
def course(tmp_path, monkeypatch):
    "An empty course and an empty cache of torch.hub, so that no test sees real weights."
    monkeypatch.setenv('COLOURISE_ROOT', str(tmp_path/'course'))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path/'hub'))
    monkeypatch.setattr('time.sleep', lambda s: None) # a failed download is tried again without waiting
    (tmp_path/'course').mkdir()
    return tmp_path/'course'

def bytes_of(state):
    b = io.BytesIO()
    torch.save(state, b)
    return b.getvalue()

@pytest.fixture(scope='session')
def states():
    "State dicts in torchvision's layout; VGG's huge classifier is one number seen many times, so that its file stays small."
    torch.manual_seed(1)
    with torch.device('meta'): shapes = models.vgg16(weights=None).state_dict()
    thin = {k: torch.zeros(()).expand(v.shape) for k,v in shapes.items() if k.startswith('classifier.')}
    layers = lambda norms: models.vgg.make_layers(models.vgg.cfgs['D'], batch_norm=norms).state_dict()
    vggs = {n: {f'features.{k}': v for k,v in layers(n == 'vgg16_bn').items()} | thin for n in CUTS}
    return dict(resnet34=models.resnet34(weights=None).state_dict()) | vggs

@pytest.fixture(scope='session')
def published(states):
    "For each network the name that torchvision would publish this file under, and its content."
    res = {}
    for name,state in states.items():
        content = bytes_of(state)
        res[name] = f'{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth',content
    return res

@pytest.fixture
def publish(published, monkeypatch):
    "Make torchvision point to our files below `base`."
    def f(base):
        address = lambda name: SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=base + published[name][0]))
        monkeypatch.setattr(models, 'get_model_weights', address)
    return f

def plant(folder, file, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder/file).write_bytes(content)
    return folder/file

def everything(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())

@pytest.fixture
def server(tmp_path):
    "A server on localhost: its folder, its address, and what was asked for."
    folder,asked = tmp_path/'served',[]
    folder.mkdir()
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
    yield SimpleNamespace(folder=folder, url=f'http://127.0.0.1:{s.server_address[1]}/', asked=asked)
    s.shutdown(); s.server_close()


# --- ImageNet weights that are there already ---------------------------------------------------------------------

def assert_same_vgg(observer, state, name='vgg16_bn'):
    "Does `observer`, whose convolutions have taken over the work of their batch norms, see what torchvision's network sees?"
    net = models.vgg.make_layers(models.vgg.cfgs['D'], batch_norm=name == 'vgg16_bn').eval()
    net.load_state_dict({k.removeprefix('features.'): v.float() for k,v in state.items() if k.startswith('features.')})
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad(): ours,theirs = observer(x), [net[:n]((x - observer.mean)/observer.std) for n in CUTS[name]]
    for a,b in zip(ours, theirs, strict=True): assert (a - b).abs().max() < 1e-4*b.abs().max().clamp(min=1e-6)


@pytest.mark.parametrize('place', ['course/models', 'hub/checkpoints'])
def test_planted_weights_are_used_without_a_network(place, published, publish, states, tmp_path):
    publish(NOWHERE)
    assert not imagenet_at_hand('resnet34')
    for file,content in published.values(): plant(tmp_path/place, file, content)
    assert imagenet_at_hand('resnet34') and imagenet_at_hand('vgg16_bn')
    model = colour_unet('imagenet')
    assert model.origin == 'imagenet'
    assert torch.equal(model.layers[0][0].weight, states['resnet34']['conv1.weight'].sum(1, keepdim=True))
    assert torch.equal(model.layers[0][7][2].bn2.weight, states['resnet34']['layer4.2.bn2.weight'])
    loss = FeatureLoss('imagenet')
    assert loss.origin == 'imagenet'
    assert_same_vgg(loss.vgg, states['vgg16_bn'])
    plain = FeatureLoss('vgg16')
    assert plain.origin == 'vgg16'
    assert_same_vgg(plain.vgg, states['vgg16'], 'vgg16')

def test_a_pretrained_body_sees_grey_as_the_colour_network_does(published, publish, states, course):
    publish(NOWHERE)
    plant(course/'models', *published['resnet34'])
    body,net = colour_unet('imagenet').layers[0].eval(),models.resnet34(weights=None).eval()
    net.load_state_dict(states['resnet34'])
    grey = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        wanted = nn.Sequential(*list(net.children())[:-2])(((grey - .449)/.226).expand(-1, 3, -1, -1))
        assert torch.allclose(body(grey), wanted, atol=1e-3, rtol=1e-3)
        model = colour_unet('imagenet', seed=0)
        assert torch.equal(model(grey), grey.expand(-1, 3, -1, -1))  # pretrained or not: the untrained network hands grey through

def test_the_classifier_is_left_out(published, publish, course):
    publish(NOWHERE)
    for file,content in published.values(): plant(course/'models', file, content)
    assert not any(k.startswith('fc') for k in fetch_weights('resnet34'))
    for name in CUTS: assert all(k.startswith('features.') for k in fetch_weights(name))

@pytest.mark.parametrize('place', ['course/models', 'hub/checkpoints'])
@pytest.mark.parametrize('harm', ['cut', 'bit', 'empty'])
def test_a_damaged_cache_is_named_and_not_used(place, harm, published, publish, tmp_path):
    publish(NOWHERE)
    file,content = published['resnet34']
    bad = dict(cut=content[:len(content)//2], bit=content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], empty=b'')[harm]
    plant(tmp_path/place, file, bad)
    with pytest.raises(FileError, match=f'{file} has the sha256 .*delete it') as e: colour_unet('imagenet')
    assert '\n' not in str(e.value)


# --- downloads ---------------------------------------------------------------------------------------------------

def test_a_download_is_checked_and_kept(published, publish, server, states, course):
    publish(server.url)
    file,content = published['resnet34']
    plant(server.folder, file, content)
    got = fetch_weights('resnet34')
    assert torch.equal(got['layer1.0.conv1.weight'], states['resnet34']['layer1.0.conv1.weight'])
    assert everything(course) == [f'models/{file}'] and len(server.asked) == 1
    fetch_weights('resnet34')
    assert len(server.asked) == 1                                    # the second time from the cache

def test_a_download_with_a_wrong_hash_leaves_nothing(published, publish, server, course):
    publish(server.url)
    file,content = published['resnet34']
    plant(server.folder, file, content[:-5] + b'other')
    with pytest.raises(FileError, match='thrown away') as e: colour_unet('imagenet')
    assert file in str(e.value) and '\n' not in str(e.value)
    assert everything(course) == []

def test_a_server_without_the_file(publish, server, course):
    publish(server.url)
    for name in CUTS:
        with pytest.raises(FileError, match='404'): fetch_weights(name)
    assert everything(course) == []

@pytest.mark.parametrize('make,name,key', [
    (lambda: colour_unet('imagenet'), 'resnet34', 'backbone'), (lambda: FeatureLoss('imagenet'), 'vgg16_bn', 'vgg'),
    (lambda: FeatureLoss('vgg16'), 'vgg16', 'vgg'), (lambda: FeatureLoss.from_recipe(load_recipe('article')), 'vgg16_bn', 'vgg')])
def test_no_network_says_the_way_out_and_starts_nothing_random(make, name, key, published, publish, course):
    publish(NOWHERE)
    with pytest.raises(ColouriseError) as e: make()
    said,file = str(e.value),published[name][0]
    for part in (NOWHERE + file, str(course/'models'/file), f'`{key} = FILE`', f'`{key} = random`'): assert part in said
    assert '\n' not in said and everything(course) == []

def test_torchvisions_own_addresses_carry_their_hash():
    for name in ('resnet34', 'vgg16', 'vgg16_bn'):
        url = models.get_model_weights(name).IMAGENET1K_V1.url
        digest = Path(url).stem.removeprefix(f'{name}-')
        assert len(digest) == 8 and int(digest, 16)
    assert models.get_model_weights('vgg16').IMAGENET1K_V1.url.endswith('vgg16-397923af.pth')

def test_random_asks_nobody(monkeypatch):
    def no(*args): raise AssertionError('the network was asked')
    monkeypatch.setattr(socket.socket, 'connect', no)
    monkeypatch.setattr(socket, 'getaddrinfo', no)
    assert colour_unet('random').origin == 'random'
    assert FeatureLoss('random').origin == 'random'
    recipe = load_recipe('sample')
    assert 'imagenet' not in (recipe.network.backbone, recipe.loss.vgg) # so `make course` downloads nothing


# --- local files -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_local_files(suffix, states, tmp_path):
    for name,state in states.items():
        state = {k: v for k,v in state.items() if not k.startswith('classifier.')}
        if suffix == '.pth': torch.save(state, tmp_path/(name + suffix))
        else: save_file(state, tmp_path/(name + suffix))
    model = colour_unet(tmp_path/f'resnet34{suffix}')
    assert model.origin == f'resnet34{suffix}'
    assert torch.equal(model.layers[0][6][0].conv1.weight, states['resnet34']['layer3.0.conv1.weight'])
    for name in CUTS: # which of the two it is, the file shows
        vgg = VGGFeatures(str(tmp_path/f'{name}{suffix}'))
        assert_same_vgg(vgg, states[name], name)

def test_thirteen_convolutions_in_float16_are_a_vgg(states, tmp_path):
    "A file like vgg16-edges.safetensors: no norms, no classifier, half the bits."
    half = {k: v.half() for k,v in states['vgg16'].items() if k.startswith('features.')}
    assert len(half) == 26
    save_file(half, tmp_path/'vgg16-edges.safetensors')
    loss = FeatureLoss(tmp_path/'vgg16-edges.safetensors')
    assert loss.origin == 'vgg16-edges.safetensors'
    assert {p.dtype for p in loss.vgg.parameters()} == {torch.float32}
    assert_same_vgg(loss.vgg, half, 'vgg16')
    pred,target = torch.rand(2, 1, 3, 32, 48).unbind()
    loss(pred.requires_grad_(), target).backward()
    assert set(loss.parts) == {'pixel', 'feature', 'gram'} and pred.grad.isfinite().all()
    save_file({k: v for k,v in half.items() if k != 'features.28.bias'}, tmp_path/'lost.safetensors')
    with pytest.raises(ModelError, match='weights of vgg16: 1 of 26 tensors are missing, .*features.28.bias'):
        FeatureLoss(tmp_path/'lost.safetensors')

def test_a_file_is_looked_for_in_the_course_too(states, course, monkeypatch, tmp_path):
    plant(course/'models', 'mine.pth', bytes_of(states['resnet34']))
    monkeypatch.chdir(tmp_path)
    assert colour_unet('models/mine.pth').origin == 'mine.pth'

def test_files_that_differ_a_little(states, tmp_path):
    state = states['resnet34']
    old = {k: v for k,v in state.items() if not k.endswith('num_batches_tracked')}       # from before the counters
    grey = {k: v for k,v in state.items() if not k.startswith('fc.')} | {'conv1.weight': torch.rand(64, 1, 7, 7)}
    torch.save(dict(state_dict=old, epoch=3), tmp_path/'old.pth')
    torch.save(grey, tmp_path/'grey.pth')
    assert torch.equal(colour_unet(tmp_path/'old.pth').layers[0][1].weight, state['bn1.weight'])
    assert torch.equal(colour_unet(tmp_path/'grey.pth').layers[0][0].weight, grey['conv1.weight'])

def test_a_model_of_ours_lends_its_body(tmp_path):
    model = colour_unet('random', seed=1)
    path = save_model(model, tmp_path/'model.safetensors')
    other = colour_unet(path, seed=2)
    assert all(torch.equal(a, b) for a,b in zip(model.layers[0].state_dict().values(), other.layers[0].state_dict().values()))
    assert not torch.equal(model.layers[4].conv1[0].weight, other.layers[4].conv1[0].weight)

class Trap:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (self.path,)

def test_files_that_are_no_weights(states, tmp_path):
    good = bytes_of(states['resnet34'])
    plant(tmp_path, 'noise.pth', os.urandom(5000))
    plant(tmp_path, 'cut.pth', good[:-1000])
    plant(tmp_path, 'empty.pth', b'')
    plant(tmp_path, 'noise.safetensors', os.urandom(5000))
    plant(tmp_path, 'trap.pth', pickle.dumps(Trap(str(tmp_path/'sprung')), protocol=2))
    for p in sorted(tmp_path.glob('*.*')):
        with pytest.raises(ModelError, match=f'{p.name} is not a readable file of named weights') as e: colour_unet(p)
        assert '\n' not in str(e.value)
    assert not (tmp_path/'sprung').exists()                          # nothing was unpickled into objects
    for what in ([1, 2], {'conv1.weight': 'a word'}):
        torch.save(what, tmp_path/'other.pth')
        with pytest.raises(ModelError, match=r'other.pth .*`model.state_dict\(\)`'): colour_unet(tmp_path/'other.pth')

def test_weights_of_another_network(states, tmp_path):
    torch.save(states['vgg16_bn'], tmp_path/'vgg.pth')
    torch.save(states['vgg16'], tmp_path/'plain.pth')
    torch.save({f'module.{k}': v for k,v in states['resnet34'].items()}, tmp_path/'prefixed.pth')
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path/'small.pth')
    torch.save({}, tmp_path/'nothing.pth')
    for p in sorted(tmp_path.glob('*.pth')):
        with pytest.raises(ModelError, match=f'{p.name} does not hold the weights of resnet34') as e: colour_unet(p)
        assert '\n' not in str(e.value)
    with pytest.raises(ModelError, match='does not hold the weights of vgg16_bn'): FeatureLoss(tmp_path/'small.pth')

def test_a_file_that_is_not_there():
    for make,key in ((colour_unet, 'backbone'), (FeatureLoss, 'vgg')):
        with pytest.raises(ModelError, match=f"There is no file 'gone.pth' \\({key}\\)"): make('gone.pth')


# --- model files -------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    return save_model(colour_unet('random', seed=1), tmp_path_factory.mktemp('models')/'model.safetensors', stage='stage1', metrics=dict(loss=.1))

def test_a_model_file_says_what_it_is(saved):
    model,header = load_model(saved)
    assert not model.training and model.origin == 'random'
    assert {k: header[k] for k in ('format', 'backbone', 'stage', 'metrics')} == dict(format=1, backbone='random', stage='stage1', metrics=dict(loss=.1))
    assert set(header) >= {'arch', 'input', 'output', 'version'}
    assert not any('vgg' in k for k in load_file(saved))
    x = torch.rand(1, 1, 127, 128)
    with torch.no_grad(): assert model(x).shape == (1, 3, 127, 128)

def test_a_packed_model_is_nearly_the_same(tmp_path):
    model = colour_unet('random', seed=1)
    small = save_model(model, tmp_path/'small.safetensors', packed=True, stage='stage5')
    again,header = load_model(small)
    assert (header['format'], header['stage']) == (2, 'stage5') and small.stat().st_size < 45e6
    for (name,old),new in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert old.dtype == new.dtype
        if old.ndim < 4 or name.startswith('layers.12'): assert torch.equal(old, new), name
        else: assert ((old - new).abs() <= old.abs().amax((1, 2, 3), True)/253).all(), name

def test_the_shipped_model_loads():
    model,header = load_model(GRAPH.with_name('model.safetensors'))
    assert header['format'] == 2 and header['arch'] == dict(name='colour_unet', args=dict(norm='batch'))
    with torch.no_grad(): assert model(torch.rand(1, 1, 33, 50)).shape == (1, 3, 33, 50)

def test_broken_model_files(saved, tmp_path, states):
    content = saved.read_bytes()
    for n in (0, 5, 1000, len(content)//2, len(content) - 1): plant(tmp_path, f'cut{n}.safetensors', content[:n])
    plant(tmp_path, 'photo.safetensors', b'\xff\xd8\xff\xe0' + os.urandom(2000))
    plant(tmp_path, 'pth.safetensors', bytes_of({'a': torch.zeros(3)}))
    for p in sorted(tmp_path.glob('*.safetensors')):
        for read in (load_model, read_model, read_header):
            with pytest.raises(ModelError, match=f"{p.name} can't be read") as e: read(p)
            assert '\n' not in str(e.value)

@pytest.mark.parametrize('header,match', [
    (None, 'not a model of this package'), ('{}', 'not a model of this package'), ('{"format": 2}', 'architecture None'),
    ('{"format": 3}', 'format 3'), ('{"format": 1, "arch": {"name": "other"}}', 'does not know'),
    ('{"format": 1, "arch": null}', 'does not know'), ('{', "can't be read"), ('[1]', "can't be read"),
    ('{"format": 1, "arch": {"name": "colour_unet", "args": {"norm": "batch"}}}', 'does not hold the weights'),
    ('{"format": 1, "arch": {"name": "colour_unet"}}', 'does not hold the weights'),
    ('{"format": 1, "arch": {"name": "colour_unet", "args": {"norm": "none"}}}', 'no longer supports'),
    ('{"format": 1, "arch": {"name": "colour_unet", "args": {"norm": "batch", "attention": true}}}', 'no longer supports'),
    ('{"format": 1, "arch": {"name": "colour_unet", "args": {"wings": 2}}}', 'does not know')])
def test_foreign_model_files(header, match, tmp_path):
    save_file({'x': torch.zeros(3)}, tmp_path/'x.safetensors', metadata=None if header is None else {'colourise': header})
    with pytest.raises(ModelError, match=match) as e: load_model(tmp_path/'x.safetensors')
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('name,value', [('layers.12.bias', np.array([0, np.inf, 0], 'f4')), ('layers.1.running_var', np.full(512, np.nan, 'f4'))])
def test_weights_that_are_no_numbers(name, value, saved, tmp_path):
    state,header = read_model(saved)
    path = write_model(tmp_path/'astray.safetensors', state | {name: value}, **header)
    with pytest.raises(ModelError, match='NaN or infinite'): read_model(path)

def test_a_failed_writing_leaves_the_old_model(saved, tmp_path, monkeypatch):
    path = tmp_path/'model.safetensors'
    shutil.copy(saved, path)
    before = path.read_bytes()
    def full(state, temp, metadata): temp.write_bytes(b'half'); raise OSError(28, 'No space left on device')
    monkeypatch.setattr(modelfile, 'save_file', full)
    with pytest.raises(FileError, match="model.safetensors can't be written .*No space left"): save_model(colour_unet('random'), path)
    assert path.read_bytes() == before and everything(tmp_path) == ['model.safetensors']


# --- the graph without weights -----------------------------------------------------------------------------------

def structure(graph):
    "What a graph does: its operations with the names of their inputs, its inputs and outputs, and the weights that it needs."
    sides = lambda values: [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]
    operations = [(n.op_type, [i for i in n.input if i.startswith('layers.')]) for n in graph.node]
    return operations, sides(graph.input), sides(graph.output), {w.name: tuple(w.dims) for w in graph.initializer}

@pytest.mark.parametrize('name', ['unet', 'unet-advised'])
def test_the_packages_graph_is_the_network(name, tmp_path):
    file = GRAPH.with_name(f'{name}.onnx')
    r = run('python', 'tools/export_graph.py', name, tmp_path/'unet.onnx', cwd=REPO, PYTHONPATH=str(REPO))
    assert r.returncode == 0, r.stderr
    ours,new = (onnx.load(p, load_external_data=False).graph for p in (file, tmp_path/'unet.onnx'))
    assert structure(ours) == structure(new), 'The network has changed: type  make export'
    assert file.stat().st_size < 100_000
    assert all(w.data_location == onnx.TensorProto.EXTERNAL and not w.raw_data for w in ours.initializer)
    with torch.device('meta'): folded = fold_norms(colour_unet('random', advised=name != 'unet').eval()).state_dict()
    assert structure(ours)[3] == {k: tuple(v.shape) for k,v in folded.items() if not k.endswith('num_batches_tracked')}

def test_the_advisers_graph_is_the_teacher_and_paints_what_pytorch_paints(tmp_path):
    r = run('python', 'tools/export_graph.py', 'adviser', tmp_path/'adviser.onnx', cwd=REPO, PYTHONPATH=str(REPO))
    assert r.returncode == 0, r.stderr
    file = GRAPH.with_name('adviser.onnx')
    ours,new = (onnx.load(p, load_external_data=False).graph for p in (file, tmp_path/'adviser.onnx'))
    assert structure(ours) == structure(new), 'The teacher has changed: type  make export'
    grey = np.random.default_rng(0).integers(0, 256, (96, 160), dtype=np.uint8) # a shape that isn't changed
    x,teacher = torch.from_numpy(grey[None, None]/np.float32(255)),adviser()
    with torch.no_grad(): theirs = annealed_mean(teacher.choose(x.expand(-1, 3, -1, -1)), teacher.log_share)[0].permute(1, 2, 0).numpy()
    assert np.abs(Adviser().guess(Image.fromarray(grey)) - theirs*teacher.gain).max() < 1e-4 and theirs.shape == (12, 20, 3)

def test_an_advised_network_starts_from_the_advice_and_keeps_it_in_its_file(tmp_path):
    model,square = colour_unet('random', seed=0, advised=True).eval(),Image.fromarray(np.random.default_rng(0).integers(0, 256, (192, 192), dtype=np.uint8))
    x = torch.from_numpy(np.array(square))[None, None]/255
    with torch.no_grad(): start,advice = model(x),F.interpolate(adviser()(x), (192, 192), mode='bilinear')
    assert torch.equal(start, within_gamut(x, advice)) and not any(k.startswith('adviser') for k in model.state_dict())
    model.layers[-1].weight.data += .0003*torch.randn(model.layers[-1].weight.shape, generator=torch.Generator().manual_seed(0))
    again,header = load_model(path := save_model(model, tmp_path/'advised.safetensors', render_size=192))
    with torch.no_grad(): theirs = again(x)
    assert header['advised'] and torch.equal(theirs, model(x).detach()) and not torch.equal(theirs, start)
    ours = Colouriser.from_pretrained(path)
    assert ours.adviser and np.abs(ours.render(square, flip=False) - chroma(theirs)[0].permute(1, 2, 0).numpy()).mean() < .003
    small = F.interpolate(x, (64, 64), mode='area')
    with torch.no_grad(): assert (again(small, x) - again(small)).abs().max() > .01 # the adviser looks at the larger one

def test_the_graph_paints_what_pytorch_paints():
    model = load_model(GRAPH.with_name('model.safetensors'))[0]
    model.adviser = None # in ONNX Runtime it is asked beforehand, and its colours come as three channels
    folded = fold_norms(model)
    state = {k: v.numpy() for k,v in folded.state_dict().items() if not k.endswith('num_batches_tracked')}
    def session(state):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_external_initializers([*state], [ort.OrtValue.ortvalue_from_numpy(v) for v in state.values()])
        return ort.InferenceSession(GRAPH.with_name('unet-advised.onnx'), options, providers=['CPUExecutionProvider'])
    whole = session(state)
    for h,w in ((32, 32), (96, 64), (32, 160)):
        x = torch.rand(1, 3, h, w)
        with torch.no_grad(): wanted = folded(x).numpy()
        assert np.abs(whole.run(None, dict(painted=x.numpy()))[0] - wanted).max() < 1e-5
    for name in ('layers.12.bias', 'layers.0.0.weight'): # and never takes bytes of the model beside it for a weight that is lost
        with pytest.raises(Exception, match=name): session({k: v for k,v in state.items() if k != name})


# --- the loss's terms --------------------------------------------------------------------------------------------

def test_terms_follow_from_the_recipe():
    recipe = load_recipe('article')
    names = lambda *changes: [(t.name, t.weight) for t in loss_terms(**vars(recipe.override(*changes).loss))]
    assert names() == [('pixel', 1), ('feature', 1), ('gram', 5000)] # without any weights of VGG-16 at hand
    assert names('feature_weights=0,0,0') == [('pixel', 1)]
    assert names('feature_weights=0,0,0', 'class_rebalancing=1', 'colourfulness_weight=.5') == [('rarity', 1), ('colourfulness', .5)]

def test_rebalancing_mixes_the_pixel_loss():
    pred,target = torch.rand(2, 2, 3, 16, 16).unbind()
    parts = {}
    for share in (0, .25, 1):
        loss = FeatureLoss('random', feature_weights=(0, 0, 0), class_rebalancing=share)
        parts[share] = loss(pred, target), loss.parts
    assert set(parts[.25][1]) == {'pixel', 'rarity'} and set(parts[1][1]) == {'rarity'}
    assert torch.isclose(parts[.25][0], .75*parts[0][0] + .25*parts[1][0])
