"""What a defender has besides a suspicious batch: honest batches, and real images that are not in training.

Honest batches are real images with their own labels, as many as in the suspicious batch and at its step size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from limbeck.data import TaskData
from limbeck.engine import Batch

QUANTILE = 0.95
"""Of norms on honest batches: what lies above is cut or looked at."""

HONEST_BATCHES = 20
"""From which the thresholds are taken."""

FEW = 10
"""Networks that honest batches are tried on."""


def honest_batches(data: TaskData, batches: Sequence[Batch], rng: torch.Generator) -> list[Batch]:
    """Real images with their labels in place of each batch's, as many and at the same hyper-parameters."""
    honest = []
    for batch in batches:
        x_MCHW, y_M = data.sample(rng, len(batch.x_MCHW))
        honest.append(Batch(x_MCHW, one_hot(y_M, data.num_classes).to(x_MCHW.dtype), batch.h))
    return honest


def held_out_examples(data: TaskData, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most n validation examples in random order: normalised images (N, C, H, W) and labels (N,)."""
    index_N = torch.randperm(len(data.val_y), generator=rng)[:n].to(data.val_y.device)
    return data.preprocessing.apply(data.val_x[index_N]), data.val_y[index_N]
