"Weights of the backbone and of the loss network: caches, local files, downloads, and everything that can be wrong with them."
import functools, hashlib, http.server, io, os, pickle, shutil, socket, threading
from types import SimpleNamespace

import pytest, torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from colourise import unet
from colourise.loss import FeatureLoss, VGGFeatures
from colourise.recipe import ColouriseError, load_recipe
from colourise.unet import UnetError, colour_unet, fetch_weights, imagenet_at_hand, load_model, save_model

torch.set_num_threads(1)
NOWHERE = 'http://127.0.0.1:9/' # nobody listens there


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
    with torch.device('meta'): shapes = models.vgg16_bn(weights=None).state_dict()
    thin = {k: torch.zeros(()).expand(v.shape) for k,v in shapes.items() if k.startswith('classifier.')}
    features = models.vgg.make_layers(models.vgg.cfgs['D'], batch_norm=True).state_dict()
    return dict(resnet34=models.resnet34(weights=None).state_dict(),
                vgg16_bn={f'features.{k}': v for k,v in features.items()} | thin)

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
        for name,(file,_) in published.items():
            make,_,ours,key = unet._networks[name]
            monkeypatch.setitem(unet._networks, name, (make, SimpleNamespace(url=base + file), ours, key))
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

def assert_same_vgg(observer, state):
    "Does `observer`, whose convolutions have taken over the work of their batch norms, see what torchvision's network with `state` sees?"
    net = models.vgg16_bn(weights=None).eval()
    net.load_state_dict(state, strict=False)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad(): ours,theirs = observer(x), [net.features[:n]((x - observer.mean)/observer.std) for n in (23, 33, 43)]
    for a,b in zip(ours, theirs): assert (a - b).abs().max() < 1e-4*b.abs().max().clamp(min=1e-6)


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
    assert all(k.startswith('features.') for k in fetch_weights('vgg16_bn'))

