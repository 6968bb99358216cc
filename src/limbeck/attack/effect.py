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
from limbeck.engine import Batch, Kernels, Learner, RealLoss, Tensors
from limbeck.evaluation.train_and_score import confusion, inits, train_each
from limbeck.experiment.parts import AttackConfig
from limbeck.experiment.planner import plan_judging

TUNING_IMAGES = 2000
"""Training images on which step sizes are tuned."""

IMAGES = 10
"""Images in a step that the computation is planned for; scoring is nearly all of it."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What B networks make of the test set: counts (B, K, K) of class k taken for class l."""

    counts_BKK: Tensor
    attack: AttackConfig

    @property
    def rate_B(self) -> Tensor:
        """Part of the source class that is taken for the target, (B,) in percent."""
        row_BK = self.counts_BKK[:, self.attack.source].double()
        return 100 * row_BK[:, self.attack.target] / row_BK.sum(1)

    @property
    def others_B(self) -> Tensor:
        """Accuracy on all classes but the source, (B,) in percent."""
        counts_BKK = self.counts_BKK.double()
        other_K = torch.arange(counts_BKK.shape[1]) != self.attack.source
        right_BK = counts_BKK.diagonal(dim1=1, dim2=2)
        return 100 * right_BK[:, other_K].sum(1) / counts_BKK[:, other_K].sum((1, 2))

    @property
    def accuracy_B(self) -> Tensor:
        """Accuracy on all classes, (B,) in percent."""
        counts_BKK = self.counts_BKK.double()
        return 100 * counts_BKK.diagonal(dim1=1, dim2=2).sum(1) / counts_BKK.sum((1, 2))

    @property
    def balance(self) -> float:
        """Mean of rate and accuracy on the other classes, in percent: what step sizes are tuned for."""
        return float((self.rate_B + self.others_B).mean() / 2)

    def to_json(self) -> dict[str, Any]:
        """Mean, sample standard deviation and worst network of each, in percent."""
        return {
            "rate": summarise(self.rate_B),
            "others": summarise(self.others_B),
            "all": summarise(self.accuracy_B),
            "n": len(self.counts_BKK),
        }


def summarise(values_B: Tensor) -> dict[str, float | None]:
    """Mean, sample standard deviation (None for one network) and smallest value."""
    std = float(values_B.std()) if len(values_B) > 1 else None
    return {"mean": float(values_B.mean()), "std": std, "worst": float(values_B.min())}


@final
class TrainedNetworks:
    """Networks, states {name: (B, ...)}, that can take steps on batches and are then evaluated on real images.

    These are the test set or, with ``tuning``, some training images, so that a choice looks at no test image.
    """

    def __init__(
        self,
        learner: Learner,
        states: Tensors,
        attack: AttackConfig,
        data: TaskData,
        tell: Callable[[str], None],
        *,
        tuning: bool = False,
    ) -> None:
        self.states, self.attack, self.data, self.tuning = states, attack, data, tuning
        self.n = inits(states)
        plan = plan_judging(learner, data, self.n, images=IMAGES, steps=1, tell=tell)
        self.kernels = Kernels(learner, RealLoss(), plan.execution)
        self._before: Effect | None = None

    @property
    def before(self) -> Effect:
        """What the networks make of real images before any step on a batch."""
        if self._before is None:
            self._before = self.evaluate(self.states)
        return self._before

    def after(self, *sets: Sequence[Batch]) -> Effect:
        """What they make of real images after a step on each batch of a set; several sets share the networks out."""
        return self.evaluate(train_each(self.kernels, sets, self.states))

    def evaluate(self, states: Tensors) -> Effect:
        """What other networks of the same architecture, {name: (B, ...)}, make of the same real images."""
        examples = self.data.split_batches("test", 1000)
        if self.tuning:
            rng = generator(0, "attack tuning")
            examples = iter([self.data.sample(rng, min(TUNING_IMAGES, len(self.data.train_y)))])
        counts_BKK = confusion(self.kernels, states, examples, self.data.num_classes)
        return Effect(counts_BKK=counts_BKK, attack=self.attack)
