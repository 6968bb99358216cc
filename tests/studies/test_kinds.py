"""What every kind of study owes: a score of any run, rows that can be printed, figures that lie where it says."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import random_set, tiny_config

from limbeck.cli.tables import study_table
from limbeck.errors import LimbeckError
from limbeck.studies import KINDS, Study, Variant, kind_named
from limbeck.studies.figures import draw_figures
from limbeck.studies.study import Judging

ROW = {"row", "paper", "mean", "std", "n", "over", "diverged", "seconds"}


def study_of(kind: str) -> Study:
    config = tiny_config()
    groups = ("one", "other")
    return Study(
        name="toy",
        title="A study of nothing",
        paper={"one": "half"},
        source="nobody 2026",
        variants=tuple(Variant(group=group, seed=0, config=config) for group in groups),
        n=2,
        kind=kind_named(kind),
    )


def score_of(group: str, kind: str) -> dict[str, Any]:
    """As a finished run leaves it in ``score.json``."""
    other = {"row": "random", "mean": 40.0, "std": 1.0, "n": 2, "seconds": 0.5}
    score = {"group": group, "seed": 0, "diverged": False, "rows": [other], "mean": 60.0, "std": 2.0, "worst": 50.0}
    score |= {"n": 2, "curve": [30.0, 60.0], "seconds": 1.0, "iterations": 7}
    if kind == "attack":
        numbers = {name: {"mean": 50.0, "std": 1.0, "worst": 40.0} for name in ("rate", "others", "all")}
        row = {"row": "learned", **numbers, "before": numbers, "step_size": None, "n": 2}
        defence = {"row": "clipping", "rate": 10.0, "rate_std": 1.0, "accepted": 100.0}
        score["attack"] = {"rows": [row], "defences": [defence], "n": 2}
    return score


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_keeps_the_contract(name: str, tmp_path: Path) -> None:
    kind, study = kind_named(name), study_of(name)
    assert kind.name == name and kind.unit and type(kind).__doc__
    lost = kind.score(study, study.variants[0], None, Judging())
    assert (lost["mean"], lost["n"], lost["iterations"]) == (0.0, 0, 0)
    assert lost is not kind.score(study, study.variants[0], None, Judging())
    random_set(study.variants[0].config).save(tmp_path / "whole" / study.variants[0].label)
    diverged = {"group": "one", "seed": 0, "diverged": True, "rows": [], **lost}
    for out, first in ((tmp_path / "whole", score_of("one", name)), (tmp_path / "lost", diverged)):
        scores = json.loads(json.dumps([first, score_of("other", name)]))
        rows = kind.rows(study, scores)
        assert rows[0]["row"].startswith("one") and any(row["row"].startswith("other") for row in rows)
        assert all(set(row) >= ROW for row in rows), name
        assert rows[0]["diverged"] == first["diverged"] and rows[0]["mean"] >= 0
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows
        console = Console(width=200, file=io.StringIO(), record=True)
        console.print(study_table(study, rows))
        assert kind.unit in (text := console.export_text()) and "nobody 2026" in text
        paths = draw_figures(study, out, scores)
        assert paths and all(path.parent == out / "figures" for path in paths)
        assert all(path.with_suffix(end).is_file() for path in paths for end in (".png", ".svg"))


def test_kinds_go_by_their_own_names() -> None:
    assert all(KINDS.name_of(kind) == kind.name for kind in KINDS.values())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(LimbeckError, match="Unknown kind of study 'curvs'; did you mean 'curves'"):
        kind_named("curvs")
    with pytest.raises(LimbeckError, match="The kind of study toy is 'curves'; it must be an object"):
        dataclasses.replace(study_of("curves"), kind="curves")  # type: ignore[arg-type]
