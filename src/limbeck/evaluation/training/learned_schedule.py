"""Training in learned steps, as the set was learned.

Shapes: S batches, M images a batch, T steps, N = S·M images in all, K classes; C, H, W of an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import Tensor

from limbeck.engine import Batch, InnerConfig, InnerOptimizer, Tensors, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.training.base import TrainingRecipe
from limbeck.experiment.recorded import construct, encode


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSchedule(TrainingRecipe):
    """T batches in order, a step each, with learned step sizes (Wang et al. 2018, eq. 4).

    Args:
        inner: which optimiser takes the steps.
        order: (T,) integers, the batch of each step.
        hyperparameters: what the optimiser reads at each step, (T,) by name.
        step_size: the one that ``at_step_size`` put in the place of the learned ones; recorded nowhere.
    """

    kind = "learned-schedule"

    inner: InnerConfig
    order: Tensor
    hyperparameters: Tensors
    step_size: float | None = None

    def __repr__(self) -> str:
        low, high = (f"{float(size):.4g}" for size in self.hyperparameters["lr"].aminmax())
        sizes = f"step size {low}" if low == high else f"step sizes from {low} to {high}"
        return f"LearnedSchedule({self.description} of {self.inner.optimizer}, {sizes})"

    def make_optimizer(self) -> InnerOptimizer:
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
        constant = torch.full(self.order.shape, lr, dtype=torch.float32)
        return dataclasses.replace(self, hyperparameters={**self.hyperparameters, "lr": constant}, step_size=lr)

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
            set(self.hyperparameters) == set(self.make_optimizer().hyperparameters)
            and (self.order.dtype, self.order.dim()) == (torch.long, 1)
            and all(self.order.shape == value.shape for value in self.hyperparameters.values())
            and bool(((self.order >= 0) & (self.order < batches)).all())
        )
