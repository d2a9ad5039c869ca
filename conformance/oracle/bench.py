"""bench.py MODEL FOLDER THREADS: ONNX Runtime over FOLDER/in0. Each line N on stdin asks for N runs, whose times in
seconds are the answer, one line."""

import sys
import time

import onnxruntime
import tensors

model, folder, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
inputs = tensors.load(f"{folder}/in0")
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        begun = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - begun)
    print(*times, flush=True)
