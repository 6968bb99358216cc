"""What a module draws at random and what statistics it keeps, so that a step that is run again is the same step.

Torch's random functions draw from a global stream, and its normalisations write into their buffers. Here both are
replaced, while a module runs: by numbers that follow from a key (``drawn``), and by assignment (``assigned``). Key and
statistics are carried in the learner's state (see ``limbeck.engine.carried``).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from limbeck.engine import Noisy
from limbeck.errors import LimbeckError
from limbeck.models.assigned import ASSIGNED
from limbeck.models.drawn import DRAWN


@final
class Replayed(Noisy):
    """Another module whose random numbers follow from a key, which each pass replaces in training only, as it does the
    running statistics of normalisations within."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training
        for layer in module.modules():
            if isinstance(layer, _BatchNorm) and layer.num_batches_tracked is not None:
                momentum_of(layer)
                layer.num_batches_tracked = None  # counted in place, and of use only without a momentum

    def forward(self, *inputs: Any) -> Any:
        """The module's output."""
        own = self.key
        with _Replacing(self):
            output = self.module(*inputs)
        if not self.training:
            self.key = own
        return output

    def find_statistics(self, *inputs: Any) -> None:
        """Note which buffers a forward pass replaces, besides the key; they are as before after it."""
        before = dict(self.named_buffers())
        with torch.no_grad():
            self(*inputs)
        self.statistics = tuple(
            name for name, value in self.named_buffers() if name != "key" and value is not before[name]
        )
        for name, value in before.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(path), leaf, value)


def momentum_of(layer: _BatchNorm) -> float:
    """By how much a normalisation's statistics move; raises LimbeckError where they are an average over all batches."""
    if layer.momentum is None:
        raise LimbeckError(
            "The learner has a batch normalisation with momentum=None, whose statistics are an average over all "
            "batches; give it a momentum, such as 0.1."
        )
    return layer.momentum


class random_calls(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801 (used as a context manager)
    """Within it, the names of torch's operators that draw random numbers are collected in ``names``, and in
    ``replaceable`` those that torch differentiates only once; in ``parameters``, the trainable ones that are used."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.replaceable: list[str] = []
        self.parameters: list[nn.Parameter] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _draws_nothing(func, args):
            self.names.append(str(func).removeprefix("aten."))
        if "hardsigmoid" in str(func):
            self.replaceable.append(str(func))
        if func is not torch.ops.aten.detach.default:  # that makes a constant of it
            leaves = tree_leaves((args, kwargs))
            self.parameters += [leaf for leaf in leaves if isinstance(leaf, nn.Parameter) and leaf.requires_grad]
        return func(*args, **(kwargs or {}))


def _draws_nothing(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operator is called so that chance has no part in it, as without dropout."""
    name = str(func)
    if "attention" in name:
        return not any(isinstance(arg, float) and arg > 0 for arg in args[3:4])
    if name.startswith("aten._cudnn_rnn"):
        return args[11] == 0 or not args[12]
    return "dropout" in name and len(args) > 1 and (args[1] == 0 or (len(args) > 2 and args[2] is False))


@final
class _Replacements:
    """Both tables as dicts: ``torch.compile`` knows no other mapping whose keys are functions."""

    def __init__(self) -> None:
        self.assigned, self.drawn = dict(ASSIGNED), dict(DRAWN)


_OTHER_NAMES: Final = MappingProxyType({"from": "low", "to": "high", "train": "training"})
_REPLACEMENTS: Final = _Replacements()


class _Replacing(TorchFunctionMode):
    """Answers torch's random functions with numbers from a module's key, and has statistics assigned."""

    def __init__(self, noise: Replayed) -> None:
        super().__init__()
        self.noise = noise

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assigning = _REPLACEMENTS.assigned.get(func)
        if assigning is not None:
            return assigning(self.noise, *args, **(kwargs or {}))
        given = {_OTHER_NAMES.get(key, key): value for key, value in (kwargs or {}).items()}
        handler = _REPLACEMENTS.drawn.get(func)
        if handler is None or given.get("generator") is not None or given.get("out") is not None:
            return func(*args, **(kwargs or {}))  # what draws from elsewhere is found by ``random_calls``
        return handler(self.noise, *args, **given)
