"""The one exception that means "you can fix this": its message is a sentence for a person."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

_OPTION: Final = re.compile(
    r"'(?:limbeck|ray) [^']*'"  # a command stays as it is typed
    r"|(?<![\w-])--(no-)?([a-z][a-z0-9-]*)(?:[= ](\d(?:[\d.e+-]*\d)?)\b|=([a-z/]\S*?)(?=[.,;:!?)\]]*(?:\s|$)))?"
)
_SWITCHES: Final = frozenset({"resume", "overwrite", "trust", "verdict", "every-step"})
_NAMES: Final = MappingProxyType({"ipc": "images_per_class"})


def in_python(text: str) -> str:
    """A message with options of the command line as Python has them, as keyword arguments.

    >>> in_python("go on with --resume, more --ipc, --lr 0.1 or --curriculum=none; see 'limbeck show --help'")
    "go on with resume=True, more images_per_class, lr=0.1 or curriculum='none'; see 'limbeck show --help'"
    """

    def keyword(found: re.Match[str]) -> str:
        negated, name, number, word = found.groups()
        if name is None:
            return found[0]
        value = number or (repr(word) if word else "")
        if name in _SWITCHES:
            value = value or str(not negated)
        own = _NAMES.get(name, name).replace("-", "_")
        return f"{own}={value}" if value else own

    return _OPTION.sub(keyword, text)


class LimbeckError(Exception):
    """Wrong input. The message says what was wrong, what was expected and how to fix it.

    Messages are written as the command line needs them, with flags such as ``--max-time``; it prints ``with_flags``
    without a traceback and exits with code 2. In Python ``str(error)`` names the keyword arguments instead.
    """

    def __str__(self) -> str:
        """The message with keyword arguments in the place of flags."""
        return in_python(self.with_flags)

    @property
    def with_flags(self) -> str:
        """The message as the command line has it, and as other messages quote it."""
        return super().__str__()


class DivergedError(LimbeckError):
    """A run whose numbers ran away again and again, also at lower learning rates."""


def unknown(kind: str, name: str, known: Iterable[str]) -> LimbeckError:
    """An error for a name that is not in a registry, with the nearest one that is.

    >>> print(unknown("learner", "lenett", ["lenet", "mlp"]))
    Unknown learner 'lenett'; did you mean 'lenet'? Known: lenet, mlp.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return LimbeckError(f"Unknown {kind} '{name}'{hint} Known: {', '.join(names)}.")
