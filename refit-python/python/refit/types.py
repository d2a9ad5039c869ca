"""What engines and reports are made of, as plain named tuples."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Literal, Mapping, NamedTuple, Optional, Protocol, Sequence, Union

if TYPE_CHECKING:
    from refit._refit import Engine, Module


class SerializesToString(Protocol):
    """An `onnx.ModelProto`, or what looks like one."""

    def SerializeToString(self) -> bytes: ...


class HasStateDict(Protocol):
    """A `torch.nn.Module`, or what looks like one."""

    def state_dict(self) -> Mapping[str, Any]: ...


StrPath = Union[str, "os.PathLike[str]"]

File = Union[StrPath, bytes, bytearray, memoryview]
"""A file: its path, or its contents."""

Model = Union[File, SerializesToString]
"""A model: a path, the bytes of an ONNX file, or an `onnx.ModelProto`."""

Weights = Union[Mapping[str, Any], File, Sequence[StrPath], "Engine", "Module", HasStateDict]
"""Weights: arrays by name, the path of a file or several, the bytes of one, an engine, a module of refit or of PyTorch."""

Adapter = Union[StrPath, tuple[StrPath, float]]
Adapters = Union[Adapter, Sequence[Adapter]]
"""Adapters: paths of files or folders, or pairs of one and a scale."""

Progress = Callable[[int, int], object]
"""Called with bytes done and bytes to do."""


class Port(NamedTuple):
    """An input or output of an engine."""

    name: str
    dtype: str
    """Element type of its tensors: `"f32"`, `"i64"`, `"bool"`, `"string"`, …"""
    shape: Optional[tuple[Union[int, str], ...]]
    """Sizes of the axes: a number, or a name that stands for one; `None` if not even the rank is known."""
    form: str
    """`"tensor"`, `"sequence"`, `"optional tensor"` or `"optional sequence"`."""


class Weight(NamedTuple):
    """A row of an engine's weight table."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: Literal["weight", "parameter"]
    """What a layer learns; or a constant of arithmetic that may be replaced too, and is never stripped."""
    nbytes: int
    stored: bool
    """Whether its values are in the engine."""
    fixed: Optional[str]
    """Why it takes no other values than those it was built with; `None` if it takes any."""
    digest: Optional[str]
    """BLAKE3 of its values, as 64 hexadecimal digits, where it is known."""
    aliases: tuple[str, ...]
    """Other names under which a source may bring it."""


class Misfit(NamedTuple):
    """Something that speaks against weights."""

    kind: str
    """`"missing"`, `"extra"`, `"shape"`, `"dtype"`, `"values"`, `"literal"`, `"conflict"` or `"frozen"`."""
    name: Optional[str]
    """The tensor; `None` for a frozen engine."""
    message: str
    """The whole of it in words."""


class FitReport(NamedTuple):
    """What a refit would do with weights."""

    taken: list[tuple[str, str]]
    """The engine's name and the source's, of every weight that is taken."""
    kept: list[str]
    """Weights that the source lacks and that keep their values."""
    unused: list[str]
    """Tensors of the source that the engine has no use for."""
    misfits: list[Misfit]
    """Everything that is wrong."""
    remarks: list[str]
    """What there is to say beside that, in words."""

    @property
    def fits(self) -> bool:
        """Whether nothing is wrong."""
        return not self.misfits

    def __bool__(self) -> bool:
        return self.fits


if TYPE_CHECKING:
    _Base = dict[str, Any]
else:
    _Base = dict


class Outputs(_Base):
    """Outputs of a run by name, in the model's order: an `Array` each; a list of arrays for a sequence, NumPy's array for strings,
    `None` for an optional value that is absent."""

    version: str
    """The version of the weights that made them."""
