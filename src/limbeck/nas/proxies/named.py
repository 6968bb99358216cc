"""Proxies by name: the table of those that there are, and ``NAME,option=value,...`` as it is written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from limbeck.common.naming import read_options, split_words
from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError, unknown
from limbeck.nas.own import call_own
from limbeck.nas.proxies.base import Proxy
from limbeck.nas.proxies.ghn import GraphHyperNetwork
from limbeck.nas.proxies.predictor import CurvePredictor, EncodingPredictor
from limbeck.nas.proxies.sharing import WeightSharing
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost, zero_cost_names
from limbeck.nas.training import Schedule

Maker: TypeAlias = Callable[[Schedule], Proxy]
"""Makes a proxy without options from the schedule of training to the end."""

_SHORT: Final = 128

PROXIES: Final[Registry[Maker]] = Registry(
    "proxy",
    ("real", lambda full: RealData(schedule=replace(full, steps=_SHORT, seconds=None))),
    ("full", lambda full: RealData(schedule=full)),
    ("sharing", lambda full: WeightSharing()),
    ("ghn", lambda full: GraphHyperNetwork()),
    ("encoding", lambda full: EncodingPredictor(schedule=full)),
    ("curve", lambda full: CurvePredictor(schedule=full)),
    *((kind, lambda full, kind=kind: ZeroCost(kind=kind)) for kind in zero_cost_names()),
)
"""The proxies by name: a new one is a file of this package and a line here."""

_NOT_WRITTEN: Final = frozenset({"run", "kind", "schedule", "pairs"})  # fields that no option sets


def proxy_names() -> tuple[str, ...]:
    """Names that ``proxy_named`` knows besides the path of a run directory and ``package.module:function``."""
    return tuple(PROXIES)


def proxy_named(text: str, *, full: Schedule | None = None) -> Proxy:
    """The proxy that ``NAME,option=value,...`` names, with its text as the label unless one is given.

    NAME is the path of a run directory (``SyntheticData``), one of ``proxy_names()``, or ``package.module:function``,
    imported with the current directory on the path and called with the options. Options of the others are the fields of
    the proxy and, where it trains by one, of its ``Schedule``; ``seconds`` and ``steps`` take each other's place.

    >>> proxy_named("real,seconds=2").schedule.seconds
    2

    Args:
        text: such as ``runs/mnist``, ``real,steps=128`` or ``sharing,steps=4000,lr=0.002``.
        full: the schedule of ``full``, of ``real`` but for its 128 steps, and of the examples of predictors;
            ``Schedule()`` by default.

    Raises:
        LimbeckError: an unknown name or option, a folder that does not exist, or a value that does not fit.
    """
    if os.path.isdir(text) and text not in PROXIES:
        return SyntheticData(run=Path(text), label=text)
    name, *words = split_words(text)
    if name not in PROXIES and not os.path.isdir(name):
        if ":" in name:
            return _own(name, read_options(name, words, "proxy"))
        raise _unknown_proxy(name)
    base = PROXIES[name](full or Schedule()) if name in PROXIES else SyntheticData(run=Path(name))
    return _with_options(base, name, text, read_options(name, words, "proxy"))


def _with_options(base: Proxy, name: str, text: str, options: dict[str, Any]) -> Proxy:
    for one, other in (("seconds", "steps"), ("steps", "seconds")):
        if one in options and hasattr(base, "schedule"):
            options.setdefault(other, None)
    schedule = getattr(base, "schedule", None)
    own, of_schedule = _hints(base), {} if schedule is None else _hints(schedule)
    known = own | of_schedule
    for key, value in options.items():
        if key not in known:
            raise unknown(f"option of the proxy '{name}'", key, known)
        _check_type(name, key, value, known[key])
    changes = {key: value for key, value in options.items() if key in own}
    if "label" in own:
        changes = {"label": text, **changes}
    if schedule is not None:
        changes["schedule"] = replace(schedule, **{key: v for key, v in options.items() if key in of_schedule})
    return replace(base, **changes)  # type: ignore[type-var]


def _own(name: str, options: dict[str, Any]) -> Proxy:
    proxy = call_own("proxy", name, options)
    if not isinstance(proxy, Proxy):
        raise LimbeckError(f"The proxy '{name}' returned {type(proxy).__name__}; it must return a limbeck.nas.Proxy.")
    return proxy


def _unknown_proxy(name: str) -> LimbeckError:
    """The error for a name that is neither a proxy nor a folder: a path is told from a misspelt name."""
    if os.path.isfile(name):
        return LimbeckError(f"{name} is a file; a proxy is named by the run directory of a learned set.")
    if any(mark in name for mark in (os.sep, os.altsep or os.sep)) or name.startswith((".", "~")):
        return LimbeckError(
            f"The folder {name} does not exist; name the run directory of a learned set, or one of the proxies "
            f"{', '.join(PROXIES)}."
        )
    return unknown("proxy", name, [*PROXIES, "package.module:function", "the path of a run directory"])


def _hints(settings: Any) -> dict[str, Any]:
    """The types of the fields that options may set."""
    hints = get_type_hints(type(settings))
    return {field.name: hints[field.name] for field in fields(settings) if field.name not in _NOT_WRITTEN}


def _check_type(name: str, key: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        kinds = " or ".join(getattr(kind, "__name__", str(kind)) for kind in (get_args(hint) or (hint,)))
        expected = kinds.replace("NoneType", "None")
        raise LimbeckError(f"The option {key} of the proxy '{name}' is {value!r}; it must be {expected}.")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is NoneType:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)
