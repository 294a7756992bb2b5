"""Write a network as an ONNX graph without weights, which colourise.infer fills in: export_graph.py [unet|unet-advised|adviser] [FILE]

Each weight has the name that the `state_dict` of the (folded) network gives it. Height and width are multiples of 32."""
import io, sys, warnings
import onnx, torch
from colourise.files import write_atomic
from colourise.teacher import Advice, annealed_mean
from colourise.unet import colour_unet
from colourise.weights import fold_norms

class Guess(Advice):
    "The adviser, for pictures of any shape, and without its gain."
    def forward(self, grey): return annealed_mean(self.choose(grey.expand(-1, 3, -1, -1)), self.log_share)

def export_graph(which, path):
    net = Guess() if which == 'adviser' else fold_norms(colour_unet('random', 0, which == 'unet-advised').eval())
    net.adviser = None # it has been asked already
    file, random = io.BytesIO(), torch.Generator().manual_seed(0)
    weights = {k: o for k, o in net.state_dict().items() if o.is_floating_point()}
    for o in weights.values(): o.uniform_(0.5, 1, generator=random) # equal ones would be merged
    free, output = {2: 'h', 3: 'w'}, 'chroma' if which == 'adviser' else 'rgb'
    name, channels = ('painted', 3) if which == 'unet-advised' else ('grey', 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # the exporter's notes on shapes that it takes for constants
        torch.onnx.export(net, (torch.zeros(1, channels, 96, 64),), file, dynamo=False, opset_version=18, input_names=[name],
                          output_names=[output], dynamic_axes={name: free, output: free}, export_params=False, do_constant_folding=False)
    model = onnx.load_from_string(file.getvalue())
    needed = {i.name for i in model.graph.input[1:]} & {name for node in model.graph.node for name in node.input}
    del model.graph.input[1:] # the weights
    for k in filter(needed.__contains__, weights):
        w = model.graph.initializer.add(name=k, dims=weights[k].shape, data_type=1, data_location=1) # of type float, and external
        w.external_data.add(key='location', value='given-by-name') # a file that never exists: a lost weight is an error
    write_atomic(path, model.SerializeToString(deterministic=True))

if __name__ == '__main__':
    for which in sys.argv[1:2] or ('unet', 'unet-advised', 'adviser'): export_graph(which, sys.argv[2] if sys.argv[2:] else f'colourise/{which}.onnx')
