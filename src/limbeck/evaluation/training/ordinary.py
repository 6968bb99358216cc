"""Ordinary training: epochs over shuffled batches.

Shapes: S batches, M images a batch, T steps, N = S·M images in all, K classes; C, H, W of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from limbeck.common.augmentation import Augmentation
from limbeck.common.idle import refuse_idle_fields
from limbeck.common.seeds import generator
from limbeck.common.typed import check_types
from limbeck.engine import Adam, Batch, InnerOptimizer, Momentum, Tensors
from limbeck.errors import LimbeckError, unknown
from limbeck.evaluation.training.base import TrainingRecipe


@final
@dataclass(frozen=True, kw_only=True)
class OrdinaryTraining(TrainingRecipe):
    """How people train: epochs over shuffled batches, a usual optimiser, augmentation.

    Args:
        optimizer: ``adam`` (Kingma and Ba 2015) or ``sgd`` with momentum.
        lr: the step size, > 0.
        epochs: how often all images are gone through.
        batch_size: images a step; the last batch of an epoch may be smaller.
        momentum: of ``sgd``, in [0, 1).
        weight_decay: added to the gradient times the weights, >= 0.
        decay: the step size stays ``constant``, or falls to 0 along a ``cosine``.
        shift: each image is shifted at random by up to so many pixels.
        turn: and turned by up to so many degrees.
        zoom: and scaled by a factor of up to 1 ± so much, < 1.
        flip: and half of them are mirrored.
    """

    kind = "ordinary"

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 0.001
    epochs: int = 30
    batch_size: int = 10
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: Literal["constant", "cosine"] = "constant"
    shift: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name, known in (("optimizer", ("adam", "sgd")), ("decay", ("constant", "cosine"))):
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), known)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise LimbeckError(f"lr is {self.lr}; a step size must be a positive number.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name, most in (("momentum", 1.0), ("zoom", 1.0), ("weight_decay", math.inf), ("shift", math.inf)):
            if not 0 <= getattr(self, name) < most:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least 0 and below {most:g}.")
        if not 0 <= self.turn <= 180:
            raise LimbeckError(f"turn is {self.turn}; it must lie between 0 and 180 degrees.")
        if self.optimizer == "adam":
            refuse_idle_fields(self, "momentum", why="with the optimizer adam", fix="choose sgd")

    @classmethod
    def for_images(cls, images: int) -> Self:
        """A recipe for so many images: some hundred steps for few of them, 30 epochs for many."""
        return cls(batch_size=max(10, images // 20), epochs=max(30, min(300, 3000 // images)))

    def make_optimizer(self) -> InnerOptimizer:
        # Epsilon is inside the root: 1e-16 is torch's 1e-8.
        return Adam(epsilon=1e-16) if self.optimizer == "adam" else Momentum()

    def count_steps(self, images: int) -> int:
        return self.epochs * -(-images // self.batch_size)

    def batches(
        self, images_SMCHW: Tensor, labels_SMK: Tensor, *, device: str | torch.device = "cpu", seed: int = 0
    ) -> Iterator[Batch]:
        """The T batches of all epochs; ``seed`` shuffles each epoch and draws the augmentation."""
        x_NCHW, y_NK = images_SMCHW.flatten(0, 1).to(device), labels_SMK.flatten(0, 1).to(device)
        rng = generator(seed, "ordinary training")
        total, step = self.count_steps(len(x_NCHW)), 0
        for _ in range(self.epochs):
            order_N = torch.randperm(len(x_NCHW), generator=rng).to(x_NCHW.device)
            for rows_M in torch.split(order_N, self.batch_size):
                images = self.augmentation.transform(x_NCHW[rows_M], rng)
                factor = 0.5 * (1 + math.cos(math.pi * step / total)) if self.decay == "cosine" else 1.0
                yield Batch(images, y_NK[rows_M], self._hyperparameters(factor, images))
                step += 1

    def _hyperparameters(self, factor: float, like: Tensor) -> Tensors:
        """Scalars by name, on the device and in the dtype of a tensor."""
        values = {"lr": factor * self.lr, "weight_decay": self.weight_decay}
        if self.optimizer == "adam":
            values |= {"beta1": 0.9, "beta2": 0.999}
        else:
            values |= {"momentum": self.momentum}
        return {name: like.new_tensor(value) for name, value in values.items()}

    @classmethod
    def restore(cls, values: dict[str, Any], tensors: Tensors) -> Self:
        renamed = {"optimizer_name": "optimizer"}  # as artefacts had it until 0.1
        return super().restore({renamed.get(name, name): value for name, value in values.items()}, tensors)

    @property
    def augmentation(self) -> Augmentation:
        """The bounds within which images are changed at random."""
        return Augmentation(shift=self.shift, turn=self.turn, zoom=self.zoom, flip=self.flip)

    @property
    def augmented(self) -> bool:
        """Whether images are changed at random."""
        return not self.augmentation.idle

    @property
    def description(self) -> str:
        augmented = ", augmented" if self.augmented else ""
        name = {"adam": "Adam", "sgd": "SGD with momentum"}[self.optimizer]
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{epochs} of {name} {self.lr:g} in batches of {self.batch_size}{augmented}"
