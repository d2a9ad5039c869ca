"""What refit raises. Every class is an `Error`; the text says what, where, what was expected and what was found."""

from __future__ import annotations

from typing import Any

from refit.types import Misfit


class Error(Exception):
    """The base of all exceptions of refit."""


class InvalidOptions(Error, ValueError):
    """Arguments contradict each other, or name what is not there."""


class InvalidInputs(Error, ValueError):
    """Inputs of a run are missing, unknown, or of the wrong type or shape."""

    problems: list[str] = []
    """A sentence for each input that is wrong."""


class InvalidFile(Error, ValueError):
    """A file is not what it says it is, or damaged."""


class UnfitWeights(Error):
    """Weights do not fit the engine; nothing was changed."""

    misfits: list[Misfit] = []
    """Everything that is wrong with them."""

    names: list[str] = []
    """The weights among them that are missing."""


class MissingWeights(Error):
    """Weights are not there: to run, or in what was given as all weights."""

    names: list[str] = []
    """The weights that are missing, by name."""

    misfits: list[Misfit] = []
    """The same as misfits, where weights were given."""


class NotRefittable(Error):
    """The engine is frozen: no weight may change."""

    misfits: list[Misfit] = []
    names: list[str] = []


class Unbound(Error):
    """It is not clear how a model's weights are made of a checkpoint."""

    report: dict[str, Any] = {}
    """What was bound (`bound`, `kept`) and what is open (`unbound`, `lost`)."""


class Unsupported(Error):
    """The model, or the engine, uses operators in ways that are not known here."""

    nodes: list[str] = []
    """The nodes that do."""


class DeviceError(Error):
    """There is no such device, it does not open, or it failed."""


class OutOfMemory(DeviceError, MemoryError):
    """A run is larger than its limits, or than the memory there is."""


class Cancelled(Error):
    """A `Cancel` ended the call."""
