"""Write the network as an ONNX graph without weights, which colourise.infer fills in: export_graph.py [FILE]

Each weight has the name that the `state_dict` of the folded network gives it. Height and width are multiples of 32. A second
input, `window`, says which part of the picture is wanted: a photograph is rendered with a margin, which is cut off afterwards,
and the last layers, nearly half of the work, paint what is inside only."""
import io, sys, warnings
from functools import partial
import onnx, torch
from colourise.files import write_atomic
from colourise.unet import colour_unet
from colourise.weights import fold_norms

LAST = 8 # number of the first layer that paints the window alone

def windowed(net, x, window):
    "What `net` paints of `x` (1, 1, H, W) in a window: top, bottom, left and right, in pixels of half the size."
    grey, (top, bottom, left, right) = x, window.unbind()
    for i, layer in enumerate(net.layers):
        if i == LAST: x, grey = x[:, :, top:bottom, left:right], grey[:, :, 2*top:2*bottom, 2*left:2*right]
        x.orig = grey # where fastai's layers look for the last cross-connection
        y = layer(x)
        x.orig, x = None, y
    return x # (1, 3, 2·(bottom−top), 2·(right−left))

def export_graph(path):
    net, file, random = fold_norms(colour_unet('random', seed=0).eval()), io.BytesIO(), torch.Generator().manual_seed(0)
    weights = {k: o for k, o in net.state_dict().items() if o.is_floating_point()}
    for o in weights.values(): o.uniform_(0.5, 1, generator=random) # equal ones would be merged
    net.forward, free = partial(windowed, net), {2: 'h', 3: 'w'}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # the exporter's notes on shapes that it takes for constants
        torch.onnx.export(net, (torch.zeros(1, 1, 96, 64), torch.tensor([4, 44, 4, 28])), file, dynamo=False, opset_version=18,
                          input_names=['grey', 'window'], output_names=['rgb'], dynamic_axes=dict(grey=free, rgb=free),
                          export_params=False, do_constant_folding=False)
    model = onnx.load_from_string(file.getvalue())
    del model.graph.input[2:] # the weights
    for k, o in weights.items(): # of type float, and external
        w = model.graph.initializer.add(name=k, dims=o.shape, data_type=1, data_location=1)
        w.external_data.add(key='location', value='given-by-name') # a file that never exists: a lost weight is an error
    write_atomic(path, model.SerializeToString(deterministic=True))

if __name__ == '__main__': export_graph(*sys.argv[1:] or ['colourise/unet.onnx'])
