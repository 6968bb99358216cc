"""What a training recipe is: how a network is trained on a set.

Shapes: S batches, M images a batch, T steps, N = S·M images in all, K classes; C, H, W of an image.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from limbeck.engine import Batch, InnerOptimizer, Tensors
from limbeck.errors import LimbeckError
from limbeck.experiment.recorded import construct, encode


def chosen_recipe(training: TrainingRecipe | None, own: TrainingRecipe) -> TrainingRecipe:
    """The recipe that is given, or a set's own; raises LimbeckError for what is none."""
    if training is not None and not isinstance(training, TrainingRecipe):
        raise LimbeckError(
            f"training is {training!r:.60}; give a recipe, such as limbeck.OrdinaryTraining(epochs=30), or none."
        )
    return own if training is None else training


class TrainingRecipe(ABC):
    """How a network is trained on a set: what every verb does that trains one.

    Derive a frozen, keyword-only dataclass for a recipe of your own. If its fields are plain values and one of them is
    ``lr``, what has a default here need not be written again.
    """

    kind: ClassVar[str]
    """Its name in ``RECIPES`` and in artefacts."""

    @abstractmethod
    def make_optimizer(self) -> InnerOptimizer:
        """What takes the steps."""

    @abstractmethod
    def count_steps(self, images: int) -> int:
        """T, for N images in all."""

    @abstractmethod
    def batches(
        self, images_SMCHW: Tensor, labels_SMK: Tensor, *, device: str | torch.device = "cpu", seed: int = 0
    ) -> Iterator[Batch]:
        """The T batches in the order in which they are used, each with its hyper-parameters.

        Args:
            images_SMCHW: the set, normalised.
            labels_SMK: distributions over the classes.
            device: where the batches are to lie.
            seed: of what the recipe leaves to chance.
        """

    def at_step_size(self, lr: float) -> Self:
        """The same with the step size ``lr`` throughout, for sets that it was not learned for; by default a field."""
        return dataclasses.replace(self, lr=lr)  # type: ignore[type-var]

    @property
    def step_size(self) -> float | None:
        """The step size throughout; None where it differs from step to step."""
        return getattr(self, "lr", None)

    @property
    @abstractmethod
    def description(self) -> str:
        """What a person reads, such as "30 gradient steps"."""

    def tensors(self) -> Tensors:
        """The tensors that an artefact records of it, by name."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """All else that an artefact records of it, as plain values by name: its fields by default."""
        values: dict[str, Any] = encode(self)
        return values

    @classmethod
    def restore(cls, values: dict[str, Any], tensors: Tensors) -> Self:
        """Inverse of ``to_json`` and ``tensors``; raises LimbeckError for what does not fit."""
        return construct(cls, values)

    def fits(self, batches: int) -> bool:
        """Whether it can use a set of S batches; any set by default."""
        return True
