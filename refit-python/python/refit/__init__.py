"""Swap a model's weights without recompiling it.

An `Engine` is a compiled ONNX model, with its weights or stripped of them. A `Module` is an engine on a device: it runs, and takes
new weights while it runs.

>>> import refit
>>> sorted(name for name in refit.__all__ if name[0].islower())
['devices']

`refit.torch` works with PyTorch's modules, `refit.ort` has the interface of onnxruntime, `refit.hub` knows the cache of the Hugging Face hub.
"""

from refit._refit import Array, Cancel, Engine, Module, __version__, devices
from refit.errors import (
    Cancelled,
    DeviceError,
    Error,
    InvalidFile,
    InvalidInputs,
    InvalidOptions,
    MissingWeights,
    NotRefittable,
    OutOfMemory,
    Unbound,
    UnfitWeights,
    Unsupported,
)
from refit.types import FitReport, Misfit, Outputs, Port, Weight

__all__ = [
    "Array",
    "Cancel",
    "Cancelled",
    "DeviceError",
    "Engine",
    "Error",
    "FitReport",
    "InvalidFile",
    "InvalidInputs",
    "InvalidOptions",
    "MissingWeights",
    "Misfit",
    "Module",
    "NotRefittable",
    "OutOfMemory",
    "Outputs",
    "Port",
    "Unbound",
    "UnfitWeights",
    "Unsupported",
    "Weight",
    "__version__",
    "devices",
]
