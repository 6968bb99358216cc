"""Tables whose members go by name: readers, data sets, exporters."""

from __future__ import annotations

from collections.abc import Iterable

from limbeck.errors import LimbeckError


def check_distinct(kind: str, names: Iterable[str]) -> None:
    """Refuse a table in which a name comes twice.

    >>> check_distinct("readers", ["npz", "arrays"])

    Args:
        kind: what the members are, in the plural.
        names: of all members.

    Raises:
        LimbeckError: names the one that comes twice.
    """
    before: set[str] = set()
    for name in names:
        if name in before:
            raise LimbeckError(f"Two {kind} are called '{name}'; give each a name of its own, or leave one out.")
        before.add(name)
