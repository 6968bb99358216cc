"""Successive halving: which trials are worth training on (Jamieson and Talwalkar 2016; Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def promote(scores: Mapping[int, float], slots: Sequence[int], reduction: int) -> set[int]:
    """Which of the trials go on to the next rung: those among the best one in ``reduction`` of all, or the very best.

    As in asynchronous successive halving (Li et al. 2020, arXiv 1810.05934, algorithm 2), but a trial that is given up
    is not taken up again, and trials of a batch are compared with each other as well.

    Args:
        scores: of all trials that were scored on this rung, by their numbers.
        slots: those to decide about.
        reduction: η in the paper.

    >>> sorted(promote({0: 1.0, 1: 3.0, 2: 2.0, 3: 0.0}, [0, 1, 2], 2))
    [1, 2]
    """
    by_score = sorted(scores, key=lambda slot: (-scores[slot], slot))
    return set(by_score[: max(1, len(by_score) // reduction)]) & set(slots)
