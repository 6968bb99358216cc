"""The one exception that means "you can fix this": its message is a sentence for a person."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LimbeckError(Exception):
    """Wrong input. The message says what was wrong, what was expected and how to fix it.

    The command line prints it without a traceback and exits with code 2.
    """


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
