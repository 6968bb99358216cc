"""What we want of a trained learner: a number to minimise, read off its parameters and a batch of real data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.engine.learner import Learner
from limbeck.engine.state import Tensors


class Objective(ABC):
    """A function of the state after some steps and a batch of real data."""

    @abstractmethod
    def value(self, learner: Learner, network: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        """A scalar to minimise, differentiable in ``network``: the parameters and the buffers that are carried."""

    def reading_steps(self, steps: int) -> frozenset[int]:
        """After how many inner steps the value is read (and summed): by default only at the end."""
        return frozenset({steps})


@final
@dataclass(frozen=True, kw_only=True)
class RealLoss(Objective):
    """The loss on real data after the last inner step (Wang et al. 2018, eq. 5).

    Args:
        loss: (outputs, targets) to a scalar; cross-entropy on logits (N, K) and class indices (N,) by default.
        every: also read it after every ``every``-th step, and add up (Such et al. 2019); only at the end by default.
    """

    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    every: int | None = None

    def reading_steps(self, steps: int) -> frozenset[int]:
        between = () if self.every is None else range(self.every, steps, self.every)
        return frozenset({*between, steps})

    def value(self, learner: Learner, network: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        return self.loss(_outputs(learner, network, x_NCHW), y_N)


@final
@dataclass(frozen=True, kw_only=True)
class Relabelled(Objective):
    """The loss on real data in which one class goes by another's name: L_{K→T} of Wang et al. 2018 (arXiv 1811.10959).

    Args:
        source: the class K that is to be taken for another.
        target: the class T that it is to be taken for.
        keep: None for the paper's mean over the whole batch, in which K has the share that it has in the data. A number
            is the weight of the other classes' mean loss beside that of K: ℓ(K as T) + keep · ℓ(others).
    """

    source: int
    target: int
    keep: float | None = None

    def value(self, learner: Learner, network: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        loss_N = F.cross_entropy(_outputs(learner, network, x_NCHW), self.relabel(y_N), reduction="none")
        if self.keep is None:
            return loss_N.mean()
        moved_N = (y_N == self.source).to(loss_N.dtype)
        return _mean(loss_N, moved_N) + self.keep * _mean(loss_N, 1 - moved_N)

    def relabel(self, y_N: Tensor) -> Tensor:
        """Class indices with T in the place of K."""
        return torch.where(y_N == self.source, self.target, y_N)


def _mean(values_N: Tensor, weights_N: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing has a weight, as in a batch without the class."""
    return (weights_N * values_N).sum() / weights_N.sum().clamp_min(1)


def _outputs(learner: Learner, network: Tensors, x_NCHW: Tensor) -> Tensor:
    """Logits (N, K), up from bfloat16, where the real batch is autocast, and never down from float64."""
    outputs = learner.predict(network, x_NCHW)
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
