"""PyTorch: modules that run an engine, whose `load_state_dict` is a refit.

    model = torchvision.models.resnet18().eval()
    compiled = refit.torch.compile(model, (torch.rand(1, 3, 224, 224),))
    compiled.load_state_dict(torch.load("trained.pt"))
"""

# PyTorch need not be installed where types are checked, and then all of it is unknown.
# mypy: disable-error-code="import-not-found, misc, no-any-return, unused-ignore"

from __future__ import annotations

import copy
import inspect
import tempfile
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Union

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils import dlpack

from refit._refit import Engine, Module
from refit.errors import Error, InvalidInputs, InvalidOptions, Unbound
from refit.types import Weights

__all__ = ["RefitModule", "compile", "refit_module_weights"]


def _tensor(array: Any) -> Any:
    """A result as PyTorch's tensor, over the same memory."""
    if isinstance(array, list):
        return [_tensor(element) for element in array]
    return dlpack.from_dlpack(array) if hasattr(array, "__dlpack__") else array


class _Interface:
    """How the arguments and results of a PyTorch module lie in an engine's inputs and outputs."""

    def __init__(self, forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.signature = inspect.signature(forward)
        leaves, self.arguments = self._leaves(args, kwargs)
        self.tensors = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self.constants = [None if tensor else leaf for tensor, leaf in zip(self.tensors, leaves)]
        self.results: Any = None
        self.places: list[Any] = []
        self.names: list[str] = []

    def _leaves(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], pytree.TreeSpec]:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        leaves, spec = pytree.tree_flatten(dict(bound.arguments))
        return list(leaves), spec

    def returns(self, results: Any, names: list[str]) -> None:
        """Takes the structure of results that the PyTorch module gave, and the names of its tensors in the exported model, where one
        that is given twice has one name."""
        leaves, self.results = pytree.tree_flatten(results)
        self.places = [torch.Tensor if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.names = names
        if self.places.count(torch.Tensor) != len(names):
            found = ", ".join(names)
            raise Error(f"expected as many results as the module gives tensors, {self.places.count(torch.Tensor)}, found {found}")

    def inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        """The tensors among the arguments, in the order of the engine's inputs."""
        leaves, spec = self._leaves(args, kwargs)
        if spec != self.arguments:
            raise InvalidInputs(f"expected arguments as at the compilation, {self.arguments}, found {spec}")
        for leaf, tensor, constant in zip(leaves, self.tensors, self.constants):
            if not tensor and leaf is not constant and leaf != constant:
                raise InvalidInputs(f"an argument that is no tensor is part of the program: expected {constant!r}, found {leaf!r}")
        return [leaf for leaf, tensor in zip(leaves, self.tensors) if tensor]

    def outputs(self, tensors: Mapping[str, Any]) -> Any:
        """The results in the structure that the PyTorch module gives them."""
        given = (tensors[name] for name in self.names)
        leaves = [next(given) if place is torch.Tensor else place for place in self.places]
        return pytree.tree_unflatten(leaves, self.results)


def _ties(state_dict: Mapping[str, Any]) -> dict[str, str]:
    """Names that stand for the tensor of another name, by the other name: tied weights, which an engine has once."""
    firsts: dict[Any, str] = {}
    ties = {}
    for name, tensor in state_dict.items():
        if isinstance(tensor, torch.Tensor) and tensor.numel() > 0:
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            first = firsts.setdefault(place, name)
            if first != name:
                ties[name] = first
    return ties


def _untied(state_dict: Mapping[str, Any], ties: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """A state dict with tied weights once, and what speaks against that."""
    once, wrong = dict(state_dict), []
    for name, first in ties.items():
        if name not in once:
            continue
        value = once.pop(name)
        if not torch.equal(torch.as_tensor(once.setdefault(first, value)), torch.as_tensor(value)):
            wrong.append(f"{name!r} and {first!r} are one tensor in the compiled module: expected equal values, found others")
    return once, wrong


class RefitModule(nn.Module):
    """An engine as a module of PyTorch.

    It has no parameters and is not trained. `state_dict` gives the engine's weights as copies, and `load_state_dict` is a refit, with
    PyTorch's meaning of `strict`. Tensors of a GPU are copied to the host for a run, and the results back.
    """

    def __init__(
        self, module: Module, interface: Optional[_Interface] = None, state_dict: Optional[Mapping[str, Any]] = None
    ) -> None:
        super().__init__()
        self.module = module
        self._interface = interface
        # What the compiled module had under these names the engine may have no use for.
        self._names = frozenset(state_dict or ())
        self._ties = _ties(state_dict or {})
        self._strict = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        ports = [port.name for port in self.module.inputs]
        if self._interface is None:
            feeds = {**dict(zip(ports, args)), **kwargs}
            if len(args) > len(ports):
                raise InvalidInputs(f"expected at most {len(ports)} inputs, found {len(args)}")
        else:
            tensors = self._interface.inputs(args, kwargs)
            if len(tensors) != len(ports):
                raise InvalidInputs(f"expected {len(ports)} tensors, found {len(tensors)}")
            feeds = dict(zip(ports, tensors))
        device = next((value.device for value in feeds.values() if isinstance(value, torch.Tensor)), None)
        outputs = {name: _tensor(value) for name, value in self.module.run(feeds).items()}
        if device is not None and device.type != "cpu":
            moved = {name: value.to(device) for name, value in outputs.items() if isinstance(value, torch.Tensor)}
            outputs.update(moved)
        if self._interface is not None:
            return self._interface.outputs(outputs)
        results = tuple(outputs.values())
        return results[0] if len(results) == 1 else results

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Refits the engine, all or nothing.

        With `strict` every weight has to be there and nothing else, otherwise what is missing keeps its values and what is not known is left
        alone. Gives the names of both, as PyTorch does, and raises `RuntimeError` with everything that is wrong.
        """
        self._strict = strict
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._strict = False

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, array in self.module.engine.state_dict().items():
            destination[prefix + name] = _tensor(array)
        for name, first in self._ties.items():
            if prefix + first in destination:
                destination[prefix + name] = destination[prefix + first]

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # PyTorch's own hook, so that it works inside larger modules too.
        own = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
        own, wrong = _untied(own, self._ties)
        try:
            report = self.module.check(own, partial=True, allow_extra=True)
        except Error as error:
            error_msgs.append(str(error))
            return
        learned = {weight.name for weight in self.module.engine.weights if weight.kind == "weight"}
        missing = [name for name in report.kept if name in learned]
        missing += [misfit.name for misfit in report.misfits if misfit.kind == "missing" and misfit.name is not None]
        unexpected = [name for name in report.unused if name not in self._names]
        wrong += [misfit.message for misfit in report.misfits if misfit.kind != "missing"]
        missing_keys += [prefix + name for name in missing]
        unexpected_keys += [prefix + name for name in unexpected]
        error_msgs += wrong
        if wrong or (self._strict and (missing or unexpected)) or not report.fits:
            return
        self.module.refit(own, partial=True, allow_extra=True)

    def extra_repr(self) -> str:
        return repr(self.module)


class _Exported:
    """What an exporter made of a model: a file, which holds all but small models' weights beside it."""

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="refit-")
        self.path = Path(self.folder.name) / "model.onnx"
        options: dict[str, Any] = {} if dynamic_shapes is None else {"dynamic_shapes": dynamic_shapes}
        # Unfolded: what an exporter folds into weights is a program of the engine, which runs at every refit.
        program = torch.onnx.export(
            model, args, kwargs=kwargs, dynamo=True, optimize=False, verbose=False, **options
        )
        if program is None:
            raise Error("torch.onnx.export gave no model")
        self.outputs = [str(output.name) for output in program.model.graph.outputs]
        program.save(str(self.path), external_data=True)


def _changed(model: Any, seed: int) -> Any:
    """The same model with other weights, as training makes them."""
    other = copy.deepcopy(model)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in other.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=random)
                tensor.add_(noise.to(tensor.device, tensor.dtype))
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return other


