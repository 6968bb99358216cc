"""Which architecture is tried next, and which ones are worth training on.

A proposal depends on the seed, the number of the trial and the trials of earlier batches alone: neither the number of
workers nor an interruption changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import numpy as np

from limbeck.errors import LimbeckError, unknown
from limbeck.nas.searches.evolution import evolved
from limbeck.nas.spaces.base import Arch, Space

if TYPE_CHECKING:
    import optuna

STRATEGIES: Final = ("random", "evolution", "tpe", "halving")

TRIES: Final = 100
"""Draws after which random search takes an architecture again: few can be left that it has not tried."""


@final
@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How a space is searched.

    Args:
        budget: trials; one whose architecture was scored before costs nothing.
        strategy: ``random``, each architecture once; ``evolution``, regularised (Real et al. 2019); ``tpe``, Optuna's
            tree-structured Parzen estimator (Bergstra et al. 2011); ``halving``, random architectures of which the
            better ones are scored with more training (Jamieson and Talwalkar 2016; Li et al. 2020).
        batch: trials that are proposed together, knowing nothing of each other's scores.
        population: of evolution.
        tournament: of evolution: out of how many the parent is the best.
        rungs: of halving: how many fidelities there are, the last one the proxy's own.
        reduction: of halving: one in so many goes on to the next rung, which trains as many times longer.
    """

    budget: int = 200
    strategy: str = "random"
    batch: int = 8
    population: int = 50
    tournament: int = 10
    rungs: int = 3
    reduction: int = 3

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        least_of = {"budget": 1, "batch": 1, "population": 1, "tournament": 1, "rungs": 2, "reduction": 2}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least {least}.")

    @property
    def fractions(self) -> tuple[float, ...]:
        """The part of the proxy's training on each rung, the last one 1."""
        rungs = self.rungs if self.strategy == "halving" else 1
        return tuple(float(self.reduction) ** -(rungs - 1 - rung) for rung in range(rungs))

    @property
    def identity(self) -> dict[str, int | str]:
        """What trials depend on: all but the budget, which may grow, and what belongs to other strategies."""
        used = {"evolution": ("population", "tournament"), "halving": ("rungs", "reduction")}
        return {name: getattr(self, name) for name in ("strategy", "batch", *used.get(self.strategy, ()))}


def propose(
    config: SearchConfig,
    space: Space,
    seed: int,
    slot: int,
    history: Sequence[tuple[Arch, float | None]],
    mates: Sequence[Arch],
) -> Arch:
    """The architecture of a trial.

    Args:
        config: the strategy and its settings.
        space: what is searched.
        seed: of the search.
        slot: number of the trial, from 0.
        history: all trials of earlier batches in order, with their scores; None for one that failed or was given up.
        mates: the trials of the same batch before this one.
    """
    if config.strategy == "tpe":
        return _parzen(space, seed, slot, history, mates)
    rng = generator(seed, f"trial {slot}")
    if config.strategy == "evolution":
        scored = [(arch, score) for arch, score in history if score is not None]
        return evolved(space, scored, rng, population=config.population, tournament=config.tournament)
    seen = {space.text(arch) for arch, _ in history} | {space.text(arch) for arch in mates}
    for _ in range(TRIES):
        arch = space.sample(rng)
        if space.text(arch) not in seen:
            break
    return arch


def promoted(scores: Mapping[int, float], slots: Sequence[int], reduction: int) -> set[int]:
    """Which of the trials go on to the next rung: those among the best one in ``reduction`` of all, or the very best.

    As in asynchronous successive halving (Li et al. 2020, arXiv 1810.05934, algorithm 2), but a trial that is given up
    is not taken up again, and trials of a batch are compared with each other as well.

    Args:
        scores: of all trials that were scored on this rung, by their numbers.
        slots: those to decide about.
        reduction: η in the paper.

    >>> sorted(promoted({0: 1.0, 1: 3.0, 2: 2.0, 3: 0.0}, [0, 1, 2], 2))
    [1, 2]
    """
    ranked = sorted(scores, key=lambda slot: (-scores[slot], slot))
    return set(ranked[: max(1, len(ranked) // reduction)]) & set(slots)


def generator(seed: int, stream: str) -> np.random.Generator:
    """A generator of its own for each purpose."""
    digest = hashlib.sha256(f"{seed}:search {stream}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna tells of every study that it makes; not here."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _parzen(
    space: Space, seed: int, slot: int, history: Sequence[tuple[Arch, float | None]], mates: Sequence[Arch]
) -> Arch:
    """Optuna's sampler, in a study of its own that holds the trials in order: what it sees is the same every time."""
    import optuna
    from optuna.trial import TrialState, create_trial

    distributions = distributions_of(space)
    with quiet():
        study = optuna.create_study(direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=int(generator(seed, f"trial {slot}").integers(2**31)))
    known = [
        create_trial(state=TrialState.COMPLETE, value=score, params=named(space, arch), distributions=distributions)
        for arch, score in history
        if score is not None
    ]
    running = [
        create_trial(state=TrialState.RUNNING, params=named(space, arch), distributions=distributions) for arch in mates
    ]
    study.add_trials([*known, *running])
    asked = study.ask(distributions)
    return tuple(asked.params[name] for name in space.choices)


def distributions_of(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """The space as Optuna describes it."""
    import optuna

    return {name: optuna.distributions.CategoricalDistribution(options) for name, options in space.choices.items()}


def named(space: Space, arch: Arch) -> dict[str, str]:
    """An architecture's options by the names of their choices."""
    return dict(zip(space.choices, arch, strict=True))
