"""Teach the adviser that comes with the package, as lesson 84 does, and write it: adviser.py FOLDER LARGE [FILE]

FOLDER holds photographs (perhaps in zip files) to learn from at 128 pixels, LARGE those of them that are large enough to go on with at 192 pixels.
colourise/adviser-card.md says which ones these were, and how long it took."""
import sys
from itertools import chain, repeat
import numpy as np, torch
from PIL import Image
from colourise.data import photo_files
from colourise.files import progress
from colourise.learner import LogEpochs, SafeLearner, adam, device_callbacks, keep_memory
from colourise.modelfile import write_model
from colourise.recipe import VIEW, load_recipe
from colourise.teacher import TEACHER, Pictures, Teacher, distil_dls, small_pictures, surprise, teach_colours

NEEDLESS = 'net.classifier.', 'net.conv_head.', 'net.bn2.' # for choosing colours
FROZEN = 2, 7e-4          # epochs of large photographs in which only what chooses colours goes on learning, and the highest rate
CYCLES = .8, 2            # then, twice, so many epochs in which the teacher itself learns, too; the adviser is the mean of the two
LR, DECAY = (1e-4, 5e-4), (1e-3, .05) # of its own layers, and of those that choose
GAIN = .75     # with it, large photographs that were held out come to 0.66 of their true colourfulness
FAVOUR = .3/.7 # of rare colours: `annealed_mean` takes back 0.3 of what training favours them by, instead of 0.7

class Larger(Teacher):
    "A teacher that sees pictures of up to 128 pixels enlarged, and larger ones as they are."
    def forward(self, grey): return super().forward(grey) if grey.shape[-1] <= 128 else self.choose(grey.expand(-1, 3, -1, -1))

def held_out(files, recipe):
    "Those of `files` that `distil_dls` holds out."
    order = np.random.default_rng(recipe.photos.seed).permutation(len(files))
    return {files[i] for i in order[:max(1, round(recipe.pretrain.share*len(files)))]}

def learnt_from(data, side, size, recipe, held, times=1):
    "`DataLoaders` of the photographs in `data`, without those `held` out, in batches of `size`; those of `side` pixels or more count so many `times`."
    photos, files = small_pictures(data, side, recipe.source.workers), photo_files(data)
    if len(photos.pixels) != len(files): sys.exit(f'A photograph in {data} can\'t be read: take it out.')
    some = np.array([i for i, f in enumerate(files) if f not in held])
    whole = [i for i in some if times > 1 and min(Image.open(files[i]).size) >= side]
    some = np.concatenate([some, *[whole]*(times - 1)]).astype(int)
    recipe = recipe.override(f'pretrain.batch={size}', 'pretrain.share=0.005')
    dls = distil_dls(Pictures(photos.pixels[some], photos.labels[some], photos.source), None, recipe, torch.device('cpu'))
    dls.size = side
    return dls

def unfrozen(teacher, large, small, epochs):
    "Its own layers, from the fourth block on, learn too, from batches of `large` and of `small` photographs by turns; norms stay as they are."
    own, choosing = [*teacher.net.blocks[3:].parameters()], [*teacher.mix.parameters(), *teacher.paint.parameters()]
    for p in own: p.requires_grad_(True)
    optimiser = torch.optim.AdamW([dict(params=p, weight_decay=d) for p, d in zip((own, choosing), DECAY)])
    turns, steps = [chain.from_iterable(repeat(dl)) for dl in (large, small)], round(2*epochs*len(large))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, steps, pct_start=.15, cycle_momentum=False)
    for i in progress(range(steps), desc='unfrozen'):
        grey, *_, photos, _ = next(turns[i % 2])
        surprise(teacher(grey), photos).backward()
        torch.nn.utils.clip_grad_norm_([*own, *choosing], 1)
        for step in (optimiser, rate): step.step()
        optimiser.zero_grad()

def go_on(teacher, data, large, recipe):
    "The same teacher after it has learnt from larger photographs, frozen and then unfrozen, of which the largest, which are few, count three times."
    held, device, larger = held_out(photo_files(data), recipe), torch.device('cpu'), Larger()
    larger.load_state_dict(teacher.state_dict())
    dls = learnt_from(large, VIEW, 64, recipe, held, 3)
    cbs = [*device_callbacks(device, recipe.training.cpu_precision), LogEpochs('the teacher goes on', recipe.photos.seed)]
    learn = SafeLearner(dls, larger, surprise, opt_func=adam(device), cbs=cbs, wd=recipe.pretrain.weight_decay)
    learn.fit_one_cycle(*FROZEN, pct_start=.3)
    large, small = learnt_from(large, VIEW, 32, recipe, held, 3), learnt_from(data, 64, 64, recipe, held)
    ends = []
    for epochs in CYCLES:
        unfrozen(larger.eval(), large.train, small.train, epochs)
        ends.append({k: v.clone() for k, v in larger.state_dict().items()})
    larger.load_state_dict({k: sum(end[k] for end in ends)/len(ends) for k in ends[0]})
    return larger

def adviser_state(teacher):
    "What `colourise.infer.Adviser` needs of a `Teacher`: arrays by name."
    state = {k: v.cpu().numpy() for k, v in teacher.state_dict().items() if v.is_floating_point() and not k.startswith(NEEDLESS)}
    return state | dict(log_share=state['log_share']*FAVOUR)

def main(data, large, path='colourise/adviser.safetensors'):
    keep_memory()
    recipe = load_recipe('cpu', f'pretrain.data={data}')
    photos = small_pictures(recipe.pretrain.data, recipe.pretrain.side, recipe.source.workers)
    teacher = go_on(teach_colours(photos, recipe, torch.device('cpu')), data, large, recipe)
    write_model(path, adviser_state(teacher), True, arch=dict(name='adviser'), teacher=TEACHER, gain=GAIN, output='R−Y, G−Y, B−Y (B, 3, H/8, W/8)',
                data=dict(source=photos.source, photographs=len(photos.pixels)), card='adviser-card.md')

if __name__ == '__main__':
    if not sys.argv[2:]: sys.exit(__doc__)
    main(*sys.argv[1:])
