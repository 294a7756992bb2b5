"""Write the network as an ONNX graph without weights, which colourise.infer fills in: export_graph.py [FILE]

Each weight has the name that the `state_dict` of the folded network gives it. Height and width are multiples of 32."""
import io, sys, warnings
import onnx, torch
from colourise.files import write_atomic
from colourise.unet import colour_unet
from colourise.weights import fold_norms

def export_graph(path):
    net, file, random = fold_norms(colour_unet('random', seed=0).eval()), io.BytesIO(), torch.Generator().manual_seed(0)
    weights = {k: o for k, o in net.state_dict().items() if o.is_floating_point()}
    for o in weights.values(): o.uniform_(0.5, 1, generator=random) # equal ones would be merged
    free = {2: 'h', 3: 'w'}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # the exporter's notes on shapes that it takes for constants
        torch.onnx.export(net, (torch.zeros(1, 1, 96, 64),), file, dynamo=False, opset_version=18, input_names=['grey'],
                          output_names=['rgb'], dynamic_axes=dict(grey=free, rgb=free), export_params=False, do_constant_folding=False)
    model = onnx.load_from_string(file.getvalue())
    del model.graph.input[1:] # the weights
    for k, o in weights.items(): # of type float, and external
        w = model.graph.initializer.add(name=k, dims=o.shape, data_type=1, data_location=1)
        w.external_data.add(key='location', value='given-by-name') # a file that never exists: a lost weight is an error
    write_atomic(path, model.SerializeToString(deterministic=True))

if __name__ == '__main__': export_graph(*sys.argv[1:] or ['colourise/unet.onnx'])
