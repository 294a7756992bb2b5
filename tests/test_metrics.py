"""The metrics against other people's implementations of them."""
import warnings
import numpy as np, pytest, torch
from colourise import metrics
from colourise.colour import colourfulness, lab_ab

@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.random((8, 10, 3)), np.ones((9, 9, 1)))       # patches of 9×9 pixels
    return np.clip(truth + rng.normal(0, .08, truth.shape), 0, 1), truth

@pytest.fixture
def hub(tmp_path):
    "A cache of torch.hub of our own."
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    yield tmp_path
    torch.hub.set_dir(before)

def test_delta_e00_is_that_of_colour_science():
    import colour
    from skimage.color import deltaE_ciede2000
    rng = np.random.default_rng(0)
    a = rng.uniform((0, -100, -100), (100, 100, 100), (5000, 3)); b = a + rng.normal(0, 15, a.shape)
    np.testing.assert_allclose(deltaE_ciede2000(a, b), colour.delta_E(a, b, method='CIE 2000'), atol=1e-9)

def test_lpips_is_not_available_without_weights(hub, pictures):
    assert metrics.lpips_network() is None
    assert metrics.measure(*pictures)['lpips'] is None

def test_lpips_is_that_of_its_authors(hub, pictures):
    "With the same AlexNet (a random one, planted where the trained one would lie)."
    import lpips
    from torchvision.models import alexnet
    torch.manual_seed(0)
    (hub/'checkpoints').mkdir()
    torch.save(alexnet(weights=None).state_dict(), hub/'checkpoints'/'alexnet-owt-7be5be79.pth')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        theirs = lpips.LPIPS(net='alex', verbose=False)
    a, b = (torch.from_numpy(x).float().permute(2, 0, 1)[None]*2-1 for x in pictures)
    with torch.no_grad(): expected = theirs(a, b).item()
    ours = metrics.lpips(*pictures, metrics.lpips_network())
    assert ours == pytest.approx(expected, rel=1e-4) and ours > 1e-4
    assert metrics.lpips(pictures[0], pictures[0], metrics.lpips_network()) == 0
    assert metrics.measure(*pictures, metrics.lpips_network())['lpips'] == ours

def test_colourfulness_by_hand(pictures):
    "Pixel by pixel, as the paper writes it; alike for arrays and tensors."
    px = [tuple(255*c for c in p) for p in pictures[1].reshape(-1, 3)]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    for absolute in (False, True):
        rg, yb = [r-g for r, g, b in px], [(r+g)/2-b for r, g, b in px]
        if absolute: rg, yb = [abs(x) for x in rg], [abs(x) for x in yb]
        mean = lambda xs: sum(xs)/len(xs)
        var = lambda xs: mean([x*x for x in xs]) - mean(xs)**2
        by_hand = (var(rg)+var(yb))**.5 + .3*(mean(rg)**2+mean(yb)**2)**.5
        assert colourfulness(pictures[1], absolute) == pytest.approx(by_hand, rel=1e-9)
        assert colourfulness(batch, absolute).tolist() == pytest.approx([colourfulness(p, absolute) for p in pictures], rel=1e-4)

def test_lab_is_that_of_scikit_image(pictures):
    from skimage.color import rgb2lab
    a, b = lab_ab(pictures[0])
    lab = rgb2lab(pictures[0])
    np.testing.assert_allclose(a, lab[..., 1], atol=.02); np.testing.assert_allclose(b, lab[..., 2], atol=.02)

def lab_picture(hues, chromas, lightness=60):
    "One row of pixels by their hue in degrees and C*ab."
    from skimage.color import lab2rgb
    h, c = np.radians(hues), np.broadcast_to(chromas, np.shape(hues))
    return lab2rgb(np.stack([np.full(h.shape, float(lightness)), c*np.cos(h), c*np.sin(h)], -1)[None])