def compile(
    model: Union[nn.Module, torch.export.ExportedProgram],
    args: Sequence[Any] = (),
    kwargs: Optional[Mapping[str, Any]] = None,
    *,
    device: str = "auto",
    threads: Optional[int] = None,
    dynamic_shapes: Any = None,
    bind: Any = None,
) -> RefitModule:
    """Compiles a module of PyTorch, or an exported program, to an engine whose weights bear the names of its `state_dict`.

    `args` and `kwargs` are inputs to export it with; `dynamic_shapes` is passed on to `torch.onnx.export`, and without it the engine
    takes inputs of these very shapes. The module is exported as in `eval()`. Where it is not clear how constants of the exported model
    are made of its weights, it is exported a second time with other weights, which shows it; what stays open is
    `refit.Unbound`, and `bind` answers it.
    """
    if isinstance(args, torch.Tensor):
        args = (args,)
    args, kwargs = tuple(args), dict(kwargs or {})
    if isinstance(model, torch.export.ExportedProgram):
        if not args and not kwargs and model.example_inputs is not None:
            args, kwargs = tuple(model.example_inputs[0]), dict(model.example_inputs[1])
        module: Any = model.module()
        second = None
    else:
        module, second = model, _changed
    was_training = getattr(model, "training", False)
    if was_training and isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            interface = _Interface(module.forward, args, kwargs)
            results = module(*args, **kwargs)
            exported = _Exported(model, args, kwargs, dynamic_shapes)
            interface.returns(results, exported.outputs)
            state = dict(model.state_dict if second is None else model.state_dict())  # type: ignore[operator, arg-type]
            ties = _ties(state)
            checkpoint, _ = _untied(state, ties)
            try:
                engine = Engine.build(exported.path, checkpoint=checkpoint, bind=bind)
            except Unbound:
                if second is None:
                    raise
                # No two tensors of a model with other weights are equal, as zeros and ones are before a training; and what is equal in
                # both exports was not made of weights.
                changed = second(model, 1)
                other = _Exported(changed, args, kwargs, dynamic_shapes)
                engine = Engine.build(
                    other.path,
                    checkpoint=_untied(changed.state_dict(), ties)[0],
                    bind=bind,
                    other=exported.path,
                    other_checkpoint=checkpoint,
                ).fill(checkpoint)
    finally:
        if was_training and isinstance(model, nn.Module):
            model.train()
    return RefitModule(Module(engine, device, threads=threads), interface, state)


