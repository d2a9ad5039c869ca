"""The interface of onnxruntime over engines: `import refit.ort as onnxruntime`.

A session builds an engine from an ONNX file, or opens an engine file. Its `refit` gives it new weights while it serves.
"""

from __future__ import annotations

import ctypes
import enum
import warnings
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np

from refit import _refit
from refit._refit import Cancel, Engine, Module
from refit.errors import InvalidOptions
from refit.types import File, Port, Weights

__version__ = _refit.__version__

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtDevice",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "set_default_logger_severity",
    "set_seed",
]

_CPU, _GPU = "CPUExecutionProvider", "RefitExecutionProvider"

_TYPES = {
    "f32": ("float", np.float32),
    "f64": ("double", np.float64),
    "f16": ("float16", np.float16),
    "bf16": ("bfloat16", None),
    "i8": ("int8", np.int8),
    "i16": ("int16", np.int16),
    "i32": ("int32", np.int32),
    "i64": ("int64", np.int64),
    "u8": ("uint8", np.uint8),
    "u16": ("uint16", np.uint16),
    "u32": ("uint32", np.uint32),
    "u64": ("uint64", np.uint64),
    "bool": ("bool", np.bool_),
    "string": ("string", np.object_),
    "f8e4m3fn": ("float8e4m3fn", None),
    "f8e4m3fnuz": ("float8e4m3fnuz", None),
    "f8e5m2": ("float8e5m2", None),
    "f8e5m2fnuz": ("float8e5m2fnuz", None),
}


class GraphOptimizationLevel(enum.IntEnum):
    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    DEFAULT = 0
    PRIORITY_BASED = 1


class SessionOptions:
    """Options of a session. `intra_op_num_threads`, `graph_optimization_level` (only whether it is `ORT_DISABLE_ALL`) and free
    dimensions mean what they do in onnxruntime; what has no meaning here is kept and does nothing."""

    def __init__(self) -> None:
        self.intra_op_num_threads = 0
        self.inter_op_num_threads = 0
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.execution_order = ExecutionOrder.DEFAULT
        self.enable_profiling = False
        self.enable_mem_pattern = True
        self.enable_mem_reuse = True
        self.enable_cpu_mem_arena = True
        self.use_deterministic_compute = True
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.profile_file_prefix = ""
        self.optimized_model_filepath = ""
        self._entries: dict[str, str] = {}
        self._dimensions: dict[str, int] = {}
        self._initializers: dict[str, Any] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        if key not in self._entries:
            raise InvalidOptions(f"no entry {key!r} was added")
        return self._entries[key]

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Gives every size of this name in the inputs' shapes a number."""
        self._dimensions[name] = size

    def add_initializer(self, name: str, value: Any) -> None:
        """Replaces an initializer of the model: a refit of this one weight."""
        self._initializers[name] = value.numpy() if isinstance(value, OrtValue) else value


class RunOptions:
    """Options of a run; `terminate` ends the runs that have them."""

    def __init__(self) -> None:
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = True
        self._entries: dict[str, str] = {}
        self._cancel = Cancel()

    @property
    def terminate(self) -> bool:
        return self._cancel.is_cancelled

    @terminate.setter
    def terminate(self, value: bool) -> None:
        if value:
            self._cancel.cancel()
        else:
            self._cancel = Cancel()

    def add_run_config_entry(self, key: str, value: str) -> None:
        self._entries[key] = value

    def get_run_config_entry(self, key: str) -> str:
        return self._entries[key]


class NodeArg:
    """An input or output: `name`, `type` such as `tensor(float)`, and `shape`."""

    def __init__(self, port: Port) -> None:
        self.name = port.name
        kind = f"tensor({_TYPES[port.dtype][0] if port.dtype in _TYPES else port.dtype})"
        if port.form.endswith("sequence"):
            kind = f"seq({kind})"
        self.type = f"optional({kind})" if port.form.startswith("optional") else kind
        self.shape: list[Union[int, str, None]] = list(port.shape or ())

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape!r})"


class ModelMetadata:
    """What is known of the model; an engine keeps its custom metadata."""

    def __init__(self, custom: dict[str, str]) -> None:
        self.custom_metadata_map = custom
        self.producer_name = ""
        self.graph_name = ""
        self.domain = ""
        self.description = ""
        self.graph_description = ""
        self.version = 0


