"""load.py MODEL FOLDER THREADS: OpenVINO loading a compiled model over FOLDER/in0. It compiles MODEL once and keeps what it
compiled in files; the first line of the answer is the bytes of the whole compiled model and of what its cache keeps when asked to
leave weights out. Then each line N on stdin asks for N times, in seconds and one line: from the file to the first output.
"""

import pathlib
import sys
import time

import numpy
import openvino
import tensors

model, folder, threads = sys.argv[1:]
folder = pathlib.Path(folder)
# One stream and f32, as on the other side; by default it may calculate in fewer bits.
options = {"INFERENCE_NUM_THREADS": int(threads), "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
core = openvino.Core()
blob = folder / "compiled.blob"
blob.write_bytes(core.compile_model(model, "CPU", options).export_model().getvalue())
cache = {"CACHE_DIR": str(folder / "cache"), "CACHE_MODE": "OPTIMIZE_SIZE"}
openvino.Core().compile_model(model, "CPU", options | cache)
weightless = sum(file.stat().st_size for file in (folder / "cache").iterdir())
print(blob.stat().st_size, weightless, flush=True)

inputs = tensors.load(folder / "in0")


def first_output():
    # Mapped, not read: its pages are in memory already. Its import takes memory that it could write to.
    mapped = numpy.memmap(blob, numpy.uint8, mode="c")
    compiled = core.import_model(openvino.Tensor(mapped, shared_memory=True), "CPU", options)
    return compiled, compiled.create_infer_request().infer(inputs)


for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        begun = time.perf_counter()
        loaded = first_output()
        times.append(time.perf_counter() - begun)
        # What it takes to let go of it is counted on neither side.
        del loaded
    print(*times, flush=True)
