"""Published comparisons as sets of complete configurations: what each run is, and what its rows are called."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from limbeck.experiment.config import Config
from limbeck.pools.config import PoolConfig

POOLS = "POOLS"
"""Stands for the folder of the study's pools in the configurations of its runs."""


@final
@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """A pool that a study needs."""

    name: str
    data: str
    config: PoolConfig

    @property
    def path(self) -> Path:
        """Its file, below the study's folder of pools."""
        return Path(POOLS) / f"{self.name}.safetensors"

    @property
    def card(self) -> dict[str, Any]:
        """What its card is going to say of the networks; ten classes."""
        return {
            "data": {"name": self.data},
            "classes": [str(k) for k in range(10)],
            "config": dataclasses.asdict(self.config),
        }


@final
@dataclass(frozen=True, kw_only=True)
class Variant:
    """One run of a study. ``group`` is its row; runs of a group differ in their seed or in sampled settings.

    ``baselines`` are scored beside it.
    """

    group: str
    seed: int
    config: Config
    baselines: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The group's name as part of a file's name."""
        return re.sub("[^A-Za-z0-9.=]+", "-", self.group)

    @property
    def label(self) -> str:
        """The folder of the run."""
        return f"{self.slug}-{self.seed}"


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """A published comparison.

    Args:
        name: what ``limbeck reproduce`` calls it.
        title: one line for people.
        paper: the published result by group, where there is a number.
        source: where that was published.
        variants: its runs.
        n: held-out initial weights for the score of each run.
        learners: other learners to train on every result.
        kind: what the runs are to be compared by: ``curves`` of single runs, ``seeds`` of each group, a ``sweep`` over
            sampled settings, the ``speed`` of learning against real data, a ``grid`` of sizes, their ``baselines``, or
            what an ``attack`` does.
        pools: trained networks that the runs start from or are tried on; made first, below ``POOLS``.
        transfer: of those, the ones that attacks are tried on as well.
    """

    name: str
    title: str
    paper: dict[str, str]
    source: str
    variants: tuple[Variant, ...]
    n: int
    learners: tuple[str, ...] = ()
    kind: str = "curves"
    pools: tuple[PoolPlan, ...] = ()
    transfer: tuple[str, ...] = ()
