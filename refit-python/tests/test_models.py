"""Real models: one script, run by onnxruntime and by `refit.ort` in its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import refit
import refit.ort

MODELS = [Path(path) for path in os.environ.get("REFIT_MODELS", "").split(os.pathsep) if path]

SCRIPT = """
import numpy as np
import onnxruntime

random = np.random.default_rng(0)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

def made(port):
    # A batch has two entries; every other size that is free is that of a line of text.
    free = [i for i, size in enumerate(port.shape) if not isinstance(size, int)]
    shape = [size if i not in free else 2 if i == 0 else 96 for i, size in enumerate(port.shape)]
    if port.type == "tensor(float)":
        return random.standard_normal(shape, dtype=np.float32)
    # Bytes of a file; or ids, masks and types.
    most = 256 if port.type == "tensor(int32)" else 2
    return random.integers(0, most, shape).astype(port.type[7:-1])

feeds = {port.name: made(port) for port in session.get_inputs()}
outputs = dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds)))
ports = [(port.name, port.type, len(port.shape)) for port in session.get_inputs() + session.get_outputs()]
"""


def run(model: Path) -> dict[str, object]:
    names: dict[str, object] = {"model": str(model)}
    exec(SCRIPT, names)
    return names


@pytest.mark.skipif(not MODELS, reason="REFIT_MODELS names no models; cargo xtask python gives six")
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_a_script_of_onnxruntime_gives_the_same(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    expected = run(model)
    monkeypatch.setitem(sys.modules, "onnxruntime", refit.ort)
    found = run(model)
    assert found["session"].__class__ is refit.ort.InferenceSession
    assert found["ports"] == expected["ports"]
    for (name, a), b in zip(expected["outputs"].items(), found["outputs"].values()):  # type: ignore[attr-defined]
        assert a.dtype == b.dtype and np.allclose(a, b, rtol=1e-3, atol=1e-4), name


@pytest.mark.skipif(not MODELS, reason="REFIT_MODELS names no models; cargo xtask python gives six")
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_a_real_model_is_stripped_and_refitted(model: Path) -> None:
    engine = refit.Engine.build(model)
    module = refit.Module(engine.strip(), "cpu")
    assert module.refit(model) == engine.version
    other = {name: array.numpy() + 0 for name, array in engine.state_dict().items()}
    assert module.refit(other) == engine.version and module.rollback() == engine.version
