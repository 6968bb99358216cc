"""Published comparisons of several runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from limbeck.common.registry import Registry
from limbeck.studies.grid import GRIDS, grid, grid_config
from limbeck.studies.kinds import KINDS, kind_named
from limbeck.studies.pooled import POOLED
from limbeck.studies.study import POOLS, PoolPlan, Study, StudyKind, Variant
from limbeck.studies.teaching import TEACHING

STUDIES: Final[Registry[Callable[[int], Study]]] = Registry("study", *TEACHING.items(), *POOLED.items(), *GRIDS.items())
"""The studies by name, from their first seed."""


def study_names() -> tuple[str, ...]:
    """All studies."""
    return STUDIES.names


def study(name: str, seed: int = 0) -> Study:
    """A study by name, its seeds counting from ``seed``; raises LimbeckError for an unknown one."""
    return STUDIES[name](seed)


__all__ = [
    "KINDS",
    "POOLS",
    "PoolPlan",
    "Study",
    "StudyKind",
    "Variant",
    "grid",
    "grid_config",
    "kind_named",
    "study",
    "study_names",
]
