"""Train the pairs of pictures that the lessons show: what each idea of the method is worth, at equal cost.

  python tools/ideas.py --data FOLDER --large FOLDER --test FOLDER --body models/resnet34-cpu.safetensors [IDEA ...]

Every variant starts from the same weights, sees the same photographs in the same order, and stops after the same time: `--minutes`
of all cores (counted as CPU time), or of the GPU. Run it alone, or with OMP_NUM_THREADS=1: threads that wait for a busy core spin,
and that counts, too. An idea's pictures go to nbs/images/idea-NAME.jpg, all numbers to nbs/images/ideas.csv; a variant that is in
there already isn't trained again."""
import argparse, math, time
from functools import cache
from pathlib import Path
import numpy as np, pandas as pd, torch
from PIL import Image, ImageOps
from fastai.layers import PixelShuffle_ICNR
from fastai.vision.models.unet import UnetBlock
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from colourise.colour import chroma, colourfulness, enlarge
from colourise.data import Augment, pad_batch, photo_files, picture_grid
from colourise.files import progress
from colourise.infer import Colouriser, render_shape, seen_shape
from colourise.learner import device_name, keep_memory, precision
from colourise.loss import FeatureLoss
from colourise.metrics import delta_e00, hue_accuracies, hue_distance
from colourise.photo import embedded, read
from colourise.pretrain import Student
from colourise.recipe import load_recipe
from colourise.teacher import Advice, adviser, annealed_mean, body_state, load_teacher, small_pictures
from colourise.unet import colour_unet, unet_groups
from colourise.weights import channels_last

IMAGES = Path(__file__).resolve().parent.parent/'nbs/images'
FACES = 'astronaut', 'chelsea', 'coffee', 'china', 'grace_hopper'
BATCH, LR, RENDER = 16, 1e-3, 64 # photographs in a step; the head's highest rate (lesson7); render size of what is measured, pixels
WITHOUT = dict(feature_weights=(0, 0, 0), gram_weight=0) # the observer
WITH = dict(feature_weights=(.01, .025, .02), gram_weight=5000) # twice those of the preset cpu, so that their worth shows in little time

class Silence(nn.Module):
    def forward(self, x): return x*0
def cut(model): # zeros come through the cross-connections, but for the last one, which brings the grey picture itself
    for block in model.layers:
        if isinstance(block, UnetBlock): block.bn = Silence()
def plain_shuffle(model): # each of the four pixels starts with weights of its own, and nothing smooths them
    for m in model.modules():
        if isinstance(m, PixelShuffle_ICNR): nn.init.kaiming_normal_(m[0][0].weight); del m[2:]

# idea → variant → what is changed: backbone, network, loss, rates of the three layer groups, sizes, the weights that are kept.
IDEAS = dict(
    body={'random body': dict(backbone='random'), 'distilled body': {}},
    cross={'cut': dict(change=cut), 'cross-connections': {}},
    shuffle={'plain start': dict(change=plain_shuffle), 'ICNR and blur': {}},
    loss={'pixels': dict(class_rebalancing=0), 'rare colours count more': {}, '+ features': dict(gram_weight=0, see=True),
          '+ Gram matrices': dict(see=True)},
    lean={'truth alone': dict(sizes=(64,)), 'truth and guess': dict(sizes=(64,), guess=2)},
    freezing={'frozen': dict(rates=(0, 0, 1)), 'one rate': dict(rates=(1, 1, 1)), 'three rates': {}},
    sizes={'128 px': dict(sizes=(128,)), '64, then 128 px': dict(sizes=(64, 128))},
    more={'plain': {}, 'averaged weights': dict(average=True), 'targets × 1.2': dict(target_colour=1.2)})

def clock(device): return time.process_time() if device.type == 'cpu' else time.perf_counter()

def train(pixels, recipe, device, seconds, backbone, change=None, see=False, guess=0, rates=(.1, .3, 1), sizes=(48,),
          average=False, **weights):
    "The network of a variant, and how many photographs it has seen; `seconds` of `clock`, shared evenly by its sizes."
    seed, losses = recipe.photos.seed, vars(recipe.loss) | (WITH if see else WITHOUT) | weights
    torch.manual_seed(seed)
    model = colour_unet(backbone, seed=seed)
    if change: change(model)
    model.to(device, memory_format=torch.channels_last)
    painter = adviser() if guess else None
    loss, rng, seen = FeatureLoss(seed=seed, painter=painter, **losses | dict(guess_weight=guess)), np.random.default_rng(seed), 0
    groups = [dict(params=g, share=r) for g, r in zip(unet_groups(model), rates) if r]
    for p in model.parameters(): p.requires_grad_(False)
    for p in sum((g['params'] for g in groups), []): p.requires_grad_(True)
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(.99), use_buffers=True) if average else None
    opt, start, bar = torch.optim.AdamW(groups, weight_decay=recipe.training.weight_decay, fused=True), clock(device), progress(total=100, unit=' %')
    while (done := (clock(device) - start)/seconds) < 1:
        bar.update(int(100*done) - bar.n)
        rate = done/.3 if done < .3 else (1 + math.cos(math.pi*(done - .3)/.7))/2 # one cycle
        for g in opt.param_groups: g['lr'] = LR*g['share']*max(rate, .04)
        size = sizes[int(done*len(sizes))]
        n = max(4, BATCH*48**2//size**2)
        batch = [pixels[i] for i in rng.integers(len(pixels), size=n)]
        padded_batch, sizes_of = pad_batch(batch)
        grey, colour = Augment(recipe, size)((padded_batch.to(device), sizes_of))
        with torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == 'bf16'):
            pred = model(channels_last(grey))
            total = loss(pred.float(), channels_last(colour))
        opt.zero_grad(); total.backward(); opt.step()
        if mean: mean.update_parameters(model)
        seen += n
    bar.close()
    return (mean.module if mean else model).eval(), seen

