"""Names with options, ``NAME,option=value,...``: one syntax for learners and for data sets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

from limbeck.errors import LimbeckError


def split_words(text: str) -> list[str]:
    """The name and its options, each as it is written.

    >>> split_words("mlp,hidden=(64,64)")
    ['mlp', 'hidden=(64,64)']
    """
    return re.split(r",(?![^(\[]*[)\]])", text)  # not at commas within parentheses or brackets


def read_options(name: str, words: Iterable[str], kind: str) -> dict[str, Any]:
    """Options in the order in which they are written; values are Python literals (``true`` and ``false``
    as well), or strings where they are none.

    Args:
        name: what the options belong to.
        words: ``option=value`` each.
        kind: what it is, in an error, such as "learner".

    Raises:
        LimbeckError: an option without a value, or twice.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise LimbeckError(f"'{word}' is no option of the {kind} '{name}'; write {name},option=value.")
        if key in options:
            raise LimbeckError(f"The option {key} of the {kind} '{name}' is given twice.")
        if value.lower() in ("true", "false"):
            options[key] = value.lower() == "true"
            continue
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options
