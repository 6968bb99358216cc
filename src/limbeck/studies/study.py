"""Published comparisons as sets of complete configurations: what each run is, and what its rows are called."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from limbeck.artefact.distilled import Distilled
from limbeck.errors import LimbeckError
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
        kind: how its runs are scored, summed up in rows and drawn; see ``limbeck.studies.kinds``.
        pools: trained networks that the runs start from or are tried on; made first, below ``POOLS``.
        transfer: of those, the ones that attacks are tried on as well.
    """

    name: str
    title: str
    paper: dict[str, str]
    source: str
    variants: tuple[Variant, ...]
    n: int
    kind: StudyKind
    learners: tuple[str, ...] = ()
    pools: tuple[PoolPlan, ...] = ()
    transfer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, StudyKind):
            raise LimbeckError(
                f"The kind of study {self.name} is {self.kind!r}; it must be an object of limbeck.studies.kinds, such "
                "as CURVES, or kind_named('curves')."
            )


Score = dict[str, Any]
"""What is known of a run, as in its ``score.json``: ``group``, ``seed``, ``diverged``, ``mean`` and ``std`` in percent,
``n``, ``curve``, ``rows``, ``seconds`` of learning, ``iterations``, and what else its kind adds."""


def lost_score() -> Score:
    """Of a run that diverged before its first validation: it counts as 0."""
    return {"mean": 0.0, "std": None, "n": 0, "curve": [], "seconds": 0.0, "iterations": 0}


@final
@dataclass(frozen=True, kw_only=True)
class Judging:
    """How the runs of a study are scored.

    Args:
        n: held-out initial weights for each score; the study's own number by default.
        device: where to compute.
        data_dir: where data sets are looked for first.
        transfer: files of the pools that attacks are tried on as well.
        tell: told what is being scored.
    """

    n: int | None = None
    device: str = "cpu"
    data_dir: Path | None = None
    transfer: tuple[Path, ...] = ()
    tell: Callable[[str], None] = lambda text: None

    def count(self, study: Study, run: Distilled) -> int:
        """Initial weights that a run is scored on; of a pool at most those that are held out."""
        n = study.n if self.n is None else self.n
        init = run.config.init
        return min(n, init.held_out) if init.pooled else n


class StudyKind(ABC):
    """How the runs of a study are scored, summed up in rows and drawn."""

    name: ClassVar[str]
    """What the kind is called; no two are called the same."""
    unit: ClassVar[str] = "accuracy %"
    """What the rows' mean is, as the head of a column."""

    @abstractmethod
    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        """The score of a run, without its group, its seed and whether it diverged; ``run`` is None if nothing is left.

        That is so after a divergence before the first validation; the score is ``lost_score`` then, or has it.
        """

    @abstractmethod
    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        """The rows that are printed.

        Each has ``row`` (its name), ``paper`` (the published result or None), ``mean`` and ``std`` in percent, ``n``,
        ``over`` (what n counts), ``diverged`` (runs) and ``seconds``; some have more.
        """

    @abstractmethod
    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        """Draw the kind's own figures into ``out/figures``, as PNG and SVG; their paths without the endings."""
