"""Modules: run, refitted, forked, copied, closed."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import models
import refit


def expected(x: np.ndarray, seed: int) -> np.ndarray:
    weights = models.weights(seed)
    return x @ weights["w"] + weights["b"]


def close(result: object, x: np.ndarray, seed: int) -> bool:
    return np.allclose(np.asarray(result), expected(x, seed), rtol=1e-5, atol=1e-5)


def test_inputs_go_by_position_by_name_and_as_a_dict(module: refit.Module, x: np.ndarray) -> None:
    for outputs in (module(x), module(x=x), module.run({"x": x}), module.run({"x": x}, ["y"])):
        assert list(outputs) == ["y"] and close(outputs["y"], x, 0)
        assert outputs.version == module.version
    assert [port.name for port in module.inputs + module.outputs] == ["x", "y"]


def test_wrong_inputs_are_all_named(module: refit.Module, x: np.ndarray) -> None:
    with pytest.raises(refit.InvalidInputs) as caught:
        module.run({"x": x.astype(np.int64), "z": x})
    assert len(caught.value.problems) == 2 and isinstance(caught.value, ValueError)
    with pytest.raises(refit.InvalidInputs, match='"x" is None'):
        module(None)
    with pytest.raises(refit.InvalidOptions, match="mapping"):
        module.run([x])  # type: ignore[arg-type]
    for call in (lambda: module(x, x), lambda: module(x, x=x), lambda: module.run({"x": x}, ["nope"]), module):
        with pytest.raises(refit.InvalidInputs):
            call()


def test_there_and_back_again(module: refit.Module, x: np.ndarray) -> None:
    first = module(x)["y"].numpy()
    a = module.version
    b = module.refit(models.weights(1))
    assert b == module.version != a and close(module(x)["y"], x, 1)
    assert module.refit(models.weights(0)) == a and np.array_equal(module(x)["y"], first)
    assert module.rollback() == b and module.rollback() == a
    with pytest.raises(refit.Error, match="roll back"):
        refit.Module(module.engine, "cpu").rollback()


def test_every_kind_of_weights_is_the_same(module: refit.Module, tmp_path: Path) -> None:
    weights = models.weights(1)
    file, archive = tmp_path / "one.safetensors", tmp_path / "two.npz"
    file.write_bytes(models.safetensors(weights))
    np.savez(archive, **weights)
    parts = [tmp_path / "w.safetensors", tmp_path / "b.safetensors"]
    for name, path in zip("wb", parts):
        path.write_bytes(models.safetensors({name: weights[name]}))
    onnx, engine = models.dense(1), refit.Engine.build(models.dense(1))
    given = [weights, file, str(file), parts, file.read_bytes(), archive, archive.read_bytes(), np.load(archive), onnx]
    given += [engine, engine.to_bytes(), bytearray(engine.to_bytes()), memoryview(onnx), refit.Module(engine, "cpu")]
    versions = set()
    for source in given:
        module.refit(models.weights(0))
        versions.add(module.refit(source))
    assert versions == {engine.version}


def test_a_state_dict_is_copied(module: refit.Module, x: np.ndarray) -> None:
    weights = models.weights(1)
    version = module.refit(weights)
    for array in weights.values():
        array[:] = 0
    assert module.version == version and close(module(x)["y"], x, 1)
    assert module.engine.version == version


def test_what_does_not_fit_changes_nothing(module: refit.Module, x: np.ndarray) -> None:
    version, weights = module.version, models.weights(1)
    with pytest.raises(refit.MissingWeights) as missing:
        module.refit({"w": weights["w"]})
    assert missing.value.names == ["b"] and [m.kind for m in missing.value.misfits] == ["missing"]
    with pytest.raises(refit.UnfitWeights) as unfit:
        module.refit({"w": weights["w"].T, "b": weights["b"].astype(np.float64), "c": weights["b"]})
    assert sorted(m.kind for m in unfit.value.misfits) == ["dtype", "extra", "shape"]
    assert {m.name for m in unfit.value.misfits} == {"w", "b", "c"}
    with pytest.raises(refit.Error, match="module\\."):
        module.refit({f"module.{name}": array for name, array in weights.items()})
    with pytest.raises(refit.InvalidOptions):
        module.refit(3)  # type: ignore[arg-type]
    assert module.version == version and close(module(x)["y"], x, 0)
    report = module.check({"w": weights["w"], "c": weights["b"]}, partial=True, allow_extra=True)
    assert report.fits and report and report.kept == ["b"] and report.unused == ["c"] and report.taken == [("w", "w")]
    assert not module.check({})


def test_partial_extra_and_cast(module: refit.Module, x: np.ndarray) -> None:
    weights = models.weights(1)
    module.refit({"w": weights["w"]}, partial=True)
    assert np.allclose(module(x)["y"], x @ weights["w"] + models.weights(0)["b"], rtol=1e-5, atol=1e-5)
    module.refit({**weights, "steps": np.int64(3)}, allow_extra=True)
    assert close(module(x)["y"], x, 1)
    module.refit({name: array.astype(np.float16) for name, array in weights.items()}, cast=True)
    assert np.allclose(module(x)["y"], expected(x, 1), rtol=1e-2, atol=1e-2)


def test_a_stripped_module_needs_weights(engine: refit.Engine, x: np.ndarray) -> None:
    module = refit.Module(engine.strip(), "cpu")
    assert (module.state, module.version, module.missing) == ("needs weights", None, ["b", "w"])
    with pytest.raises(refit.MissingWeights) as caught:
        module(x)
    assert caught.value.names == ["b", "w"]
    assert module.refit(models.weights()) == engine.version and module.state == "ready"
    assert close(module(x)["y"], x, 0)


def test_forks_and_copies_have_their_own_weights(module: refit.Module, x: np.ndarray) -> None:
    forked = module.fork(models.weights(1))
    copies = [module.fork(), copy.copy(module), copy.deepcopy(module)]
    module.refit(models.weights(2))
    assert close(forked(x)["y"], x, 1) and close(module(x)["y"], x, 2)
    for one in copies:
        assert close(one(x)["y"], x, 0)
        one.refit(models.weights(3))
    assert close(module(x)["y"], x, 2)


def test_a_module_is_pickled(engine: refit.Engine, x: np.ndarray) -> None:
    module = refit.Module(engine, "cpu", threads=1)
    module.refit(models.weights(1))
    again = pickle.loads(pickle.dumps(module))
    assert again.version == module.version and np.array_equal(again(x)["y"], module(x)["y"])
    empty = pickle.loads(pickle.dumps(refit.Module(engine.strip(), "cpu")))
    assert empty.missing == ["b", "w"]


def test_memory_is_said_by_kind_and_given_up(module: refit.Module, x: np.ndarray) -> None:
    weights = sum(array.nbytes for array in models.weights().values())
    before = module(x)["y"].numpy()
    assert module.memory()["weights"] == weights and module.memory()["runs"] > 0
    module.trim()
    assert module.memory()["runs"] == 0
    assert np.array_equal(module(x)["y"], before)
    module.drop_sources()
    assert module.memory()["weights"] == 0


def test_dropped_sources_leave_a_module_that_runs(module: refit.Module, x: np.ndarray) -> None:
    first = module(x)["y"].numpy()
    module.drop_sources()
    assert module.state == "ready" and np.array_equal(module(x)["y"], first)
    for call in (module.rollback, lambda: module.refit({"b": models.weights()["b"]}, partial=True), lambda: pickle.dumps(module)):
        with pytest.raises(refit.MissingWeights):
            call()
    module.refit(models.weights(1))
    assert close(module(x)["y"], x, 1)


def test_a_closed_module_says_so(engine: refit.Engine, x: np.ndarray) -> None:
    with refit.Module(engine, "cpu") as module:
        assert "cpu" in repr(module) and "ready" in module._repr_html_() and "x: f32[n, 4]" in repr(module)
    with pytest.raises(refit.Error, match="closed"):
        module(x)
    assert "closed" in repr(module) and "closed" in module._repr_html_()


def test_devices_and_threads(engine: refit.Engine, x: np.ndarray) -> None:
    assert refit.devices()[0] == "cpu"
    assert refit.Module(engine, "cpu").device == "cpu" and refit.Module(engine, "cpu").placement() == []
    with pytest.raises(refit.DeviceError, match="no such adapter 9000"):
        refit.Module(engine, "no such adapter 9000")
    with pytest.raises(refit.InvalidOptions):
        refit.Module(engine, "cpu", threads=0)
    with pytest.raises(refit.InvalidOptions):
        refit.Module(engine, "cpu", threads=1_000_000_000)
    results = [refit.Module(engine, "cpu", threads=n)(x)["y"].numpy() for n in (1, 2)]
    assert np.array_equal(*results)


def test_adapters_are_merged(module: refit.Module, x: np.ndarray, tmp_path: Path) -> None:
    base = models.weights()
    model = models.dense()
    checkpoint = {"fc.weight": np.ascontiguousarray(base["w"].T), "fc.bias": base["b"]}
    module = refit.Module(refit.Engine.build(model, checkpoint=checkpoint), "cpu")
    a, b = np.ones((2, 4), dtype=np.float32), np.ones((3, 2), dtype=np.float32)
    names = {"base_model.model.fc.lora_A.weight": a, "base_model.model.fc.lora_B.weight": b}
    (tmp_path / "adapter_model.safetensors").write_bytes(models.safetensors(names))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    first = module(x)["y"].numpy()
    merged = x @ (base["w"] + 2.0 * (b @ a).T) + base["b"]
    for lora in (tmp_path, tmp_path / "adapter_model.safetensors", [(tmp_path, 2.0)]):
        module.refit(checkpoint, lora=lora)
        assert np.allclose(module(x)["y"], merged, rtol=1e-5, atol=1e-4)
        module.refit(checkpoint)
        assert np.array_equal(module(x)["y"], first)


def test_a_folder_is_the_checkpoint_in_it(module: refit.Module, x: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(refit.InvalidFile, match="model.safetensors"):
        module.refit(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(models.safetensors(models.weights(1)))
    module.refit(tmp_path)
    assert close(module(x)["y"], x, 1)


@pytest.mark.skipif(len(refit.devices()) < 2, reason="there is no GPU, nor a software adapter with REFIT_SOFTWARE_GPU=1")
def test_a_gpu_gives_the_same(engine: refit.Engine, x: np.ndarray) -> None:
    module = refit.Module(engine, "gpu")
    assert module.device != "cpu" and close(module(x)["y"], x, 0)
    version = module.refit(models.weights(1))
    assert close(module(x)["y"], x, 1) and version == refit.Engine.build(models.dense(1)).version
    assert all(why is None for _, _, why in module.placement())
    with pytest.raises(refit.InvalidOptions):
        refit.Module(engine, "gpu", threads=2)
