"""Photographs as they come and as they go: 8 and 16 bits, every mode, upright, in sRGB; and chroma that is enlarged onto them."""
import io, os, struct, subprocess, sys, threading, warnings, zlib
import numpy as np, pytest, tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps
from colourise import colour, photo
from colourise.photo import PhotoError, Photograph

def smooth(shape=(60, 80), seed=0):
    "A smooth picture in colour, uint16, away from black and white."
    small = np.random.default_rng(seed).integers(60, 190, (4, 5, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC), np.uint16)
    return big*257 + np.random.default_rng(1).integers(0, 200, big.shape, dtype=np.uint16)

def noise(channels, shape=(21, 33)):
    a = np.random.default_rng(channels).integers(0, 65536, (*shape, channels)).astype(np.uint16)
    return a[..., 0] if channels == 1 else a

def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

def png16(a, interlaced=False):
    "`a` (h, w[, 2, 3, 4]), uint16, as a PNG file, by hand."
    h,w = a.shape[:2]; n = a.size//(h*w)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)] if interlaced else [(0, 0, 1, 1)]
    parts = [a.reshape(h, w, n)[y::dy, x::dx] for y,x,dy,dx in passes]
    rows = b''.join(b'\0' + r.astype('>u2').tobytes() for p in parts if p.size for r in p)
    head = struct.pack('>IIBBBBB', w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[n], 0, 0, int(interlaced))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')

def tiff16(a, **how):
    f = io.BytesIO()
    tifffile.imwrite(f, a, metadata=None, **how)
    return f.getvalue()

def the_pixels(p, channels):
    "Those of a `Photograph`, with as many channels as were written."
    parts = [p.grey if channels < 3 else p.rgb] + [p.alpha]*(channels in (2, 4))
    return np.dstack(parts).squeeze()


# --- 16 bits ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('interlaced', (False, True))
@pytest.mark.parametrize('channels', (1, 2, 3, 4))
def test_png_keeps_16_bits(channels, interlaced):
    a = noise(channels); p = photo.read(png16(a, interlaced))
    assert p.bits == 16 and p.notes == [] and np.array_equal(the_pixels(p, channels), a)
    if channels > 2: assert np.abs(p.grey - a[..., :3].astype(float) @ np.array(colour.LUMA)).max() <= .51

TIFFS = dict(grey=(1, {}), colours=(3, dict(photometric='rgb')), alpha=(4, dict(photometric='rgb', extrasamples=['unassalpha'])))

@pytest.mark.parametrize('packed', (None, 'zlib'))
@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('kind', TIFFS)
def test_tiff_keeps_16_bits(kind, order, packed):
    channels,how = TIFFS[kind]
    a = noise(channels, (64, 96))
    p = photo.read(tiff16(a, byteorder=order, compression=packed, predictor=2 if packed else None, **how))
    assert p.bits == 16 and p.notes == [] and np.array_equal(the_pixels(p, channels), a)

def test_tiff_in_tiles_and_planes():
    a = noise(3, (64, 96))
    assert np.array_equal(photo.read(tiff16(a, photometric='rgb', tile=(32, 32))).rgb, a)
    planes = np.ascontiguousarray(np.moveaxis(a, -1, 0))
    assert np.array_equal(photo.read(tiff16(planes, photometric='rgb', planarconfig='separate')).rgb, a)
    p = photo.read(tiff16(planes, photometric='rgb', planarconfig='separate', compression='zlib'))
    assert p.bits == 8 and np.array_equal(p.rgb, a >> 8) and 'only 8 are read' in p.notes[0]

def test_white_may_be_zero():
    a = noise(1, (64, 96))
    assert np.array_equal(photo.read(tiff16(a, photometric='miniswhite')).grey, 65535 - a)

def test_sixteen_bits_can_be_seen_with_8():
    a = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.abs(np.asarray(photo.read(a).grey8) - a/257).max() < .503 # rounded

@pytest.mark.parametrize('fmt', ('png', 'tiff'))
@pytest.mark.parametrize('channels', (1, 2, 3, 4))
def test_what_is_written_with_16_bits_is_read_again(channels, fmt):
    a = noise(channels); p = photo.read(png16(a))
    p.exif[ExifTags.Base.Artist] = 'Ansel'
    p.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = '1931:05:01 12:00:00'
    p.dpi,f = (600, 600),io.BytesIO()
    photo.write(p, f, fmt, mark='a model')
    q = photo.read(f.getvalue())
    assert q.bits == 16 and np.array_equal(the_pixels(q, channels), a) and q.dpi == pytest.approx((600, 600), abs=.1)
    assert q.exif[ExifTags.Base.Artist] == 'Ansel' and 'a model' in q.exif[ExifTags.Base.Software]
    assert q.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == '1931:05:01 12:00:00'
    with Image.open(f) as img: # what others read
        eight = np.asarray(img.convert('RGBA' if channels in (2, 4) else 'RGB')) if img.mode[0] != 'I' else np.asarray(img) >> 8
        assert np.abs(eight[..., 0].astype(int) - (a.reshape(21, 33, -1)[..., 0] >> 8)).max() <= 1 if channels > 1 else np.array_equal(eight, a >> 8)
        assert (img.info.get('icc_profile') is not None) == (channels > 2)
    if fmt == 'tiff' and channels != 2: assert np.array_equal(tifffile.imread(io.BytesIO(f.getvalue())), a) # grey and alpha become RGBA

