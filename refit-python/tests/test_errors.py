"""Exceptions: one class for each kind of fault, with what it has to say."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import models
import refit
import refit.errors


def test_a_file_that_is_not_there_is_a_file_not_found(tmp_path: Path, module: refit.Module) -> None:
    path = tmp_path / "none.engine"
    calls = (
        lambda: refit.Engine.load(path),
        lambda: refit.Engine.build(path),
        lambda: refit.Module(path),
        lambda: module.refit(path),
        lambda: module.refit([path]),
        lambda: module.refit(None, lora=path),
    )
    for call in calls:
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert str(caught.value.filename) == str(path)
    with pytest.raises(OSError):
        refit.Engine.load(tmp_path)


def test_damaged_files(tmp_path: Path, engine: refit.Engine, module: refit.Module) -> None:
    damaged = bytearray(engine.to_bytes())
    damaged[600] ^= 1
    for wrong in (b"", b"no engine", bytes(damaged), engine.to_bytes()[:-1]):
        with pytest.raises(refit.InvalidFile):
            refit.Engine.load(wrong)
        with pytest.raises(refit.InvalidFile):
            refit.Engine.build(wrong)
    source = tmp_path / "weights.safetensors"
    source.write_bytes(b"\x09\0\0\0\0\0\0\0{")
    with pytest.raises(refit.InvalidFile):
        module.refit(source)
    for wrong in (b"", b"PK\x03\x04 and no archive", b"GGUF", source.read_bytes()):
        with pytest.raises(refit.InvalidFile):
            module.refit(wrong)


def test_unsupported_operators_are_named() -> None:
    nodes = [models.node("Nope", ["x"], ["y"]), models.node("Nope", ["y"], ["z"])]
    model = models.model(nodes, [("x", "float32", [1])], [("z", "float32", [1])])
    with pytest.raises(refit.Unsupported, match="Nope") as caught:
        refit.Engine.build(model)
    assert caught.value.nodes == ["/Nope/y", "/Nope/z"]


def test_exceptions_are_pickled_with_what_they_say(module: refit.Module) -> None:
    with pytest.raises(refit.MissingWeights) as caught:
        module.refit({})
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.names == caught.value.names == ["b", "w"] and again.misfits == caught.value.misfits


def test_every_class_is_an_error() -> None:
    known = {value for value in vars(refit.errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert all(issubclass(one, refit.Error) for one in known)
    assert known == {getattr(refit, one.__name__) for one in known} and {one.__name__ for one in known} <= set(refit.__all__)
