"""The learners that a set is learned for: one, or several that are trained in turn.

Shapes: B inits, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias, final

import torch

from limbeck.data import TaskData
from limbeck.engine import Batch, Execution, Kernels, Learner, Objective, RealLoss, Tensors
from limbeck.evaluation.train_and_score import Scores, score, train
from limbeck.experiment.build import initial_weights, network_for
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig
from limbeck.models import InitialWeights, with_fresh_noise

Member: TypeAlias = tuple[Learner, InitialWeights]
"""A learner and where its initial weights come from."""


def members_of(config: Config, data: TaskData, device: str) -> list[Member]:
    """What a configuration names, on a device; raises LimbeckError for what cannot be trained."""
    members = []
    for name in config.learners:
        network = network_for(config, data.image_shape, data.num_classes, learner=config.importable(name)).to(device)
        members.append((Learner.of(network, config.inner.make()), initial_weights(config, network)))
    return members


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pupil:
    """One learner of a family, with its initial weights."""

    kernels: Kernels
    initial: InitialWeights

    def sample(self, n: int, rng: torch.Generator) -> Tensors:
        """Initial weights (n, ...) to train on, with noise of their own."""
        return with_fresh_noise(self.kernels.learner.module, self.initial.sample(n, rng), rng)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """All learners of a run."""

    pupils: tuple[Pupil, ...]
    attack: AttackConfig | None = None

    @classmethod
    def of(cls, config: Config, members: Sequence[Member], execution: Execution) -> Self:
        """What ``members_of`` made of the configuration, computed as ``execution`` says."""
        objective: Objective = RealLoss(every=config.outer.loss_every)
        if config.attack is not None:
            objective = config.attack.objective
        return cls(
            attack=config.attack,
            pupils=tuple(
                Pupil(kernels=Kernels(learner, objective, execution), initial=initial) for learner, initial in members
            ),
        )

    @property
    def resampled(self) -> bool:
        """Whether initial weights differ from draw to draw."""
        return self.pupils[0].initial.resampled

    @property
    def theta(self) -> Tensors:
        """θ₀ of a fixed initialisation by name; empty otherwise."""
        if self.resampled:
            return {}
        return {name: value[0] for name, value in self.pupils[0].initial.held_out(1, 0).items()}

    def drawn(self, rng: torch.Generator) -> Pupil:
        """The learner that is trained next."""
        if len(self.pupils) == 1:
            return self.pupils[0]
        return self.pupils[int(torch.randint(len(self.pupils), (1,), generator=rng))]

    def validated(self, batches: Sequence[Batch], data: TaskData, count: int, seed: int) -> Scores:
        """Train ``count`` inits of every learner, kept for that, on batches and score them on the validation split.

        For an attack the source class counts as right where it is taken for the target, and as much as all others.
        """
        relabel = None if self.attack is None else self.attack.objective.relabel
        scores = []
        for pupil in self.pupils:
            trained = train(pupil.kernels, batches, pupil.initial.validation(count, seed))
            examples = data.split_batches("val", 1000)
            scores.append(score(pupil.kernels, trained, examples, data.num_classes, relabel=relabel))
        all_of_them = Scores(correct_BK=torch.cat([s.correct_BK for s in scores]), total_K=scores[0].total_K)
        return all_of_them if self.attack is None else all_of_them.balanced(self.attack.source)
