from __future__ import annotations

import numpy as np
import pytest

import models
import refit


@pytest.fixture
def engine() -> refit.Engine:
    return refit.Engine.build(models.dense())


@pytest.fixture
def module(engine: refit.Engine) -> refit.Module:
    return refit.Module(engine, "cpu")


@pytest.fixture
def x() -> np.ndarray:
    return np.arange(8, dtype=np.float32).reshape(2, 4)


def pytest_report_header() -> list[str]:
    found = []
    for name in ("torch", "onnxruntime", "onnx", "ml_dtypes"):
        try:
            found.append(f"{name} {__import__(name).__version__}")
        except ImportError:
            found.append(f"{name} is not installed: its tests are skipped")
    return [f"refit {refit.__version__}, numpy {np.__version__}", *found]
