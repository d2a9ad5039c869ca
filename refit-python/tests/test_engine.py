"""Engines: built, stripped, filled, saved and described."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import models
import refit


class Proto:
    """Something like onnx.ModelProto."""

    def SerializeToString(self) -> bytes:
        return models.dense()


def test_a_model_is_a_path_bytes_or_a_proto(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.dense())
    built = [refit.Engine.build(given) for given in (path, str(path), models.dense(), Proto())]
    assert len({engine.version for engine in built}) == 1


def test_the_onnx_packages_models_are_taken() -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load_from_string(models.dense())
    assert refit.Engine.build(proto).to_bytes() == refit.Engine.build(models.dense()).to_bytes()


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_products_round_their_weights(precision: str) -> None:
    plain = refit.Engine.build(models.dense())
    engine = refit.Engine.build(models.dense(), precision=precision)
    assert engine.flags == {"REFIT", precision.upper()}
    stripped = engine.strip()
    assert stripped.flags == engine.flags | {"EXCLUDE_WEIGHTS"}
    assert stripped.fill(models.weights()).to_bytes() == engine.to_bytes()
    assert engine.version == plain.version
    with pytest.raises(refit.InvalidOptions, match="f16"):
        refit.Engine.build(models.dense(), precision="half")


def test_strip_then_fill_is_the_full_build(engine: refit.Engine, tmp_path: Path) -> None:
    stripped = engine.strip()
    assert stripped.missing == ["b", "w"] and stripped.version is None
    assert "EXCLUDE_WEIGHTS" in stripped.flags and engine.flags == {"REFIT"}
    filled = stripped.fill(models.weights())
    assert filled.to_bytes() == engine.to_bytes() and filled.version == engine.version
    engine.save(tmp_path / "stripped.engine", strip=True)
    again = refit.Engine.load(tmp_path / "stripped.engine")
    assert again.missing == stripped.missing
    assert again.fill(models.weights()).to_bytes() == engine.to_bytes()


def test_files_are_loaded_by_path_and_as_bytes_and_a_stripped_one_is_saved_as_it_is(
    engine: refit.Engine, tmp_path: Path
) -> None:
    path = tmp_path / "model.engine"
    engine.save(path)
    assert path.read_bytes() == engine.to_bytes()
    for given in (path, str(path), path.read_bytes()):
        assert refit.Engine.load(given).version == engine.version
    stripped = engine.strip()
    assert stripped.to_bytes() == engine.to_bytes(strip=True)
    frozen = refit.Engine.load(engine.to_bytes(freeze=True))
    assert frozen.flags == frozenset()
    with pytest.raises(refit.NotRefittable):
        frozen.fill(models.weights())
    assert "COMPRESSED" in refit.Engine.load(engine.to_bytes(compress=True)).flags


def test_ports_and_weights_are_described(engine: refit.Engine) -> None:
    assert engine.inputs == [refit.Port("x", "f32", ("n", 4), "tensor")]
    assert engine.outputs == [refit.Port("y", "f32", ("n", 3), "tensor")]
    w = engine.weights[1]
    assert (w.name, w.dtype, w.shape, w.kind, w.nbytes, w.stored, w.fixed) == ("w", "f32", (4, 3), "weight", 48, True, None)
    assert w.digest is not None and len(w.digest) == 64
    for text in (repr(engine), engine._repr_html_()):
        assert "x: f32[n, 4]" in text and str(engine.version) in text
    assert "<table>" in engine._repr_html_() and "2 missing" in repr(engine.strip())


def test_an_engine_is_pickled_with_its_weights_and_copied_as_itself(engine: refit.Engine) -> None:
    assert pickle.loads(pickle.dumps(engine)).to_bytes() == engine.to_bytes()
    assert pickle.loads(pickle.dumps(engine.strip())).missing == ["b", "w"]
    assert copy.deepcopy(engine) is engine and copy.copy(engine) is engine


def test_the_state_dict_is_a_copy(engine: refit.Engine) -> None:
    state = engine.state_dict()
    assert np.array_equal(state["w"], models.weights()["w"])
    state["w"].numpy()[:] = 0
    assert np.array_equal(engine.state_dict()["w"], models.weights()["w"])
    with pytest.raises(refit.MissingWeights) as caught:
        engine.strip().state_dict()
    assert caught.value.names == ["b", "w"]


def test_options_of_a_build() -> None:
    engine = refit.Engine.build(models.dense(), refit="none", shapes={"x": [2, 4]})
    assert engine.inputs[0].shape == (2, 4) and engine.flags == frozenset()
    engine = refit.Engine.build(models.dense(), refit_only=["w"])
    assert [weight.fixed for weight in engine.weights] == ["frozen", None]
    with pytest.raises(refit.InvalidOptions, match="identical"):
        refit.Engine.build(models.dense(), refit="some")  # type: ignore[arg-type]
    with pytest.raises(refit.InvalidOptions, match="checkpoint"):
        refit.Engine.build(models.dense(), bind={"w": "constant"})
    for shape in ([-1, 4], "ab", 3):
        with pytest.raises(refit.InvalidOptions, match="shapes"):
            refit.Engine.build(models.dense(), shapes={"x": shape})  # type: ignore[dict-item]


def test_a_checkpoint_gives_weights_its_names(x: np.ndarray) -> None:
    given = models.weights()
    checkpoint = {"fc.weight": np.ascontiguousarray(given["w"].T), "fc.bias": given["b"]}
    engine = refit.Engine.build(models.dense(), checkpoint=checkpoint)
    assert sorted(weight.name for weight in engine.weights) == ["fc.bias", "fc.weight"]
    assert engine.binding is not None and len(engine.binding["bound"]) == 2
    other = models.weights(1)
    module = refit.Module(engine, "cpu")
    module.refit({"fc.weight": other["w"].T, "fc.bias": other["b"]})
    assert np.allclose(module(x)["y"], x @ other["w"] + other["b"], rtol=1e-5, atol=1e-5)
    with pytest.raises(refit.Unbound) as caught:
        refit.Engine.build(models.dense(), checkpoint={"fc.bias": given["b"], "fc.weight": given["w"] + 1})
    assert caught.value.report["unbound"]
    bound = refit.Engine.build(
        models.dense(), checkpoint=checkpoint, bind={"w": "fc.weight", "b": {"tensor": "fc.bias"}}
    )
    assert bound.to_bytes() == engine.to_bytes()
