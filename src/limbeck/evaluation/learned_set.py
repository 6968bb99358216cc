"""What the judge reads of a learned set: the artefact gives it, and so may anything else that is to be judged.

Shapes: S batches, M images a batch, T steps, K classes; C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from limbeck.engine import Batch, Learner, Tensors
from limbeck.experiment.config import Config


class LearnedSet(Protocol):
    """A learned set as far as scores depend on it (``limbeck.artefact.Distilled`` says what each member is)."""

    @property
    def images(self) -> Tensor:
        """(S, M, C, H, W)."""

    @property
    def hyperparameters(self) -> Tensors:
        """(T,) by name."""

    @property
    def order(self) -> Tensor:
        """(T,), the batch of each step."""

    @property
    def config(self) -> Config:
        """The configuration that made it."""

    @property
    def weights(self) -> Tensors:
        """θ₀ by name of a fixed initialisation; empty otherwise."""

    @property
    def info(self) -> dict[str, Any]:
        """Provenance; ``info["data"]`` holds name and sha256 of the data."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def num_classes(self) -> int:
        """K."""

    def batches(self, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """The T batches in order."""

    def learner(self, name: str | None = None, device: str = "cpu") -> Learner:
        """The learner it was made for, or the same training of another network."""

    def initial(self, learner: Learner, n: int, seed: int, *, selection: bool = False) -> Tensors:
        """n held-out initial weights (n, ...), others for ``selection`` than for the score."""
