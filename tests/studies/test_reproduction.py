"""Studies: their configurations, how they are run, gone on with and summed up, and the figures."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import Recorder, random_set, tiny_config, tiny_data

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.sample_chart import sample_chart
from limbeck.cli import main as cli
from limbeck.cli.commands import reproducing
from limbeck.common import charts as figures
from limbeck.common.charts import Line, histogram_chart, line_chart
from limbeck.engine import GeneratorConfig
from limbeck.engine.source.generator import CURRICULA
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.studies import KINDS, Study, Variant, kind_named, study, study_names
from limbeck.studies.figures import draw_figures
from limbeck.studies.rows import speed_up
from limbeck.studies.run import StudyDirectory, recipe_digest, run_study


@pytest.fixture
def data(tmp_path: Path) -> str:
    task = tiny_data()
    path = tmp_path / "tiny.npz"
    np.savez(
        path,
        x=np.concatenate([task.train_x, task.val_x]),
        y=np.concatenate([task.train_y, task.val_y]),
        x_test=task.test_x,
        y_test=task.test_y,
    )
    return str(path)


def tiny_study(data: str, kind: str = "seeds", **settings: Any) -> Study:
    def config(source: Any, seed: int) -> Config:
        return dataclasses.replace(tiny_config(source=source, seed=seed, lr_steps=0.1, **settings), data=data)

    return Study(
        name="tiny",
        title="Two sources, two seeds",
        paper={"generator": "more than nothing"},
        source="nobody 2026",
        variants=tuple(
            Variant(group="real data" if source == "real" else source, seed=seed, config=config(source, seed))
            for source in ("generator", "real")
            for seed in ((0, 1) if kind in ("seeds", "sweep") else (0,))
        ),
        n=3,
        learners=("mlp,hidden=(3,)",) if kind == "curves" else (),
        kind=kind_named(kind),
    )


# Configurations


@pytest.mark.parametrize("name", study_names())
def test_studies_are_complete_and_decided_by_the_seed(name: str) -> None:
    one, again, other = study(name), study(name), study(name, 7)
    assert one == again != other
    assert one.name == name
    assert one.n >= 2 and one.source
    assert one.kind is KINDS[one.kind.name]
    labels = [variant.label for variant in one.variants]
    assert len(set(labels)) == len(labels)
    for variant in one.variants:
        assert Config.from_json(json.loads(json.dumps(variant.config.to_json()))) == variant.config
        assert variant.config.seed == variant.seed
    assert {variant.seed for variant in other.variants}.isdisjoint({-1}) and min(v.seed for v in other.variants) == 7


def generator_of(variant: Variant) -> GeneratorConfig:
    source = variant.config.source
    assert isinstance(source, GeneratorConfig)
    return source


def test_curricula_have_three_seeds_each() -> None:
    variants = study("gtn-curriculum").variants
    assert {(v.group, v.seed) for v in variants} == {(c, s) for c in CURRICULA for s in range(3)}
    assert all(generator_of(v).curriculum == v.group for v in variants)


def test_weight_norm_is_the_only_difference_of_a_pair() -> None:
    variants = study("gtn-weight-norm").variants
    on = [v for v in variants if v.config.weight_norm]
    off = [v for v in variants if not v.config.weight_norm]
    assert len(on) == len(off) == 20
    for one, other in zip(on, off, strict=True):
        assert generator_of(one).generator_weight_norm and not generator_of(other).generator_weight_norm
        part = dataclasses.replace(generator_of(other), generator_weight_norm=True)
        assert dataclasses.replace(other.config, weight_norm=True, source=part) == one.config
    assert len({v.config.inner.lr for v in on}) == 20
    assert all(0.01 <= v.config.inner.lr <= 0.5 and v.config.outer.max_rollbacks == 0 for v in variants)


def test_unseen_learners_are_unseen() -> None:
    published = study("gtn-learners")
    assert len(published.learners) >= 4
    assert not set(published.learners) & set(published.variants[0].config.learners)


def test_unknown_studies_are_refused() -> None:
    with pytest.raises(LimbeckError, match="did you mean 'gtn-mnist'"):
        study("gtn-mnits")


# Runs


def test_a_study_is_run_scored_and_drawn_once(tmp_path: Path, data: str) -> None:
    toy, out = tiny_study(data), tmp_path / "study"
    messages: list[str] = []
    scores = run_study(toy, out, tell=messages.append)
    assert scores is not None
    assert [(score["group"], score["seed"]) for score in scores] == [
        ("generator", 0),
        ("generator", 1),
        ("real data", 0),
        ("real data", 1),
    ]
    assert all(score["n"] == 3 and not score["diverged"] for score in scores)
    assert len([line for line in messages if line.startswith("tiny: run")]) == 4
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    messages.clear()
    assert run_study(toy, out, tell=messages.append) == scores
    assert not messages
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    rows = toy.kind.rows(toy, scores)
    means = [score["mean"] for score in scores[:2]]
    assert [row["row"] for row in rows] == ["generator", "real data"]
    assert rows[0]["mean"] == statistics.fmean(means) and rows[0]["std"] == statistics.stdev(means)
    assert rows[0]["n"] == 2 and rows[0]["over"] == "runs" and rows[0]["paper"] == "more than nothing"
    assert rows[1]["paper"] is None

    paths = draw_figures(toy, out, scores)
    assert [path.name for path in paths] == ["meta-training", "samples-generator", "samples-real-data"]
    assert all(variant.config.inner_steps == 3 for variant in toy.variants)
    for path in paths:
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in path.with_suffix(".svg").read_text()
    first = {path: path.with_suffix(".svg").read_bytes() for path in paths}
    draw_figures(toy, out, scores)
    assert first == {path: path.with_suffix(".svg").read_bytes() for path in paths}


def test_single_runs_have_curves_and_other_learners(tmp_path: Path, data: str) -> None:
    toy = tiny_study(data, "curves")
    scores = run_study(toy, tmp_path / "study", n=2, iterations=3)
    assert scores is not None
    assert all(len(score["curve"]) == 4 and score["iterations"] == 3 and score["n"] == 2 for score in scores)
    rows = toy.kind.rows(toy, scores)
    assert [row["row"] for row in rows] == [
        "generator",
        "generator, on mlp,hidden=(3,)",
        "real data",
        "real data, on mlp,hidden=(3,)",
    ]
    assert rows[0]["over"] == "initial weights" and rows[0]["std"] == scores[0]["std"]
    assert "inner-training" in [path.name for path in draw_figures(toy, tmp_path / "study", scores)]


def test_a_study_goes_on_where_it_was_stopped(tmp_path: Path, data: str) -> None:
    toy = tiny_study(data)
    toy = dataclasses.replace(toy, variants=toy.variants[:2])
    whole = run_study(toy, tmp_path / "whole")
    reporter = Recorder(4)
    assert run_study(toy, tmp_path / "parts", reporter=reporter) is None
    assert reporter.interrupted
    assert not (tmp_path / "parts" / "generator-1").exists()
    again = run_study(toy, tmp_path / "parts")
    assert whole is not None and again is not None
    for one, other in zip(whole, again, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_run_that_diverges_counts(tmp_path: Path, data: str) -> None:
    toy = tiny_study(data, "sweep", max_rollbacks=0)
    first = toy.variants[0]
    wild = dataclasses.replace(first.config, inner=dataclasses.replace(first.config.inner, lr=1e20))
    broken = dataclasses.replace(first, config=wild)
    toy = dataclasses.replace(toy, variants=(broken, *toy.variants[1:3]))
    scores = run_study(toy, tmp_path / "study")
    assert scores is not None
    assert [score["diverged"] for score in scores] == [True, False, False]
    assert scores[0]["mean"] == 0 and scores[0]["n"] == 0  # it was never validated
    row = toy.kind.rows(toy, scores)[0]
    assert row["diverged"] == 1
    assert row["lowest"] == scores[0]["mean"] <= row["median"] <= row["highest"]
    assert [path.name for path in draw_figures(toy, tmp_path / "study", scores)] == ["meta-training", "histograms"]


def test_a_run_that_diverges_later_is_scored_by_what_it_kept(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_runs import Faulty, use

    toy = tiny_study(data, "sweep", max_rollbacks=0, validate_every=2)
    toy = dataclasses.replace(toy, variants=toy.variants[:1])
    use(monkeypatch, Faulty(losses={6: float("nan")}))
    scores = run_study(toy, tmp_path / "study")
    assert scores is not None
    assert scores[0]["diverged"] and scores[0]["n"] == 3 and scores[0]["mean"] > 0


def test_without_a_single_artefact_there_still_is_a_table(tmp_path: Path, data: str) -> None:
    toy = tiny_study(data, "curves", max_rollbacks=0)
    first = toy.variants[0]
    wild = dataclasses.replace(first.config, inner=dataclasses.replace(first.config.inner, lr=1e20))
    toy = dataclasses.replace(toy, variants=(dataclasses.replace(first, config=wild),))
    scores = run_study(toy, tmp_path / "study")
    assert scores is not None
    assert [row["mean"] for row in toy.kind.rows(toy, scores)] == [0]
    assert draw_figures(toy, tmp_path / "study", scores) == []
    assert speed_up([10.0, 20.0], []) == 0


curves = st.lists(st.floats(0, 100), min_size=2, max_size=40)


@given(curve=curves, reference=curves)
def test_the_speed_up_is_a_ratio_of_steps(curve: list[float], reference: list[float]) -> None:
    ratio = speed_up(curve, reference)
    best = max(reference)
    if max(curve) < best:
        assert ratio == 0
    else:
        first = min(i for i, value in enumerate(curve) if value >= best)
        assert ratio == pytest.approx(reference.index(best) / max(1, first))
    assert speed_up(reference, reference) in (0, 1)


# The folder and the command line


def test_a_folder_of_something_else_is_refused(tmp_path: Path, data: str) -> None:
    toy, other = tiny_study(data), dataclasses.replace(tiny_study(data), name="other")
    out = tmp_path / "out"
    StudyDirectory(out).prepare(toy, resume=False, overwrite=False)
    with pytest.raises(LimbeckError, match="already holds a study"):
        StudyDirectory(out).prepare(toy, resume=False, overwrite=False)
    with pytest.raises(LimbeckError, match="was begun otherwise \\(study tiny, seed 0\\)"):
        StudyDirectory(out).prepare(other, resume=True, overwrite=False)
    StudyDirectory(out).prepare(toy, resume=True, overwrite=False)
    (out / "kept").mkdir()
    StudyDirectory(out).prepare(other, resume=False, overwrite=True)
    assert not (out / "kept").exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(LimbeckError, match="holds no study"):
            StudyDirectory(precious).prepare(toy, resume=False, overwrite=overwrite)
    assert (precious / "file").read_text() == "mine"


def test_an_old_folder_does_not_go_on_under_a_new_recipe(tmp_path: Path, data: str) -> None:
    toy, out = tiny_study(data), tmp_path / "out"
    StudyDirectory(out).prepare(toy, resume=False, overwrite=False, n=3)
    mark = json.loads((out / "study.json").read_text())
    assert list(mark["recipes"]) == ["generator-0", "generator-1", "real-data-0", "real-data-1"]
    assert all(len(digest) == 64 for digest in mark["recipes"].values())

    def with_rate(variant: Variant) -> Variant:
        return dataclasses.replace(
            variant, config=dataclasses.replace(variant.config, inner=dataclasses.replace(variant.config.inner, lr=0.2))
        )

    first, *others = toy.variants
    for variants, names in (
        ((with_rate(first), *others), "another recipe of generator-0; finish"),
        (tuple(map(with_rate, toy.variants)), "generator-0, generator-1, real-data-0 and 1 other runs; finish"),
        ((dataclasses.replace(first, baselines=("random",)), *others), "another recipe of generator-0; finish"),
    ):
        with pytest.raises(LimbeckError, match=names):
            StudyDirectory(out).prepare(dataclasses.replace(toy, variants=variants), resume=True, overwrite=False, n=3)
    assert json.loads((out / "study.json").read_text()) == mark
    with pytest.raises(LimbeckError, match="another recipe"):
        StudyDirectory(out).prepare(dataclasses.replace(toy, learners=("mlp",)), resume=True, overwrite=False, n=3)
    StudyDirectory(out).prepare(toy, resume=True, overwrite=False, n=3)
    with pytest.raises(LimbeckError, match=r"was begun otherwise \(study tiny, seed 0, n 3\);"):
        StudyDirectory(out).prepare(toy, resume=True, overwrite=False, n=4)

    older = {name: value for name, value in mark.items() if name != "recipes"}
    (out / "study.json").write_text(json.dumps(older))
    (out / "kept").mkdir()
    changed = dataclasses.replace(toy, variants=(with_rate(first), *others))
    StudyDirectory(out).prepare(changed, resume=True, overwrite=False, n=3)
    assert json.loads((out / "study.json").read_text()) == older  # nothing is claimed of runs that were not recorded
    StudyDirectory(out).prepare(changed, resume=False, overwrite=True, n=3)
    assert not (out / "kept").exists()
    assert json.loads((out / "study.json").read_text())["recipes"] != mark["recipes"]


@pytest.mark.parametrize("name", study_names())
def test_digests_are_repeatable_and_tell_runs_apart(name: str) -> None:
    one, again = study(name), study(name)
    digests = [recipe_digest(one, variant) for variant in one.variants]
    assert digests == [recipe_digest(again, variant) for variant in again.variants]
    assert len(set(digests)) == len(digests)


def test_reproduce_runs_a_study(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproducing, "study_named", lambda name, seed: tiny_study(data))
    out = tmp_path / "study"
    words = ["reproduce", "gtn-curriculum", "--out", str(out), "--iterations", "2", "--n", "2"]
    assert cli.run([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in values["rows"]] == ["generator", "real data"]
    assert (out / "figures" / "meta-training.png").is_file()
    assert cli.run(words) == 2
    assert "already holds a study" in capsys.readouterr().err
    assert cli.run([*words, "--resume"]) == 0
    assert "nobody 2026" in capsys.readouterr().out
    assert cli.run(["reproduce", "gtn-curriculum", "--out", str(out), "--resume"]) == 2
    assert "was begun otherwise (study tiny, seed 0, iterations 2" in capsys.readouterr().err
    for wrong in (["--threads", "0"], ["--n", "0"], ["--iterations", "0"], ["--max-time", "-1"]):
        assert cli.run(["reproduce", "gtn-curriculum", "--out", str(out), "--overwrite", *wrong]) == 2
        assert (out / "generator-0" / "distilled.json").is_file()  # nothing is lost by a mistake
    capsys.readouterr()
    assert cli.run([*words, "--baselines", "random", "--resume"]) == 2
    assert "belong to single ones" in capsys.readouterr().err
    assert cli.run(["reproduce", "gtn-mnits"]) == 2
    assert "did you mean 'gtn-mnist'" in capsys.readouterr().err


def test_without_matplotlib_the_numbers_are_there_and_the_extra_is_named(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setattr(reproducing, "study_named", lambda name, seed: tiny_study(data))
    out = tmp_path / "study"
    assert cli.run(["reproduce", "gtn-curriculum", "--out", str(out), "--iterations", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"]
    assert "pip install 'limbeck[figures]'" in captured.err
    assert not (out / "figures").exists()
    with pytest.raises(LimbeckError, match="limbeck\\[figures\\]"):
        line_chart(tmp_path / "chart", {"a": Line(x=[0], y=[1])}, title="", x="", y="")
    assert figures.figures_missing() is not None


# Charts


def test_charts_hold_what_they_are_given(tmp_path: Path) -> None:
    line = Line(x=[0, 1, 2], y=[10.0, 50.0, 90.0], low=[5.0, 40.0, 85.0], high=[15.0, 60.0, 95.0])
    line_chart(tmp_path / "lines", {"ours": line, "theirs": Line(x=[0], y=[1.0])}, title="A title", x="step", y="%")
    text = (tmp_path / "lines.svg").read_text()
    assert all(word in text for word in ("ours", "theirs", "A title", "step"))
    histogram_chart(tmp_path / "bars", {"on": [90.0, 91.0], "off": [10.0]}, title="A sweep", x="accuracy")
    text = (tmp_path / "bars.svg").read_text()
    assert "on (n = 2)" in text and "off (n = 1)" in text
    run: Distilled = random_set()
    sample_chart(tmp_path / "samples", run, title="some set")
    text = (tmp_path / "samples.svg").read_text()
    assert all(name in text for name in run.class_names)
    assert text.count("<image") == run.num_classes * len(run.order)
