"""Configurations as JSON and back: unions by the name of their member, older forms, and code that only a file names."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar, final

from limbeck.common.idle import IdleOptionError, reset_option
from limbeck.common.registry import Registry
from limbeck.common.typed import fit_types
from limbeck.engine import (
    ADJOINTS,
    SOURCES,
    Adjoint,
    Kernels,
    Materials,
    MetaGradient,
    Objective,
    RealBatch,
    Source,
    SourceConfig,
    State,
    Tensors,
)
from limbeck.errors import LimbeckError
from limbeck.methods import METHODS, Method, MethodConfig
from limbeck.models.registry import cwd_on_path, load_function

T = TypeVar("T")

FAMILIES: Final[Mapping[str, tuple[type[Any], Registry[Any]]]] = MappingProxyType(
    {"source": (SourceConfig, SOURCES), "method": (MethodConfig, METHODS), "adjoint": (Adjoint, ADJOINTS)}
)
"""The fields that hold a member of a family, what all members derive from, and those that are known by name."""


def code_among(*names: str) -> frozenset[str]:
    """Those of the names that are code, ``package.module:function``, and not in a registry.

    >>> sorted(code_among("lenet", "mine:Net,width=3"))
    ['mine:Net,width=3']
    """
    return frozenset(name for name in names if ":" in name)


def importable(name: str, untrusted: Collection[str]) -> str:
    """``name`` itself; raises LimbeckError if it is among the untrusted ones."""
    if name in untrusted:
        names = ", ".join(f"'{other}'" for other in [name, *sorted(set(untrusted) - {name})])
        raise LimbeckError(
            f"The file asks for code to be imported and run: {names}. If you know whose code that is, trust it with "
            "--trust, or name it again yourself."
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A member of a family as a file records it, whose class is code that may not be imported.

    It can be looked at and written again; whatever needs the class refuses.

    Args:
        kind: ``package.module:Class``.
        values: the other fields as they are recorded.
    """

    kind: str
    values: Mapping[str, Any] = dataclasses.field(hash=False)

    def refuse(self) -> NoReturn:
        """Raise the LimbeckError that names the code, that of what it holds included."""
        importable(self.kind, (self.kind, *_kinds_recorded(self.values)))
        raise AssertionError


@final
class UnreadSource(Unread, SourceConfig):
    """A source that may not be imported."""

    @property
    def inner_steps(self) -> int:
        self.refuse()

    @property
    def description(self) -> str:
        self.refuse()

    def batch_size(self, classes: int) -> int:
        self.refuse()

    def build(self, materials: Materials) -> Source:
        self.refuse()


@final
class UnreadMethod(Unread, MethodConfig):
    """A method that may not be imported."""

    def build(self, goal: Objective | None = None) -> Method:
        self.refuse()


@final
class UnreadAdjoint(Unread, Adjoint):
    """An adjoint that may not be imported."""

    def stored_states(self, steps: int) -> int:
        self.refuse()

    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        self.refuse()


UNREAD: Final[Mapping[str, type[Unread]]] = MappingProxyType(
    {"source": UnreadSource, "method": UnreadMethod, "adjoint": UnreadAdjoint}
)
"""What stands for a member of each of ``FAMILIES`` that may not be imported."""


def _kinds_recorded(values: Mapping[str, Any]) -> Iterator[str]:
    """The kinds that are code among recorded fields, at any depth."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _kinds_recorded(value)
        elif name == "kind" and isinstance(value, str):
            yield from code_among(value)


def encode(value: Any) -> Any:
    """Plain values of a config: nested dicts, a member of a union with its ``kind``."""
    if isinstance(value, Unread):
        return {"kind": value.kind, **value.values}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return list(value) if isinstance(value, tuple) else value
    fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return kind_of(value) | fields


def kind_of(value: Any) -> dict[str, str]:
    """``{"kind": NAME}`` for a member of a family, nothing for others; a member of one's own goes by its class."""
    if isinstance(value, Unread):
        return {"kind": value.kind}
    for base, known in FAMILIES.values():
        if isinstance(value, base):
            return {"kind": name_kind(value, known)}
    return {}


