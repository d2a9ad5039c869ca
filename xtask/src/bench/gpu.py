"""Times refit on a GPU beside PyTorch, f32 with TF32 off: products, then whole models with made-up weights.

Needs a GPU with its Vulkan driver, and Python with torch, torchvision, transformers, onnx and numpy; no network. `refit` and `commit` lie
beside this file, which `cargo xtask bench gpu` put there. Writes report.json and report.md. Every kernel that is timed is right: its
results are held against PyTorch's on the CPU, and a model that differs by more than 1e-3 of its largest output is an error.
"""

import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy
import onnx
import torch
import torchvision.models as vision
import transformers
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
REFIT = HERE / "refit"
BATCHES = (1, 32)
TOLERANCE = 1e-3
# Rows, columns, terms; and how many products follow one another, so that the clocks of the GPU stay up.
PRODUCTS = [(4096, 4096, 4096, 12), (8192, 8192, 8192, 3)]


class Bert(torch.nn.Module):
    """BERT-base as it is exported: its last hidden state."""

    def __init__(self):
        super().__init__()
        config = transformers.BertConfig(attn_implementation="eager")
        self.model = transformers.BertModel(config, add_pooling_layer=False)

    def forward(self, ids, mask):
        return self.model(ids, mask).last_hidden_state


def picture(batch):
    return {"x": torch.rand(batch, 3, 224, 224)}


def sentence(batch):
    tokens = torch.randint(0, 30_000, (batch, 128))
    return {"ids": tokens, "mask": torch.ones_like(tokens)}


MODELS = {
    "ResNet-50": (vision.resnet50, picture),
    "MobileNetV3-L": (vision.mobilenet_v3_large, picture),
    "EfficientNet-B0": (vision.efficientnet_b0, picture),
    "ViT-B/16": (vision.vit_b_16, picture),
    "BERT-base, 128 tokens": (Bert, sentence),
}


