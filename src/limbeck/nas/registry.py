"""What is known by name: tables of members, and functions of the user's own, ``package.module:function``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from limbeck.errors import LimbeckError
from limbeck.models.registry import cwd_on_path, describe_error, load_function

Member = TypeVar("Member")


def table(kind: str, *members: tuple[str, Member]) -> Mapping[str, Member]:
    """The members by their names, in the order in which they are given; the table cannot be changed.

    >>> list(table("space", ("cells", 1), ("convnets", 2)))
    ['cells', 'convnets']

    Args:
        kind: what they are, in an error.
        members: name and member each.

    Raises:
        LimbeckError: two members have the same name.
    """
    by_name: dict[str, Member] = {}
    for name, member in members:
        if name in by_name:
            raise LimbeckError(f"The {kind} '{name}' is registered twice; give one of the two another name.")
        by_name[name] = member
    return MappingProxyType(by_name)


def call_own(kind: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """What ``package.module:function`` returns, imported with the current directory on the path.

    Args:
        kind: what it makes, in an error.
        name: of the function, or of a class.
        arguments: by keyword.

    Raises:
        LimbeckError: it cannot be imported, or fails.
    """
    with cwd_on_path():  # while the function runs, too: it may import its neighbours late
        function = load_function(name, kind)
        try:
            return function(**arguments)
        except LimbeckError:
            raise
        except Exception as error:
            call = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
            raise LimbeckError(
                f"The {kind} '{name}' failed when called with {call}: {describe_error(error)}."
            ) from error
