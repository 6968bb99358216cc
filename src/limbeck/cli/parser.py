"""The words of a command line as a dataclass of options, and each mistake in them as one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from limbeck.errors import LimbeckError, unknown

T = TypeVar("T")

ALIASES = types.MappingProxyType({"--images-per-class": "--ipc", "--help-all": "--help"})
"""Options that have a second name."""

UNSET = "unset"
"""How the help calls a default of None or of nothing at all."""


def parse_words(
    kind: type[T],
    prog: str,
    words: list[str],
    default: T | None = None,
    owners: Mapping[str, str] = types.MappingProxyType({}),
    first: Sequence[str] = (),
) -> T:
    """The options that ``words`` stand for; ``prog`` is what comes before them, such as ``limbeck distill``.

    ``owners`` are flags that there are with other options only, and which those are. ``first`` are the options, or
    positional arguments by their metavariables, that ``--help`` alone shows; ``--help-all`` shows all.

    Raises:
        LimbeckError: words that are no options, or values that do not fit.
        SystemExit: after ``--help`` was printed.
    """
    settings: dict[str, Any] = {"prog": prog, "args": words, "registry": _registry()}
    settings["config"] = (tyro.conf.ConsolidateSubcommandArgs, tyro.conf.PositionalMetavarFromFieldName)
    if default is not None:
        settings["default"] = default
    if first and words in (["--help"], ["-h"]):
        print(_first_screen(kind, prog, default, first), end="")
        raise SystemExit(0)
    flags = list(flags_of(kind, default))
    settings["args"] = words = [_spelt(word, flags) for word in words]

    def refuse(event: Any) -> None:
        # A misspelt option is told before what is missing because of it.
        error = _unknown_option(words, flags, prog, owners) or _sentence(event, prog)
        if error is not None:
            raise error

    with _on_mistake(refuse):
        options: T = tyro.cli(kind, **settings)
    return options


def _spelt(word: str, flags: Collection[str]) -> str:
    """A word with the one name of what has two."""
    name, sign, value = word.partition("=")
    other = ALIASES.get(name)
    return f"{other}{sign}{value}" if other == "--help" or other in flags else word


def _first_screen(kind: type[Any], prog: str, default: Any, first: Sequence[str]) -> str:
    """The help of the options that matter most, in their order, from the same fields as that of all."""
    known = {option.name: option for option in _options_of(kind, default)}
    aliases = {other: name for name, other in ALIASES.items()}
    rows = []
    for name in first:
        option = known[name]
        shown = f"{name}, {aliases[name]}" if name in aliases else name
        rows.append(f"  {shown}" + (f" {option.metavar}" if option.metavar and name.startswith("-") else ""))
        value = "" if option.value is None else f" (default: {option.value})"
        text = f"{option.text.replace('``', '')}{value}"
        rows += textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    summary = str(kind.__doc__).splitlines()[0]
    lines = [f"usage: {prog} [OPTIONS] [DATA]", "", summary, "", *rows, "", f"'{prog} --help-all' shows all options."]
    return "\n".join(lines) + "\n"


def flags_of(kind: type[Any], default: Any = None) -> Iterator[str]:
    """The flags of a dataclass of options and of those within it, such as ``--max-time``.

    A member of a union has the flags of its own kind, which is that of ``default``.
    """
    return (option.name for option in _options_of(kind, default) if option.name.startswith("-"))


class _Option(NamedTuple):
    """An option or a positional argument, by its flag or metavariable; ``text`` is what its docstring says."""

    name: str
    hint: Any
    value: Any
    text: str

    @property
    def metavar(self) -> str | None:
        """What stands for its value in a help; None for a flag."""
        with _registry():
            spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(self.hint, set()))
        return spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None


def _options_of(kind: type[Any], default: Any = None) -> Iterator[_Option]:
    """The options of a dataclass and of those within it."""
    hints, texts = typing.get_type_hints(kind, include_extras=True), _texts_of(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        bare, *notes = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        if tyro.conf.Suppress in notes:
            continue
        value = getattr(default, field.name, None)
        if value is None and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if dataclasses.is_dataclass(value):
            yield from _options_of(type(value), value)
        elif dataclasses.is_dataclass(bare):
            yield from _options_of(typing.cast("type[Any]", bare))
        else:
            names = [getattr(note, "name", None) for note in notes]  # an option may be called otherwise than its field
            name = f"--{next(filter(None, names), field.name).replace('_', '-')}"
            if tyro.conf.Positional in notes:
                name = f"[{field.name.upper()}]"
            yield _Option(name, bare, value, texts.get(field.name, ""))


def _texts_of(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those that it derives from say of each field, under ``Args:``."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(vars(base).get("__doc__") or "").partition("Args:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", section, flags=re.MULTILINE):
            texts[name] = " ".join(text.split())
    return texts


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