def kinds_within(value: Any) -> Iterator[str]:
    """The kinds of all members of unions in a config, at any depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from kind_of(value).values()
        if isinstance(value, Unread):
            yield from _kinds_recorded(value.values)
        for field in dataclasses.fields(value):
            yield from kinds_within(getattr(value, field.name))


def decode_member(field: str, values: Any, trust: bool | Collection[str]) -> Any:
    """The member of a family from what ``encode`` gave; an ``Unread`` one where it is code that is not trusted.

    Raises:
        LimbeckError: no such member, or fields that the member does not have.
    """
    base, known = FAMILIES[field]
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise LimbeckError(f"The recorded {field} is {values!r}; expected its fields by name, and its kind.")
    kind = values["kind"]
    if code_among(kind) and kind not in known and not trusts(trust, kind):
        return UNREAD[field](kind=kind, values={name: value for name, value in values.items() if name != "kind"})
    member = find_member(kind, known, base, trust)
    own = {f.name for f in dataclasses.fields(member)}
    for name in values.keys() - own - {"kind"}:
        others = [other for other, cls in known.items() if name in {f.name for f in dataclasses.fields(cls)}]
        whose = f"; that belongs to {' and '.join(others)}" if others else ""
        raise LimbeckError(f"The {field} '{kind}' has no option '{name}'{whose}.")
    nested = {
        name: decode_member(name, value, trust) if name in FAMILIES else value
        for name, value in values.items()
        if name != "kind"
    }
    return construct(member, nested)


def read_again(field: str, value: Any, trust: bool | Collection[str]) -> Any:
    """A config with what is ``Unread`` in it read, as far as it is trusted now."""
    if isinstance(value, Unread):
        return decode_member(field, encode(value), trust)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    inside = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name in FAMILIES}
    read = {name: read_again(name, part, trust) for name, part in inside.items()}
    return dataclasses.replace(value, **read) if any(read[name] is not inside[name] for name in read) else value


def trusts(trust: bool | Collection[str], name: str) -> bool:
    """Whether code of that name may be imported."""
    return trust is True or name in (trust or ())


def find_member(kind: str, known: Registry[Any], base: type[Any], trust: bool | Collection[str]) -> Any:
    """The class of a kind that a file names: one of the registry, or ``package.module:Class`` where that is trusted.

    Raises:
        LimbeckError: no such kind, code that is not trusted, or a class that does not derive from ``base``.
    """
    if ":" not in kind or kind in known:
        return known[kind]
    importable(kind, () if trusts(trust, kind) else (kind,))
    with cwd_on_path():
        member = load_function(kind, known.family)
    if not (isinstance(member, type) and issubclass(member, base)):
        raise LimbeckError(f"'{kind}' is no {known.family}; it must be a class that derives from {base.__name__}.")
    return member


def name_kind(member: Any, known: Registry[Any]) -> str:
    """Inverse of ``find_member`` for an object of the class."""
    cls = type(member)
    return known.name_of(cls) or f"{cls.__module__}:{cls.__qualname__}"


def construct(cls: type[T], values: Any) -> T:
    """``cls(**values)`` with tuples for lists, without options that do nothing: older versions recorded such, too.

    Raises:
        LimbeckError: fields that it does not have, or values that do not fit.
    """
    if not isinstance(values, dict):
        raise LimbeckError(f"The recorded {cls.__name__} is {values!r:.60}; expected its fields by name.")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    try:
        return cls(**fit_types(cls, values))
    except IdleOptionError as error:
        left = {name: reset_option(v, error.option) for name, v in values.items() if name != error.option}
        if left == values:
            raise
        return construct(cls, left)
    except (TypeError, AttributeError) as error:
        raise LimbeckError(f"The recorded configuration does not fit this version of Limbeck: {error}.") from None


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration of schema 1 or 2 as schema 3 records it; one of schema 3 as it is.

    Until schema 2 all kinds of sources stood side by side, ``source`` named the one that counted, real batches borrowed
    their sizes from the generator, and the adjoint and its settings belonged to how things are computed.
    """
    if isinstance(values.get("source"), dict):
        return values
    old = {name: dict(v) if isinstance(v, dict) else v for name, v in values.items()}
    kind = old.pop("source", "pixels")
    pixels, generator = old.pop("pixels", {}), old.pop("generator", {})
    engine, outer = old.get("engine", {}), old.get("outer", {})
    if not all(isinstance(part, dict) for part in (pixels, generator, engine, outer)):
        raise LimbeckError("The recorded configuration does not fit this version of Limbeck: a part has no fields.")
    if "inner" not in old:  # until 0.1 the step sizes belonged to the pixels
        old["inner"] = {name: pixels.pop(name) for name in ("lr", "lr_max") if name in pixels}
    sizes = {name: generator[name] for name in ("inner_steps", "batch") if name in generator}
    own = {"pixels": pixels, "generator": generator, "real": sizes}.get(str(kind), {})
    stored = {"store_every": engine.pop("store_every", 1)}
    adjoint = engine.pop("adjoint", "remat")
    old["source"] = {"kind": kind, **own}
    old["method"] = {
        "kind": "unrolled",
        "adjoint": {"kind": adjoint, **(stored if adjoint == "remat" else {})},
        "loss_every": outer.pop("loss_every", None),
    }
    return old
