"""A pool: many trained networks and their card, one ``.safetensors`` file that ``make_pool`` writes.

Whoever learns on a pool keeps some of its networks for selection and others for the score; ``default_shares`` says how
many. Shapes: n networks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from limbeck.engine import Tensors
from limbeck.errors import LimbeckError
from limbeck.experiment.parts import OuterConfig
from limbeck.models import load_card, load_pool


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """The networks' ``states``, {name: (n, *shape)} on the CPU, and the ``card``: their data, training and accuracy."""

    states: Tensors
    card: dict[str, Any]

    def __repr__(self) -> str:
        count = len(next(iter(self.states.values()), ()))
        config, data = self.card.get("config", {}), self.card.get("data", {})
        return f"Pool({count} networks, {config.get('learner', '?')} trained on {data.get('name', '?')})"


DEFAULT_VALIDATION: Final = (OuterConfig().validate_inits, 20)
"""Networks for validation where nobody says: in general, and in an attack."""


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


def validation_networks(networks: int, held_out: int | None = None, count: int | None = None) -> int:
    """How many of a pool's networks validate, so that with those held out at least one is left to train on.

    Args:
        networks: in the pool.
        held_out: of them that are held out for evaluation; a quarter by default, 50 at most.
        count: as many as that; an eighth of the pool by default, 20 at most, or as many as there are.

    Raises:
        LimbeckError: none is left to train on.
    """
    shares = default_shares(networks)
    held_out = shares.held_out if held_out is None else held_out
    most = networks - held_out - 1
    count = max(1, min(shares.selection, most)) if count is None else count
    if count > most:
        advice = "it takes three networks"
        if networks > 2:
            advice = f"or validate on {most} at most" if most > 0 else f"or hold out {networks - 2} at most"
        raise LimbeckError(
            f"The pool has {networks} networks; {held_out} held out for evaluation and {count} for validation leave "
            f"none to train on. Make a larger pool, {advice}."
        )
    return count


def fit_validation(outer: OuterConfig, networks: int, held_out: int) -> OuterConfig:
    """The outer loop with a number of validation networks that a pool has.

    A config does not say whether a value was given or left, so one of the defaults that does not fit counts as left.

    Raises:
        LimbeckError: another number that does not fit.
    """
    count = outer.validate_inits
    left = count in DEFAULT_VALIDATION and networks - held_out - count < 1
    count = validation_networks(networks, held_out, None if left else count)
    return outer if count == outer.validate_inits else dataclasses.replace(outer, validate_inits=count)
