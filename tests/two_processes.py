"""One of two processes that train an epoch: writes what it saw, decoded and ended with. Launched by test_several.py."""
import hashlib, json, os, sys
from pathlib import Path
import colourise.data as data, colourise.train as train
from colourise.recipe import load_recipe
from colourise.several import is_main, rank, several, unwrapped

seen, snapshots, decoded, states = [], [], [], []

def watch(module, name, note):
    "Have `note` called with the arguments of `module.name` before it."
    old = getattr(module, name)
    setattr(module, name, lambda *a, **k: (note(*a), old(*a, **k))[1])

def digest(training, learn, row):
    state = unwrapped(learn.model).state_dict()
    states.append({k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in state.items()})

def only_main(*_): assert is_main(), 'a process that is not the first one writes'

watch(data, 'cached', lambda photo, *_: seen.append(photo.name))
watch(data, '_decode', lambda file: decoded.append(str(file)))
watch(train, '_replace', only_main)
watch(train, 'save_model', only_main)
watch(train.StageTraining, 'end_epoch', digest)
train.StageLog.before_train = lambda self: seen.clear()
train.StageLog.before_validate = lambda self: snapshots.append(list(seen))

with several('cpu') as device:
    recipe = load_recipe('test', 'stages.batch=3', 'stages.repeats=1', 'stage1.epochs=2')
    train.train_course(recipe, Path(os.environ['COLOURISE_ROOT'])/'out', device, until='stage1')
    Path(sys.argv[1], f'{rank()}.json').write_text(json.dumps(dict(seen=snapshots[-2:], decoded=len(decoded), states=states)))