class OrtDevice:
    """Where a value is: always on the host here."""

    def device_type(self) -> str:
        return "cpu"

    def device_id(self) -> int:
        return 0


def _on_host(device_type: str) -> None:
    if device_type != "cpu":
        raise InvalidOptions(f"values are on the host, device type \"cpu\": found {device_type!r}")


class OrtValue:
    """A tensor on the host, or a sequence of tensors."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @staticmethod
    def ortvalue_from_numpy(numpy_obj: Any, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        _on_host(device_type)
        return OrtValue(np.array(numpy_obj, order="C", copy=True))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        _on_host(device_type)
        return OrtValue(np.zeros(tuple(shape), dtype=element_type))

    @staticmethod
    def from_dlpack(value: Any, is_bool_tensor: bool = False) -> OrtValue:
        array = np.from_dlpack(value)
        return OrtValue(array.view(np.bool_) if is_bool_tensor else array)

    def numpy(self) -> Any:
        return self._value

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        return np.asarray(self._value, dtype=dtype)

    def __dlpack__(self, **options: Any) -> Any:
        return self._value.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def shape(self) -> list[int]:
        return list(np.shape(self._value))

    def data_type(self) -> str:
        found = [name for name, dtype in _TYPES.values() if dtype is not None and np.dtype(dtype) == self._value.dtype]
        return f"tensor({found[0] if found else self._value.dtype.name})"

    def data_ptr(self) -> int:
        return int(self._value.ctypes.data)

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._value is not None

    def is_tensor(self) -> bool:
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def update_inplace(self, np_arr: Any) -> None:
        np.copyto(self._value, np_arr)


def _at(pointer: int, shape: Sequence[int], element_type: Any) -> Any:
    """The array at an address, which its owner keeps alive."""
    dtype = np.dtype(element_type)
    size = int(np.prod(tuple(shape), dtype=np.int64)) * dtype.itemsize
    memory = (ctypes.c_char * size).from_address(pointer)
    return np.frombuffer(memory, dtype=dtype).reshape(tuple(shape))


class IOBinding:
    """Inputs and outputs of `InferenceSession.run_with_iobinding`."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._results: dict[str, Any] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        self._inputs[name] = arr_on_cpu

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        _on_host(device_type)
        self._inputs[name] = _at(buffer_ptr, shape, element_type)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        self._inputs[name] = ortvalue

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Optional[Sequence[int]] = None,
        buffer_ptr: Optional[int] = None,
    ) -> None:
        _on_host(device_type)
        known = buffer_ptr is not None and shape is not None and element_type is not None
        self._outputs[name] = _at(buffer_ptr or 0, shape or (), element_type) if known else None

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        self._outputs[name] = ortvalue.numpy()

    def synchronize_inputs(self) -> None:
        """Nothing is left to be done on the host."""

    def synchronize_outputs(self) -> None:
        """Nothing is left to be done on the host."""

    def get_outputs(self) -> list[OrtValue]:
        return [OrtValue(value) for value in self._results.values()]

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        return self.get_outputs()

    def copy_outputs_to_cpu(self) -> list[Any]:
        return list(self._results.values())

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._outputs.clear()
        self._results.clear()

    def _run(self, run_options: Optional[RunOptions]) -> None:
        names = list(self._outputs) or None
        results = self._session._run(names, self._inputs, run_options)
        for name, value in results.items():
            place = self._outputs.get(name)
            if place is not None:
                np.copyto(place, value)
                results[name] = place
        self._results = results


def _result(value: Any) -> Any:
    if isinstance(value, list):
        return [_result(element) for element in value]
    return value.numpy() if isinstance(value, _refit.Array) else value


def _names(providers: Optional[Sequence[Any]]) -> list[str]:
    given = providers if providers is not None else get_available_providers()
    return [provider if isinstance(provider, str) else provider[0] for provider in given]


