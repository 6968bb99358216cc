"""Stratified splits, deterministic by generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from limbeck.data.arrays import Array
from limbeck.errors import LimbeckError


def check_counts(y_N: Array, names: Sequence[str], need: int) -> None:
    """Every class has at least ``need`` examples.

    Raises:
        LimbeckError: if one has fewer.
    """
    counts = np.bincount(y_N, minlength=len(names))
    short = np.flatnonzero(counts < need)
    if short.size:
        raise LimbeckError(
            f"Class {names[short[0]]} has too few training examples to split ({counts[short[0]]}): each of the "
            f"{len(names)} classes needs at least {need}; add some, or leave the class out."
        )


def split_stratified(y_N: Array, size: int, classes: int, generator: torch.Generator) -> tuple[Array, Array]:
    """Indices of the rest and of a random part with exactly ``size`` examples, both ascending.

    Each class gives its share, rounded by largest remainder (ties to the lower class), and at least one if
    ``size`` allows.

    Args:
        y_N: labels, each class at least twice.
        size: at most len(y_N) // 5, so that the rounding cannot use up a class.
        classes: K.
        generator: on the CPU.
    """
    shares_K = _shares(np.bincount(y_N, minlength=classes), size)
    chosen_N = np.zeros(len(y_N), bool)
    for label, share in enumerate(shares_K):
        members = np.flatnonzero(y_N == label)
        order = torch.randperm(len(members), generator=generator).numpy()
        chosen_N[members[order[:share]]] = True
    return np.flatnonzero(~chosen_N), np.flatnonzero(chosen_N)


def _shares(counts_K: Array, size: int) -> Array:
    shares_K, remainders_K = np.divmod(counts_K * size, counts_K.sum())
    shares_K[np.argsort(-remainders_K, kind="stable")[: size - shares_K.sum()]] += 1
    while size >= len(counts_K) and not shares_K.all():  # a rare class would not be seen at all
        shares_K[shares_K.argmax()] -= 1
        shares_K[shares_K.argmin()] += 1
    return shares_K