@cache
def truth(path, side): # the photograph, with an area of at most side × side pixels
    img = read(path).rgb8
    return img.resize(render_shape(*img.size, side), Image.Resampling.LANCZOS, reducing_gap=3.)

@torch.inference_mode()
def paint(model, picture, size): # what the network paints by itself (h, w, 3), and its chroma on the picture's own luma
    grey = picture.convert('L')
    x = np.asarray(grey.resize(seen_shape(*grey.size, size), Image.Resampling.LANCZOS), np.float32)/255
    device = next(model.parameters()).device
    y = model(torch.from_numpy(x)[None, None].to(device))[0].float().cpu().permute(1, 2, 0).numpy()
    return (y.clip(0, 1)*255).astype(np.uint8), enlarge(np.asarray(grey), chroma(y).astype(np.float32))

def measure(model, paths, size): # on photographs kept apart, at 256 px
    truths = [np.asarray(truth(p, 256)) for p in paths]
    preds = [paint(model, truth(p, 256), size)[1] for p in progress(paths, desc='measuring')]
    found = hue_accuracies(preds, truths)
    numbers = dict(delta_e00=np.mean([delta_e00(p, t) for p, t in zip(preds, truths)]),
                colourfulness=sum(map(colourfulness, preds))/sum(map(colourfulness, truths)),
                hue_accuracy=np.nanmean([*found.values()]), hue_distance=hue_distance(preds, truths), blue_found=found['blue'])
    return {k: float(v) for k, v in numbers.items()}

def figure(idea, columns, errors, rows): # of the faces, a column for each variant, and above it what it reached on the test photographs
    own = [truth(embedded()[n], 256).convert('L').convert('RGB') for n in FACES]
    head = {k: f'{k}\nΔE00 {rows[k]["delta_e00"]:.2f}\nhue accuracy {rows[k]["hue_accuracy"]:.2f}\nhue distance {rows[k]["hue_distance"]:.2f}'
            for k in columns}
    notes = {head[k]: [f'ΔE00 {e:.1f}' for e in v] for k, v in errors.items()}
    fig = picture_grid({'grey': own} | {head[k]: v for k, v in columns.items()} | {'truth': [truth(embedded()[n], 256) for n in FACES]},
                       [n.replace('_', ' ') for n in FACES], 1.7, notes)
    fig.savefig(IMAGES/f'idea-{idea}.jpg', dpi=80, pil_kwargs=dict(quality=85))

def filters(body): # 64 first filters of a random and of the distilled body, as two pictures
    pictures = {}
    for name, backbone in (('random body', 'random'), ('distilled body', body)):
        w = colour_unet(backbone, seed=0).layers[0][0].weight.detach()
        w = (w - w.amin((1, 2, 3), True))/(w.amax((1, 2, 3), True) - w.amin((1, 2, 3), True))
        w = nn.functional.pad(w, (1, 1, 1, 1), value=1)
        pictures[name] = [w.unflatten(0, (8, 8)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)]
    picture_grid(pictures, [''], 3.4).savefig(IMAGES/'idea-filters.jpg', dpi=80, pil_kwargs=dict(quality=88))

def compared(name, made, squares, greys): # chroma (n,3,h,w) of the faces, by who guessed it
    made = {k: [Image.fromarray(enlarge(g, c)) for g, c in zip(greys, y.permute(0, 2, 3, 1).numpy())] for k, y in made.items()}
    columns = dict(grey=[Image.fromarray(g).convert('RGB') for g in greys]) | made | dict(truth=squares)
    fig = picture_grid(columns, [n.replace('_', ' ') for n in FACES], 1.5)
    fig.savefig(IMAGES/f'idea-{name}.jpg', dpi=80, pil_kwargs=dict(quality=85))

