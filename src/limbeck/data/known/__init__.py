"""The data sets known by name. A new one is a file in this folder and a line in ``KNOWN_SETS``."""

from __future__ import annotations

from limbeck.common.registry import Registry
from limbeck.data.known.base import Download, KnownSet, find_file
from limbeck.data.known.cifar10 import CIFAR10
from limbeck.data.known.digits import DIGITS
from limbeck.data.known.mnist import FASHION_MNIST, MNIST

__all__ = ["KNOWN_SETS", "Download", "KnownSet", "by_name", "find_file", "known_names", "known_set"]

KNOWN_SETS: tuple[KnownSet, ...] = (
    MNIST,
    FASHION_MNIST,
    CIFAR10,
    DIGITS,
)


def by_name(sets: tuple[KnownSet, ...] = KNOWN_SETS) -> Registry[KnownSet]:
    """The sets by their names, in their order.

    Raises:
        LimbeckError: two sets have one name.
    """
    return Registry.of("data set", sets)


def known_names() -> tuple[str, ...]:
    """The names of all known data sets.

    >>> known_names()
    ('mnist', 'fashion-mnist', 'cifar10', 'digits')
    """
    return by_name().names


def known_set(name: str, sets: tuple[KnownSet, ...] = KNOWN_SETS) -> KnownSet:
    """A known data set by name, in either case.

    Raises:
        LimbeckError: an unknown name; suggests the nearest.
    """
    known = by_name(sets)
    return known[name.lower() if name.lower() in known else name]
