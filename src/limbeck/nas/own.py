"""Functions of the user's own, ``package.module:function``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.models.checks import describe_error
from limbeck.models.registry import cwd_on_path, load_function


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
