"""Proxies: what scores an architecture without training it to the end, and their names on the command line."""

from __future__ import annotations

import math
import os
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from limbeck.common.naming import read_options, split_words
from limbeck.errors import LimbeckError, unknown
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.ghn import GraphHyperNetwork
from limbeck.nas.proxies.predictor import CurvePredictor, EncodingPredictor, learning_curve
from limbeck.nas.proxies.sharing import WeightSharing
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import Kind, ZeroCost
from limbeck.nas.training import Schedule

__all__ = [
    "CurvePredictor",
    "EncodingPredictor",
    "GraphHyperNetwork",
    "Proxy",
    "RealData",
    "Scorer",
    "SyntheticData",
    "Task",
    "Tell",
    "WeightSharing",
    "ZeroCost",
    "learning_curve",
    "proxy_named",
    "proxy_names",
]

_SHORT: Final = 128
_NOT_WRITTEN: Final = frozenset({"run", "kind", "schedule", "pairs"})  # fields that no option sets


def proxy_names() -> tuple[str, ...]:
    """Names that ``proxy_named`` knows besides the path of a run directory."""
    return ("real", "full", "sharing", "ghn", "encoding", "curve", *get_args(Kind))


def proxy_named(text: str, *, full: Schedule | None = None) -> Proxy:
    """The proxy that ``NAME,option=value,...`` names, with its text as the label unless one is given.

    NAME is the path of a run directory (``SyntheticData``) or one of ``proxy_names()``. Options are the fields of the
    proxy and, where it trains by one, of its ``Schedule``; ``seconds`` and ``steps`` take each other's place.

    >>> proxy_named("real,seconds=2").schedule.seconds
    2

    Args:
        text: such as ``runs/mnist``, ``real,steps=128`` or ``sharing,steps=4000,lr=0.002``.
        full: the schedule of ``full``, of ``real`` but for its 128 steps, and of the examples of predictors;
            ``Schedule()`` by default.

    Raises:
        LimbeckError: an unknown name or option, or a value that does not fit.
    """
    if os.path.isdir(text) and text not in proxy_names():
        return SyntheticData(run=Path(text), label=text)
    name, *words = split_words(text)
    base = _default(name, full or Schedule())
    if base is None:
        raise unknown("proxy", name, [*proxy_names(), "the path of a run directory"])
    options = read_options(name, words, "proxy")
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


def _default(name: str, full: Schedule) -> Proxy | None:
    """The proxy of that name before any option; None if there is none."""
    match name:
        case "real":
            return RealData(schedule=replace(full, steps=_SHORT, seconds=None))
        case "full":
            return RealData(schedule=full)
        case "sharing":
            return WeightSharing()
        case "ghn":
            return GraphHyperNetwork()
        case "encoding":
            return EncodingPredictor(schedule=full)
        case "curve":
            return CurvePredictor(schedule=full)
        case _ if name in get_args(Kind):
            return ZeroCost(kind=name)  # type: ignore[arg-type]
        case _ if os.path.isdir(name):
            return SyntheticData(run=Path(name))
        case _:
            return None


def _hints(settings: Any) -> dict[str, Any]:
    """The types of the fields that options may set."""
    hints = get_type_hints(type(settings))
    return {field.name: hints[field.name] for field in fields(settings) if field.name not in _NOT_WRITTEN}


def _check_type(name: str, key: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        kinds = " or ".join(getattr(kind, "__name__", str(kind)) for kind in (get_args(hint) or (hint,)))
        wanted = kinds.replace("NoneType", "None")
        raise LimbeckError(f"The option {key} of the proxy '{name}' is {value!r}; it must be {wanted}.")


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
