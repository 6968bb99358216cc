"""Cheap defences against a bad batch: what a trainer does about a step before it counts.

A new defence is a class here or in a file of its own, and a line in ``DEFENCES``. Shapes: B networks, M images a batch,
K classes; ``Tensors`` are {name: (B, ...)}.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, Self, final

import torch
from torch import Tensor
from torch.func import grad, vmap

from limbeck.attack.gradients import broadcast, clip, gradients
from limbeck.common.registry import Registry
from limbeck.engine import Batch, Kernels, Learner, State, Tensors
from limbeck.evaluation.train_and_score import confusion

TOLERANCE = 2.0
"""The held-out check refuses a step after which a class loses more than so many percentage points of its images."""

NOISE = 1.0
"""Noise multiplier of differential privacy, in units of the clipping bound over the batch's size."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What a defender knows before the attack comes, and sets a defence by.

    Attributes:
        gradient_norm: 95th percentile of the gradients' lengths on honest batches.
        update_norm: likewise of the lengths of undefended steps.
        kernels: of the networks' learner.
        x_NCHW, y_N: held-out examples, normalised, and their labels.
        classes: K.
    """

    gradient_norm: float
    update_norm: float
    kernels: Kernels
    x_NCHW: Tensor
    y_N: Tensor
    classes: int


class Defence(ABC):
    """What a trainer does about a step before it counts. By default it takes every step as it is."""

    name: ClassVar[str]
    """Its key in the table of defences."""

    @classmethod
    @abstractmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        """The defence with thresholds from honest batches."""

    @property
    @abstractmethod
    def row(self) -> str:
        """Its name and setting, for a report."""

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        """The gradients (B, ...) that the optimiser gets."""
        return gradients(learner, states, batch)

    def accept(self, before: State, after: State) -> State:
        """The states that the networks go on with, given those before and after the optimiser's step."""
        return after


@final
class Undefended(Defence):
    """Takes every step."""

    name = "none"

    @classmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        return cls()

    @property
    def row(self) -> str:
        return "none"


@final
class GradientClipping(Defence):
    """Scales gradients down to a norm (Pascanu et al. 2013, algorithm 1)."""

    name = "gradient-clipping"

    def __init__(self, bound: float) -> None:
        self.bound = bound

    @classmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        return cls(calibration.gradient_norm)

    @property
    def row(self) -> str:
        return f"gradient clipped to norm {self.bound:.3g}"

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        return clip(gradients(learner, states, batch), self.bound)


@final
class UpdateBound(Defence):
    """Scales the whole update down to a norm, whatever the step size (norm clipping of federated learning)."""

    name = "update-bound"

    def __init__(self, bound: float) -> None:
        self.bound = bound

    @classmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        return cls(calibration.update_norm)

    @property
    def row(self) -> str:
        return f"update bounded to norm {self.bound:.3g}"

    def accept(self, before: State, after: State) -> State:
        update = clip({name: value - before.params[name] for name, value in after.params.items()}, self.bound)
        return after._replace(params={name: before.params[name] + value for name, value in update.items()})


@final
class HeldOutCheck(Defence):
    """Refuses a step after which any class does worse on a few held-out examples."""

    name = "held-out-check"

    def __init__(self, kernels: Kernels, x_NCHW: Tensor, y_N: Tensor, classes: int, tolerance: float) -> None:
        self._kernels, self._x_NCHW, self._y_N, self._classes = kernels, x_NCHW, y_N, classes
        self.tolerance = tolerance

    @classmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        return cls(calibration.kernels, calibration.x_NCHW, calibration.y_N, calibration.classes, TOLERANCE)

    @property
    def row(self) -> str:
        return f"held-out check of {len(self._y_N)}, {self.tolerance:g} points"

    def accept(self, before: State, after: State) -> State:
        loss_BK = self._recall(before) - self._recall(after)
        fine_B = (loss_BK <= self.tolerance).all(1).to(self._y_N.device)
        pairs = zip(before, after, strict=True)
        return State(*({name: _where(fine_B, new[name], old[name]) for name in new} for old, new in pairs))

    def _recall(self, states: State) -> Tensor:
        """Recall (B, K) of each class, in percent."""
        counts_BKK = confusion(self._kernels, states.network, [(self._x_NCHW, self._y_N)], self._classes)
        return 100 * counts_BKK.diagonal(dim1=1, dim2=2) / counts_BKK.sum(2).clamp_min(1)


@final
class Noise(Defence):
    """Clips each example's gradient and adds noise to their mean (differentially private SGD, Abadi et al. 2016)."""

    name = "noise"

    def __init__(self, bound: float, multiplier: float) -> None:
        self.bound, self.multiplier = bound, multiplier

    @classmethod
    def calibrate(cls, calibration: Calibration) -> Self:
        return cls(calibration.gradient_norm, NOISE)

    @property
    def row(self) -> str:
        return f"examples clipped to {self.bound:.3g}, noise {self.multiplier:g}"

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        def of_example(params: Tensors, buffers: Tensors, x_CHW: Tensor, y_K: Tensor) -> Tensors:
            grads: Tensors = grad(lambda p: learner.inner_loss(p, buffers, x_CHW[None], y_K[None])[0])(params)
            length = torch.stack([value.square().sum() for value in grads.values()]).sum().sqrt()
            scale = (self.bound / length.clamp_min(1e-30)).clamp_max(1.0)
            return {name: scale * value for name, value in grads.items()}

        def of_batch(params: Tensors, buffers: Tensors) -> Tensors:
            each = vmap(of_example, in_dims=(None, None, 0, 0))(params, buffers, batch.x_MCHW, batch.y_MK)
            return {name: value.mean(0) for name, value in each.items()}

        spread = self.multiplier * self.bound / len(batch.x_MCHW)
        return {
            name: value + spread * torch.randn(value.shape, generator=rng, dtype=torch.float32).to(value)
            for name, value in vmap(of_batch)(states.params, states.buffers).items()
        }


DEFENCES: Final[Registry[type[Defence]]] = Registry(
    "defence", *((kind.name, kind) for kind in (Undefended, GradientClipping, UpdateBound, HeldOutCheck, Noise))
)
"""The defences that a report tries, in the order of its rows."""


def _where(chosen_B: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.where(broadcast(chosen_B, left), left, right)
