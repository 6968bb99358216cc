"""How a set is used, which is part of the set: in learned steps, or by ordinary training.

Shapes: S batches, M images a batch, T steps, N = S·M images in all, K classes; C, H, W of an image.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self, final

import torch
import tyro
from torch import Tensor

from limbeck.common.registry import Registry
from limbeck.common.seeds import generator
from limbeck.engine import Adam, Batch, InnerConfig, InnerOptimizer, Momentum, Tensors, with_prefix
from limbeck.errors import LimbeckError, unknown
from limbeck.evaluation.augmentation import transform_images
from limbeck.experiment.recorded import construct, encode


class TrainingRecipe(ABC):
    """How a network is trained on a set: what every verb does that trains one."""

    kind: ClassVar[str]
    """Its name in ``RECIPES`` and in artefacts."""

    @property
    @abstractmethod
    def optimizer(self) -> InnerOptimizer:
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

    @abstractmethod
    def at_step_size(self, lr: float) -> Self:
        """The same with the step size ``lr`` throughout, for sets that it was not learned for."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What a person reads, such as "30 gradient steps"."""

    def tensors(self) -> Tensors:
        """The tensors that an artefact records of it, by name."""
        return {}

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All else that an artefact records of it, as plain values by name."""

    @classmethod
    @abstractmethod
    def restore(cls, values: dict[str, Any], tensors: Tensors) -> Self:
        """Inverse of ``to_json`` and ``tensors``; raises LimbeckError for what does not fit."""

    @abstractmethod
    def fits(self, batches: int) -> bool:
        """Whether it can use a set of S batches."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSchedule(TrainingRecipe):
    """T batches in order, a step each, with learned step sizes (Wang et al. 2018, eq. 4).

    Args:
        inner: which optimiser takes the steps.
        order: (T,) integers, the batch of each step.
        hyperparameters: what the optimiser reads at each step, (T,) by name.
    """

    kind = "learned-schedule"

    inner: InnerConfig
    order: Tensor
    hyperparameters: Tensors

    @property
    def optimizer(self) -> InnerOptimizer:
        return self.inner.make()

    def count_steps(self, images: int) -> int:
        return len(self.order)

    def batches(
        self, images_SMCHW: Tensor, labels_SMK: Tensor, *, device: str | torch.device = "cpu", seed: int = 0
    ) -> Iterator[Batch]:
        """The T batches as recorded; nothing is left to chance, so ``seed`` does nothing."""
        pairs = ((images_SMCHW[index], labels_SMK[index]) for index in self.order.tolist())
        yield from self.pair(pairs, device)

    def pair(self, pairs: Iterator[tuple[Tensor, Tensor]], device: str | torch.device = "cpu") -> Iterator[Batch]:
        """T pairs of images (M, C, H, W) and labels (M, K) as batches, each with the hyper-parameters of its step."""
        for step, (x_MCHW, y_MK) in enumerate(pairs):
            h = {name: value[step].to(device) for name, value in self.hyperparameters.items()}
            yield Batch(x_MCHW.to(device), y_MK.to(device), h)

    def at_step_size(self, lr: float) -> Self:
        constant = torch.full(self.order.shape, lr)
        return dataclasses.replace(self, hyperparameters={**self.hyperparameters, "lr": constant})

    @property
    def description(self) -> str:
        count = len(self.order)
        return "1 gradient step" if count == 1 else f"{count} gradient steps"

    def tensors(self) -> Tensors:
        return {"order": self.order, **{f"hyperparameters.{k}": v for k, v in self.hyperparameters.items()}}

    def to_json(self) -> dict[str, Any]:
        return {"inner": encode(self.inner)}

    @classmethod
    def restore(cls, values: dict[str, Any], tensors: Tensors) -> Self:
        inner, order = construct(InnerConfig, values["inner"]), tensors["order"]
        hyperparameters = with_prefix(tensors, "hyperparameters.")
        for name in inner.make().hyperparameters:
            if name not in hyperparameters:
                raise KeyError(f"hyperparameters.{name}")
        for name in values.keys() - {"inner"}:
            raise LimbeckError(f"The recorded training of kind {cls.kind} has no '{name}'.")
        return cls(inner=inner, order=order, hyperparameters=hyperparameters)

    def fits(self, batches: int) -> bool:
        return (
            set(self.hyperparameters) == set(self.optimizer.hyperparameters)
            and all(self.order.shape == value.shape for value in self.hyperparameters.values())
            and bool(((self.order >= 0) & (self.order < batches)).all())
        )


@final
@dataclass(frozen=True, kw_only=True)
class OrdinaryTraining(TrainingRecipe):
    """How people train: epochs over shuffled batches, a usual optimiser, augmentation.

    Args:
        optimizer_name: ``adam`` (Kingma and Ba 2015) or ``sgd`` with momentum.
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

    optimizer_name: Annotated[Literal["adam", "sgd"], tyro.conf.arg(name="optimizer")] = "adam"
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
        for name, known in (("optimizer_name", ("adam", "sgd")), ("decay", ("constant", "cosine"))):
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

    @property
    def optimizer(self) -> InnerOptimizer:
        # Epsilon is inside the root: 1e-16 is torch's 1e-8.
        return Adam(epsilon=1e-16) if self.optimizer_name == "adam" else Momentum()

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
                images = transform_images(
                    x_NCHW[rows_M], rng, shift=self.shift, turn=self.turn, zoom=self.zoom, flip=self.flip
                )
                factor = 0.5 * (1 + math.cos(math.pi * step / total)) if self.decay == "cosine" else 1.0
                yield Batch(images, y_NK[rows_M], self._hyperparameters(factor, images))
                step += 1

    def _hyperparameters(self, factor: float, like: Tensor) -> Tensors:
        """Scalars by name, on the device and in the dtype of a tensor."""
        values = {"lr": factor * self.lr, "weight_decay": self.weight_decay}
        if self.optimizer_name == "adam":
            values |= {"beta1": 0.9, "beta2": 0.999}
        else:
            values |= {"momentum": self.momentum}
        return {name: like.new_tensor(value) for name, value in values.items()}

    def at_step_size(self, lr: float) -> Self:
        return dataclasses.replace(self, lr=lr)

    @property
    def description(self) -> str:
        augmented = ", augmented" if self.shift or self.turn or self.zoom or self.flip else ""
        name = {"adam": "Adam", "sgd": "SGD with momentum"}[self.optimizer_name]
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{epochs} of {name} {self.lr:g} in batches of {self.batch_size}{augmented}"

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = encode(self)
        return values

    @classmethod
    def restore(cls, values: dict[str, Any], tensors: Tensors) -> Self:
        return construct(cls, values)

    def fits(self, batches: int) -> bool:
        return True


RECIPES: Final[Registry[type[TrainingRecipe]]] = Registry(
    "training recipe", (LearnedSchedule.kind, LearnedSchedule), (OrdinaryTraining.kind, OrdinaryTraining)
)
"""The training recipes by name; another one is a file and a line here."""
