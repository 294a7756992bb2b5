"""Damaged photographs and model files, thousands of them: nothing comes out but a photograph, a model, or one of our own sentences.

2,000 cases, or as many as the environment variable COLOURISE_FUZZ says. The same cases each time, so a failure can be looked into."""
import io, json, os, warnings
import numpy as np, onnx, pillow_heif, pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import ExifTags, Image, ImageCms
from safetensors.torch import save
from colourise import infer
from colourise.files import ColouriseError
from colourise.infer import Colouriser
from colourise.modelfile import read_header, write_model
from colourise.photo import output_format, read, write

CASES = int(os.environ.get('COLOURISE_FUZZ', 2000))

def cases(share):
    "Run a test with this share of all cases."
    return settings(max_examples=round(share*CASES), deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False)

def seeds():
    "Small photographs as files of every kind."
    pillow_heif.register_heif_opener()
    rgb = Image.radial_gradient('L').resize((16, 16)).convert('RGB')
    rgb.putpixel((3, 3), (200, 10, 10))
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: 6, ExifTags.Base.Make: 'Leica', ExifTags.Base.Software: 'Scanner'})
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = '1931:05:01 12:00:00'
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes().replace('sRGB'.encode('utf-16be'), 'mine'.encode('utf-16be'))
    rich,l,p = dict(exif=exif, icc_profile=icc),rgb.convert('L'),rgb.quantize(8)
    frames = lambda: dict(save_all=True, append_images=[rgb.rotate(90)]) # each anew, because Pillow notes on a picture how it was saved
    rgba,deep = rgb.convert('RGBA'),l.convert('I').point(lambda v: v*257).convert('I;16')
    rgba.putalpha(l)
    for img,fmt,how in [(rgb, 'JPEG', rich), (l, 'JPEG', {}), (rgb.convert('CMYK'), 'JPEG', {}), (rgb, 'JPEG', dict(progressive=True)), (rgb, 'MPO', frames()),
                        (rgb, 'PNG', rich), (p, 'PNG', dict(transparency=2)), (deep, 'PNG', {}), (rgba, 'PNG', frames()), (l.convert('1'), 'PNG', {}),
                        (rgb, 'WEBP', rich), (rgba, 'WEBP', dict(lossless=True)), (rgb, 'WEBP', frames()), (p, 'GIF', dict(transparency=1) | frames()),
                        (rgb, 'TIFF', rich), (rgb, 'TIFF', dict(compression='tiff_lzw')), (deep, 'TIFF', {}), (l.convert('F'), 'TIFF', {}), (rgb.convert('LAB'), 'TIFF', {}),
                        (rgb, 'TIFF', dict(compression='jpeg')), (l.convert('1'), 'TIFF', dict(compression='group4')), (rgb, 'TIFF', frames()),
                        (rgb, 'BMP', {}), (p, 'BMP', {}), (rgb, 'PPM', {}), (rgb, 'JPEG2000', {}), (rgb, 'HEIF', {}), (rgb, 'AVIF', {})]:
        f = io.BytesIO()
        img.copy().save(f, fmt, **how)
        yield f.getvalue()

SEEDS = list(seeds())
STEPS = st.lists(st.tuples(st.sampled_from('bit bit byte byte big cut drop twice splice'.split()), st.integers(0, 1 << 14), st.integers(0, 255)), min_size=1, max_size=4)

def harmed(data, steps, others=SEEDS):
    "`data` with bits and bytes changed, numbers made huge, pieces lost, repeated, or taken from another file."
    data = bytearray(data)
    for kind,at,n in steps:
        at %= max(1, len(data))
        if kind == 'bit': data[at:at+1] = bytes(b ^ 1 << n % 8 for b in data[at:at+1])
        elif kind == 'byte': data[at:at+1] = bytes([n])
        elif kind == 'big': data[at:at+4] = b'\x7f\xff\xff\xff' if n % 2 else b'\xff\xff\xff\xff'
        elif kind == 'cut': del data[at:]
        elif kind == 'drop': del data[at:at+n]
        elif kind == 'twice': data[at:at] = data[at:at+n]
        else: data[at:] = others[n % len(others)][at:]
    return bytes(data)

@pytest.fixture(autouse=True)
def every_warning_is_a_failure():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield

