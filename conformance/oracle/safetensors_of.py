"""safetensors_of.py OUT MODEL.onnx: every initializer of the model's main graph, under its name, read by the onnx package."""

import sys

import onnx
import safetensors.numpy
from onnx import numpy_helper

out, model = sys.argv[1:]
graph = onnx.load(model).graph
tensors = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
for node in graph.node:
    if node.op_type == "Constant" and node.attribute[0].name == "value":
        tensors[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
safetensors.numpy.save_file({name: array.copy() for name, array in tensors.items()}, out)
