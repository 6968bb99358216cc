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

    def observed(self, steps: int) -> frozenset[int]:
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

    def observed(self, steps: int) -> frozenset[int]:
        between = () if self.every is None else range(self.every, steps, self.every)
        return frozenset({*between, steps})

    def value(self, learner: Learner, network: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        outputs = learner.predict(network, x_NCHW)
        # Up from bfloat16, where the real batch is autocast, and never down from float64.
        return self.loss(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), y_N)
