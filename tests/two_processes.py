"""One of two processes that train an epoch: writes what it saw, decoded and ended with. Launched by test_distributed.py."""
import hashlib, json, os, sys
from pathlib import Path
import colourise.data as data, colourise.learner as learner, colourise.train as train
from colourise.recipe import load_recipe
from colourise.distributed import distributed, is_main, rank, unwrapped

seen, snapshots, decoded, states = [], [], [], []

def watch(module, name, note):
    "Have `note` called with the arguments of `module.name` before it."
    old = getattr(module, name)
    setattr(module, name, lambda *a, **k: (note(*a, **k), old(*a, **k))[1])

def digest(callback):
    "Called after each epoch, in each process, before one of them keeps it."
    state = unwrapped(callback.model).state_dict()
    states.append({k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in state.items()})

def only_main(*_, **__): assert is_main(), 'a process that is not the first one writes'

watch(data, 'cached', lambda photo, *_, **__: seen.append(photo.name))
watch(data, 'read', lambda file, **_: decoded.append(str(file)))
for module, name in [(learner, 'replacing'), (train, 'replacing'), (train, 'write_json'), (train, 'save_model')]: watch(module, name, only_main)
watch(learner.KeepEpochs, 'after_epoch', digest)
watch(learner.LogEpochs, 'before_train', lambda self: seen.clear())
watch(train._StageLog, 'before_validate', lambda self: snapshots.append(list(seen)))

with distributed('cpu') as device:
    recipe = load_recipe('test', 'stages.batch=3', 'stages.repeats=1', 'stage1.epochs=2')
    train.train_course(recipe, Path(os.environ['COLOURISE_ROOT'])/'out', device, until='stage1')
    Path(sys.argv[1], f'{rank()}.json').write_text(json.dumps(dict(seen=snapshots[-2:], decoded=len(decoded), states=states)))
