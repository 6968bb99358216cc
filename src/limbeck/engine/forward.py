"""What a module of anyone's needs around its forward pass, so that it can be differentiated twice and never does harm.

Shapes: M images, K classes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from limbeck.engine.state import Tensors

_SIMPLE: Final = (
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.GroupNorm,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.ParameterList,
)
"""Layers of torch that are known to do nothing but compute, where they do not work in place: alike in every mode, and
nothing at random."""


_OWN: Final = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def logits_of(output: Any) -> Any:
    """The logits in what a network returns: itself, ``.logits``, an entry ``logits``, the first or the only tensor.

    As networks of torchvision and Hugging Face return them. Where there are none, it comes back as it is.
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, Mapping):
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        return tensors[0] if len(tensors) == 1 else output
    return logits_of(output[0]) if isinstance(output, tuple | list) and output else output


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name: floating-point parameters that require a gradient, tied ones once.

    Frozen parameters and those of whole numbers or truth values stay in the module as they are.
    """
    return {name: p for name, p in module.named_parameters() if p.requires_grad and p.is_floating_point()}


def is_simple(module: nn.Module) -> bool:
    """Whether a module is made of layers alone that are known to be pure functions in any mode, without hooks."""
    return all(
        not getattr(layer, "inplace", False)
        and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
        and (home.startswith("limbeck.") or (home.startswith("torch.") and isinstance(layer, _SIMPLE)))
        for layer, home in ((layer, type(layer).__module__) for layer in module.modules())
    )


def copy_module(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that keeps activations of its last forward pass, which torch refuses to copy."""
    kept: dict[int, Any] = {}
    for layer in module.modules():
        for value in vars(layer).values():
            for item in _items_in(value, 3):
                if isinstance(item, Tensor) and not isinstance(item, nn.Parameter) and not item.is_leaf:
                    try:
                        kept[id(item)] = item.detach().clone()
                    except RuntimeError:  # left from within a transform that is over: its value is gone
                        kept[id(item)] = torch.zeros(())
    return copy.deepcopy(module, kept)


def in_evaluation(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode where the mode may matter, else the module itself."""
    if is_simple(module) or not any(layer.training for layer in module.modules()):
        return module
    return copy_module(module).eval()


@contextlib.contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """Within it, layers are computed by kernels whose derivatives exist and can be differentiated once more.

    Attention by plain products (the fused kernels have no forward derivative, nor a second one), recurrent layers
    without the fused kernel of oneDNN, transformers not by the fast path for inference.
    """
    mkldnn, mha = torch.backends.mkldnn, torch.backends.mha
    before = mkldnn.enabled, mha.get_fastpath_enabled()
    with sdpa_kernel(SDPBackend.MATH):
        try:
            if any(isinstance(layer, nn.RNNBase) for layer in module.modules()):
                mkldnn.enabled = False  # type: ignore[assignment]
            mha.set_fastpath_enabled(False)
            yield
        finally:
            mkldnn.enabled = before[0]
            mha.set_fastpath_enabled(before[1])


def call_with(module: nn.Module, tensors: Tensors, inputs: tuple[Any, ...]) -> Any:
    """A module's output with these parameters and buffers, by their first names; what it assigns is in them afterwards.

    ``functional_call`` alone replaces a tensor of a layer with two names twice, and leaves the replacement there.
    """
    names = _first_names(module)
    given = {place: tensors[name] for place, name in names.items() if name in tensors}
    output = functional_call(module, given, inputs, tie_weights=False)
    tensors.update({name: given[name] for name in tensors if name in given})
    return output


def _first_names(module: nn.Module) -> dict[str, str]:
    """The name of every parameter's and buffer's place, each once, and the first name of the tensor that lies there."""
    owners: dict[Tensor, str] = {}
    return {
        place: owners.setdefault(value, place)
        for path, layer in module.named_modules()
        for table in (layer._parameters, layer._buffers)
        for leaf, value in table.items()
        if value is not None
        for place in (f"{path}.{leaf}" if path else leaf,)
    }


@contextlib.contextmanager
def holding(module: nn.Module, tensors: Tensors) -> Iterator[None]:
    """Within it, a module has these parameters and buffers.

    Activation checkpoints run parts of a module again in the backward pass, when ``functional_call`` is over.
    """
    places: list[tuple[dict[str, Any], str, Tensor]] = []
    for place, name in _first_names(module).items():
        if name in tensors:
            path, _, leaf = place.rpartition(".")
            layer = module.get_submodule(path)
            places.append((layer._parameters if leaf in layer._parameters else layer._buffers, leaf, tensors[name]))
    before = [table[leaf] for table, leaf, _ in places]
    try:
        for table, leaf, value in places:
            table[leaf] = value
        yield
    finally:
        for (table, leaf, _), value in zip(places, before, strict=True):
            table[leaf] = value


def hidden_layers(module: nn.Module) -> list[str]:
    """Paths of modules that lie in plain lists, tuples or dicts, where torch does not see their parameters."""
    known = set(module.modules())
    hidden = []
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            boxed = () if isinstance(value, nn.Module) else _items_in(value, 3)
            if any(isinstance(item, nn.Module) and item not in known and _learns(item) for item in boxed):
                hidden.append(f"{path}.{name}".lstrip("."))
    return hidden


def _items_in(value: Any, depth: int) -> Iterator[Any]:
    """A value, or what lies in lists, tuples, sets and dicts, at most so deep within each other."""
    if not isinstance(value, (dict, list, tuple, set)):
        yield value
    elif depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _items_in(item, depth - 1)


@contextlib.contextmanager
def leaving_no_trace(module: nn.Module) -> Iterator[None]:
    """Within it, a module may keep what it likes in attributes, lists, dicts and sets; after it, all is as it was.

    What is computed within a transform of torch's, such as an entry of a cache, is of no use outside.
    """
    own = [(vars(layer), vars(layer).copy()) for layer in module.modules()]
    boxes = [
        (box, box.copy())
        for _, values in own
        for name, box in values.items()
        if isinstance(box, (dict, list, set)) and name not in _OWN
    ]
    try:
        yield
    finally:
        for attributes, values in own:
            attributes.clear()
            attributes.update(values)
        for box, items in boxes:
            box.clear()
            box.extend(items) if isinstance(box, list) else box.update(items)


def _learns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or isinstance(module, (_NormBase, _DropoutNd))


def detach_all(tensors: Tensors) -> Tensors:
    """Leaves that require a gradient, with the values of ``tensors``."""
    return {name: value.detach().requires_grad_() for name, value in tensors.items()}
