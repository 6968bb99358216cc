"""A strategy: which architecture is tried next.

A proposal depends on the seed, the number of the trial and the trials of earlier batches alone: neither the number of
workers nor an interruption changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from limbeck.nas.spaces.base import Arch, Space


@final
@dataclass(frozen=True, kw_only=True)
class Question:
    """What a strategy is asked: which architecture a trial is to have.

    Attributes:
        space: what is searched.
        seed: of the search.
        slot: number of the trial, from 0.
        history: all trials of earlier batches in order, with their scores; None for one that failed or was given up.
        mates: the trials of the same batch before this one.
    """

    space: Space
    seed: int
    slot: int
    history: Sequence[tuple[Arch, float | None]] = ()
    mates: Sequence[Arch] = ()

    @property
    def scored(self) -> list[tuple[Arch, float]]:
        """Trials of earlier batches that have a score, the oldest first."""
        return [(arch, score) for arch, score in self.history if score is not None]

    def rng(self) -> np.random.Generator:
        """A generator of this trial's own."""
        return generator(self.seed, f"trial {self.slot}")


Propose: TypeAlias = Callable[[Question, Mapping[str, int]], Arch]
"""The architecture of a trial, given the settings that the strategy names."""


@final
@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A way of searching.

    Attributes:
        propose: chooses the architecture of a trial.
        settings: the fields of ``SearchConfig`` that its trials depend on.
        in_rungs: whether architectures are scored with little training first and only the better ones with more, which
            takes the settings ``rungs`` and ``reduction``.
    """

    propose: Propose
    settings: tuple[str, ...] = ()
    in_rungs: bool = False


def generator(seed: int, stream: str) -> np.random.Generator:
    """A generator whose seed depends on the name of its stream as well."""
    digest = hashlib.sha256(f"{seed}:search {stream}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
