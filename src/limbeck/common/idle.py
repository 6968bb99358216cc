"""Options that do nothing: refused where someone gives one, dropped where a file or a published recipe has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

from limbeck.errors import LimbeckError

T = TypeVar("T")


class IdleOptionError(LimbeckError):
    """An option that has no effect beside the others.

    Args:
        option: name of the field.
        value: what it is.
        why: when it does nothing, after "does nothing".
        fix: what would give it an effect, after which "or leave it out" is said; nothing by default.
    """

    def __init__(self, option: str, value: Any, why: str, fix: str | None = None) -> None:
        self.option, self.value, self.why = option, value, why
        advice = "leave it out" if fix is None else f"{fix}, or leave it out"
        super().__init__(f"{option} is {value}, which does nothing {why}; {advice}.")


def refuse_idle_fields(config: Any, *names: str, why: str, fix: str | None = None) -> None:
    """Raise IdleOptionError for the first of these fields that is not at its default."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in names and value != field.default:
            raise IdleOptionError(field.name, value, why, fix)


def reset_option(config: T, option: str) -> T:
    """The config with a field, its own or of a config within it, at its default; as it is where there is no such."""
    changes: dict[str, Any] = {}
    for field, value in _fields(config):
        if field.name == option:
            return dataclasses.replace(config, **{option: field.default})  # type: ignore[type-var]
        inner = reset_option(value, option)
        if inner is not value:
            changes[field.name] = inner
    return dataclasses.replace(config, **changes) if changes else config  # type: ignore[type-var]


def _fields(value: Any) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a dataclass and their values; none for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield field, getattr(value, field.name)
