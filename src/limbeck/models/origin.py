"""Where a module of the user's comes from, so that it can be constructed again with other initial weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import nn

from limbeck.common.seeds import own_state
from limbeck.engine import carried_names, trainable_parameters
from limbeck.models.replay import Replayed


@final
class Origin:
    """What makes networks of one architecture, each with the initial weights that a seed gives it.

    Args:
        construct: a new module with each call; it draws from torch's global random state.
    """

    def __init__(self, construct: Callable[[], nn.Module]) -> None:
        self._construct = construct

    def make(self, seed: int) -> nn.Module:
        """A new module; the global random state is left alone."""
        with own_state(seed):
            return self._construct()

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self  # it is never changed, and may hold a whole network


def with_origin(module: nn.Module, origin: Origin) -> nn.Module:
    """The module, of which what the origin makes remembers where its initial weights come from."""
    made = module.module if isinstance(module, Replayed) else module
    made.limbeck_origin = origin  # type: ignore[assignment]
    return module


def origins(module: nn.Module) -> dict[str, Origin]:
    """Where parts of a module come from, by their path within it."""
    found = {path: getattr(layer, "limbeck_origin", None) for path, layer in module.named_modules()}
    return {path: origin for path, origin in found.items() if isinstance(origin, Origin)}


def equal_starts(module: nn.Module) -> list[str]:
    """Names of what a module's initial weights do not differ in, though its values are no constant; and of buffers that
    differ, of which all have the first ones.

    As of a constructor that loads trained weights or seeds torch itself. Nothing for modules of ours.
    """
    alike = []
    for path, origin in origins(module).items():
        one, other = (origin.make(seed) for seed in (0, 1))
        names = trainable_parameters(one)
        for name, value in names.items():
            if torch.equal(value, other.get_parameter(name)) and not bool((value == value.flatten()[:1]).all()):
                alike.append(f"{path}.{name}".lstrip("."))
        carried = carried_names(module)
        for name, buffer in one.named_buffers():
            full = f"{path}.{name}".lstrip(".")
            if full not in carried and buffer.is_floating_point() and not torch.equal(buffer, other.get_buffer(name)):
                alike.append(full)
    return alike
