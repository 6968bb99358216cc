"""Published comparisons of several runs."""

from __future__ import annotations

from limbeck.errors import unknown
from limbeck.studies.grid import GRIDS, grid, grid_config
from limbeck.studies.kinds import KINDS, kind_named
from limbeck.studies.pooled import POOLED
from limbeck.studies.study import POOLS, PoolPlan, Study, StudyKind, Variant
from limbeck.studies.teaching import TEACHING


def study_names() -> tuple[str, ...]:
    """All studies."""
    return (*TEACHING, *POOLED, *GRIDS)


def study(name: str, seed: int = 0) -> Study:
    """A study by name, its seeds counting from ``seed``; raises LimbeckError for an unknown one."""
    known = TEACHING | POOLED | GRIDS
    if name not in known:
        raise unknown("study", name, known)
    return known[name](seed)


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
