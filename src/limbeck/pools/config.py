"""The settings by which the networks of a pool are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

from limbeck.common.typed import check_types
from limbeck.errors import LimbeckError, unknown
from limbeck.models import distribution_names


@final
@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How the networks of a pool are trained: Adam (Kingma and Ba 2015), its rate falling to zero as a cosine.

    Args:
        learner: as in ``Config``.
        n: networks.
        steps: training steps of each.
        batch: images a step, drawn with replacement, for each network its own.
        lr: Adam's rate at its highest.
        weight_decay: added to the gradient times the weights.
        distribution: of the initial weights.
        group: networks that are trained together; chosen from the learner's size by default.
        compile: compile the training step; ``auto`` does where that pays.
        seed: of initial weights and batches.
        val_size: training images that are set aside.
    """

    learner: str = "lenet"
    n: int = 50
    steps: int = 2000
    batch: int = 32
    lr: float = 0.003
    weight_decay: float = 0.0
    distribution: str = "xavier"
    group: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    val_size: int = 5000

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("n", "steps", "batch", "val_size", "group"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise LimbeckError(f"lr is {self.lr}; it must be a positive number.")
        if not 0 <= self.weight_decay < math.inf:
            raise LimbeckError(f"weight_decay is {self.weight_decay}; it must not be negative.")
        for name, known in (("distribution", distribution_names()), ("compile", ("auto", "on", "off"))):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
