"""What the judge reads of a learned set: the artefact gives it, and so may anything else that is to be judged.

Shapes: S batches, M images a batch, K classes; C, H, W of an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from limbeck.common.devices import Device
from limbeck.data import TaskData
from limbeck.engine import Learner, Tensors
from limbeck.evaluation.training import TrainingRecipe
from limbeck.experiment.config import Config
from limbeck.models import LearnerLike


class LearnedSet(Protocol):
    """A learned set as far as scores depend on it (``limbeck.artefact.Distilled`` says what each member is)."""

    @property
    def images(self) -> Tensor:
        """(S, M, C, H, W)."""

    @property
    def labels(self) -> Tensor:
        """(S, M, K)."""

    @property
    def training(self) -> TrainingRecipe:
        """How a network is trained on it."""

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

    @property
    def folder(self) -> Path | None:
        """The run directory, in which scores are kept; None for a set that has none."""

    @property
    def data(self) -> TaskData | None:
        """What it was learned from, where that is at hand; None for a set that was loaded."""

    def learner(
        self, name: LearnerLike | None = None, device: Device = "cpu", training: TrainingRecipe | None = None
    ) -> Learner:
        """The learner of the set, or one with another network, or with the optimiser of another recipe."""

    def initial(self, learner: Learner, n: int, seed: int, *, selection: bool = False) -> Tensors:
        """n held-out initial weights (n, ...), others for ``selection`` than for the score."""
