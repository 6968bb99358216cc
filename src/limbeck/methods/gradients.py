"""Match the gradients of each class's loss (Zhao et al. 2021, arXiv 2006.05929, eqs. 9 and 10).

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from limbeck.common.augmentation import Augmentation
from limbeck.engine import Kernels, Learner, Objective, Tensors, detach_all
from limbeck.errors import LimbeckError
from limbeck.methods.base import Method
from limbeck.methods.matching import Lesson, Matching, MatchingConfig


@dataclass(frozen=True, kw_only=True)
class AgedConfig(MatchingConfig):
    """Settings of gradient matching: a step on learned images of a class changes a network as one on real images does.

    Args:
        age: networks are compared after they took a random number of steps on the learned images, at most so many; 0
            compares at initial weights only.
        age_lr: the step size of these steps.
    """

    age: int = 30
    age_lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.age < 0:
            raise LimbeckError(f"age is {self.age}; it must not be negative.")
        if not 0 < self.age_lr < math.inf:
            raise LimbeckError(f"age_lr is {self.age_lr}; a step size must be a positive number.")

    @property
    def suits(self) -> Mapping[str, Any]:
        return {"inits": 1, "real_batch": 512, "validate_every": 200, "validate_inits": 4}

    def build(self, goal: Objective | None = None) -> Method:
        self.refuse_goal(goal)
        return GradientMatching(augmentation=self.augmentation, age=self.age, age_lr=self.age_lr)


@final
@dataclass(frozen=True, kw_only=True)
class GradientConfig(AgedConfig):
    """Gradient matching, or dataset condensation: images are compared as they are unless moves are named."""

    siamese = False


@final
@dataclass(frozen=True, kw_only=True)
class SiameseConfig(AgedConfig):
    """Gradient matching with Siamese augmentation (arXiv 2102.08259): images are moved while they are compared."""


@final
@dataclass(frozen=True, kw_only=True)
class GradientMatching(Matching):
    """The sum over classes and layers of 1 - cosine between the gradients of real and of learned images."""

    augmentation: Augmentation
    age: int
    age_lr: float

    def draw_age(self, rng: torch.Generator) -> int:
        return int(torch.randint(self.age + 1, (1,), generator=rng)) if self.age else 0

    def distance(self, kernels: Kernels, network: Tensors, real: Lesson, learned: Lesson, age: int) -> Tensor:
        state = kernels.learner.init(network)
        gradient = partial(_gradient, kernels.learner, buffers=state.buffers)
        params = detach_all(state.params)
        lesson = Lesson(*(value.detach() for value in learned))
        for _ in range(age):
            grads = gradient(params, lesson)
            params = detach_all({name: p - self.age_lr * g for (name, p), g in zip(params.items(), grads, strict=True)})
        total = learned.x_NCHW.new_zeros(())
        for label in range(real.y_NK.shape[1]):
            wanted, got = (_only(each, label) for each in (real, learned))
            if len(wanted.x_NCHW) and len(got.x_NCHW):
                total = total + compare_gradients(gradient(params, wanted), gradient(params, got, create_graph=True))
        return total


def compare_gradients(wanted: Sequence[Tensor], got: Sequence[Tensor]) -> Tensor:
    """The sum over tensors and their output nodes of 1 - cosine; tensors of one dimension have one row (eq. 10)."""
    total = got[0].new_zeros(())
    for a, b in zip(wanted, got, strict=True):
        rows_a, rows_b = (each.flatten(1) if each.dim() > 1 else each.reshape(1, -1) for each in (a, b))
        cosine = (rows_a * rows_b).sum(1) / (rows_a.norm(dim=1) * rows_b.norm(dim=1) + 1e-6)
        total = total + (1 - cosine).sum()
    return total


def _only(lesson: Lesson, label: int) -> Lesson:
    """The images of one class."""
    rows = lesson.y_NK.argmax(-1) == label
    return Lesson(lesson.x_NCHW[rows], lesson.y_NK[rows])


def _gradient(
    learner: Learner, params: Tensors, lesson: Lesson, *, buffers: Tensors, create_graph: bool = False
) -> Sequence[Tensor]:
    """The gradient of the loss on labelled images in the parameters."""
    loss, _ = learner.inner_loss(params, buffers, *lesson)
    return torch.autograd.grad(loss, list(params.values()), create_graph=create_graph, materialize_grads=True)