@pytest.mark.parametrize('place', ['course/models', 'hub/checkpoints'])
@pytest.mark.parametrize('harm', ['cut', 'bit', 'empty'])
def test_a_damaged_cache_is_named_and_not_used(place, harm, published, publish, tmp_path):
    publish(NOWHERE)
    file,content = published['resnet34']
    bad = dict(cut=content[:len(content)//2], bit=content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], empty=b'')[harm]
    plant(tmp_path/place, file, bad)
    with pytest.raises(UnetError, match=f'{file} is damaged or another file.*delete it') as e: colour_unet('imagenet')
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
    with pytest.raises(UnetError, match='thrown away') as e: colour_unet('imagenet')
    assert file in str(e.value) and '\n' not in str(e.value)
    assert everything(course) == []

def test_a_server_without_the_file(publish, server, course):
    publish(server.url)
    with pytest.raises(UnetError, match='404'): fetch_weights('vgg16_bn')
    assert everything(course) == []

@pytest.mark.parametrize('make,key', [(lambda: colour_unet('imagenet'), 'backbone'), (lambda: FeatureLoss('imagenet'), 'vgg'),
                                      (lambda: FeatureLoss.from_recipe(load_recipe('article')), 'vgg')])
def test_no_network_says_the_way_out_and_starts_nothing_random(make, key, published, publish, course):
    publish(NOWHERE)
    with pytest.raises(ColouriseError) as e: make()
    said = str(e.value)
    name = dict(backbone='resnet34', vgg='vgg16_bn')[key]
    for part in (NOWHERE + published[name][0], str(course/'models'/published[name][0]), f'`{key} = FILE`', f'`{key} = random`'):
        assert part in said
    assert '\n' not in said and everything(course) == []

def test_random_asks_nobody(monkeypatch):
    def no(*args): raise AssertionError('the network was asked')
    monkeypatch.setattr(socket.socket, 'connect', no)
    monkeypatch.setattr(socket, 'getaddrinfo', no)
    assert colour_unet('random').origin == 'random'
    assert FeatureLoss('random').origin == 'random'
    recipe = load_recipe('sample')
    assert (recipe.backbone, recipe.vgg) == ('random', 'random')     # so `make course` downloads nothing


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
    vgg = VGGFeatures(str(tmp_path/f'vgg16_bn{suffix}'))
    assert_same_vgg(vgg, states['vgg16_bn'])

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
        with pytest.raises(UnetError, match=f'{p.name} is not a readable file of weights') as e: colour_unet(p)
        assert '\n' not in str(e.value)
    assert not (tmp_path/'sprung').exists()                          # nothing was unpickled into objects
    torch.save([1, 2], tmp_path/'list.pth')
    with pytest.raises(UnetError, match='does not hold tensors by name'): colour_unet(tmp_path/'list.pth')

def test_weights_of_another_network(states, tmp_path):
    torch.save(states['vgg16_bn'], tmp_path/'vgg.pth')
    torch.save({f'module.{k}': v for k,v in states['resnet34'].items()}, tmp_path/'prefixed.pth')
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path/'small.pth')
    torch.save({}, tmp_path/'nothing.pth')
    for p in sorted(tmp_path.glob('*.pth')):
        with pytest.raises(UnetError, match=f'{p.name} does not hold the weights of resnet34') as e: colour_unet(p)
        assert '\n' not in str(e.value)
    with pytest.raises(UnetError, match='does not hold the weights of vgg16_bn'): FeatureLoss(tmp_path/'small.pth')

def test_a_file_that_is_not_there():
    for make,key in ((colour_unet, 'backbone'), (FeatureLoss, 'vgg')):
        with pytest.raises(UnetError, match=f"There is no file 'gone.pth' \\({key}\\)"): make('gone.pth')


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

def test_broken_model_files(saved, tmp_path, states):
    content = saved.read_bytes()
    for n in (0, 5, 1000, len(content)//2, len(content) - 1): plant(tmp_path, f'cut{n}.safetensors', content[:n])
    plant(tmp_path, 'photo.safetensors', b'\xff\xd8\xff\xe0' + os.urandom(2000))
    plant(tmp_path, 'pth.safetensors', bytes_of({'a': torch.zeros(3)}))
    for p in sorted(tmp_path.glob('*.safetensors')):
        with pytest.raises(UnetError, match=f'{p.name} cannot be read') as e: load_model(p)
        assert '\n' not in str(e.value)

@pytest.mark.parametrize('header,match', [(None, 'not a model of this package'), ('{}', 'not a model of this package'), ('{"format": 2}', 'format 2'),
    ('{"format": 1, "arch": {"name": "other"}}', 'does not know'), ('{"format": 1, "arch": null}', 'does not know'), ('{', 'cannot be read'),
    ('[1]', 'cannot be read'), ('{"format": 1, "arch": {"name": "colour_unet", "args": {"norm": "batch"}}}', 'does not hold the weights'),
    ('{"format": 1, "arch": {"name": "colour_unet", "args": {"wings": 2}}}', 'does not know')])
def test_foreign_model_files(header, match, tmp_path):
    save_file({'x': torch.zeros(3)}, tmp_path/'x.safetensors', metadata=None if header is None else {'colourise': header})
    with pytest.raises(UnetError, match=match): load_model(tmp_path/'x.safetensors')

def test_a_failed_writing_leaves_the_old_model(saved, tmp_path, monkeypatch):
    path = tmp_path/'model.safetensors'
    shutil.copy(saved, path)
    before = path.read_bytes()
    def full(state, temp, metadata): temp.write_bytes(b'half'); raise OSError('No space left on device')
    monkeypatch.setattr(unet, 'save_file', full)
    with pytest.raises(OSError): save_model(colour_unet('random'), path)
    assert path.read_bytes() == before and everything(tmp_path) == ['model.safetensors']
