"""run.py MODEL FOLDER RUNS [OUTPUT=INPUT …]: ONNX Runtime over FOLDER/in0, in1 …, results in FOLDER/out0, out1 …

OUTPUT=INPUT hands a result to the next run as its input.
"""

import sys

import onnxruntime
import tensors

model, folder, runs, *pairs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
carried = {}
for index in range(int(runs)):
    inputs = tensors.load(f"{folder}/in{index}") | carried
    outputs = dict(zip(names, session.run(names, inputs)))
    tensors.save(f"{folder}/out{index}", outputs)
    carried = {target: outputs[source] for source, target in (pair.split("=") for pair in pairs)}
