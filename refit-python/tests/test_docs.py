"""What is public has a docstring, and the examples in docstrings run."""

from __future__ import annotations

import doctest
import inspect
from types import ModuleType

import pytest

import refit
import refit.errors
import refit.hub
import refit.ort
import refit.types


@pytest.mark.parametrize("module", [refit, refit.errors, refit.hub, refit.ort, refit.types], ids=lambda m: m.__name__)
def test_examples_in_docstrings_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", [name for name in refit.__all__ if not name.startswith("__")])
def test_everything_public_has_a_docstring(name: str) -> None:
    thing = getattr(refit, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and thing.__module__ == "refit":
        for member, value in vars(thing).items():
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"
