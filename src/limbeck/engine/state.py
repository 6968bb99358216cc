"""What the inner loop carries, and what one step of it reads.

Shapes: B inits, T steps, M images a step, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Tensors = dict[str, Tensor]


class State(NamedTuple):
    """A learner in training: its parameters, its inner optimiser's state, and the buffers that its layers carry from
    step to step (see ``engine.carried``); each a flat dict by name."""

    params: Tensors
    opt: Tensors
    buffers: Tensors = {}  # noqa: RUF012 (never written to)

    def each(self, function: Callable[[Tensor], Tensor]) -> State:
        """The same with every tensor replaced by what ``function`` makes of it."""
        return State(*({name: function(value) for name, value in field.items()} for field in self))

    def at(self, *index: int | slice) -> State:
        """``value[index]`` of every tensor: an init, or some of them, of states with a leading B dimension."""
        return self.each(lambda value: value[index])

    @property
    def network(self) -> Tensors:
        """Parameters and buffers: what the network computes with."""
        return self.params | self.buffers


class Batch(NamedTuple):
    """What one inner step reads: images, label distributions and the step's hyper-parameters.

    ``x_MCHW`` is normalised float, ``y_MK`` has non-negative rows (hard labels are one-hot rows), ``h`` maps the inner
    optimiser's hyper-parameter names to scalars, for gradient descent ``{"lr": η_t}``.
    """

    x_MCHW: Tensor
    y_MK: Tensor
    h: Tensors

    def each(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor replaced by what ``function`` makes of it."""
        h = {name: function(value) for name, value in self.h.items()}
        return Batch(function(self.x_MCHW), function(self.y_MK), h)


def add(left: Tensors, right: Tensors) -> Tensors:
    """``left + right``, name by name."""
    return {name: value + right[name] for name, value in left.items()}


def with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    """Those whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
