"""Arrays in and out: types, layouts, and whose memory is whose."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest

import models
import refit


def through(array: object, dtype: str) -> refit.Array:
    result = refit.Module(refit.Engine.build(models.identity(dtype)), "cpu").run({"x": array})["y"]
    return result  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("count", [0, 5, 100_000])
def test_every_type_goes_in_and_comes_out(dtype: str, count: int) -> None:
    array = (np.arange(count) % 1000).astype(dtype)
    result = through(array, dtype)
    assert result.numpy().dtype == array.dtype and np.array_equal(result, array)
    # Older NumPys know no bools in DLPack.
    if dtype != "bool" or np.lib.NumpyVersion(np.__version__) >= "1.25.0":
        assert np.array_equal(np.from_dlpack(result), array)


def test_an_output_that_is_an_input_is_a_copy_of_it() -> None:
    for count in (5, 100_000):
        array = np.ones(count, dtype=np.float32)
        result = through(array, "float32")
        array[:] = 7
        result.numpy()[0] = 3
        assert result[0] == 3 and result[1] == 1 and array[0] == 7


def test_an_output_that_is_a_weight_is_a_copy_of_it() -> None:
    nodes = [models.node("Identity", ["w"], ["y"]), models.node("Add", ["x", "w"], ["z"])]
    w = np.arange(4, dtype=np.float32)
    outputs = [("y", "float32", [4]), ("z", "float32", [4])]
    engine = refit.Engine.build(models.model(nodes, [("x", "float32", [4])], outputs, {"w": w}))
    module = refit.Module(engine, "cpu")
    x = np.zeros(4, dtype=np.float32)
    for take in (np.asarray, np.from_dlpack):
        first = module(x)
        view = take(first["y"])
        if view.flags.writeable:
            view[:] = 99
        assert np.array_equal(module(x)["z"], w)
    assert module.version == engine.version and np.array_equal(module.engine.state_dict()["w"], w)


def test_an_output_is_seen_without_a_copy_and_lives_as_long_as_its_views(
    module: refit.Module, x: np.ndarray
) -> None:
    result = module(x)["y"]
    first, second = np.asarray(result), np.from_dlpack(result)
    assert np.shares_memory(first, second) and first.flags.writeable
    expected = first.copy()
    del result
    gc.collect()
    for _ in range(20):
        module(x + 1)
    assert np.array_equal(first, expected) and np.array_equal(second, expected)


def test_any_layout_and_byte_order_goes_in(module: refit.Module, x: np.ndarray) -> None:
    expected = module(x)["y"].numpy()
    wide = np.zeros((4, 9), dtype=np.float32)
    wide[:, ::4][:, :2] = x.T
    readonly = x.copy()
    readonly.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(x.shape)
    layouts = [np.asfortranarray(x), wide[:, ::4][:, :2].T, x[::-1][::-1], x.astype(">f4"), readonly, unaligned]
    for layout in [*layouts, x.tolist(), tuple(map(tuple, x))]:
        assert np.array_equal(module(layout)["y"], expected)
    assert np.array_equal(module(x[::-1])["y"], expected[::-1])


def test_strings_go_in_and_come_out() -> None:
    result = through(np.array(["a", "ä", ""]), "str")
    assert isinstance(result, np.ndarray) and result.tolist() == ["a", "ä", ""]
    assert through(np.array(["b", "c"], dtype=object), "str").tolist() == ["b", "c"]
    assert through(["d"], "str").tolist() == ["d"]


def test_a_result_of_one_run_is_an_input_of_the_next(module: refit.Module, x: np.ndarray) -> None:
    result = through(x.ravel(), "float32")
    assert np.array_equal(through(result, "float32"), x.ravel())


def test_an_array_is_like_an_array(module: refit.Module, x: np.ndarray) -> None:
    y = module(x)["y"]
    assert (y.dtype, y.shape, y.ndim, y.size, y.nbytes, len(y)) == ("f32", (2, 3), 2, 6, 24, 2)
    assert y.tolist() == y.numpy().tolist() and float(y[0, 0]) == y.tolist()[0][0]
    assert np.asarray(y, dtype=np.float64).dtype == np.float64
    assert np.array_equal(pickle.loads(pickle.dumps(y)), y) and "f32[2, 3]" in repr(y)
    with pytest.raises(BufferError):
        y.__dlpack__(dl_device=(2, 0))
    copy = np.from_dlpack(y) if np.lib.NumpyVersion(np.__version__) < "2.1.0" else np.from_dlpack(y, copy=True)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        assert not np.shares_memory(copy, y.numpy())


def test_bfloat16_is_an_array_where_ml_dtypes_is() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.arange(5).astype(ml_dtypes.bfloat16)
    result = through(array, "bfloat16")
    assert result.dtype == "bf16" and result.numpy().dtype == array.dtype and np.array_equal(result.numpy(), array)


def test_what_is_no_tensor_is_refused_by_name(module: refit.Module) -> None:
    for wrong in (object(), np.array([1 + 2j]), {"a": 1}, np.array(["2020-01-01"], dtype="datetime64[D]")):
        with pytest.raises(refit.InvalidInputs):
            module(wrong)