class InferenceSession:
    """As onnxruntime's, over an engine: a model is a path, the bytes of an ONNX file or of an engine file, or an `Engine`."""

    def __init__(
        self,
        path_or_bytes: Union[File, Engine],
        sess_options: Optional[SessionOptions] = None,
        providers: Optional[Sequence[Any]] = None,
        provider_options: Optional[Sequence[dict[Any, Any]]] = None,
        **kwargs: Any,
    ) -> None:
        options = sess_options if sess_options is not None else SessionOptions()
        wanted, available = _names(providers), get_available_providers()
        unknown = [name for name in wanted if name not in available]
        if unknown:
            warnings.warn(
                f"providers {', '.join(unknown)} are not available here; available: {', '.join(available)}", stacklevel=2
            )
        self._providers = [name for name in wanted if name in available] or [_CPU]
        self._options = options
        self._session_options = options
        engine = self._engine(path_or_bytes, options)
        if options._initializers:
            engine = engine.fill(options._initializers, partial=True)
        threads = options.intra_op_num_threads if self._providers[0] == _CPU else 0
        device = "gpu" if self._providers[0] == _GPU else "cpu"
        self.module = Module(engine, device, threads=threads or None)

    @staticmethod
    def _engine(given: Union[File, Engine], options: SessionOptions) -> Engine:
        if isinstance(given, Engine):
            return given
        if isinstance(given, (bytes, bytearray, memoryview)):
            start = bytes(given[:6])
        else:
            with open(given, "rb") as file:
                start = file.read(6)
        if start == b"\x93REFIT":
            return Engine.load(given)
        optimise = options.graph_optimization_level != GraphOptimizationLevel.ORT_DISABLE_ALL
        engine = Engine.build(given, optimise=optimise)
        sizes = options._dimensions
        fixed = {
            port.name: [sizes.get(size, size) if isinstance(size, str) else size for size in port.shape]
            for port in engine.inputs
            if port.shape is not None and any(size in sizes for size in port.shape)
        }
        shapes = {
            name: [size for size in shape if isinstance(size, int)]
            for name, shape in fixed.items()
            if all(isinstance(size, int) for size in shape)
        }
        return Engine.build(given, optimise=optimise, shapes=shapes) if shapes else engine

    def refit(self, weights: Weights, **options: Any) -> str:
        """New weights, as in `refit.Module.refit`: what onnxruntime cannot do."""
        return self.module.refit(weights, **options)

    def run(
        self,
        output_names: Optional[Sequence[str]],
        input_feed: Mapping[str, Any],
        run_options: Optional[RunOptions] = None,
    ) -> list[Any]:
        return list(self._run(output_names, input_feed, run_options).values())

    def run_with_ort_values(
        self,
        output_names: Optional[Sequence[str]],
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: Optional[RunOptions] = None,
    ) -> list[OrtValue]:
        return [OrtValue(value) for value in self.run(output_names, input_dict_ort_values, run_options)]

    def run_with_iobinding(self, iobinding: IOBinding, run_options: Optional[RunOptions] = None) -> None:
        iobinding._run(run_options)

    def _run(
        self, names: Optional[Sequence[str]], feed: Mapping[str, Any], run_options: Optional[RunOptions]
    ) -> dict[str, Any]:
        cancel = run_options._cancel if run_options is not None else None
        feeds = {name: value.numpy() if isinstance(value, OrtValue) else value for name, value in feed.items()}
        outputs = self.module.run(feeds, list(names) if names else None, cancel=cancel)
        return {name: _result(value) for name, value in outputs.items()}

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def get_inputs(self) -> list[NodeArg]:
        return [NodeArg(port) for port in self.module.inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [NodeArg(port) for port in self.module.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        return []

    def get_modelmeta(self) -> ModelMetadata:
        return ModelMetadata(self.module.engine.metadata)

    def get_providers(self) -> list[str]:
        return [*self._providers, _CPU] if _CPU not in self._providers else list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: {} for name in self.get_providers()}

    def get_session_options(self) -> SessionOptions:
        return self._options

    def enable_fallback(self) -> None:
        """Nothing falls back here."""

    def disable_fallback(self) -> None:
        """Nothing falls back here."""


def get_available_providers() -> list[str]:
    """`RefitExecutionProvider` where there is a GPU, and `CPUExecutionProvider`."""
    return [_GPU, _CPU] if len(_refit.devices()) > 1 else [_CPU]


def get_all_providers() -> list[str]:
    return [_GPU, _CPU]


def get_device() -> str:
    return "GPU" if len(get_available_providers()) > 1 else "CPU"


def set_default_logger_severity(severity: int) -> None:
    """There is no logger."""


def set_seed(seed: int) -> None:
    """Random operators take the seed of a run: `refit.Module.run(…, seed=…)`."""
    warnings.warn("set_seed does nothing: runs take a seed of their own, refit.Module.run(seed=...)", stacklevel=2)
