"""Search spaces by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from limbeck.common.naming import read_options, split_words
from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError, unknown
from limbeck.models import Shape
from limbeck.nas.own import call_own
from limbeck.nas.spaces.base import Space
from limbeck.nas.spaces.cells import Cells
from limbeck.nas.spaces.convnets import ConvNets
from limbeck.nas.spaces.nasbench201 import NasBench201Cells

Maker: TypeAlias = Callable[..., Space]
"""Makes a space from the keyword arguments ``shape`` and ``num_classes``, and the options that it declares."""

SPACES: Final[Registry[Maker]] = Registry(
    "space",
    ("convnets", partial(ConvNets, narrow=False)),
    ("convnets-narrow", partial(ConvNets, narrow=True)),
    ("cells", Cells),
    ("nasbench201", NasBench201Cells),
)
"""The spaces by name: a new one is a file of this package and a line here."""

_GIVEN: Final = ("shape", "num_classes", "narrow")


def known_spaces() -> tuple[str, ...]:
    """Names that `space_named` knows besides ``package.module:function``.

    >>> known_spaces()
    ('convnets', 'convnets-narrow', 'cells', 'nasbench201')
    """
    return tuple(SPACES)


def space_named(name: str, shape: Shape, num_classes: int) -> Space:
    """The space of that name for images of a shape (C, H, W) and K = ``num_classes`` classes.

    Args:
        name: one of ``known_spaces()``, or ``package.module:function``, imported with the current directory on the
            path and called with the keyword arguments ``shape`` and ``num_classes``, which returns a `Space`. Options
            may follow: ``cells,width=16,cells=2``.

    Raises:
        LimbeckError: unknown name or option, a function that cannot be imported or called or returns something else,
            or a space that has no networks for such images.
    """
    name, *words = split_words(name)
    options = read_options(name, words, "space")
    if ":" in name:
        return _own(name, shape, num_classes, options)
    if name not in SPACES:
        raise unknown("search space", name, [*SPACES, "package.module:function"])
    known = [key for key in inspect.signature(SPACES[name]).parameters if key not in _GIVEN]
    for key in options:
        if key not in known:
            if not known:
                raise LimbeckError(f"The space '{name}' has no options, so none can be set by {key}=...; leave it out.")
            raise unknown(f"option of the space '{name}'", key, known)
    return SPACES[name](shape=shape, num_classes=num_classes, **options)


def _own(name: str, shape: Shape, num_classes: int, options: dict[str, Any]) -> Space:
    space = call_own("space", name, {"shape": shape, "num_classes": num_classes, **options})
    if not isinstance(space, Space):
        raise LimbeckError(
            f"The space '{name}' returned {type(space).__name__}; it must return a limbeck.nas.spaces.Space."
        )
    if (space.shape, space.num_classes) != (shape, num_classes):
        raise LimbeckError(
            f"The space '{name}' is for images of {space.shape} and {space.num_classes} classes, but was asked for "
            f"{shape} and {num_classes}; make it for the shape and num_classes that it is called with."
        )
    return space