def test_balanced_hue_accuracy_by_hand():
    "Pixel by pixel, over several pictures, as the rule says it."
    rng = np.random.default_rng(0)
    drawn = lambda: (rng.uniform(0, 360, 300), rng.uniform(1, 30, 300))
    sets = [(drawn(), drawn()) for _ in range(3)]
    sets = [((h2 + rng.normal(0, 30, 300), c1), (h2, c2)) for (h1, c1), (h2, c2) in sets]
    right, of = dict.fromkeys(SECTORS, 0), dict.fromkeys(SECTORS, 0)
    for (ph, pc), (th, tc) in sets:
        for a, ac, b, bc in zip(ph, pc, th, tc):
            sector = next((k for k, (lo, hi) in SECTORS.items() if lo <= b < hi), None)
            if bc < 12 or not sector: continue
            of[sector] += 1
            off = abs(a - b) % 360
            right[sector] += ac >= 6 and min(off, 360 - off) <= 30
    preds, truths = [lab_picture(*p) for p, _ in sets], [lab_picture(*t) for _, t in sets]
    got = metrics.hue_accuracies(preds, truths)
    assert got == pytest.approx({k: right[k]/of[k] for k in SECTORS}, abs=.02) # a pixel at a limit may fall on either side
    assert metrics.balanced_hue_accuracy(preds, truths) == pytest.approx(np.mean(list(got.values())))

SECTORS = dict(red=(0, 60), yellow=(60, 105), green=(105, 180), blue=(180, 300))

def test_best_single_hue_is_that_of_the_best_tint():
    rng = np.random.default_rng(1)
    truths = [lab_picture(rng.normal(80, 60, 400) % 360, rng.uniform(1, 30, 400)) for _ in range(3)]
    by_trial = max(metrics.balanced_hue_accuracy([lab_picture(np.full(400, h), 15)]*3, truths) for h in range(0, 360, 4))
    assert by_trial - .01 < metrics.best_single_hue(truths) < by_trial + .03 # between two that were tried may lie a better one

def test_hue_distance_by_hand():
    a, b = lab_picture([5, 5, 15, 95], [20, 20, 20, 20]), lab_picture([5, 15, 15, 200, 300], [20, 20, 20, 20, 3]) # the last is grey
    assert metrics.hue_distance([a], [b]) == pytest.approx((abs(2/4 - 1/4) + abs(1/4 - 2/4) + 1/4 + 1/4)/2)
    assert metrics.hue_distance([b, a], [a, b]) == 0

def test_sepia_by_rule():
    ochre, various = lab_picture(np.linspace(60, 110, 10), 20), lab_picture(np.linspace(0, 330, 10), 20)
    assert metrics.is_sepia(ochre, various) and not metrics.is_sepia(ochre, ochre) and not metrics.is_sepia(various, ochre)
    mostly = lab_picture([70, 75, 80, 85, 90, 95, 100, 250, 300, 340], 20) # seven of ten
    assert not metrics.is_sepia(mostly, various)
    assert metrics.is_sepia(lab_picture(np.linspace(0, 330, 10), 2), various) # hardly any colour
    over = lab_picture([333, 343, 353, 2, 5, 8, 12, 23, 200, 250], 20) # eight of ten, across 0°
    assert metrics.is_sepia(over, various)

def test_paired_interval_is_a_bootstrap():
    rng = np.random.default_rng(0)
    a, b = rng.normal(10, 3, 60), rng.normal(11, 3, 60)
    gain, lo, hi = metrics.paired_interval(a, b)
    d = b - a
    means = d[np.random.default_rng(1).integers(0, 60, (20_000, 60))].mean(1)
    assert gain == pytest.approx(d.mean()) and (lo, hi) == pytest.approx(np.quantile(means, [.025, .975]), abs=.03)
    assert metrics.paired_interval(a, b) == (gain, lo, hi)
    narrow = metrics.paired_interval(a, b, level=.5)
    assert lo < narrow[1] < narrow[2] < hi
    assert np.isnan(metrics.paired_interval([1], [2])[1])
