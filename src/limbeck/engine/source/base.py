"""What a source is: the data that is learned, and the batch that each inner step reads of it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, Self, TypeAlias, final

import torch
from torch import Tensor
from torch.func import vjp, vmap

from limbeck.engine.schedule import HYPERPARAMETERS
from limbeck.engine.state import Batch, Tensors, add

Group: TypeAlias = Literal["images", "noise", "labels", "steps"]
"""What a parameter is to the outer optimiser, which has a learning rate for each: images or the weights of what makes
them, learned noise, logits of labels, and step sizes with the other hyper-parameters."""


class Materialised(NamedTuple):
    """The batches of a source as plain tensors: S batches of M images, used in the order of T steps.

    ``images`` (S, M, C, H, W), ``labels`` (S, M, K) distributions, ``hyperparameters`` (T,) by name, ``order`` (T,).
    """

    images: Tensor
    labels: Tensor
    hyperparameters: Tensors
    order: Tensor


Pull: TypeAlias = Callable[[Batch], None]
"""Adds the cotangent of one step's batch, with a leading dimension of B inits, to a pull-back."""


class Pullback(ABC):
    """Adds up the cotangents of a source's batches and turns them into gradients of its parameters."""

    @abstractmethod
    def batch(self, step: int) -> tuple[Batch, Pull]:
        """The batch of a step, as the source's own ``batch`` gives it, and what its cotangent is given to, once."""

    @abstractmethod
    def result(self) -> Tensors:
        """Gradients of the source's parameters, each (B, *shape)."""


class Source(ABC):
    """Where the batches of the inner loop come from; this is all that the engine knows of it."""

    steps: int
    """T, the number of inner steps."""

    @abstractmethod
    def parameters(self) -> Tensors:
        """What is learned, unconstrained, by name."""

    @abstractmethod
    def batch(self, params: Tensors, step: int) -> Batch:
        """The batch of inner step ``step`` (0 ≤ step < T), a pure function differentiable in ``params``."""

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        """A fresh gatherer for B = ``inits`` initial weights; by default one that pulls each step back by itself."""
        return StepwisePullback(self, params, inits)

    def group_of(self, name: str) -> Group:
        """The learning rate that a parameter has; that of ``images`` for all but hyper-parameters by default."""
        return "steps" if name in HYPERPARAMETERS else "images"

    def project(self, params: Tensors) -> Tensors:
        """Parameters near these that are allowed; called after every outer step."""
        return params

    def redraw(self, rng: torch.Generator) -> Self:
        """The source for the next outer iteration, with new draws of all that it leaves to chance from ``rng``."""
        return self

    def first(self, steps: int) -> Self:
        """The same, ended after ``steps`` inner steps, 1 ≤ steps ≤ T; it learns nothing for those left out."""
        other = copy.copy(self)
        other.steps = steps
        return other

    def compile(self) -> Self:
        """The same with ``torch.compile`` wherever making a batch is worth it."""
        return self

    def own_loss(self, params: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor | None:
        """A loss that is added to the objective, without any learner: a scalar differentiable in ``params``, or None.

        Args:
            params: the source's parameters.
            x_NCHW: normalised real images (N, C, H, W).
            y_N: their classes.
        """
        return None

    def extras(self, params: Tensors) -> Tensors:
        """Tensors that an artefact records besides the batches, by name, such as a generator's weights."""
        return {}

    def materialise(self, params: Tensors) -> Materialised:
        """All batches as plain tensors, with the draws that the source has now."""
        batches = [self.batch(params, step) for step in range(self.steps)]
        names = batches[0].h
        return Materialised(
            torch.stack([batch.x_MCHW for batch in batches]),
            torch.stack([batch.y_MK for batch in batches]),
            {name: torch.stack([batch.h[name] for batch in batches]) for name in names},
            torch.arange(self.steps),
        )


@final
class StepwisePullback(Pullback):
    """Pulls the cotangent of each step through the source's own ``batch``, and adds the gradients up."""

    def __init__(self, source: Source, params: Tensors, inits: int) -> None:
        self._source, self._params = source, params
        self._grads = {name: value.new_zeros(inits, *value.shape) for name, value in params.items()}

    def batch(self, step: int) -> tuple[Batch, Pull]:
        batch, pull = vjp(lambda params: self._source.batch(params, step), self._params)[:2]

        def take(cotangent: Batch) -> None:
            (grads,) = vmap(pull)(cotangent)
            self._grads = add(self._grads, grads)

        return batch, take

    def result(self) -> Tensors:
        return self._grads
