"""What layers keep from one call to the next besides parameters and buffers: plain attributes and what lies in them."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

_DEPTH: Final = 8
_PLAIN: Final = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, types.FunctionType)
_OWN: Final = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def kept_values(module: nn.Module) -> dict[str, str]:
    """What each attribute of each layer holds, by its path, as a text that is the same for the same values.

    Of tensors only the shapes count: those of the last batch may be kept, as many networks do to show them.
    """
    return {
        f"{path}.{name}".lstrip("."): repr(_state(value, _DEPTH))
        for path, layer in module.named_modules()
        for name, value in vars(layer).items()
        if name not in _OWN and not name.startswith("limbeck_")
    }


def _state(value: Any, depth: int) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, nn.Module) or not depth:
        return type(value)
    if isinstance(value, dict):
        return [(_state(key, depth - 1), _state(item, depth - 1)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_state(item, depth - 1) for item in value]
    with contextlib.suppress(Exception), warnings.catch_warnings():  # what cannot be pickled counts as a constant
        warnings.simplefilter("ignore")
        parts = value.__reduce_ex__(4)
        return [_state(list(part) if _is_iterator(part) else part, depth - 1) for part in parts]
    return type(value)


def _is_iterator(value: Any) -> bool:
    return isinstance(value, Iterable) and iter(value) is value
