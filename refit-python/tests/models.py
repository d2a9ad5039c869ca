"""Small ONNX models, written without the onnx package: a message is a list of (field number, value)."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence

import numpy as np

Field = tuple[int, Any]

_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "str": 8, "bool": 9, "float16": 10, "float64": 11, "bfloat16": 16}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(fields: Iterable[Field]) -> bytes:
    """A message of protobuf: integers as varints, everything else by its length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = [(1, size) for size in array.shape]
    return message([*dims, (2, _TYPES[array.dtype.name]), (8, name), (9, np.ascontiguousarray(array).tobytes())])


def _port(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = [(1, message([(1, size) if isinstance(size, int) else (2, size)])) for size in shape]
    tensor = message([(1, _TYPES[dtype]), (2, message(dims))])
    return message([(1, name), (2, message([(1, tensor)]))])


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int) -> bytes:
    attrs = [(5, message([(1, name), (20, 2), (3, value)])) for name, value in attributes.items()]
    names = [(1, name) for name in inputs] + [(2, name) for name in outputs]
    return message([*names, (3, f"/{op}/{outputs[0]}"), (4, op), *attrs])


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[tuple[str, str, Sequence[int | str]]],
    outputs: Sequence[tuple[str, str, Sequence[int | str]]],
    weights: Optional[dict[str, np.ndarray]] = None,
) -> bytes:
    """The bytes of a model of opset 17."""
    graph = [(1, node) for node in nodes] + [(2, "graph")]
    graph += [(5, _tensor(name, array)) for name, array in (weights or {}).items()]
    graph += [(11, _port(*port)) for port in inputs] + [(12, _port(*port)) for port in outputs]
    return message([(1, 8), (8, message([(2, 17)])), (7, message(graph))])


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of `dense`."""
    random = np.random.default_rng(seed)
    return {
        "w": random.standard_normal((4, 3), dtype=np.float32),
        "b": random.standard_normal(3, dtype=np.float32),
    }


def dense(seed: int = 0) -> bytes:
    """y = x · w + b."""
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    return model(nodes, [("x", "float32", ["n", 4])], [("y", "float32", ["n", 3])], weights(seed))


def identity(dtype: str) -> bytes:
    """y = x."""
    return model([node("Identity", ["x"], ["y"])], [("x", dtype, ["n"])], [("y", dtype, ["n"])])


def chain(length: int, size: int) -> bytes:
    """Many products with one matrix: a run that takes long."""
    names = ["x", *(f"h{i}" for i in range(length))]
    nodes = [node("MatMul", [a, "w"], [b]) for a, b in zip(names, names[1:])]
    w = np.eye(size, dtype=np.float32)
    return model(nodes, [("x", "float32", [size, size])], [(names[-1], "float32", [size, size])], {"w": w})


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """The bytes of a safetensors file of f32."""
    import json

    header, data = {}, bytearray()
    for name, array in tensors.items():
        start = len(data)
        data += np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(data)
