"""The proxies that a study compares, a row of its table each, and choosing others by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError
from limbeck.nas.proxies import proxy_named
from limbeck.nas.proxies.base import Proxy
from limbeck.nas.table import ScoreTable
from limbeck.nas.training import Schedule

LEARNED: Final = "synthetic"
"""The row of the set that the study learns."""

Maker: TypeAlias = Callable[[Mapping[str, ScoreTable]], Proxy]
"""Makes a proxy; it may look at the tables of those before it."""

Rows: TypeAlias = Registry[Maker]
"""What is compared, by the proxy's name."""


def rows_of(*members: Proxy | tuple[str, Maker]) -> Rows:
    """The rows of proxies, and of makers with the name of what they make.

    Raises:
        LimbeckError: two have the same name.
    """
    return Registry("proxy", *(member if isinstance(member, tuple) else _row(member) for member in members))


def choose(rows: Rows, names: Sequence[str], full: Schedule | None = None) -> Rows:
    """The rows that are named, in that order; all of them if none is.

    Args:
        rows: of the study; a name of one of them means that row.
        names: other names are read by ``proxy_named``.
        full: the schedule of training to the end.

    Raises:
        LimbeckError: a name is unknown, or given twice.
    """
    if not names:
        return rows
    return rows_of(*((name, rows[name]) if name in rows else _row(proxy_named(name, full=full)) for name in names))


def seconds_on_learned_set(tables: Mapping[str, ScoreTable]) -> float:
    """Mean seconds that scoring an architecture on the learned set took; raises LimbeckError if that is no row."""
    if LEARNED not in tables:
        raise LimbeckError(
            f"'real, same seconds' takes as long as training on the learned set; name '{LEARNED}' before it."
        )
    scores = tables[LEARNED]
    return round(scores.seconds / max(1, len(scores.scores)), 3)


def _row(proxy: Proxy) -> tuple[str, Maker]:
    return proxy.name, lambda tables: proxy