def refit(*arguments):
    done = subprocess.run([REFIT, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"refit {' '.join(map(str, arguments))}: {done.stderr or done.stdout}")
    return done.stdout


def bench(engine, *arguments):
    return json.loads(refit("bench", engine, "--device", "gpu", "--json", *arguments))


def median(work, runs=30):
    """The median time of `work` on the GPU in ms, the host's wait included."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def graph(model, inputs):
    """Times a CUDA graph of the model, and the same with its inputs sent and its output read; None where it cannot be captured."""
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            output = model(*inputs)
    except RuntimeError as why:
        print("no CUDA graph:", str(why).splitlines()[0], file=sys.stderr)
        torch.cuda.synchronize()
        return None, None
    pinned = [value.cpu().pin_memory() for value in inputs]
    read = torch.empty(output.shape, dtype=output.dtype).pin_memory()

    def with_copies():
        for value, source in zip(inputs, pinned):
            value.copy_(source, non_blocking=True)
        captured.replay()
        read.copy_(output, non_blocking=True)

    return median(captured.replay), median(with_copies)


def products(folder):
    for rows, cols, terms, count in PRODUCTS:
        weight = torch.rand(terms, cols) * 2 - 1
        weight *= (3 / terms) ** 0.5
        names = ["x", *(f"t{i}" for i in range(1, count)), "y"]
        nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in zip(names, names[1:])]
        value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, cols])
        tensors = [numpy_helper.from_array(weight.numpy(), "w")]
        model = helper.make_graph(nodes, "products", [value("x")], [value("y")], tensors)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(model, opset_imports=opset, ir_version=8), folder / "model.onnx")
        refit("build", folder / "model.onnx", "-o", folder / "model.engine")
        steps = bench(folder / "model.engine", "--iterations", 5, "--profile")["steps"]
        ours = statistics.median(step["gflops"] for step in steps) / 1e3
        left, right = torch.rand(rows, terms, device="cuda") * 2 - 1, weight.cuda()
        theirs = 2e-9 * rows * cols * terms / median(lambda: left @ right, 10)
        yield {"product": [rows, cols, terms], "refit_tflops": ours, "torch_tflops": theirs}


def error(engine, inputs, expected, folder):
    """The largest difference of a run's output, as a share of the largest element."""
    given = []
    for name, value in inputs.items():
        numpy.save(folder / f"{name}.npy", value.numpy())
        given += ["--input", f"{name}={folder / name}.npy"]
    refit("run", engine, "--device", "gpu", *given, "--out", folder / "out")
    found = numpy.load(folder / "out" / "y.npy")
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def made(make):
    """A model with weights as they are made up, but none that is all zeros, as the last layer of some: outputs would tell nothing."""
    model = make().eval()
    for weight in model.parameters():
        if weight.dim() > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    return model


@torch.no_grad()
def models(folder):
    for name, (make, made_up) in MODELS.items():
        model = made(make)
        for batch in BATCHES:
            inputs = made_up(batch)
            arguments = tuple(inputs.values())
            path, engine = folder / "model.onnx", folder / "model.engine"
            # Without gradients attention is one operator, which the exporter does not know.
            with torch.enable_grad():
                torch.onnx.export(model, arguments, path, input_names=list(inputs), output_names=["y"],
                                  opset_version=17, dynamo=False)
            refit("build", path, "-o", engine)
            row = {"model": name, "batch": batch}
            row["error"] = error(engine, inputs, model(*arguments).numpy(), folder)
            if not row["error"] < TOLERANCE:
                sys.exit(f"{name}, batch {batch}: the output is off by {row['error']:.2e}")
            row["refit_ms"] = bench(engine, "--iterations", 50, "--warmup", 10)["median_ms"]
            steps = bench(engine, "--iterations", 10, "--profile")["steps"]
            row["steps_ms"] = sum(step["min_ms"] for step in steps)
            model.cuda()
            on_gpu = [value.cuda() for value in arguments]
            row["eager_ms"] = median(lambda: model(*on_gpu))
            row["graph_ms"], row["graph_copies_ms"] = graph(model, on_gpu)
            model.cpu()
            yield row


def shown(value):
    return "–" if value is None else f"{value:.2f}"


def table(report):
    facts = report["facts"]
    lines = [f"# {facts['gpu']}, {facts['date']}", "",
             f"Commit {facts['commit']}; driver {facts['driver']}; PyTorch {facts['torch']}; f32, TF32 off; "
             f"{facts['copy_gbytes']:.0f} GB/s copied. Made by `cargo xtask bench gpu`.", "",
             "| product | refit, TFLOP/s | PyTorch | share |", "|---|---|---|---|"]
    for row in report["products"]:
        ours, theirs = row["refit_tflops"], row["torch_tflops"]
        size = " × ".join(map(str, row["product"]))
        lines.append(f"| {size} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.0%} |")
    lines += ["", "A run in ms, with inputs sent and outputs read but for the columns that say otherwise; `kernels` is the sum of the least times of "
              "refit's steps by the GPU's clock.", "",
              "| model | batch | refit | kernels | eager | CUDA graph, no copies | graph and copies | refit / graph and copies | error |",
              "|---|---|---|---|---|---|---|---|---|"]
    for row in report["models"]:
        peer = row["graph_copies_ms"]
        share = "–" if peer is None else f"{row['refit_ms'] / peer:.2f}"
        cells = [shown(row[key]) for key in ("refit_ms", "steps_ms", "eager_ms", "graph_ms", "graph_copies_ms")]
        lines.append(f"| {row['model']} | {row['batch']} | {' | '.join(cells)} | {share} | {row['error']:.1e} |")
    return "\n".join(lines) + "\n"


def facts():
    source = torch.rand(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * 4 * source.numel() / median(lambda: target.copy_(source), 10) / 1e6
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": subprocess.run(query, capture_output=True, text=True).stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "commit": (HERE / "commit").read_text().strip(),
        "torch": torch.__version__,
        "copy_gbytes": copied,
    }


def main():
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    report = {"facts": facts(), "products": [], "models": []}
    with tempfile.TemporaryDirectory() as name:
        for part, rows in (("products", products), ("models", models)):
            for row in rows(pathlib.Path(name)):
                print(json.dumps(row), flush=True)
                report[part].append(row)
    (HERE / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (HERE / "report.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