def refit_module_weights(
    compiled_module: RefitModule,
    new_weight_module: Union[torch.export.ExportedProgram, nn.Module, Weights],
    arg_inputs: Optional[Sequence[Any]] = None,
    kwarg_inputs: Optional[Mapping[str, Any]] = None,
    verify_output: bool = False,
    in_place: bool = False,
) -> RefitModule:
    """As `torch_tensorrt.dynamo.refit_module_weights`: the compiled module with new weights, from an exported program, a module or a
    `state_dict`; a new one, unless it is `in_place`.

    With `verify_output` the new module is run with `arg_inputs` and `kwarg_inputs` beside the refitted one, and results that differ are an
    error; the compiled module then has the weights it had.
    """
    weights: Any = new_weight_module
    if isinstance(new_weight_module, torch.export.ExportedProgram):
        weights = {**new_weight_module.state_dict}
    elif isinstance(new_weight_module, nn.Module):
        weights = new_weight_module.state_dict()
    if isinstance(weights, Mapping):
        weights, wrong = _untied(weights, compiled_module._ties)
        if wrong:
            raise InvalidOptions("; ".join(wrong))
    refitted = copy.deepcopy(compiled_module)
    refitted.module.refit(weights, allow_extra=True)
    if verify_output:
        if isinstance(new_weight_module, torch.export.ExportedProgram):
            reference: Any = new_weight_module.module()
        elif isinstance(new_weight_module, nn.Module):
            reference = new_weight_module
        else:
            raise InvalidOptions("verify_output needs a module that can be run, and weights alone were given")
        if arg_inputs is None and kwarg_inputs is None:
            raise InvalidOptions("verify_output needs arg_inputs or kwarg_inputs")
        _verify(refitted, reference, tuple(arg_inputs or ()), dict(kwarg_inputs or {}))
    if not in_place:
        return refitted
    compiled_module.module.refit(weights, allow_extra=True)
    return compiled_module


def _verify(refitted: RefitModule, reference: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with torch.no_grad():
        expected = pytree.tree_leaves(reference(*args, **kwargs))
        found = pytree.tree_leaves(refitted(*args, **kwargs))
    pairs = [(a, b) for a, b in zip(expected, found) if isinstance(a, torch.Tensor)]
    for index, (a, b) in enumerate(pairs):
        b = b.to(a.device)
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True):
            worst = "shapes differ" if a.shape != b.shape else f"by {(a - b).abs().max().item():.3g}"
            raise Error(f"output {index} of the refitted module differs from the new module's: {worst}")
