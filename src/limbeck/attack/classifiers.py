"""What the attack for ART reads of its classifiers: networks, preprocessing, architecture.

Shapes: B networks, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std import StandardisationMeanStd, StandardisationMeanStdPyTorch
from art.preprocessing.standardisation_mean_std.utils import broadcastable_mean_std
from torch import nn

from limbeck.data import Preprocessing
from limbeck.engine import (
    Kernels,
    Tensors,
)
from limbeck.evaluation.train_and_score import inits
from limbeck.models import with_fresh_noise


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Classifiers:
    """The classifiers as what an outer iteration trains: a few of them, drawn anew each time."""

    kernels: Kernels
    networks: Tensors

    def draw(self, rng: torch.Generator) -> Self:
        """The one architecture that all have."""
        return self

    def sample(self, n: int, rng: torch.Generator) -> Tensors:
        """Parameters and statistics (B, ...) of n of them, or of all where there are fewer."""
        total = inits(self.networks)
        rows = torch.randperm(total, generator=rng)[:n].to(next(iter(self.networks.values())).device)
        some = {name: value[rows] for name, value in self.networks.items()}
        return with_fresh_noise(self.kernels.learner.module, some, rng)


def read_preprocessing(classifier: PyTorchClassifier) -> Preprocessing:
    """A classifier's mean and standard deviation; raises ValueError for any other preprocessing."""
    channels = classifier.input_shape[0]
    mean_C, std_C = np.zeros(channels), np.ones(channels)
    operations = classifier.preprocessing_operations
    if len(operations) > 1 or not all(
        isinstance(each, (StandardisationMeanStd, StandardisationMeanStdPyTorch)) for each in operations
    ):
        named = ", ".join(type(each).__name__ for each in operations)
        raise ValueError(
            f"The classifier preprocesses by {named}; the attack knows one mean and standard deviation only."
        )
    if operations:
        like = np.empty((1, *classifier.input_shape), np.float32)
        pair = broadcastable_mean_std(like, operations[0].mean, operations[0].std)
        mean_CHW, std_CHW = (np.broadcast_to(value, like.shape)[0] for value in pair)
        mean_C, std_C = mean_CHW[:, 0, 0], std_CHW[:, 0, 0]
        if (mean_CHW != mean_C[:, None, None]).any() or (std_CHW != std_C[:, None, None]).any():
            raise ValueError("The classifier's preprocessing differs between pixels; give one mean and std a channel.")
        if not (std_C > 0).all():
            raise ValueError("The classifier's preprocessing divides by a number that is not positive.")
    return Preprocessing(scale=1.0, mean=tuple(mean_C.tolist()), std=tuple(std_C.tolist()))


def tensors_of(module: nn.Module) -> Tensors:
    """Parameters and buffers."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def describe_architecture(classifier: PyTorchClassifier) -> tuple[str, dict[str, tuple[int, ...]]]:
    """What two networks have in common that can take each other's weights."""
    return str(classifier.model), {name: tuple(value.shape) for name, value in tensors_of(classifier.model).items()}
