"""Regularised evolution: the young live on, whatever they are worth (Real et al. 2019, arXiv 1802.01548)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from limbeck.nas.searches.strategy import Question
from limbeck.nas.spaces.base import Arch, Space


def propose_child(question: Question, settings: Mapping[str, int]) -> Arch:
    """``evolve`` on all trials that have a score."""
    return evolve(question.space, question.scored, question.rng(), **settings)


def evolve(
    space: Space,
    history: Sequence[tuple[Arch, float]],
    rng: np.random.Generator,
    *,
    population: int,
    tournament: int,
) -> Arch:
    """The next architecture, as in algorithm 1 of the paper.

    The population is the last ``population`` scored trials: with each new one the oldest dies. A parent is the
    best of ``tournament`` that are drawn from it with replacement (the older one among equals), and the child differs
    from it in one choice. Until there is a whole population architectures are random.

    Args:
        space: from which architectures are drawn and in which they are changed.
        history: what was scored, the oldest first, with its score; higher is better.
        rng: where the draws come from.
        population: P in the paper, at least 1.
        tournament: S in the paper, at least 1.
    """
    if len(history) < population:
        return space.sample(rng)
    alive = history[-population:]
    entrants = sorted(int(index) for index in rng.integers(len(alive), size=tournament))
    parent, _ = max((alive[index] for index in entrants), key=lambda scored: scored[1])
    return space.mutate(parent, rng)
