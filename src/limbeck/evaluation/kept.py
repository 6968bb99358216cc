"""The scores that a run directory keeps, in ``evaluation.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from limbeck.common.files import read_json, write_json
from limbeck.errors import LimbeckError
from limbeck.evaluation.result import Evaluation

SCORES: Final = "evaluation.json"


def keep_scores(folder: Path, result: Evaluation, tell: Callable[[str], None]) -> None:
    """Add an evaluation to those of a run directory, or put it in the place of an equal one; atomic.

    A directory that cannot be written loses nothing but that: ``tell`` says so.
    """
    new = {**result.info, **result.to_json()}
    try:
        write_json(
            folder / SCORES, {"evaluations": [*(old for old in read_scores(folder) if not _same(old, new)), new]}
        )
    except LimbeckError as error:
        tell(f"the scores are not kept in the run directory: {error.with_flags}")


def read_scores(folder: Path) -> list[dict[str, Any]]:
    """The evaluations that a run directory keeps, oldest first: data, n, seed, training and rows of each."""
    try:
        kept = read_json(folder / SCORES)["evaluations"]
    except (LimbeckError, KeyError, TypeError):  # none yet, or damaged: they can be computed again
        return []
    return [each for each in kept if isinstance(each, dict)] if isinstance(kept, list) else []


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two evaluations are of the same data, networks and recipe."""
    names = [[row.get("row") for row in each.get("rows", [])] for each in (one, other)]
    return names[0] == names[1] and all(one.get(key) == other.get(key) for key in ("data", "n", "seed", "training"))
