"""The pull-back of sources whose S batches are cycled: step t uses batch t mod S."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor
from torch.func import vjp, vmap

from limbeck.engine.source.base import Pull, Pullback
from limbeck.engine.state import Batch, Tensors

Decode = Callable[[Tensors], tuple[Tensor, Tensor, Tensors]]


@final
class CyclicPullback(Pullback):
    """Adds up the cotangents of the decoded tensors, then pulls them through ``decode`` once.

    Args:
        decode: the source's parameters to all it teaches: inputs (S, M, ...), targets (S, M, K), hyper-parameters (T,).
        params: where it is pulled back.
        inits: B.
        batches: S.
        batch: the source's own, of parameters and step.
    """

    def __init__(
        self, decode: Decode, params: Tensors, inits: int, batches: int, batch: Callable[[Tensors, int], Batch]
    ) -> None:
        self._params, self._batches, self._batch = params, batches, batch
        (x, y, h), self._pull = vjp(decode, params)[:2]
        self._x = x.new_zeros(inits, *x.shape)
        self._y = y.new_zeros(inits, *y.shape)
        self._h = {name: value.new_zeros(inits, *value.shape) for name, value in h.items()}

    def batch(self, step: int) -> tuple[Batch, Pull]:
        return self._batch(self._params, step), partial(self._add, step)

    def _add(self, step: int, cotangent: Batch) -> None:
        index = step % self._batches
        self._x[:, index] += cotangent.x_MCHW
        self._y[:, index] += cotangent.y_MK
        for name, value in cotangent.h.items():
            self._h[name][:, step] += value

    def result(self) -> Tensors:
        (grads,) = vmap(self._pull)((self._x, self._y, self._h))
        result: Tensors = grads
        return result
