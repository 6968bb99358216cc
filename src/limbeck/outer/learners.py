"""The learners that a set is learned for: one, or several that are trained in turn.

Shapes: B inits, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias, final

import torch

from limbeck.data import TaskData
from limbeck.engine import Batch, Execution, Kernels, Learner, Tensors, trainable_parameters
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import Scores, score, train
from limbeck.evaluation.training import TrainingRecipe
from limbeck.experiment.build import initial_weights, network_for, warn_of_equal_starts
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig
from limbeck.methods import Method
from limbeck.models import InitialWeights, with_fresh_noise

LearnerAndWeights: TypeAlias = tuple[Learner, InitialWeights]
"""A learner and where its initial weights come from."""


def build_learners(config: Config, data: TaskData, device: str) -> list[LearnerAndWeights]:
    """The learners that a configuration names, on a device; raises LimbeckError for what cannot be trained."""
    learners = []
    for name in config.learners:
        network = network_for(config, data.image_shape, data.num_classes, learner=config.learner_of(name)).to(device)
        warn_of_equal_starts(config, network)
        learners.append((Learner.of(network, config.inner.make()), initial_weights(config, network)))
    return learners


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Trainable:
    """One learner of a family as it is run, with its initial weights.

    ``judged`` is the learner as networks are trained on the whole set, in validation: by the inner optimiser, or by
    that of ordinary training.
    """

    kernels: Kernels
    judged: Kernels
    initial: InitialWeights

    def sample(self, n: int, rng: torch.Generator) -> Tensors:
        """Initial weights (n, ...) to train on, with noise of their own."""
        return with_fresh_noise(self.kernels.learner.module, self.initial.sample(n, rng), rng)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """All learners of a run."""

    members: tuple[Trainable, ...]
    attack: AttackConfig | None = None

    @classmethod
    def of(
        cls,
        learners: Sequence[LearnerAndWeights],
        method: Method,
        execution: Execution,
        attack: AttackConfig | None = None,
        recipe: TrainingRecipe | None = None,
    ) -> Self:
        """The learners as ``method`` runs them, computed as ``execution`` says; ``recipe`` judges them, if given."""
        members = []
        for learner, initial in learners:
            kernels = method.kernels(learner, execution)
            judged = kernels
            if recipe is not None:
                other = replace(learner, module=learner.training_module, optimizer=recipe.make_optimizer())
                judged = method.kernels(other, execution)
            members.append(Trainable(kernels=kernels, judged=judged, initial=initial))
        return cls(attack=attack, members=tuple(members))

    @property
    def resampled(self) -> bool:
        """Whether initial weights differ from draw to draw."""
        return self.members[0].initial.resampled

    @property
    def theta(self) -> Tensors:
        """θ₀ of a fixed initialisation by name; empty otherwise."""
        if self.resampled:
            return {}
        return {name: value[0] for name, value in self.members[0].initial.held_out(1, 0).items()}

    @property
    def shapes(self) -> list[dict[str, list[int]]]:
        """The shapes of what training changes in each network, by name."""
        return [
            {name: list(value.shape) for name, value in trainable_parameters(member.kernels.learner.module).items()}
            for member in self.members
        ]

    def check_same(self, shapes: Sequence[Mapping[str, list[int]]] | None, theta: Tensors) -> None:
        """Raise LimbeckError unless a run began with these networks: their ``shapes``, and θ₀ of a fixed start.

        None and no tensors are of a run that did not record them.
        """
        for now, then in zip(self.shapes, shapes or (), strict=False):
            odd = sorted(name for name in {**now, **then} if now.get(name) != then.get(name))
            if odd:
                raise LimbeckError(
                    f"The network is another than the one that the run began with: {', '.join(odd[:3])}"
                    f"{', ...' if len(odd) > 3 else ''} {'have' if len(odd) > 1 else 'has'} another shape or name; "
                    "resume it with the same network, or begin a new run (--out)."
                )
        if not all(torch.allclose(value.cpu(), theta.get(name, value.cpu())) for name, value in self.theta.items()):
            raise LimbeckError(
                "The network begins from other weights than the fixed ones that the run learned for; resume it with "
                "the same network, or begin a new run (--out)."
            )

    def say_no_gradient(self, batches: Sequence[Batch], seed: int) -> None:
        """Warn that the gradient in the images, or in all that is learned, was zero.

        Raises:
            LimbeckError: training does not change the weights of any network either.
        """
        for member, shapes in zip(self.members, self.shapes, strict=True):
            start = member.initial.validation(1, seed)
            trained = train(member.kernels, batches, start)
            if any(not torch.equal(trained[name], start[name]) for name in shapes):
                warnings.warn(
                    "the images that are learned do not change: in the first iteration the gradient in them is exactly "
                    "zero; look for what the network does to its images that has none, such as rounding or detach()",
                    stacklevel=2,
                )
                return
        raise LimbeckError(
            "Training does not change the network: its output gives its parameters no gradient, as after detach() or "
            "argmax(), or the step size is 0; so nothing can be learned for it."
        )

    def draw(self, rng: torch.Generator) -> Trainable:
        """The learner that is trained next."""
        if len(self.members) == 1:
            return self.members[0]
        return self.members[int(torch.randint(len(self.members), (1,), generator=rng))]

    def validate(self, batches: Callable[[], Iterable[Batch]], data: TaskData, count: int, seed: int) -> Scores:
        """Train ``count`` inits of every learner, kept for that, on batches and score them on the validation split.

        ``batches`` makes them anew for each learner: all at once they may be more than there is memory for.

        For an attack the source class counts as right where it is taken for the target, and as much as all others.
        """
        relabel = None if self.attack is None else self.attack.objective.relabel
        parts = []
        for member in self.members:
            networks = train(member.judged, batches(), member.initial.validation(count, seed))
            examples = data.split_batches("val", 1000)
            parts.append(score(member.judged, networks, examples, data.num_classes, relabel=relabel))
        scores = Scores(correct_BK=torch.cat([s.correct_BK for s in parts]), total_K=parts[0].total_K)
        return scores if self.attack is None else scores.balance(self.attack.source)
