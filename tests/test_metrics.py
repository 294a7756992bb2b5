"""The metrics against other people's implementations of them."""
import warnings
import numpy as np, pytest, torch
from colourise import metrics

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
    "Pixel by pixel, as the paper writes it."
    px = [tuple(255*c for c in p) for p in pictures[1].reshape(-1, 3)]
    for absolute, f in ((False, metrics.colourfulness), (True, metrics.colourfulness_absolute)):
        rg, yb = [r-g for r, g, b in px], [(r+g)/2-b for r, g, b in px]
        if absolute: rg, yb = [abs(x) for x in rg], [abs(x) for x in yb]
        mean = lambda xs: sum(xs)/len(xs)
        var = lambda xs: mean([x*x for x in xs]) - mean(xs)**2
        assert f(pictures[1]) == pytest.approx((var(rg)+var(yb))**.5 + .3*(mean(rg)**2+mean(yb)**2)**.5, rel=1e-9)
