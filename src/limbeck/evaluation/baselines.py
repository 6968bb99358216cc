"""Real images in the place of learned ones, as Wang et al. 2018 compare: what any learned set has to beat.

Every baseline gives as many images as the learned set has, used in the same order for the same number of steps. Its
step size is tuned on the validation split. Shapes: S batches, M images a batch, K classes, n images per class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from limbeck.data import TaskData, kmeans_per_class
from limbeck.engine import Batch, Tensors
from limbeck.errors import unknown
from limbeck.evaluation.selections import SELECTIONS, select_per_class

STEP_SIZES = tuple(0.001 * 10 ** (i / 3) for i in range(10))
"""The grid that step sizes are tuned on: 0.001 to 1, three a decade."""


RANDOM_SETS = 10
"""Random sets that the baselines ``random`` (averaged) and ``best-random`` (the best kept) draw."""


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a learned set is laid out: S batches of ``ipc`` images per class, and the batch of each of the T steps."""

    batches: int
    ipc: int
    order: tuple[int, ...] = ()

    @property
    def per_class(self) -> int:
        """Images of each class in all."""
        return self.batches * self.ipc

    def split(self, x_KnCHW: Tensor) -> tuple[Tensor, Tensor]:
        """n = S·ipc images of each class as S batches with as many of each class, and their one-hot labels.

        Returns:
            Images (S, M, C, H, W) and labels (S, M, K).
        """
        classes, _, *shape = x_KnCHW.shape
        x_SKiCHW = x_KnCHW.reshape(classes, self.batches, self.ipc, *shape).transpose(0, 1)
        y_MK = torch.eye(classes, device=x_KnCHW.device, dtype=torch.float32).repeat_interleave(self.ipc, dim=0)
        return x_SKiCHW.flatten(1, 2), y_MK.expand(self.batches, -1, -1)

    def arrange(self, x_KnCHW: Tensor, step_size: float, others: Tensors | None = None) -> list[Batch]:
        """The T batches from n = S·ipc images of each class, with one step size throughout.

        ``others`` are further hyper-parameters of the inner optimiser, (T,) by name.
        """
        x_SMCHW, y_SMK = self.split(x_KnCHW)
        lr = torch.tensor(step_size, device=x_KnCHW.device, dtype=torch.float32)
        return [
            Batch(
                x_SMCHW[index], y_SMK[index], {**{name: value[t] for name, value in (others or {}).items()}, "lr": lr}
            )
            for t, index in enumerate(self.order)
        ]


def random_real(data: TaskData, per_class: int, generator: torch.Generator) -> Tensor:
    """Random training images, (K, n, C, H, W)."""
    return data.per_class(generator, per_class)


def class_average(data: TaskData, per_class: int, generator: torch.Generator) -> Tensor:
    """The mean image of each class, the same one everywhere, (K, n, C, H, W)."""
    means = [data.preprocessing.apply(members).mean(0) for members in _by_class(data)]
    return torch.stack(means)[:, None].expand(-1, per_class, -1, -1, -1).contiguous()


FINE_TUNING = "fine-tuning"
"""Ordinary training on as many random real images, for as many epochs as validation likes best."""

FINE_TUNING_EPOCHS = (3, 10, 30, 100)


def baseline_names() -> tuple[str, ...]:
    """The baselines in the order of the paper's table. Others are the selections, and ``fine-tuning`` for networks that
    were trained."""
    return ("random", "best-random", "kmeans", "average")


def make_baseline(name: str) -> Callable[[TaskData, int, torch.Generator], Tensor]:
    """The function that draws the images of a baseline, from data, images per class n and a generator: (K, n, C, H, W).

    Raises:
        LimbeckError: an unknown name.
    """
    known = {
        "random": random_real,
        "best-random": random_real,
        "kmeans": kmeans_per_class,
        "average": class_average,
        FINE_TUNING: random_real,
        **{name: _selection(name) for name in SELECTIONS.names if name != "random"},
    }
    if name not in known:
        raise unknown("baseline", name, known)
    return known[name]


def _selection(name: str) -> Callable[[TaskData, int, torch.Generator], Tensor]:
    return lambda data, per_class, generator: select_per_class(data, name, per_class, generator)


def check_baselines(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; raises LimbeckError for an unknown one."""
    for name in names:
        make_baseline(name)
    return tuple(names)


def _by_class(data: TaskData) -> list[Tensor]:
    return [data.train_x[data.train_y == label] for label in range(data.num_classes)]
