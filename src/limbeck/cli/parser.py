"""The words of a command line as a dataclass of options, and each mistake in them as one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from limbeck.errors import LimbeckError, unknown

T = TypeVar("T")

UNSET = "unset"
"""How the help calls a default of None or of nothing at all."""


def parse_words(
    kind: type[T],
    prog: str,
    words: list[str],
    default: T | None = None,
    owners: Mapping[str, str] = types.MappingProxyType({}),
) -> T:
    """The options that ``words`` stand for; ``prog`` is what comes before them, such as ``limbeck distill``.

    ``owners`` are flags that there are with other options only, and which those are.

    Raises:
        LimbeckError: words that are no options, or values that do not fit.
        SystemExit: after ``--help`` was printed.
    """
    settings: dict[str, Any] = {"prog": prog, "args": words, "registry": _registry()}
    settings["config"] = (tyro.conf.ConsolidateSubcommandArgs, tyro.conf.PositionalMetavarFromFieldName)
    if default is not None:
        settings["default"] = default

    def refuse(event: Any) -> None:
        # A misspelt option is told before what is missing because of it.
        error = _unknown_option(words, list(flags_of(kind, default)), prog, owners) or _sentence(event, prog)
        if error is not None:
            raise error

    with _on_mistake(refuse):
        options: T = tyro.cli(kind, **settings)
    return options


def flags_of(kind: type[Any], default: Any = None) -> Iterator[str]:
    """The flags of a dataclass of options and of those within it, such as ``--max-time``.

    A member of a union has the flags of its own kind, which is that of ``default``.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        bare, *notes = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        if tyro.conf.Suppress in notes or tyro.conf.Positional in notes:
            continue
        value = getattr(default, field.name, None)
        if value is None and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if dataclasses.is_dataclass(value):
            yield from flags_of(type(value), value)
        elif dataclasses.is_dataclass(bare):
            yield from flags_of(typing.cast("type[Any]", bare))
        else:
            names = [getattr(note, "name", None) for note in notes]  # an option may be called otherwise than its field
            yield f"--{next(filter(None, names), field.name).replace('_', '-')}"


def _on_mistake(hook: Callable[[Any], None]) -> AbstractContextManager[None]:
    """While it is open, the parser shows ``hook`` each mistake before it prints a box of its own and exits with 2.

    The parser calls this interface private; in a version without it mistakes get that box.
    """
    on_parse_error = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    if on_parse_error is None:
        return nullcontext()
    context: AbstractContextManager[None] = on_parse_error(hook)
    return context


def _unknown_option(words: list[str], flags: list[str], prog: str, owners: Mapping[str, str]) -> LimbeckError | None:
    """The first option that there is not, if there is one."""
    known = {"--help", *flags, *(f"--no-{flag[2:]}" for flag in flags)}
    names = [word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    name = next((name for name in names if name not in known), None)
    if name is None:
        return None
    if name in owners:
        return LimbeckError(f"{name} belongs to {owners[name]} and does nothing here; leave it out, or choose that.")
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}? See" if near else "see"
    return LimbeckError(f"Unknown option {name}; {hint} '{prog} --help'.")


def _sentence(event: Any, prog: str) -> LimbeckError | None:
    """What is wrong, for the kinds of mistakes that are known; None leaves the parser's own words."""
    see = f"see '{prog} --help'"
    kind = type(event).__name__
    if kind == "UnrecognizedArgs":
        return LimbeckError(f"'{event.tokens[0]}' is one word too many; {see}.")
    if kind == "MissingArgs":
        *names, last = (_name(missing.arg) for missing in event.missing_arguments)
        return LimbeckError(f"'{prog}' needs {', '.join(names)}{' and ' if names else ''}{last}; {see}.")
    if kind == "InvalidChoice":
        choices = [choice for choice in event.choices if choice != "None"]
        name = _name(event.argument)
        return unknown(f"value of {name}" if name.startswith("-") else name.lower(), event.value, choices)
    if kind == "BadValue":
        name = _name(event.argument)
        return LimbeckError(
            f"{name} needs a value; {see}." if name.startswith("-") else f"'{prog}' needs {name}; {see}."
        )
    if kind == "InstantiationFailure":
        return LimbeckError(event.message if event.argument is None else f"{_name(event.argument)} {event.message}")
    return None


def _name(argument: Any) -> str:
    """An argument as a person writes it."""
    lowered = argument.lowered
    return str(lowered.metavar).strip("[]") if argument.is_positional() else str(lowered.name_or_flags[0])


def _registry() -> ConstructorRegistry:
    """How words become values."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_rule)
    return registry


def _rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Numbers, text and paths, any number of them, and each of these or None; None for types with rules elsewhere."""
    arguments = typing.get_args(info.type)
    if info.type_origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _several(_spec_of(arguments[0], info))
    if info.type_origin in (typing.Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        return _optional(_spec_of(next(option for option in arguments if option is not type(None)), info))
    if info.type is int:
        return _single("INTEGER", int, int, "a whole number")
    if info.type is float:
        return _single("NUMBER", float, (float, int), "a number")
    if info.type is str:
        return _single("TEXT", str, str, "text")
    if info.type is Path:
        return _single("PATH", Path, Path, "a path")
    return None


def _spec_of(kind: Any, info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, info.markers))
    return spec if isinstance(spec, PrimitiveConstructorSpec) else None


def _single(
    metavar: str, convert: Callable[[str], Any], kind: type | tuple[type, ...], article: str
) -> PrimitiveConstructorSpec[Any]:
    """One word."""

    def value(words: list[str]) -> Any:
        try:
            return convert(words[0])
        except ValueError:
            raise ValueError(f"is '{words[0]}'; it must be {article}.") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=value,
        is_instance=lambda x: isinstance(x, kind),
        str_from_instance=lambda x: [str(x)],
    )


def _several(each: PrimitiveConstructorSpec[Any] | None) -> PrimitiveConstructorSpec[Any] | None:
    """Any number of words, as a tuple."""
    if each is None or each.nargs != 1:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{each.metavar} ...",
        instance_from_str=lambda words: tuple(each.instance_from_str([word]) for word in words),
        is_instance=lambda x: isinstance(x, tuple) and all(each.is_instance(item) for item in x),
        str_from_instance=lambda x: [word for item in x for word in each.str_from_instance(item)] or [UNSET],
        choices=each.choices,
    )


def _optional(spec: PrimitiveConstructorSpec[Any] | None) -> PrimitiveConstructorSpec[Any] | None:
    """The same, or None for the word None, which undoes what a recipe sets."""
    if spec is None:
        return None
    return dataclasses.replace(
        spec,
        instance_from_str=lambda words: None if words == ["None"] else spec.instance_from_str(words),
        is_instance=lambda x: x is None or spec.is_instance(x),
        str_from_instance=lambda x: [UNSET] if x is None else spec.str_from_instance(x),
        choices=None if spec.choices is None else (*spec.choices, "None"),
    )