@torch.inference_mode()
def guesses(a, which): # what teacher and student take the colours of the faces for, or what the teacher knew before
    squares = [ImageOps.fit(read(embedded()[n]).rgb8, (256, 256)) for n in FACES]
    greys = [np.asarray(s.convert('L')) for s in squares]
    x, guesser = torch.from_numpy(np.stack(greys))[:, None]/255, adviser()
    if which == 'drawings':
        student = Student().eval()
        student.load_state_dict(body_state(a.body), strict=False)
        seen = student.look(channels_last(nn.functional.interpolate(x, (64, 64), mode='area')))
        return compared('guess', {'the teacher': guesser(x), 'the student': annealed_mean(student.colours(seen), guesser.log_share)}, squares, greys)
    alone, frozen = Colouriser.from_pretrained(a.alone), Advice()
    frozen.recall(load_file(a.frozen) | dict(log_share=guesser.log_share)).net.load_state_dict(load_teacher().state_dict())
    own = torch.from_numpy(np.stack([alone.render(Image.fromarray(g)) for g in greys])).permute(0, 3, 1, 2)
    compared('teacher', {'no teacher': own, 'frozen teacher': frozen(x), 'unfrozen teacher': guesser(x)}, squares, greys)

def main(a):
    device, table, keep_runs = torch.device(a.device), IMAGES/'ideas.csv', a.keep
    recipe = load_recipe('cpu', f'loss.vgg={a.vgg}', 'adviser=no')
    keep_memory(); keep_runs.mkdir(parents=True, exist_ok=True)
    seconds = 60*a.minutes*(torch.get_num_threads() if device.type == 'cpu' else 1)
    pixels = cache(lambda large: small_pictures(a.large if large else a.data, 160 if large else 64).pixels)
    paths, rows = photo_files(a.test), [] if not table.exists() else pd.read_csv(table).to_dict('records')
    for idea in a.ideas or [*(i for i in IDEAS if a.large or i != 'sizes'), 'drawings']:
        if idea == 'drawings': filters(a.body)
        if idea in ('drawings', 'teacher'): guesses(a, idea); continue
        columns, errors, shown = {}, {}, {}
        for name, changes in IDEAS[idea].items():
            same = next((k for k, v in ((k, v) for i in IDEAS.values() for k, v in i.items()) if v == changes), name) # trained for another idea
            file, size = keep_runs/f'{same}.pt'.replace(' ', '-'), max(RENDER, *changes.get('sizes', (0,)))
            if not file.exists():
                how = dict(backbone=a.body) | changes
                photographs, began = pixels(max(how.get('sizes', (0,))) > 64), time.perf_counter()
                model, seen = train(photographs, recipe, device, seconds, **how)
                faces = {n: [torch.from_numpy(x) for x in paint(model, truth(embedded()[n], 256), size)] for n in FACES}
                row = dict(photographs=seen, minutes=a.minutes, on=device_name(device), wall_minutes=(time.perf_counter() - began)/60)
                weights = {k: v.half().cpu() if v.is_floating_point() else v.cpu() for k, v in model.state_dict().items()}
                torch.save(dict(row=row | measure(model, paths, size), faces=faces, model=weights), file)
            kept = torch.load(file, weights_only=True)
            rows = [r for r in rows if (r['idea'], r['variant']) != (idea, name)] + [dict(idea=idea, variant=name) | kept['row']]
            raw = idea == 'shuffle' # whose fault is in the network's own picture, and not in its colours
            columns[name] = [Image.fromarray(kept['faces'][n][0 if raw else 1].numpy()) for n in FACES]
            shown[name], errors[name] = kept['row'], [delta_e00(kept['faces'][n][1].numpy(), np.asarray(truth(embedded()[n], 256))) for n in FACES]
            pd.DataFrame(rows).round(4).to_csv(table, index=False)
            print(idea, name, {k: round(v, 3) if isinstance(v, float) else v for k, v in kept['row'].items()}, flush=True)
        figure(idea, columns, errors, shown)

def run():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('ideas', nargs='*', metavar='IDEA', help=', '.join(IDEAS) + '; drawings: what the distilled body sees, and what it and its teacher guess; teacher: what the adviser guessed before it was unfrozen, and a U-Net without it (else all but this)')
    p.add_argument('--data', required=True, help='photographs to train on; small ones will do')
    p.add_argument('--large', help='photographs of 128 px and more, for the idea `sizes`')
    p.add_argument('--test', required=True, help='photographs to measure on')
    p.add_argument('--frozen', help='for `teacher`: the frozen one, in data/cache, as tools/adviser.py left it')
    p.add_argument('--alone', help='for `teacher`: a model that learnt without it')
    p.add_argument('--body', default='models/resnet34-cpu.safetensors', help='the distilled body')
    p.add_argument('--vgg', default='vgg16', help="the observer's weights, as the recipe's `vgg`")
    p.add_argument('--minutes', type=float, default=10, help='of training, for each variant')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--keep', type=Path, default=Path('runs/ideas'), help='folder for what is trained')
    main(p.parse_args())

if __name__ == '__main__': run()
