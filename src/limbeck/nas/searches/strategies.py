"""The strategies by name, and how a space is searched by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from limbeck.common.idle import refuse_idle_fields
from limbeck.common.registry import Registry
from limbeck.common.typed import check_types
from limbeck.errors import LimbeckError, unknown
from limbeck.nas.searches.evolution import propose_child
from limbeck.nas.searches.parzen import propose_by_parzen
from limbeck.nas.searches.random_search import propose_unseen
from limbeck.nas.searches.strategy import Question, Strategy
from limbeck.nas.spaces.base import Arch

STRATEGIES: Final[Registry[Strategy]] = Registry(
    "strategy",
    ("random", Strategy(propose=propose_unseen)),
    ("evolution", Strategy(propose=propose_child, settings=("population", "tournament"))),
    ("tpe", Strategy(propose=propose_by_parzen)),
    ("halving", Strategy(propose=propose_unseen, settings=("rungs", "reduction"), in_rungs=True)),
)
"""A new one is a file of this package and a line here; settings of its own are fields of ``SearchConfig``."""


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
        check_types(self)
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        least_of = {"budget": 1, "batch": 1, "population": 1, "tournament": 1, "rungs": 2, "reduction": 2}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name, other in STRATEGIES.items():
            idle = [setting for setting in other.settings if setting not in self.settings]
            why, fix = f"with strategy {self.strategy}", f"choose strategy {name}"
            refuse_idle_fields(self, *idle, why=why, fix=fix)

    @property
    def fractions(self) -> tuple[float, ...]:
        """The part of the proxy's training on each rung, the last one 1."""
        rungs = self.rungs if STRATEGIES[self.strategy].in_rungs else 1
        return tuple(float(self.reduction) ** -(rungs - 1 - rung) for rung in range(rungs))

    @property
    def settings(self) -> dict[str, int]:
        """The strategy's own settings, by name."""
        return {name: getattr(self, name) for name in STRATEGIES[self.strategy].settings}

    @property
    def identity(self) -> dict[str, int | str]:
        """What trials depend on: all but the budget, which may grow, and what belongs to other strategies."""
        return {"strategy": self.strategy, "batch": self.batch, **self.settings}

    def propose(self, question: Question) -> Arch:
        """The architecture of a trial."""
        return STRATEGIES[self.strategy].propose(question, self.settings)
