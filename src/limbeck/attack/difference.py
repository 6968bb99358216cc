"""How a batch differs from honest ones: gradients, losses, nearest training images, pixels out of range.

Shapes: B networks, M images a batch, N other images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from limbeck.attack.gradients import gradient_norms, losses
from limbeck.attack.honest import FEW, HONEST_BATCHES, QUANTILE, held_out_examples, honest_batches
from limbeck.common.files import finite
from limbeck.data import TaskData
from limbeck.engine import Batch, Kernels, Tensors
from limbeck.evaluation.train_and_score import chunks


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a batch differs from honest ones; distances are Euclidean in pixels whose range is 1.

    Attributes:
        gradient_norm, honest_gradient_norm: means over networks, and over honest batches.
        above: part of the networks whose gradient is longer than 95 % of the honest ones, in percent.
        loss, honest_loss: likewise, cross-entropy in nats.
        neighbour, honest_neighbour: median distance of an image to the nearest training image; of real ones that are
            not in training.
        wrong_neighbours, honest_wrong_neighbours: part of the images whose nearest training image has another label,
            in percent.
        out_of_range: part of the pixels that no real image can have, in percent.
    """

    gradient_norm: float
    honest_gradient_norm: float
    above: float
    loss: float
    honest_loss: float
    neighbour: float
    honest_neighbour: float
    wrong_neighbours: float
    honest_wrong_neighbours: float
    out_of_range: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, None for what is not finite."""
        return finite(vars(self))


@torch.no_grad()
def compare_with_honest(
    kernels: Kernels, networks: Tensors, batches: Sequence[Batch], data: TaskData, rng: torch.Generator
) -> Difference:
    """Compare the first batch of an attack with honest ones, on networks (B, ...).

    Args:
        kernels: of the networks' learner.
        networks: that were trained.
        batches: the attack, a step each.
        data: the real task.
        rng: draws honest batches.
    """
    learner, chunk = kernels.learner, kernels.execution.chunk
    some = next(chunks(networks, FEW))
    first = batches[0]
    honest = [honest_batches(data, batches, rng)[0] for _ in range(HONEST_BATCHES)]
    honest_norms = torch.stack([gradient_norms(learner, some, batch, chunk) for batch in honest])
    norm_B = gradient_norms(learner, networks, first, chunk)
    x_MCHW, labels_M = first.x_MCHW, first.y_MK.argmax(1)
    real_NCHW, real_N = held_out_examples(data, 200, rng)
    near_M, kind_M = nearest_training_images(x_MCHW, data)
    near_N, kind_N = nearest_training_images(real_NCHW, data)
    pixels = data.preprocessing.invert(x_MCHW)
    low, high = data.pixel_range
    outside = (pixels < low - 1e-4) | (pixels > high + 1e-4)
    return Difference(
        gradient_norm=float(norm_B.mean()),
        honest_gradient_norm=float(honest_norms.mean()),
        above=float(100.0 * (~(norm_B <= honest_norms.nanquantile(QUANTILE))).float().mean()),
        loss=float(losses(learner, networks, first, chunk).mean()),
        honest_loss=float(torch.stack([losses(learner, some, batch, chunk) for batch in honest]).mean()),
        neighbour=float(near_M.median()),
        honest_neighbour=float(near_N.median()),
        wrong_neighbours=float(100.0 * (kind_M != labels_M).float().mean()),
        honest_wrong_neighbours=float(100.0 * (kind_N != real_N).float().mean()),
        out_of_range=float(100.0 * outside.float().mean()),
    )


def nearest_training_images(x_NCHW: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
    """Distance (N,) of normalised images to the nearest training image, in pixels, and that image's label (N,)."""
    query_ND = data.preprocessing.invert(x_NCHW).flatten(1)
    best_N = torch.full((len(query_ND),), float("inf"), device=query_ND.device, dtype=query_ND.dtype)
    kind_N = torch.zeros(len(query_ND), dtype=torch.long, device=query_ND.device)
    for known_NCHW, known_y_N in data.split_batches("train", 5000):
        distance_NN = torch.cdist(query_ND, data.preprocessing.invert(known_NCHW).flatten(1))
        nearest_N, index_N = distance_NN.min(1)
        kind_N = torch.where(nearest_N < best_N, known_y_N[index_N], kind_N)
        best_N = torch.minimum(nearest_N, best_N)
    return best_N, kind_N
