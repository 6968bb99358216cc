"""A space and its architectures as Optuna describes them, and Optuna without its messages (extra: nas)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limbeck.nas.spaces.base import Arch, Space

if TYPE_CHECKING:
    import optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna logs every study that it makes; not while this lasts."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def distributions_of(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """The space as Optuna describes it."""
    import optuna

    return {name: optuna.distributions.CategoricalDistribution(options) for name, options in space.choices.items()}


def options_by_choice(space: Space, arch: Arch) -> dict[str, str]:
    """An architecture's options by the names of their choices."""
    return dict(zip(space.choices, arch, strict=True))
