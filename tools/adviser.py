"""Teach the adviser that comes with the package, as lesson 84 does, and write it: adviser.py FOLDER LARGE [FILE]

FOLDER holds photographs (perhaps in zip files) to learn from at 128 pixels, LARGE those of them that are large enough to go on with at 192 pixels.
colourise/adviser-card.md says which ones these were, and how long it took."""
import sys
import numpy as np, torch
from PIL import Image
from colourise.data import photo_files
from colourise.learner import LogEpochs, SafeLearner, adam, device_callbacks, keep_memory
from colourise.modelfile import write_model
from colourise.recipe import load_recipe
from colourise.teacher import TEACHER, Pictures, Teacher, distil_dls, small_pictures, surprise, teach_colours

NEEDLESS = 'net.classifier.', 'net.conv_head.', 'net.bn2.' # for choosing colours
SIDE, EPOCHS, LR = 192, 2, 7e-4                            # of going on
GAIN = .73     # with it, whole photographs that were held out come to 0.6 of their true colourfulness
FAVOUR = .3/.7 # of rare colours: `annealed_mean` takes back 0.3 of what training favours them by, instead of 0.7
SAY = .4, .6   # of the teacher that has seen many small photographs, and of the same one after it went on

class Larger(Teacher):
    "A teacher that sees pictures at their own size."
    def forward(self, grey): return self.choose(grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))

def held_out(files, recipe):
    "Those of `files` that `distil_dls` holds out."
    order = np.random.default_rng(recipe.photos.seed).permutation(len(files))
    return {files[i] for i in order[:max(1, round(recipe.pretrain.share*len(files)))]}

def go_on(teacher, large, held, recipe):
    "Two more epochs on large photographs, but for those in `held`; the largest, which are few, count three times."
    recipe, device, files = recipe.override('pretrain.batch=64', 'pretrain.share=0.005'), torch.device('cpu'), photo_files(large)
    photos = small_pictures(large, SIDE, recipe.source.workers)
    if len(photos.pixels) != len(files): sys.exit('A photograph in LARGE can\'t be read: take it out.')
    learnt = np.array([i for i, f in enumerate(files) if f not in held])
    whole = [i for i in learnt if min(Image.open(files[i]).size) >= SIDE]
    some = np.concatenate([learnt, np.repeat(whole, 2).astype(int)])
    larger = Larger().recall(teacher.learnt())
    dls = distil_dls(Pictures(photos.pixels[some], photos.labels[some], photos.source), None, recipe, device)
    dls.size = SIDE
    cbs = [*device_callbacks(device, recipe.training.cpu_precision), LogEpochs('the teacher goes on', recipe.photos.seed)]
    SafeLearner(dls, larger, surprise, opt_func=adam(device), cbs=cbs, wd=recipe.pretrain.weight_decay).fit_one_cycle(EPOCHS, LR, pct_start=.3)
    return larger.eval()

@torch.no_grad()
def joined(teachers, say):
    "A `Teacher` with the choosers of `teachers`: their logits, multiplied by their `say`, are summed. It has the first one's means and spreads of maps."
    both = Teacher(heads=len(teachers)).eval()
    both.log_share.copy_(teachers[0].log_share)
    for i, (norm, conv) in enumerate(both.mix):
        norm.load_state_dict(teachers[0].mix[i][0].state_dict())
        theirs = [(t.mix[i][1], (t.mix[i][0].running_var + norm.eps).sqrt(), norm.running_mean - t.mix[i][0].running_mean) for t in teachers]
        conv.weight.copy_(torch.cat([c.weight*((norm.running_var + norm.eps).sqrt()/spread)[:, None, None] for c, spread, _ in theirs]))
        conv.bias.copy_(torch.cat([c.bias + c.weight[..., 0, 0] @ (off/spread) for c, spread, off in theirs]))
    for k in ('weight', 'bias'): getattr(both.paint[1], k).copy_(torch.cat([getattr(t.paint[1], k) for t in teachers]))
    both.paint[3].weight.copy_(torch.cat([t.paint[3].weight*s for t, s in zip(teachers, say)], 1))
    both.paint[3].bias.copy_(sum(t.paint[3].bias*s for t, s in zip(teachers, say)))
    return both

def adviser_state(teacher):
    "What `colourise.infer.Adviser` needs of a `Teacher`: arrays by name."
    state = {k: v.cpu().numpy() for k, v in teacher.state_dict().items() if v.is_floating_point() and not k.startswith(NEEDLESS)}
    return state | dict(log_share=state['log_share']*FAVOUR)

def main(data, large, path='colourise/adviser.safetensors'):
    keep_memory()
    recipe = load_recipe('cpu', f'pretrain.data={data}')
    photos = small_pictures(recipe.pretrain.data, recipe.pretrain.side, recipe.source.workers)
    teacher = teach_colours(photos, recipe, torch.device('cpu'))
    later = go_on(teacher, large, held_out(photo_files(data), recipe), recipe)
    write_model(path, adviser_state(joined([teacher, later], SAY)), True, arch=dict(name='adviser'), teacher=TEACHER, gain=GAIN, output='R−Y, G−Y, B−Y (B, 3, H/8, W/8)',
                data=dict(source=photos.source, photographs=len(photos.pixels)), card='adviser-card.md')

if __name__ == '__main__':
    if not sys.argv[2:]: sys.exit(__doc__)
    main(*sys.argv[1:])
