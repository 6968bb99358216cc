"""The Source axis: what is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod

from limbeck.engine.state import Batch, Tensors


class Pullback(ABC):
    """Gathers the cotangents of a source's batches and turns them into gradients of what is learned."""

    @abstractmethod
    def add(self, step: int, cotangent: Batch) -> None:
        """Take in the cotangent of ``batch(step)``, with a leading dimension of B inits."""

    @abstractmethod
    def result(self) -> Tensors:
        """Gradients of the source's parameters, each (B, *shape)."""


class Source(ABC):
    """Where the batches of the inner loop come from; the engine knows only these four members."""

    steps: int
    """T, the number of inner steps."""

    @abstractmethod
    def parameters(self) -> Tensors:
        """What is learned, unconstrained, by name."""

    @abstractmethod
    def batch(self, params: Tensors, step: int) -> Batch:
        """The batch of inner step ``step`` (0 ≤ step < T), a pure function differentiable in ``params``."""

    @abstractmethod
    def pullback(self, params: Tensors, inits: int) -> Pullback:
        """A fresh gatherer for B = ``inits`` initial weights."""
