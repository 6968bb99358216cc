"""What an adjoint is: a way to differentiate through T inner steps, an object with settings of its own.

Shapes: B inits, T steps, N real examples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from limbeck.engine.kernels import Kernels
from limbeck.engine.source.base import Source
from limbeck.engine.state import State, Tensors


class RealBatch(NamedTuple):
    """Real examples that the objective reads: normalised images (N, C, H, W) and targets (N,)."""

    x_NCHW: Tensor
    y_N: Tensor


class MetaGradient(NamedTuple):
    """The objective for each init, and its gradient in everything the source learns, one per init.

    ``loss_B`` is (B,); ``grads`` maps the source's parameter names to (B, *shape). Gradients are per init because a few
    inits carry most of their norm: whoever averages them wants to clip them first.
    """

    loss_B: Tensor
    grads: Tensors


class Adjoint(ABC):
    """A way to get the meta-gradient ∂L(s_T)/∂(what the source learns); its settings are its fields."""

    compilable: bool = True
    """Whether it runs the kernels often enough for compiling them to pay."""

    def stored_states(self, steps: int) -> int:
        """States of each init that it holds at once for T ``steps``, by which memory is estimated; all by default."""
        return steps + 1

    @abstractmethod
    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        """Train B learners from ``states`` on the source's batches and differentiate the objective through it.

        Args:
            kernels: the learner's step, its pull-back and the objective.
            source: what is learned.
            params: the source's parameters, unconstrained.
            states: B initial states, every tensor (B, ...).
            real: the batch of real data that the objective reads.
        """


def count_inits(states: State) -> int:
    """B."""
    return next(iter(states.params.values())).shape[0]


def chunk_rows(inits: int, size: int) -> Iterator[slice]:
    """The rows of B inits, at most ``size`` at a time."""
    for start in range(0, inits, size):
        yield slice(start, min(start + size, inits))
