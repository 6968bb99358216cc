"""A pool of trained networks and its card, as ``limbeck pool make`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from limbeck.engine import Tensors
from limbeck.errors import LimbeckError
from limbeck.models import load_card, load_pool


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool and its card: ``states`` are {name: (n, *shape)}."""

    states: Tensors
    card: dict[str, Any]


def open_pool(path: Path) -> Pool:
    """A pool from its file.

    Raises:
        LimbeckError: no such file, a damaged one, or a pool that ``limbeck pool make`` did not write.
    """
    card = open_card(path)
    return Pool(states=load_pool(path)[0], card=card)


def open_card(path: Path) -> dict[str, Any]:
    """The card of a pool, without its networks; raises LimbeckError as ``open_pool``."""
    card = load_card(path)
    missing = [name for name in ("data", "shape", "classes", "config") if name not in card]
    if missing:
        raise LimbeckError(f"The pool {path} has no {missing[0]} on its card; make it with 'limbeck pool make'.")
    return card


def kept_apart(networks: int) -> tuple[int, int]:
    """How many of a pool's networks to keep for the score, and for selection, where nobody says."""
    return min(50, max(1, networks // 4)), min(20, max(1, networks // 8))
