"""Batches that are a function of learned tensors: a parametrisation of the data.

Shapes: T steps, M images a step, K classes; C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from torch import Tensor

from limbeck.engine.schedule import HYPERPARAMETERS, InnerConfig, Schedule
from limbeck.engine.source.base import Source
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError

Decoder: TypeAlias = Callable[[Tensors, int], tuple[Tensor, Tensor]]
"""The learned tensors and a step to its images (M, C, H, W) and label distributions (M, K); pure, differentiable."""


@final
class Parametrised(Source):
    """Images and labels of each step as a function of learned tensors, with the usual schedule of hyper-parameters.

    Args:
        start: where what is learned starts, by name.
        decode: makes the images and labels of a step.
        steps: T.
        inner: hyper-parameters of the inner loop, learned or fixed.

    Raises:
        LimbeckError: nothing to learn, or a tensor with the name of a hyper-parameter.
    """

    def __init__(self, start: Tensors, decode: Decoder, steps: int, inner: InnerConfig) -> None:
        if not start:
            raise LimbeckError("A parametrisation needs at least one tensor to learn; start is empty.")
        for name in start.keys() & set(HYPERPARAMETERS):
            raise LimbeckError(f"A learned tensor is called {name}, as a hyper-parameter is; give it another name.")
        like = next(iter(start.values()))
        self.steps = steps
        self.schedule = Schedule(inner, steps, dtype=like.dtype, device=like.device)
        self._decode = decode
        self._params = {**start, **self.schedule.parameters()}

    def parameters(self) -> Tensors:
        return self._params

    def batch(self, params: Tensors, step: int) -> Batch:
        return Batch(*self._decode(params, step), self.schedule.at(params, step))
