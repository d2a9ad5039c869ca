"""The interface of onnxruntime: the same script, here and there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import models
import refit
import refit.ort


def backends() -> list[Any]:
    found: list[Any] = [refit.ort]
    try:
        import onnxruntime

        found.append(onnxruntime)
    except ImportError:
        found.append(pytest.param(None, marks=pytest.mark.skip(reason="onnxruntime is not installed")))
    return found


@pytest.fixture(params=backends(), ids=lambda module: getattr(module, "__name__", "none"))
def onnxruntime(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture
def session(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(models.dense(), options, providers=["CPUExecutionProvider"])


def test_a_session_runs_and_says_what_it_takes(session: Any, x: np.ndarray) -> None:
    weights = models.weights()
    expected = x @ weights["w"] + weights["b"]
    for names in (None, ["y"]):
        (y,) = session.run(names, {"x": x})
        assert isinstance(y, np.ndarray) and y.dtype == np.float32 and np.allclose(y, expected, rtol=1e-5, atol=1e-5)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("x", "tensor(float)", ["n", 4])
    assert (made.name, made.type, made.shape) == ("y", "tensor(float)", ["n", 3])
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_modelmeta().custom_metadata_map == {}


def test_a_model_is_a_path_too_and_options_are_optional(onnxruntime: Any, x: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.dense())
    for given in (path, str(path)):
        session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
        assert session.run(None, {"x": x})[0].shape == (2, 3)
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers() and onnxruntime.get_device() in ("CPU", "GPU")


def test_values_and_bindings(onnxruntime: Any, session: Any, x: np.ndarray) -> None:
    (expected,) = session.run(None, {"x": x})
    value = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    assert value.shape() == [2, 4] and value.data_type() == "tensor(float)" and value.device_name() == "cpu"
    assert value.is_tensor() and np.array_equal(value.numpy(), x)
    assert np.array_equal(session.run_with_ort_values(["y"], {"x": value})[0].numpy(), expected)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], expected)
    assert np.array_equal(binding.get_outputs()[0].numpy(), expected)
    out = np.zeros((2, 3), dtype=np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    session.run_with_iobinding(binding)
    assert np.array_equal(out, expected)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value)
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32))
    session.run_with_iobinding(binding)
    assert np.array_equal(binding.get_outputs()[0].numpy(), expected)


def test_wrong_feeds_are_errors(session: Any, x: np.ndarray) -> None:
    for feed in ({}, {"x": x.astype(np.float64)}, {"x": x[:, :3]}):
        with pytest.raises(Exception):
            session.run(None, feed)
    with pytest.raises(Exception):
        session.run(["nope"], {"x": x})


def test_providers_that_are_not_there_are_warned_of(onnxruntime: Any) -> None:
    with pytest.warns(UserWarning, match="NoSuchExecutionProvider"):
        session = onnxruntime.InferenceSession(
            models.dense(), providers=["NoSuchExecutionProvider", "CPUExecutionProvider"]
        )
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_what_onnxruntime_cannot_do(x: np.ndarray) -> None:
    session = refit.ort.InferenceSession(models.dense(), providers=["CPUExecutionProvider"])
    session.refit(models.weights(1))
    other = refit.ort.InferenceSession(refit.Engine.build(models.dense(1)).to_bytes(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": x})[0], other.run(None, {"x": x})[0])
    options = refit.ort.SessionOptions()
    options.add_initializer("w", models.weights(1)["w"])
    options.add_free_dimension_override_by_name("n", 2)
    third = refit.ort.InferenceSession(models.dense(), options, providers=["CPUExecutionProvider"])
    assert third.get_inputs()[0].shape == [2, 4]
    expected = x @ models.weights(1)["w"] + models.weights(0)["b"]
    assert np.allclose(third.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)
    run_options = refit.ort.RunOptions()
    run_options.terminate = True
    with pytest.raises(refit.Cancelled):
        session.run(None, {"x": x}, run_options)
