"""PyTorch: modules that are compiled, trained and loaded again."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch exports with, is not installed")

import numpy as np  # noqa: E402

import models  # noqa: E402
import refit  # noqa: E402
import refit.torch  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: Any, *, scale: Any = None) -> dict[str, Any]:
        h = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        y = self.head(h)
        return {"logits": y if scale is None else y * scale, "features": h}


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = Net()
    # A trained network: the statistics are not those of the initialisation.
    model(torch.rand(4, 3, 8, 8))
    return model.eval()


def train(model: Any, x: Any) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x)["logits"].square().sum().backward()
    optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def x() -> Any:
    torch.manual_seed(9)
    return torch.rand(2, 3, 8, 8)


@pytest.fixture(scope="module")
def compiled(x: Any) -> Any:
    return refit.torch.compile(net(), (x,), device="cpu")


def same(a: Any, b: Any) -> bool:
    return list(a) == list(b) and all(torch.allclose(a[k], b[k], rtol=1e-4, atol=1e-5) for k in a)


def test_a_step_of_training_is_loaded_and_taken_back(compiled: Any, x: Any) -> None:
    model, compiled = net(), copy.deepcopy(compiled)
    with torch.no_grad():
        before = compiled(x)
        assert same(before, model(x))
        first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with torch.enable_grad():
            train(model, x)
        assert str(compiled.load_state_dict(model.state_dict())) == "<All keys matched successfully>"
        assert same(compiled(x), model(x)) and not same(compiled(x), before)
        compiled.load_state_dict(first)
        again = compiled(x)
        assert all(torch.equal(again[name], before[name]) for name in before)


def test_an_optimizer_step_after_a_refit_changes_nothing(compiled: Any, x: Any) -> None:
    model, compiled = net(1), copy.deepcopy(compiled)
    compiled.load_state_dict(model.state_dict())
    before = compiled(x)
    train(model, x)
    after = compiled(x)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_strict_means_what_it_means_in_pytorch(compiled: Any, x: Any) -> None:
    compiled = copy.deepcopy(compiled)
    version = compiled.module.version
    state = dict(net(2).state_dict())
    wrong = {**state, "other": torch.zeros(3)}
    del wrong["head.bias"]
    with pytest.raises(RuntimeError) as caught:
        compiled.load_state_dict(wrong)
    assert '"head.bias"' in str(caught.value) and '"other"' in str(caught.value)
    assert compiled.module.version == version
    keys = compiled.load_state_dict(wrong, strict=False)
    assert keys.missing_keys == ["head.bias"] and keys.unexpected_keys == ["other"]
    assert compiled.module.version != version
    with pytest.raises(RuntimeError, match="shape"):
        compiled.load_state_dict({**state, "head.bias": torch.zeros(6)}, strict=False)


def test_the_state_dict_is_the_models(compiled: Any) -> None:
    model = net()
    state = compiled.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert {name for name in model.state_dict() if not name.endswith("num_batches_tracked")} == set(state)
    state["head.bias"].add_(1)
    assert torch.equal(compiled.state_dict()["head.bias"], model.state_dict()["head.bias"])
    compiled.load_state_dict(compiled.state_dict())


def test_it_is_a_part_of_larger_modules(compiled: Any, x: Any) -> None:
    whole = torch.nn.Sequential(OrderedDict(net=copy.deepcopy(compiled)))
    other = net(3)
    whole.load_state_dict({f"net.{name}": tensor for name, tensor in other.state_dict().items()})
    with torch.no_grad():
        assert same(whole(x), other(x))
    with pytest.raises(RuntimeError, match="net.head.bias"):
        whole.load_state_dict({f"net.{name}": t for name, t in other.state_dict().items() if name != "head.bias"})


def test_arguments_are_those_of_the_compilation(x: Any) -> None:
    scale = torch.tensor(2.0)
    compiled = refit.torch.compile(net(), (x,), {"scale": scale}, device="cpu")
    with torch.no_grad():
        assert same(compiled(x, scale=scale), net()(x, scale=scale))
        assert same(compiled(x=x, scale=scale), net()(x, scale=scale))
    with pytest.raises(refit.InvalidInputs):
        compiled(x)
    plain = refit.torch.RefitModule(refit.Module(refit.Engine.build(models.dense()), "cpu"))
    row = torch.ones(1, 4, requires_grad=True)
    assert isinstance(plain(row), torch.Tensor) and torch.equal(plain(row), plain(x=row))
    with pytest.raises(refit.InvalidInputs):
        plain(row, row)


def test_new_weights_as_torch_tensorrt_takes_them(compiled: Any, x: Any) -> None:
    other = net(4)
    exported = torch.export.export(other, (x,))
    for weights in (exported, other):
        made = refit.torch.refit_module_weights(compiled, weights, (x,), verify_output=True)
        assert made is not compiled and made.module.version != compiled.module.version
        with torch.no_grad():
            assert same(made(x), other(x))
    twin = copy.deepcopy(compiled)
    assert refit.torch.refit_module_weights(twin, other.state_dict(), in_place=True) is twin
    assert twin.module.version == made.module.version
    with pytest.raises(refit.InvalidOptions):
        refit.torch.refit_module_weights(compiled, other.state_dict(), (x,), verify_output=True)

    class Other(Net):
        def forward(self, x: Any, *, scale: Any = None) -> dict[str, Any]:
            return {name: value + 1 for name, value in super().forward(x, scale=scale).items()}

    liar = Other().eval()
    liar.load_state_dict(other.state_dict())
    version = compiled.module.version
    with pytest.raises(refit.Error, match="differs"):
        refit.torch.refit_module_weights(compiled, liar, (x,), verify_output=True, in_place=True)
    assert compiled.module.version == version


def test_an_exported_program_is_compiled(x: Any) -> None:
    program = torch.export.export(net(), (x,))
    compiled = refit.torch.compile(program, (x,), device="cpu")
    with torch.no_grad():
        assert same(compiled(x), net()(x))


def test_sizes_that_may_differ(x: Any) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    compiled = refit.torch.compile(net(), (x,), device="cpu", dynamic_shapes={"x": {0: batch}})
    with torch.no_grad():
        larger = torch.rand(5, 3, 8, 8)
        assert same(compiled(larger), net()(larger))


def test_tensors_go_in_and_out() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool):
        name = str(dtype).removeprefix("torch.")
        module = refit.Module(refit.Engine.build(models.identity(name)), "cpu")
        for count in (3, 100_000):
            tensor = torch.arange(count).to(dtype)
            result = torch.from_dlpack(module(tensor)["y"])
            assert result.dtype == dtype and torch.equal(result, tensor)
            tensor.zero_()
            result[0] = 1
    transposed = torch.arange(8.0).reshape(4, 2).T
    assert np.array_equal(refit.Module(refit.Engine.build(models.dense()), "cpu")(transposed)["y"].shape, (2, 3))


def test_tied_weights_are_one() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(7, 4)
            self.head = torch.nn.Linear(4, 7)
            self.head.weight = self.embed.weight

        def forward(self, ids: Any) -> Any:
            return self.head(torch.tanh(self.embed(ids)))

    model, ids = Tied().eval(), torch.tensor([[1, 2, 3]])
    compiled = refit.torch.compile(model, (ids,), device="cpu")
    assert set(compiled.state_dict()) == set(model.state_dict())
    with torch.no_grad():
        model.embed.weight.add_(1)
        state = model.state_dict()
        compiled.load_state_dict(state)
        assert torch.allclose(compiled(ids), model(ids), rtol=1e-4, atol=1e-5)
        expected, version = compiled(ids), compiled.module.version
        # Files hold tied weights once, under either name.
        for name in ("embed.weight", "head.weight"):
            compiled.load_state_dict({key: tensor for key, tensor in state.items() if key != name})
            assert torch.equal(compiled(ids), expected)
        with pytest.raises(RuntimeError, match="one tensor"):
            compiled.load_state_dict({**state, "head.weight": state["head.weight"] + 1})
        assert compiled.module.version == version


def test_a_network_is_compiled_as_it_was_initialised() -> None:
    torch.manual_seed(5)
    model = torch.nn.TransformerEncoderLayer(24, 4, 48, batch_first=True).eval()
    x = torch.rand(2, 7, 24)
    compiled = refit.torch.compile(model, (x,), device="cpu")
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-5)
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.randn(tensor.shape))
        compiled.load_state_dict(model.state_dict())
        assert torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_results_have_the_structure_that_the_module_gives_them() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            self.register_buffer("count", torch.tensor(3))

        def forward(self, x: Any, unused: Any, flag: bool = True) -> Any:
            h = self.layer(x)
            return h, h, None, {"x": x, "more": [h + 1 if flag else h, self.count]}

    model, x, unused = Odd().eval(), torch.rand(2, 4), torch.rand(7)
    compiled = refit.torch.compile(model, (x, unused), device="cpu")
    with torch.no_grad():
        found, expected = compiled(x, unused), model(x, unused)
    assert found[2] is None and torch.equal(found[3]["x"], x) and found[3]["more"][1] == 3
    assert torch.equal(found[0], found[1]) and torch.allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert torch.allclose(found[3]["more"][0], expected[3]["more"][0], rtol=1e-5, atol=1e-6)
    with pytest.raises(refit.InvalidInputs, match="part of the program"):
        compiled(x, unused, False)
