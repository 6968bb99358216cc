"""Trained networks that take steps on a batch, and what they make of real images then.

Shapes: B networks, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import Batch, Learner, Tensors
from limbeck.evaluation.train_and_score import confusion, inits, train_each
from limbeck.experiment.execution import default_chunk, judging_kernels
from limbeck.experiment.parts import AttackConfig

TUNING_IMAGES = 2000
"""Training images on which step sizes are tuned."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What B networks make of the test set: counts (B, K, K) of class k taken for class l."""

    counts_BKK: Tensor
    attack: AttackConfig

    @property
    def rate_B(self) -> Tensor:
        """Part of the source class that is taken for the target, in percent."""
        row_BK = self.counts_BKK[:, self.attack.source].double()
        return 100 * row_BK[:, self.attack.target] / row_BK.sum(1)

    @property
    def others_B(self) -> Tensor:
        """Accuracy on all classes but the source, in percent."""
        counts_BKK = self.counts_BKK.double()
        other_K = torch.arange(counts_BKK.shape[1]) != self.attack.source
        right_BK = counts_BKK.diagonal(dim1=1, dim2=2)
        return 100 * right_BK[:, other_K].sum(1) / counts_BKK[:, other_K].sum((1, 2))

    @property
    def accuracy_B(self) -> Tensor:
        """Accuracy on all classes, in percent."""
        counts_BKK = self.counts_BKK.double()
        return 100 * counts_BKK.diagonal(dim1=1, dim2=2).sum(1) / counts_BKK.sum((1, 2))

    @property
    def balance(self) -> float:
        """Mean of rate and accuracy on the other classes: what step sizes are tuned for."""
        return float((self.rate_B + self.others_B).mean() / 2)

    def to_json(self) -> dict[str, Any]:
        """Mean, sample standard deviation and worst network of each, in percent."""
        return {
            "rate": summarised(self.rate_B),
            "others": summarised(self.others_B),
            "all": summarised(self.accuracy_B),
            "n": len(self.counts_BKK),
        }


def summarised(values_B: Tensor) -> dict[str, float | None]:
    """Mean, sample standard deviation (None for one network) and smallest value."""
    std = float(values_B.std()) if len(values_B) > 1 else None
    return {"mean": float(values_B.mean()), "std": std, "worst": float(values_B.min())}


@final
class Victims:
    """Networks that take steps on a batch and are counted on the test set, or on some training images for tuning."""

    def __init__(
        self,
        learner: Learner,
        networks: Tensors,
        attack: AttackConfig,
        data: TaskData,
        tell: Callable[[str], None],
        *,
        tuning: bool = False,
    ) -> None:
        self.networks, self.attack, self.data, self.tuning = networks, attack, data, tuning
        self.n = inits(networks)
        small = default_chunk(learner, data, 10) > 1
        self.kernels = judging_kernels(learner, data, self.n, small=small, tell=tell)
        self._before: Effect | None = None

    @property
    def before(self) -> Effect:
        """Untouched."""
        if self._before is None:
            self._before = self.counted(self.networks)
        return self._before

    def effect(self, *sets: Sequence[Batch]) -> Effect:
        """After a step on each batch of a set; each of several sets takes its share of the networks."""
        return self.counted(train_each(self.kernels, sets, self.networks))

    def counted(self, networks: Tensors) -> Effect:
        """What networks make of real images."""
        examples = self.data.split_batches("test", 1000)
        if self.tuning:
            rng = generator(0, "attack tuning")
            examples = iter([self.data.sample(rng, min(TUNING_IMAGES, len(self.data.train_y)))])
        counts_BKK = confusion(self.kernels, networks, examples, self.data.num_classes)
        return Effect(counts_BKK=counts_BKK, attack=self.attack)
