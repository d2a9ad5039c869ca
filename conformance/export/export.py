"""export.py FOLDER NAME…: PyTorch models as FOLDER/NAME.onnx with the framework's own state dict, FOLDER/NAME.safetensors.

Asks for torch, torchvision, transformers, onnx, onnxscript and safetensors of any recent version. Weights are random but for
those read with --checkpoint. `--perturb` writes FOLDER/NAME.tuned.safetensors and FOLDER/NAME.tuned.onnx too: the same network
after every float tensor of it was changed, as a fine-tune would.
"""

import argparse
import pathlib
import sys

import models
import safetensors.torch
import torch


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(models.MODELS))
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    parser.add_argument("--opset", type=int, help="of the model, if not 17 and what dynamo prefers")
    parser.add_argument("--fold", action="store_true", help="let the exporter fold batch norm and constants, its default")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="safetensors with the weights, under the model's names")
    parser.add_argument("--perturb", action="store_true", help="export a changed copy beside the model")
    return parser.parse_args()


def randomise(model, seed):
    """Makes every float tensor differ from every other: fresh networks have thousands of equal ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
            if tensor.is_floating_point() and tensor.numel() > 0:
                noise = torch.rand(tensor.shape, generator=generator) - 0.5
                scale = tensor.abs().mean().clamp(min=0.02)
                tensor.add_(noise * scale * 0.2)
                if name.endswith("running_var"):
                    tensor.clamp_(min=0.1)


def state_dict(model):
    """The state dict as frameworks store it: what shares memory appears once, under its first name."""
    seen, tensors = set(), {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        tensors[name] = tensor.detach().contiguous().clone()
    return tensors


def export(described, path, exporter, fold, opset):
    options = {"input_names": described.inputs, "output_names": described.outputs}
    if exporter == "torchscript":
        preserve = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(
            described.model,
            described.example,
            str(path),
            dynamo=False,
            opset_version=opset or 17,
            dynamic_axes=described.axes,
            do_constant_folding=fold,
            training=torch.onnx.TrainingMode.EVAL if fold else preserve,
            **options,
        )
        return
    # Dimensions of the same name are one; the length of a mask is a sum of others, which only the exporter can find.
    dims = {symbol: torch.export.Dim(symbol) for axes in described.axes.values() for symbol in axes.values()}
    dims["total"] = torch.export.Dim.DYNAMIC
    shapes = tuple(
        {axis: dims[symbol] for axis, symbol in described.axes.get(name, {}).items()} or None
        for name in described.inputs
    )
    torch.onnx.export(
        described.model,
        described.example,
        str(path),
        dynamo=True,
        opset_version=opset,
        # The wrapper takes its inputs as one parameter, `*values`.
        dynamic_shapes=(shapes,) if isinstance(described.model, models.Results | models.Cached) else shapes,
        optimize=fold,
        external_data=False,
        **options,
    )


def write(described, stem, options):
    safetensors.torch.save_file(state_dict(described.checkpoint), f"{stem}.safetensors")
    export(described, f"{stem}.onnx", options.exporter, options.fold, options.opset)
    print(f"{stem}.onnx")


def main():
    options = arguments()
    unknown = [name for name in options.names if name not in models.MODELS]
    if unknown:
        sys.exit(f"no model {', '.join(unknown)}; there are {', '.join(models.MODELS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(options.names):
        torch.manual_seed(seed)
        described = models.MODELS[name]()
        if options.checkpoint:
            described.checkpoint.load_state_dict(safetensors.torch.load_file(options.checkpoint), strict=False)
        else:
            randomise(described.checkpoint, seed)
        described.model.eval()
        write(described, options.folder / name, options)
        if options.perturb:
            randomise(described.checkpoint, 1000 + seed)
            write(described, options.folder / f"{name}.tuned", options)


main()
