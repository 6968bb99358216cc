"""Centres of k-means within each class.

Shapes: K classes, n images per class, N members of one, D numbers in an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.data.dataset import TaskData


def kmeans_per_class(data: TaskData, per_class: int, generator: torch.Generator) -> Tensor:
    """Centres of k-means within the training images of each class, k = n, in random order, (K, n, C, H, W)."""
    centres = []
    for label in range(data.num_classes):
        x_ND = data.preprocessing.apply(data.train_x[data.train_y == label]).flatten(1)
        k = min(per_class, len(x_ND))
        centres_kD = find_centres(x_ND, k, generator)[torch.randperm(k, generator=generator)]
        repeats = -(-per_class // k)
        centres.append(centres_kD.repeat(repeats, 1)[:per_class].reshape(per_class, *data.image_shape))
    return torch.stack(centres)


def find_centres(x_ND: Tensor, k: int, generator: torch.Generator, rounds: int = 30) -> Tensor:
    """Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007); centres (k, D)."""
    first = int(torch.randint(len(x_ND), (1,), generator=generator))
    centres_kD = x_ND[first : first + 1]
    while len(centres_kD) < k:
        weight_N = torch.cdist(x_ND, centres_kD).square().amin(1).cpu()
        if float(weight_N.sum()) == 0:  # fewer distinct images than centres
            weight_N = torch.ones_like(weight_N)
        index = int(torch.multinomial(weight_N, 1, generator=generator))
        centres_kD = torch.cat([centres_kD, x_ND[index : index + 1]])
    for _ in range(rounds):
        nearest_N = torch.cdist(x_ND, centres_kD).argmin(1)
        moved_kD = centres_kD.clone()
        for index in range(k):
            members = x_ND[nearest_N == index]
            if len(members):
                moved_kD[index] = members.mean(0)
        if torch.equal(moved_kD, centres_kD):
            break
        centres_kD = moved_kD
    return centres_kD