@cases(.7)
@given(st.sampled_from(SEEDS), STEPS)
def test_damaged_photographs(data, steps):
    try:
        photo = read(harmed(data, steps), colours=len(data) % 2 == 0) # as training reads, and as colouring does
        assert photo.grey.ndim == 2 and photo.grey.dtype in (np.uint8, np.uint16) and 0 not in photo.size
        assert all(p is None or p.shape[:2] == photo.grey.shape for p in (photo.rgb, photo.alpha))
        small = photo.with_colours(np.zeros((8, 8, 3), photo.grey.dtype)) # what is saved with it is what matters here
        small.grey,small.alpha = small.rgb[..., 0],None if photo.alpha is None else small.rgb[..., 0]
        write(small, io.BytesIO(), output_format(small), mark='model')
    except ColouriseError as e: assert str(e).isprintable() and len(str(e)) < 400

def test_whole_photographs_are_read(): assert all(16 in read(s).size for s in SEEDS)


# --- model files --------------------------------------------------------------------------------------------------

def tiny_graph():
    "A network that fits into a few hundred bytes, in place of the U-Net, whose file is 165 MB; like that one, it comes without its weights."
    h = onnx.helper
    weights = [h.make_tensor(n, onnx.TensorProto.FLOAT, shape, np.zeros(shape, np.float32).tobytes(), raw=True) for n,shape in (('weight', (3, 1, 1, 1)), ('bias', (3,)))]
    for w in weights:
        w.ClearField('raw_data')
        w.data_location = onnx.TensorProto.EXTERNAL
        for k,v in (('location', 'given by name'), ('offset', '0'), ('length', '12')): w.external_data.add(key=k, value=v)
    values = [h.make_tensor_value_info(n, t, shape) for n,t,shape in (('grey', 1, (1, 1, 'h', 'w')), ('rgb', 1, (1, 3, 'h', 'w')))]
    graph = h.make_graph([h.make_node('Conv', ['grey', 'weight', 'bias'], ['rgb'])], 'tiny', values[:1], values[1:], weights)
    return h.make_model(graph, opset_imports=[h.make_opsetid('', 18)], ir_version=8).SerializeToString()

@pytest.fixture
def tiny(monkeypatch, tmp_path):
    package = tmp_path/'package'
    package.mkdir()
    (package/'unet.onnx').write_bytes(tiny_graph())
    monkeypatch.setattr(infer, '_package', package)

def whole(path):
    "A model file of the tiny network."
    return write_model(path, dict(weight=np.ones((3, 1, 1, 1), np.float32), bias=np.zeros(3, np.float32)), stage='stage1', recipe=dict(preset='sample'))

def readable(path):
    "Is the file at `path` read, as a header and as a model? No other answer than yes or one of our sentences."
    for load in (read_header, lambda p: Colouriser.from_pretrained(p, 'cpu')):
        try: found = load(path)
        except ColouriseError as e:
            assert str(e).isprintable() and len(str(e)) < 400
            return False
    return found.name.isprintable() and len(found.name) < 120

@cases(.15)
@given(steps=STEPS)
def test_damaged_model_files(tiny, tmp_path_factory, steps):
    path = whole(tmp_path_factory.getbasetemp()/'damaged.safetensors')
    path.write_bytes(harmed(path.read_bytes(), steps))
    readable(path)

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(['colour_unet', 'batch', 'norm', 'ä\n\0', 'x'*999]),
                    lambda o: st.lists(o, max_size=3) | st.dictionaries(st.sampled_from(['name', 'args', 'norm', 'preset', '']), o, max_size=3), max_leaves=4)
ARCH = st.just(dict(name='colour_unet', args=dict(norm='batch'))) | st.fixed_dictionaries(dict(name=st.just('colour_unet')), optional=dict(args=JSON)) | JSON
HEADER = st.fixed_dictionaries({}, optional=dict(format=st.just(1) | JSON, arch=ARCH, backbone=JSON, stage=JSON, recipe=JSON, gain=JSON, max_chroma=JSON)) | JSON
NUMBERS = st.sampled_from([0., float('nan'), float('inf'), 1e30])
KINDS = st.sampled_from([torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
SHAPES = st.sampled_from([(3, 1, 1, 1), (3,), (), (0,), (3, 1, 1, 1, 1), (3 << 20, 0)])

@cases(.15)
@given(header=HEADER, number=NUMBERS, kind=KINDS, shape=SHAPES)
def test_strange_model_files(tiny, tmp_path_factory, header, number, kind, shape):
    state = dict(weight=torch.full(shape, number).to(kind), bias=torch.zeros(3))
    path = tmp_path_factory.getbasetemp()/'strange.safetensors'
    path.write_bytes(save(state, metadata=dict(colourise=json.dumps(header))))
    readable(path)

def test_a_whole_model_file_is_read(tiny, tmp_path): assert readable(whole(tmp_path/'whole.safetensors'))
