"""Pretraining as a command: from a folder and a zip file of labelled pictures to weights that a recipe can name."""
import shutil
import pytest
from conftest import run
from PIL import Image
from colourise.pretrain import embedded_pieces, pretrained_header
from colourise.unet import fetch_weights

@pytest.fixture
def labelled(tmp_path):
    "Eight pictures in each of three classes, one class of them in a zip file; and one that can't be read."
    pieces = embedded_pieces()
    for i in range(3):
        (tmp_path/'small'/f'class{i}').mkdir(parents=True)
        for n, x in enumerate(pieces.pictures[pieces.labels == i][:8]): Image.fromarray(x).save(tmp_path/'small'/f'class{i}'/f'{n}.png')
    (tmp_path/'small'/'class0'/'bad.jpg').write_bytes(b'no picture')
    shutil.make_archive(tmp_path/'small'/'more', 'zip', tmp_path/'small', 'class2')
    shutil.rmtree(tmp_path/'small'/'class2')
    return tmp_path

def test_pretrains_once_and_leaves_weights_for_a_recipe(labelled):
    args = ['colourise-pretrain', '--preset', 'test', '--data', 'small', '--network', 'resnet34', '-o', 'body.safetensors', '--set', 'pretrain.batch=8', '--device', 'cpu']
    env = dict(cwd=labelled, COLOURISE_ROOT=str(labelled), OMP_NUM_THREADS='1')
    r = run(*args, **env)
    assert r.returncode == 0, r.stderr[-3000:]
    assert '24 pictures in 3 classes' in r.stdout and 'top-1' in r.stdout and 'body.safetensors' in r.stdout
    assert fetch_weights('resnet34', labelled/'body.safetensors')['conv1.weight'].shape == (64, 1, 7, 7)
    header = pretrained_header(labelled/'body.safetensors')
    assert header['data'] == dict(source='small', classes=3) and str(labelled) not in str(header)
    was = (labelled/'body.safetensors').read_bytes()
    r = run(*args, **env)
    assert r.returncode == 0 and 'is trained already' in r.stdout and (labelled/'body.safetensors').read_bytes() == was
    r = run(*args, '--set', 'pretrain_lr=0.1', **env)
    assert r.returncode == 1 and 'pretrain.lr' in r.stderr and '--again' in r.stderr and len(r.stderr.splitlines()) == 1
    assert (labelled/'body.safetensors').read_bytes() == was

def test_what_is_no_collection_of_labelled_pictures_is_refused(tmp_path):
    (tmp_path/'one'/'class').mkdir(parents=True)
    Image.new('RGB', (64, 64)).save(tmp_path/'one'/'class'/'a.png')
    env = dict(cwd=tmp_path, COLOURISE_ROOT=str(tmp_path))
    for args, status, part in (['--data', 'nowhere'], 2, "no folder 'nowhere'"), (['--data', 'one'], 1, 'of 1 class:'), (['--set', 'pretrain_networks=resnet34,vgg16_bn', '-o', 'a.safetensors'], 2, '--network'):
        r = run('colourise-pretrain', '--preset', 'test', *args, **env)
        assert r.returncode == status and part in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