@pytest.mark.parametrize('fmt', ('png', 'tiff'))
def test_a_coloured_16_bit_scan_keeps_its_luma(fmt, tmp_path):
    "To within 1/65535 on average (issue 13)."
    scan = photo.read(png16(smooth()[..., 1]))
    chroma = colour.chroma(np.random.default_rng(0).random((12, 16, 3))).astype(np.float32)*.6
    photo.write(scan.with_colours(colour.enlarge(scan.grey, chroma)), tmp_path/f'scan.{fmt}')
    back = photo.read(tmp_path/f'scan.{fmt}')
    assert back.bits == 16 and np.ptp(back.rgb.astype(int), axis=-1).mean() > 5000 # in colour
    luma = colour.luma(back.rgb.astype(float))[..., 0]
    assert np.abs(luma - scan.grey).mean() < 1 and np.abs(luma - scan.grey).max() < 1

@pytest.mark.parametrize('turn', range(1, 9))
def test_sixteen_bits_are_turned_as_8_are(turn):
    a,exif = smooth(),Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    f = io.BytesIO(); Image.fromarray((a >> 8).astype(np.uint8)).save(f, 'PNG', exif=exif)
    data = png16(a)
    data = data[:33] + chunk(b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0')) + data[33:] # behind the header
    deep,eight = photo.read(data),photo.read(f.getvalue())
    assert deep.bits == 16 and np.array_equal(deep.rgb >> 8, eight.rgb) and deep.size == eight.size
    f.seek(0)
    assert np.array_equal(eight.rgb, np.asarray(ImageOps.exif_transpose(Image.open(f))))


# --- colour profiles ----------------------------------------------------------------------------------------------

def swapped():
    "A colour profile in which red and blue change places."
    b = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for old,new in ((b'rXYZ', b'xxxx'), (b'bXYZ', b'rXYZ'), (b'xxxx', b'bXYZ'), ('sRGB'.encode('utf-16be'), 'swap'.encode('utf-16be'))): b = b.replace(old, new)
    return b

def test_profiles_are_applied_to_8_and_16_bits():
    a = smooth()
    deep = tiff16(a, photometric='rgb', iccprofile=swapped())
    f = io.BytesIO(); Image.fromarray((a >> 8).astype(np.uint8)).save(f, 'PNG', icc_profile=swapped())
    for p in (photo.read(deep), photo.read(f.getvalue())):
        off = np.abs(p.rgb.astype(float)/(257 if p.bits == 16 else 1) - a[..., ::-1]/257)
        assert off.mean() < 1 and off.max() < 3
    assert photo.read(deep).bits == 16 and photo.read(deep).notes == ['its colour profile was applied with 8 bits']
    assert len(np.unique(photo.read(deep).rgb[..., 1] & 255)) > 200 # what lies between the levels of 8 bits is there
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    p = photo.read(tiff16(a, photometric='rgb', iccprofile=srgb))
    assert np.array_equal(p.rgb, a) and p.notes == []

def test_a_profile_that_does_not_fit_is_noted():
    grey = smooth()[..., 0]
    p = photo.read(tiff16(grey, iccprofile=b'?'*200))
    assert np.array_equal(p.grey, grey) and 'profile is damaged' in p.notes[0]
    scan = photo.read(tiff16(grey, iccprofile=swapped())) # of a scanner's colours, on a grey scan
    assert scan.rgb is None and np.abs(scan.grey.astype(int) - grey).max() < 2*257


# --- every mode ---------------------------------------------------------------------------------------------------

def picture(seed): return Image.fromarray((smooth(seed=seed) >> 8).astype(np.uint8))

def every_mode():
    rgb = picture(3)
    turned = Image.Exif(); turned[0x0112] = 6
    yield 'grey', rgb.convert('L'), {}
    yield 'grey16', Image.fromarray(np.asarray(rgb.convert('L')).astype(np.uint16)*257), {}
    yield 'palette', rgb.convert('P'), {}
    yield 'two', rgb.convert('1'), {}
    yield 'alpha', rgb.convert('RGBA'), {}
    yield 'cmyk.tif', rgb.convert('CMYK'), {}
    yield 'float.tif', Image.fromarray(np.asarray(rgb.convert('L')).astype(np.float32)/255), {}
    yield 'turned.jpg', rgb, dict(exif=turned, quality=100, subsampling=0)

MODES = list(every_mode())

@pytest.mark.parametrize('name,img,kwargs', MODES, ids=[m[0] for m in MODES])
def test_every_mode_becomes_upright_rgb(tmp_path, name, img, kwargs):
    path = tmp_path/(name if '.' in name else name + '.png')
    img.save(path, **kwargs)
    got = photo.read(path).rgb8
    want = picture(3) if name in ('alpha', 'turned.jpg', 'cmyk.tif', 'palette') else picture(3).convert('1' if name == 'two' else 'L').convert('RGB')
    if name == 'turned.jpg': want = want.transpose(Image.Transpose.ROTATE_270)
    assert got.mode == 'RGB' and got.size == want.size
    off = np.abs(np.asarray(got, float) - np.asarray(want, float)).mean()
    assert off < (25 if name == 'palette' else 4), f'{off=}'

def test_transparency_lies_over_white_for_training():
    img = Image.new('RGBA', (4, 2), (255, 0, 0, 255)); img.paste((0, 0, 0, 0), (0, 0, 2, 2))
    p = photo.read(img)
    assert p.see_through and np.asarray(p.rgb8)[0].tolist() == [[255]*3]*2 + [[255, 0, 0]]*2
    assert p.image.mode == 'RGBA' and photo.read(p.image).see_through

def test_luma_alone_is_that_of_the_picture():
    f = io.BytesIO(); picture(1).save(f, 'JPEG', quality=95)
    whole,luma = photo.read(f.getvalue()),photo.read(f.getvalue(), colours=False)
    assert luma.rgb is None and whole.rgb is not None
    assert np.abs(whole.grey.astype(int) - luma.grey).max() <= 1
    f = io.BytesIO(); picture(1).save(f, 'JPEG', quality=95, icc_profile=swapped()) # here it depends on the colours
    whole,luma = photo.read(f.getvalue()),photo.read(f.getvalue(), colours=False)
    assert luma.rgb is None and np.array_equal(whole.grey, luma.grey)

def test_a_large_jpeg_is_decoded_smaller_where_that_is_enough():
    big = picture(1).resize((1000, 600)); turned = Image.Exif(); turned[0x0112] = 6
    f = io.BytesIO(); big.save(f, 'JPEG', quality=95, exif=turned)
    sizes = {s: photo.read(f.getvalue(), short=s).size for s in (300, 100, 50, 20)}
    assert sizes == {300: (600, 1000), 100: (300, 500), 50: (150, 250), 20: (75, 125)}
    p = photo.read(f.getvalue(), short=20)
    assert p.full_size == (600, 1000) and photo.read(f.getvalue()).full_size == (600, 1000)
    off = photo.shrink(p.rgb8, 20).astype(int) - photo.shrink(photo.read(f.getvalue()).rgb8, 20)
    assert np.abs(off).mean() < 1


# --- files and folders --------------------------------------------------------------------------------------------

def test_find_survives_link_loops(tmp_path):
    for n in ('a/1.PNG', 'a/b/2.jpeg', '.hidden/3.png', 'a/._4.png'):
        (tmp_path/n).parent.mkdir(parents=True, exist_ok=True); picture(0).save(tmp_path/n)
    (tmp_path/'a'/'b'/'up').symlink_to(tmp_path); (tmp_path/'self').symlink_to(tmp_path/'self')
    (tmp_path/'again').symlink_to(tmp_path/'a')
    assert sorted(p.name for p in photo.find(tmp_path)) == ['1.PNG', '2.jpeg']

def test_a_link_is_followed_and_an_old_file_survives_a_failure(tmp_path, monkeypatch):
    (tmp_path/'real').mkdir(); (tmp_path/'real'/'a.jpg').write_bytes(b'old')
    (tmp_path/'link.jpg').symlink_to(tmp_path/'real'/'a.jpg')
    monkeypatch.setattr(Image.Image, 'save', lambda *args, **how: 1/0)
    with pytest.raises(PhotoError, match="can't be written"): photo.write(picture(0), tmp_path/'link.jpg')
    assert (tmp_path/'real'/'a.jpg').read_bytes() == b'old'
    monkeypatch.undo()
    photo.write(picture(0), tmp_path/'link.jpg')
    assert (tmp_path/'link.jpg').is_symlink() and photo.read(tmp_path/'real'/'a.jpg').format == 'JPEG'
    assert [p.name for p in (tmp_path/'real').iterdir()] == ['a.jpg']

@pytest.mark.parametrize('make', (lambda p: p.mkdir(), lambda p: os.mkfifo(p)), ids=('folder', 'pipe'))
def test_a_folder_or_a_pipe_is_no_place_for_a_photograph(tmp_path, make):
    make(tmp_path/'x.jpg')
    with pytest.raises(PhotoError, match='folder, pipe or device'): photo.write(picture(0), tmp_path/'x.jpg')
    with pytest.raises(PhotoError, match='a folder, a pipe or a device'): photo.read(tmp_path/'x.jpg')

def test_out_of_memory_is_said(monkeypatch):
    def full(*args, **how): raise MemoryError
    monkeypatch.setattr(Image.Image, 'convert', full)
    with pytest.raises(PhotoError, match='out of memory.*shrink it first'): photo.read(picture(0))

def test_warnings_are_quiet_in_threads_and_come_back():
    "Pillow warns of a picture with many pixels; filters belong to the whole process."
    size = 12000 # above Pillow's 89 megapixels, at which it warns
    row = zlib.compress(bytes(size*(size//8 + 1)), 9)
    data = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', size, size, 1, 0, 0, 0, 0)) + chunk(b'IDAT', row) + chunk(b'IEND', b'')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        before = list(warnings.filters)
        threads = [threading.Thread(target=photo.read, args=(data if i == 1 else b'GIF8',)) for i in range(1, 2)]
        for t in threads: t.start()
        photo.read(data)
        for t in threads: t.join()
        assert said == [] and list(warnings.filters) == before
        warnings.warn('this is heard')
        assert len(said) == 1

def test_the_ground_floor_needs_no_pytorch():
    code = "import sys, colourise.photo, colourise.colour; print([m for m in ('torch', 'fastai', 'scipy', 'skimage', 'matplotlib', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


# --- colours ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('dtype', (np.uint8, np.uint16))
@pytest.mark.parametrize('size,small', [((401, 300), (17, 12)), ((5000, 3), (160, 1)), ((3, 3000), (1, 90)), ((9, 7), (32, 32)), ((1, 1), (32, 32)), ((640, 480), (320, 240))])
def test_enlarging_is_pillows_bicubic_within_gamut(size, small, dtype):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    grey = rng.integers(0, top+1, size[::-1]).astype(dtype)
    chroma = colour.chroma(rng.random((*small[::-1], 3))).astype(np.float32)
    planes = [Image.fromarray(np.ascontiguousarray(chroma[..., i])).resize(size, Image.Resampling.BICUBIC) for i in range(3)]
    expected = colour.within_gamut(grey[..., None]/top, np.stack(planes, -1).astype(float)*1.5)*top
    got = colour.enlarge(grey, chroma, 1.5)
    assert got.dtype == dtype and np.abs(got - expected).max() < (.51 if dtype == np.uint8 else 1)

def test_a_portrait_hard_in_contrast_does_not_turn_neon():
    "Bright walls, a dark coat, and a network that answers with more yellow-green than any photograph has (issue 13)."
    h,w = 96,64
    grey = np.full((h, w), .97); grey[:, 8:] = .8; grey[20:, 16:48] = .55; grey[50:, 10:54] = .03 # window, walls, face, coat
    grey += np.random.default_rng(0).normal(0, .01, grey.shape)
    predicted = np.where((grey > .7)[..., None], [-.1, .13, -.4], 0) # on the walls
    predicted = (predicted - (predicted @ np.array(colour.LUMA))[..., None]).astype(np.float32)*3
    large = np.asarray(Image.fromarray((grey*255).clip(0, 255).astype(np.uint8)).resize((8*w, 8*h), Image.Resampling.BICUBIC))
    shares = [(colour.lab_chroma(colour.enlarge(large, c)/255) > colour.MAX_CHROMA + 1).mean()
              for c in (predicted, colour.bound_chroma(grey[..., None], predicted))]
    assert shares[0] > .3 and shares[1] < .03, shares # what is left lies where the walls' colour runs over an edge

def test_a_bound_of_ones_own(): # a model's header names it
    grey,rgb = np.full((4, 4, 1), .5),np.random.default_rng(0).random((4, 4, 3))
    c = colour.bound_chroma(grey, colour.chroma(rgb), most=20)
    assert (colour.lab_chroma(grey + c) < 20.1).all() and (colour.lab_chroma(grey + colour.chroma(rgb)) > 20.1).any()

def test_an_image_of_enlarged_colours_is_not_copied():
    p = photo.read(picture(1)); q = p.with_colours(colour.enlarge(p.grey, colour.chroma(np.asarray(picture(2), np.float32)/255)))
    assert np.array_equal(np.asarray(q.image), q.rgb) and p.rgb is not q.rgb
    files = [io.BytesIO(), io.BytesIO()]
    photo.write(q, files[0]); photo.write(Photograph(q.grey, np.ascontiguousarray(q.rgb)), files[1])
    assert files[0].getvalue() == files[1].getvalue()
