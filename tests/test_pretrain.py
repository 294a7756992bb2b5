"""Distillation as a command: from a folder and a zip file of photographs to weights that a recipe can name."""
import shutil
import pytest
from conftest import run
from PIL import Image
from colourise.pretrain import pretrained_header
from colourise.teacher import small_pictures
from colourise.weights import fetch_weights

@pytest.fixture
def small(tmp_path):
    "Eight pictures in each of three classes of ImageNet, one class of them in a zip file; and one that can't be read."
    pixels = small_pictures().pixels[::20]
    for i, name in enumerate(('n01443537', 'n02123045', 'n07920052')):
        (tmp_path/'small'/name).mkdir(parents=True)
        for n, x in enumerate(pixels[8*i:8*i+8]): Image.fromarray(x).save(tmp_path/'small'/name/f'{n}.png')
    (tmp_path/'small'/'n01443537'/'bad.jpg').write_bytes(b'no picture')
    shutil.make_archive(tmp_path/'small'/'more', 'zip', tmp_path/'small', 'n07920052')
    shutil.rmtree(tmp_path/'small'/'n07920052')
    return tmp_path

def test_distils_once_and_leaves_weights_for_a_recipe(small):
    args = ['colourise-pretrain', '--preset', 'test', '--data', 'small', '-o', 'body.safetensors', '--set', 'pretrain.batch=8', '--device', 'cpu']
    env = dict(cwd=small, COLOURISE_ROOT=str(small), OMP_NUM_THREADS='1')
    r = run(*args, **env)
    assert r.returncode == 0, r.stderr[-3000:]
    assert '24 photographs from small' in r.stdout and '1 MB in data' in r.stdout
    assert 'agrees with its teacher on' in r.stdout and 'is right in' in r.stdout and 'body.safetensors' in r.stdout
    assert fetch_weights('resnet34', small/'body.safetensors')['conv1.weight'].shape == (64, 1, 7, 7)
    header = pretrained_header(small/'body.safetensors')
    assert header['data'] == dict(source='small', photographs=24) and header['teacher'] == 'tf_efficientnet_lite2' and str(small) not in str(header)
    was = (small/'body.safetensors').read_bytes()
    r = run(*args, **env)
    assert r.returncode == 0 and 'trained already' in r.stdout and (small/'body.safetensors').read_bytes() == was
    r = run(*args, '--set', 'pretrain_lr=0.1', **env)
    assert r.returncode == 1 and 'pretrain.lr' in r.stderr and '--again' in r.stderr and len(r.stderr.splitlines()) == 1
    assert (small/'body.safetensors').read_bytes() == was
    r = run(*args, '--again', **env)
    assert r.returncode == 0 and 'of the teacher' not in r.stdout # it isn't asked again
    assert (small/'body.safetensors').read_bytes() != was

def test_what_is_no_collection_of_photographs_is_refused(tmp_path):
    (tmp_path/'one').mkdir()
    Image.new('RGB', (64, 64)).save(tmp_path/'one'/'a.png')
    (tmp_path/'torn').mkdir()
    (tmp_path/'torn'/'a.zip').write_bytes(b'no zip')
    env = dict(cwd=tmp_path, COLOURISE_ROOT=str(tmp_path))
    for args, status, part in ((['--data', 'nowhere'], 2, "no folder 'nowhere'"), (['--data', 'one'], 1, 'three photographs'), (['--data', 'torn'], 1, 'is damaged'),
                               (['--set', 'pretrain.networks=resnet34'], 2, 'is not a setting')):
        r = run('colourise-pretrain', '--preset', 'test', *args, **env)
        assert r.returncode == status and part in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
