"""A pool: many trained networks and their card, one ``.safetensors`` file that ``make_pool`` writes.

Whoever learns on a pool keeps some of its networks for selection and others for the score; ``default_shares`` says how
many. Shapes: n networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from limbeck.engine import Tensors
from limbeck.errors import LimbeckError
from limbeck.models import load_card, load_pool


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """The networks' ``states``, {name: (n, *shape)} on the CPU, and the ``card``: their data, training and accuracy."""

    states: Tensors
    card: dict[str, Any]


class Shares(NamedTuple):
    """How many of a pool's networks nothing is learned on: for the score, and for selection."""

    held_out: int
    selection: int


def open_pool(path: Path) -> Pool:
    """The pool in a file.

    Raises:
        LimbeckError: no such file, a damaged one, or a pool that ``make_pool`` did not write.
    """
    card = open_card(path)
    states, _ = load_pool(path)
    return Pool(states=states, card=card)


def open_card(path: Path) -> dict[str, Any]:
    """The card of a pool, without its networks; raises LimbeckError as ``open_pool``."""
    card = load_card(path)
    missing = [name for name in ("data", "shape", "classes", "config") if name not in card]
    if missing:
        raise LimbeckError(f"The pool {path} has no {missing[0]} on its card; make it with 'limbeck pool make'.")
    return card


def default_shares(networks: int) -> Shares:
    """The shares of a pool of so many networks where nobody says: a quarter, 50 at most, and an eighth, 20 at most."""
    return Shares(min(50, max(1, networks // 4)), min(20, max(1, networks // 8)))
