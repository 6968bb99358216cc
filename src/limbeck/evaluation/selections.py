"""Real images chosen to stand for all: selections, the baselines that learn nothing.

A selection sees the members of one class as rows of numbers, pixels by default. Shapes: N members, D numbers, n chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from limbeck.common.registry import Registry
from limbeck.data import TaskData, find_centres

Selection: TypeAlias = Callable[[Tensor, int, torch.Generator], Tensor]
"""Members (N, D), how many n ≤ N, and a generator, to the numbers of n of them, (n,), none twice."""


def select_random(x_ND: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Any n."""
    return torch.randperm(len(x_ND), generator=generator)[:n].to(x_ND.device)


def select_nearest_to_centres(x_ND: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """The member nearest to each of n centres of k-means, none twice."""
    distance_Nn = torch.cdist(x_ND, find_centres(x_ND, n, generator))
    chosen: list[int] = []
    for index in range(n):
        column_N = distance_Nn[:, index].clone()
        column_N[chosen] = torch.inf
        chosen.append(int(column_N.argmin()))
    return torch.tensor(chosen, device=x_ND.device)


def select_by_herding(x_ND: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """One after another the member that brings the mean of those chosen nearest to the mean of all (Welling 2009)."""
    mean_D, sum_D = x_ND.mean(0), torch.zeros_like(x_ND[0])
    chosen: list[int] = []
    for count in range(1, n + 1):
        distance_N = ((sum_D + x_ND) / count - mean_D).square().sum(1)
        distance_N[chosen] = torch.inf
        chosen.append(int(distance_N.argmin()))
        sum_D = sum_D + x_ND[chosen[-1]]
    return torch.tensor(chosen, device=x_ND.device)


def select_k_center(x_ND: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """From the member nearest to the mean on, always the one farthest from those chosen (Sener and Savarese 2018)."""
    chosen = [int((x_ND - x_ND.mean(0)).square().sum(1).argmin())]
    nearest_N = (x_ND - x_ND[chosen[0]]).square().sum(1)
    while len(chosen) < n:
        nearest_N[chosen] = -1.0
        chosen.append(int(nearest_N.argmax()))
        nearest_N = torch.minimum(nearest_N, (x_ND - x_ND[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen, device=x_ND.device)


SELECTIONS: Final[Registry[Selection]] = Registry(
    "selection",
    ("random", select_random),
    ("kmeans-nearest", select_nearest_to_centres),
    ("herding", select_by_herding),
    ("k-center", select_k_center),
)
"""The selections by name; another one is a function and a line here."""


def select_per_class(data: TaskData, name: str, per_class: int, generator: torch.Generator) -> Tensor:
    """What a selection chooses of each class's training images, normalised, (K, n, C, H, W).

    A class with fewer than n gives all it has, and again from the first.

    Raises:
        LimbeckError: an unknown selection.
    """
    select, chosen = SELECTIONS[name], []
    for label in range(data.num_classes):
        members = data.preprocessing.apply(data.train_x[data.train_y == label])
        index_n = select(members.flatten(1), min(per_class, len(members)), generator)
        repeats = -(-per_class // len(index_n))
        chosen.append(members[index_n.repeat(repeats)[:per_class]])
    return torch.stack(chosen)
