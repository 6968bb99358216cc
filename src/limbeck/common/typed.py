"""Fields of a config hold what their annotations say: one check for all configs, where they are made.

Words come typed off the command line; values in Python and in files may be anything.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import os
import types
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

from limbeck.errors import LimbeckError

LARGEST: Final = 3.4e38
"""What single precision holds; beyond it a number is infinite where it is computed with."""


def check_types(config: Any) -> None:
    """Raise LimbeckError for the first field of a dataclass, or of one within it, whose value is not of its type.

    Numbers of NumPy become Python's, which JSON can hold, and lists tuples; a frozen config is changed for that.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name, value in fit_types(type(config), values).items():
        if value is not values[name]:
            object.__setattr__(config, name, value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_types(value)


def fit_types(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for fields of a dataclass as ``check_types`` leaves them; those of other names as they are.

    Raises:
        LimbeckError: a value that is not of its field's type, or a number that single precision does not hold.
    """
    wanted = _field_types(cls)  # type: ignore[arg-type]  # mypy asks the class's objects for a hash
    return {name: fit_value(name, value, wanted[name]) if name in wanted else value for name, value in values.items()}


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    try:
        hints = get_type_hints(cls)
    except (NameError, AttributeError, TypeError):
        return {}  # a class of one's own, with annotations for a type checker alone
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def fit_value(name: str, value: Any, wanted: Any) -> Any:
    """One value as ``check_types`` leaves it; raises LimbeckError as ``fit_types``."""
    members = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    for member in members:
        try:
            fitting = _as(value, member)
        except TypeError:
            continue
        _check_range(name, fitting)
        return fitting
    raise LimbeckError(f"{name} is {value!r:.60}; it must be {' or '.join(map(_describe, members))}.")


def _check_range(name: str, value: Any) -> None:
    for part in value if isinstance(value, tuple) else ():
        _check_range(name, part)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise LimbeckError(f"{name} is too large a number; it must be a whole number of at most 64 bits.")
    if isinstance(value, float) and math.isfinite(value) and abs(value) > LARGEST:
        raise LimbeckError(
            f"{name} is {value:g}, which single precision cannot hold; its size must be at most {LARGEST}."
        )


def _as(value: Any, wanted: Any) -> Any:
    """The value as a type that is no union has it; TypeError where it is none of that."""
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted is int or wanted is float:
        return _number(value, wanted)
    if origin is Literal:
        fits = any(type(value) is type(choice) for choice in args)  # which of them, the config knows better
    elif origin is tuple and isinstance(value, list | tuple):
        each = args[:1] * len(value) if args[-1] is ... else args
        if len(value) != len(each):
            raise TypeError
        parts = tuple(map(_as, value, each))
        return value if isinstance(value, tuple) and all(map(operator.is_, value, parts)) else parts
    else:
        kind = wanted if origin is None else origin
        fits = not isinstance(kind, type) or isinstance(value, kind)
    if not fits:
        raise TypeError
    return value


def _number(value: Any, wanted: type[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, Integral if wanted is int else Real):
        raise TypeError
    plain: type[Any] = int if isinstance(value, Integral) else float
    return value if type(value) is plain else plain(value)


def _describe(wanted: Any) -> str:
    """A type in words, after "it must be"."""
    known = {int: "a whole number", float: "a number", bool: "True or False", str: "text", types.NoneType: "None"}
    known[os.PathLike] = "a path"
    if wanted in known:
        return known[wanted]
    args = get_args(wanted)
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, args))}"
    if get_origin(wanted) is tuple:
        if args[-1] is ...:
            return f"a tuple, each entry {_describe(args[0])}"
        return f"a tuple of {len(args)} ({', '.join(map(_describe, args))})"
    name = getattr(get_origin(wanted) or wanted, "__name__", str(wanted))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
