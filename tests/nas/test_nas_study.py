"""Tables of scores, the studies nas-ranking and nas-search, and their figures, on a space of a few tiny networks."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import tiny_config, tiny_data
from tiny_search import Chained
from torch import nn

from limbeck.cli.commands import nas_studies, reproducing
from limbeck.cli.main import run as limbeck
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Stop
from limbeck.models import Shape
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.spaces import space_named
from limbeck.nas.spaces.base import Arch, Graph, Node
from limbeck.nas.studies import cell_ranking, finals, ranking
from limbeck.nas.studies.cell_ranking import cells_config, cells_oracle, cells_proxies
from limbeck.nas.studies.figures import (
    Cost,
    cost_bars,
    cost_chart,
    depths,
    frontier,
    frontier_chart,
    graph_chart,
    layout,
    scatter_chart,
)
from limbeck.nas.studies.finals import (
    RANDOM,
    SHORTLISTED,
    Setting,
    best,
    build_wider,
    choose_winners,
    final_settings,
    run_finals,
    search_proxies,
    train_final,
)
from limbeck.nas.studies.proxy_rows import Rows, choose, rows_of
from limbeck.nas.studies.rank import Estimate
from limbeck.nas.studies.ranking import (
    Scores,
    oracle,
    oracle_table,
    ranking_proxies,
    ranking_rows,
    run_ranking,
    score_all,
    synthetic_config,
    table_path,
)
from limbeck.nas.studies.study_sets import draw_sample, draw_sample_for
from limbeck.nas.table import Scored, ScoreTable, describe, fill, merge, part_path, parts_of
from limbeck.nas.training import Schedule, train_real, validation_accuracy

pytest.importorskip("scipy")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# A space of twelve networks, two of which cannot be built, and proxies that know them by heart


@final
class Tiny(Chained):
    @property
    def name(self) -> str:
        return "tiny"

    @property
    def shape(self) -> Shape:
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        return 3

    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        return {"width": ("2", "4", "8"), "bias": ("yes", "no"), "activation": ("relu", "tanh")}

    def build(self, arch: Arch) -> nn.Module:
        width, bias, activation = self.check(arch)
        if (width, bias) == ("2", "no"):
            raise LimbeckError("Too small.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            hidden = nn.Linear(64, int(width), bias=bias == "yes")
            last = nn.Linear(int(width), 3)
        return nn.Sequential(nn.Flatten(), hidden, nn.ReLU() if activation == "relu" else nn.Tanh(), last)


@final
@dataclass(frozen=True, kw_only=True)
class ByWidth(Proxy):
    """The wider the better; ``bad`` architectures raise, ``lost`` ones have no number."""

    sign: float = 1.0
    bad: str = ""
    lost: str = ""
    label: str = "width"

    @property
    def name(self) -> str:
        return self.label

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        tell(f"preparing {self.label}")
        return _ByWidth(config=self)


@final
@dataclass(frozen=True, kw_only=True)
class _ByWidth(Scorer):
    config: ByWidth

    def score(self, task: Task, arch: Arch) -> float:
        text = task.space.text(arch)
        if text == self.config.bad:
            raise LimbeckError("Cannot be scored.")
        return -math.inf if text == self.config.lost else self.config.sign * int(arch[0])


def tiny_task(seed: int = 0) -> Task:
    return Task(space=Tiny(), data=tiny_data(), seed=seed)


def after(count: int) -> tuple[Stop, Tell]:
    """A stop that is asked for at the count-th score, and what has to be told for that."""
    stop, seen = Stop(), list[str]()

    def tell(text: str) -> None:
        if "ETA" in text:
            seen.append(text)
            stop.requested = len(seen) >= count

    return stop, tell


@pytest.fixture
def archs() -> tuple[Arch, ...]:
    return draw_sample(Tiny(), 8, 0)


# Tables


def test_a_table_holds_every_score(tmp_path: Path, archs: Sequence[Arch]) -> None:
    task, told = tiny_task(), list[str]()
    table = fill(tmp_path / "a.json", task, ByWidth(), archs, tell=told.append)
    assert table.values == {task.space.text(arch): int(arch[0]) for arch in archs}
    assert list(table.scores) == [task.space.text(arch) for arch in archs]
    assert ScoreTable.load(tmp_path / "a.json").values == table.values
    assert table.meta["proxy"] == {
        "name": "width",
        "kind": "ByWidth",
        "settings": {"sign": 1.0, "bad": "", "lost": "", "label": "width"},
    }
    assert table.meta["data"]["sha256"] == task.data.sha256
    assert table.meta["machine"]["threads"] == torch.get_num_threads()
    assert [line for line in told if "8 of 8" in line and "ETA 0:00" in line]


def test_an_interrupted_table_goes_on(tmp_path: Path, archs: Sequence[Arch]) -> None:
    path, task = tmp_path / "a.json", tiny_task()
    stop, tell = after(3)
    assert len(fill(path, task, ByWidth(), archs, tell=tell, stop=stop).scores) == 3
    kept = json.loads(path.read_text())["scores"]
    told: list[str] = []
    table = fill(path, task, ByWidth(), archs, tell=told.append)
    assert len([line for line in told if "ETA" in line]) == 5
    assert list(table.scores) == [task.space.text(arch) for arch in archs]
    assert {text: json.loads(path.read_text())["scores"][text] for text in kept} == kept
    told.clear()
    assert fill(path, task, ByWidth(), archs, tell=told.append).values == table.values
    assert not told, "nothing is prepared for nothing"


@pytest.mark.parametrize(
    ("task", "proxy", "said"),
    [
        (tiny_task(seed=1), ByWidth(), "seed is 0, not 1"),
        (tiny_task(), ByWidth(sign=2.0), "proxy.settings.sign is 1.0, not 2.0"),
        (tiny_task(), ByWidth(label="other"), "proxy.name is width, not other"),
        (Task(space=Tiny(), data=tiny_data(channels=2)), ByWidth(), "data.sha256"),
    ],
)
def test_other_scores_are_refused(tmp_path: Path, archs: Sequence[Arch], task: Task, proxy: Proxy, said: str) -> None:
    path = tmp_path / "a.json"
    fill(path, tiny_task(), ByWidth(), archs[:2])
    before = path.read_bytes()
    with pytest.raises(LimbeckError, match=said):
        fill(path, task, proxy, archs)
    assert path.read_bytes() == before


def test_what_fails_is_told_and_kept(tmp_path: Path, archs: Sequence[Arch]) -> None:
    bad, lost = (tiny_task().space.text(arch) for arch in archs[:2])
    told: list[str] = []
    table = fill(tmp_path / "a.json", tiny_task(), ByWidth(bad=bad, lost=lost), archs, tell=told.append)
    assert math.isnan(table.values[bad]) and math.isnan(table.values[lost])
    assert any("Cannot be scored" in line for line in told)
    assert json.loads((tmp_path / "a.json").read_text())["scores"][bad]["value"] is None
    assert math.isnan(ScoreTable.load(tmp_path / "a.json").values[lost])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_make_the_whole(tmp_path: Path, archs: Sequence[Arch], count: int) -> None:
    path, task = tmp_path / "a.json", tiny_task()
    for index in range(count):
        fill(path, task, ByWidth(), archs, part=(index, count))
    paths = parts_of(path) if count > 1 else [path]
    assert paths == [part_path(path, (index, count)) for index in range(count)]
    table = merge(paths)
    assert table.values == fill(tmp_path / "b.json", task, ByWidth(), archs).values
    assert list(table.of(map(task.space.text, archs)).scores) == [task.space.text(arch) for arch in archs]


def test_what_does_not_belong_together_is_not_merged(tmp_path: Path, archs: Sequence[Arch]) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    fill(one, tiny_task(), ByWidth(), archs[:3])
    fill(other, tiny_task(), ByWidth(sign=3.0), archs[3:])
    with pytest.raises(LimbeckError, match=r"proxy.settings.sign is 3.0, not 1.0"):
        merge([one, other])
    with pytest.raises(LimbeckError, match="another of the tables does, too"):
        merge([one, one])
    with pytest.raises(LimbeckError, match="at least one"):
        merge([])
    with pytest.raises(LimbeckError, match="counted from 0 to 1"):
        fill(one, tiny_task(), ByWidth(), archs, part=(2, 2))
    with pytest.raises(LimbeckError, match="no score of 5 of 8"):
        ScoreTable.load(one).of(map(Tiny().text, archs))


@pytest.mark.parametrize("text", ["[]", "{}", '{"meta": {}, "scores": {}}', '{"meta": 1, "scores": {"a": 1}}', "{"])
def test_a_damaged_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(LimbeckError, match="a.json"):
        ScoreTable.load(path)


numbers = st.floats(allow_nan=True, allow_infinity=False, width=32)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(numbers, st.integers(0, 10**6)), max_size=5))
def test_a_table_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    path = tmp_path_factory.mktemp("table") / "a.json"
    meta = describe(tiny_task(), ByWidth())
    scores = {text: Scored(value=value, seconds=ms / 1000) for text, (value, ms) in drawn.items()}
    ScoreTable(meta=meta, scores=scores).save(path)
    found = ScoreTable.load(path)
    assert found.meta == meta and list(found.scores) == list(scores)
    assert repr(found.scores) == repr(scores), "NaN is not equal to itself"


def test_a_learned_set_is_known_by_its_digest_wherever_it_lies(tmp_path: Path) -> None:
    for place, content in (("x/run", "one"), ("y/run", "one"), ("z/run", "two")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "distilled.json").write_text(content)
    metas = [describe(tiny_task(), SyntheticData(run=tmp_path / place)) for place in ("x/run", "y/run", "z/run")]
    assert metas[0] == metas[1] != metas[2]
    assert json.loads(json.dumps(metas[0])) == metas[0]


# Samples


def test_images_of_one_channel_are_laid_out_for_group_normalisation() -> None:
    """The values stay; what fails with channels last, as data sets of one channel may be loaded, works."""
    data = tiny_data()
    last = {
        name: getattr(data, name).permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
        for name in ("train_x", "val_x")
    }
    found = dataclasses.replace(data, **last)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4 * 36, 3))
    accuracies = []
    for each in (data, found):
        kernels, networks = train_real(module, each, Schedule(steps=1, inits=2), seed=0, stream="layout")
        accuracies.append(validation_accuracy(kernels, networks, each))
    assert accuracies[0] == accuracies[1] and found.train_x.stride() != data.train_x.stride()


def test_a_sample_is_distinct_and_can_be_built() -> None:
    space = Tiny()
    found = draw_sample(space, 10, 0)
    assert len(set(found)) == 10, "all that can be built"
    assert found[:4] == draw_sample(space, 4, 0)
    assert found[:4] != draw_sample(space, 4, 1) and found[:4] != draw_sample(space, 4, 0, "search")
    with pytest.raises(LimbeckError, match=r"10 different ones .* fewer than 11"):
        draw_sample(space, 11, 0)
    with pytest.raises(LimbeckError, match="at least one"):
        draw_sample(space, 0, 0)


# Ranking


def test_rows_say_how_well_each_proxy_ranks_and_what_it_costs(tmp_path: Path, archs: Sequence[Arch]) -> None:
    task = tiny_task()
    text = task.space.text(archs[0])
    chosen = rows_of(ByWidth(label="same"), ByWidth(sign=-1.0, label="reversed"), ByWidth(lost=text, label="lost"))
    scores = score_all(task, archs, chosen, tmp_path)
    truth = oracle_table(task, archs, tmp_path, proxy=ByWidth(label="oracle"), known=None)
    assert scores is not None and truth is not None
    seconds = {
        name: dataclasses.replace(table, meta=table.meta | {"prepare_seconds": 2.0})
        for name, table in scores.tables.items()
    }
    scores = dataclasses.replace(scores, tables=seconds, learned_seconds={"reversed": 5.0})
    rows = {row["row"]: row for row in ranking_rows(truth, scores, draws=50, k=3)}
    assert [rows[name]["mean"] for name in ("same", "reversed")] == pytest.approx([1, -1])
    assert [rows[name]["kendall"] for name in ("same", "reversed")] == pytest.approx([1, -1])
    assert rows["same"]["regret"] == 0.0 and rows["reversed"]["regret"] == 6.0
    assert [rows[name]["failed"] for name in ("same", "lost")] == [0, 1]
    assert [rows[name]["prepare_seconds"] for name in ("same", "reversed")] == [2.0, 7.0]
    assert rows["reversed"]["share"] == pytest.approx((7.0 + rows["reversed"]["seconds"]) / truth.seconds)
    assert all(row["low"] <= row["mean"] + 1e-9 and row["mean"] <= row["high"] + 1e-9 for row in rows.values())
    assert json.loads(json.dumps(list(rows.values()), allow_nan=False)) == list(rows.values())


def test_a_known_oracle_is_taken_where_it_answers_the_question(tmp_path: Path, archs: Sequence[Arch]) -> None:
    task, known, proxy = tiny_task(), tmp_path / "known.json", ByWidth(label="oracle")
    fill(known, task, proxy, archs)
    values = json.loads(known.read_text())
    values["meta"]["machine"]["threads"] = 64
    known.write_text(json.dumps(values))
    told: list[str] = []
    taken = oracle_table(task, archs[2:5], tmp_path / "out", proxy=proxy, known=known, tell=told.append)
    assert taken is not None and len(taken.scores) == 3
    assert told == [f"oracle: the scores in {known} are taken"]
    assert not (tmp_path / "out").exists()
    made = oracle_table(tiny_task(seed=1), archs[2:5], tmp_path / "out", proxy=proxy, known=known)
    assert made is not None and made.meta["seed"] == 1
    assert table_path(tmp_path / "out", "oracle").is_file()
    extra = draw_sample(Tiny(), 9, 0)
    assert oracle_table(task, extra, tmp_path / "more", proxy=proxy, known=known) is not None
    assert table_path(tmp_path / "more", "oracle").is_file(), "it lacks one"


def test_a_proxy_may_depend_on_the_tables_before_it(tmp_path: Path, archs: Sequence[Arch]) -> None:
    def second(tables: Mapping[str, ScoreTable]) -> Proxy:
        return ByWidth(sign=float(len(tables["width"].scores)), label="second")

    scores = score_all(tiny_task(), archs, rows_of(ByWidth(), ("second", second)), tmp_path)
    assert scores is not None
    assert scores.tables["second"].meta["proxy"]["settings"]["sign"] == len(archs)


def test_proxies_are_chosen_by_name(tmp_path: Path) -> None:
    rows = rows_of(ByWidth(), ByWidth(label="naswot"))
    assert choose(rows, ()) is rows
    full = Schedule(steps=70, batch=5)
    chosen = choose(rows, ("real,steps=16", "width", "naswot", "full", str(tmp_path)), full)
    proxies = [make({}) for make in chosen.values()]
    assert list(chosen) == [proxy.name for proxy in proxies]
    assert proxies[0] == RealData(schedule=dataclasses.replace(full, steps=16), label="real,steps=16")
    assert proxies[1:3] == [ByWidth(), ByWidth(label="naswot")], "a row of the study goes before a proxy of its name"
    assert proxies[3:] == [RealData(schedule=full, label="full"), SyntheticData(run=tmp_path, label=str(tmp_path))]
    for names, said in ((("widht",), "Unknown proxy 'widht'"), (("width", "width"), "'width' is registered twice")):
        with pytest.raises(LimbeckError, match=said):
            choose(rows, names)
    with pytest.raises(LimbeckError, match="name 'synthetic' before it"):
        ranking_proxies(tmp_path, 7)["real, same seconds"]({})


def test_the_proxies_of_the_study(tmp_path: Path) -> None:
    meta: dict[str, Any] = {"proxy": {"name": "synthetic"}, "prepare_seconds": 0.0}
    table = ScoreTable(meta=meta, scores={"a": Scored(value=1.0, seconds=2.0), "b": Scored(value=1.0, seconds=4.0)})
    chosen = [make({"synthetic": table}) for make in ranking_proxies(tmp_path, 7).values()]
    names = [proxy.name for proxy in chosen]
    assert names == list(ranking_proxies(tmp_path, 7))
    assert len(set(names)) == len(names) == 12
    real = {proxy.name: proxy.schedule for proxy in chosen if isinstance(proxy, RealData)}
    assert real["real, same steps"].steps == 7
    assert (real["real, same seconds"].steps, real["real, same seconds"].seconds) == (None, 3.0)
    searching = [make({"synthetic": table}) for make in search_proxies(tmp_path).values()]
    (long,) = [proxy for proxy in searching if isinstance(proxy, RealData)]
    assert (long.schedule.steps, long.schedule.seconds) == (finals.REAL_STEPS, None)
    for name in ("synthetic", *(row.split(",")[0] for row in finals.PAPER)):
        assert name in [proxy.name for proxy in searching]


def test_the_learned_set_is_for_networks_of_the_space() -> None:
    config = synthetic_config(3)
    assert config.seed == 3 and synthetic_config(3) == config
    space = space_named(ranking.SPACE, shape=(1, 28, 28), num_classes=10)
    for learner in config.learners:
        space.build(space.read(learner))
    chosen = set(map(space.text, draw_sample(space, ranking.SAMPLE, 3)))
    assert len(set(config.learners) - chosen) == ranking.FAMILY == len(config.learners)
    assert oracle().schedule.steps is not None


def test_tables_of_other_sizes_of_a_space_are_told_apart() -> None:
    task = tiny_task()
    metas = []
    for name in ("cells,width=2", "cells,width=4", "convnets-narrow"):
        space = space_named(name, shape=(1, 16, 16), num_classes=3)
        metas.append(describe(dataclasses.replace(task, space=space), ByWidth()))
    assert metas[0]["space"]["options"] == {"width": 2, "cells": 1, "norm": "batch"}
    assert "options" not in metas[2]["space"], "tables of that space that were kept before stay valid"
    assert not ScoreTable(meta=metas[0], scores={}).same_question(metas[1])
    assert ScoreTable(meta=metas[0], scores={}).same_question(dict(metas[0]))


def test_the_oracle_that_was_measured_is_still_taken(tmp_path: Path) -> None:
    known = BENCHMARKS / "results" / "tables" / "nas-oracle.json"
    meta, told = ScoreTable.load(known).meta, list[str]()
    described = {name: meta["data"][name] for name in ("name", "sha256", "split_seed")}
    val_y = torch.zeros(meta["data"]["validation"], dtype=torch.int64)
    space = space_named(ranking.SPACE, shape=(1, 28, 28), num_classes=10)
    data = dataclasses.replace(tiny_task().data, val_y=val_y, **described)
    task, archs = Task(space=space, data=data), draw_sample(space, ranking.SAMPLE, 0)
    table = oracle_table(task, archs, tmp_path, known=known, tell=told.append)
    assert table is not None and len(table.scores) == ranking.SAMPLE
    assert told == [f"oracle: the scores in {known} are taken"]


def test_what_a_set_was_learned_for_is_not_ranked() -> None:
    task = tiny_task()
    texts = list(map(task.space.text, draw_sample(task.space, 7, 0)))
    config = dataclasses.replace(tiny_set(), learner=texts[1], family=(texts[4],))
    ranked_ones = list(map(task.space.text, draw_sample_for(task, config, 5)))
    assert ranked_ones == [texts[i] for i in (0, 2, 3, 5, 6)]
    with pytest.raises(LimbeckError, match="fewer than"):
        draw_sample_for(task, config, 10)


# The studies from end to end


def tiny_set() -> Config:
    return tiny_config(learner="linear", iterations=2, lr_steps=0.1)


def few_proxies(run: Path, steps: int = 0) -> Rows:
    return rows_of(SyntheticData(run=run, inits=2), ByWidth())


def test_ranking_from_end_to_end_and_once_only(tmp_path: Path) -> None:
    task, told = tiny_task(), list[str]()
    settings: dict[str, Any] = {"n": 6, "proxies": few_proxies, "known": None, "tell": told.append}
    settings["truth"] = RealData(schedule=Schedule(steps=3, inits=2), label="oracle")
    found = run_ranking(task, tiny_set(), tmp_path, **settings)
    assert found is not None
    assert [row["row"] for row in found.rows] == ["synthetic", "width"]
    assert all(row["n"] == 6 for row in found.rows)
    learned = json.loads((tmp_path / "synthetic" / "distilled.json").read_text())["seconds"]
    assert found.rows[0]["prepare_seconds"] == pytest.approx(learned + found.scores.tables["synthetic"].prepare_seconds)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    told.clear()
    again = run_ranking(task, tiny_set(), tmp_path, **settings)
    assert again is not None and again.rows == found.rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before and not told
    pytest.importorskip("matplotlib")
    drawn = ranking.draw_ranking(task, found, tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").glob("*.svg")) == sorted(f"{p.name}.svg" for p in drawn)


@pytest.mark.parametrize("count", [1, 13])
def test_a_study_can_be_stopped_anywhere(tmp_path: Path, count: int) -> None:
    stop, tell = after(count)
    settings: dict[str, Any] = {"n": 6, "proxies": few_proxies, "known": None, "truth": ByWidth(label="oracle")}
    assert run_ranking(tiny_task(), tiny_set(), tmp_path, **settings, tell=tell, stop=stop) is None
    done = sum(len(ScoreTable.load(path).scores) for path in (tmp_path / "tables").glob("*.json"))
    assert done == count
    found = run_ranking(tiny_task(), tiny_set(), tmp_path, **settings)
    assert found is not None and len(found.oracle.scores) == 6


def wide(task: Task, arch: Arch, factor: int) -> nn.Module:
    return task.space.build((str(min(8, factor * int(arch[0]))), *arch[1:]))


SETTINGS = (
    Setting(name="", schedule=Schedule(steps=4, inits=3)),
    Setting(name="wider", schedule=Schedule(steps=4, inits=2, cutout=2), wider=2),
)


def test_search_from_end_to_end_and_once_only(tmp_path: Path) -> None:
    task, told = tiny_task(), list[str]()
    proxies = lambda run: rows_of(ByWidth(), ByWidth(sign=-1.0, label="narrow"))  # noqa: E731
    settings: dict[str, Any] = {"n": 6, "proxies": proxies, "settings": SETTINGS, "widen": wide, "tell": told.append}
    found = run_finals(task, tiny_set(), tmp_path, **settings)
    assert found is not None
    names = ["width", "narrow", RANDOM]
    assert [row["row"] for row in found.rows] == [*names, *(f"{name}, wider" for name in names)]
    rows = {row["row"]: row for row in found.rows}
    assert rows["width"]["arch"].startswith("8-") and rows["narrow"]["arch"].startswith("2-")
    assert [rows["width"]["n"], rows["width, wider"]["n"]] == [3, 2]
    assert rows["narrow, wider"]["parameters"] > rows["narrow"]["parameters"]
    assert rows[RANDOM]["seconds"] == 0.0 < rows["width"]["seconds"]
    assert all(0 <= row["mean"] <= 100 and row["std"] >= 0 for row in found.rows)
    told.clear()
    again = run_finals(task, tiny_set(), tmp_path, **settings)
    assert again is not None and again.rows == found.rows
    assert not [line for line in told if "ETA" in line]
    with pytest.raises(LimbeckError, match="another network or training"):
        run_finals(task, tiny_set(), tmp_path, **settings | {"settings": [dataclasses.replace(SETTINGS[0], wider=2)]})
    pytest.importorskip("matplotlib")
    assert all(path.with_suffix(".png").is_file() for path in finals.draw_finals(task, found, tmp_path / "figures"))


def test_the_error_is_that_of_the_test_set(tmp_path: Path) -> None:
    """Swapping validation for noise changes nothing; swapping the test set's labels does."""
    task, arch = tiny_task(), Tiny().read("8-yes-relu")
    setting = Setting(name="", schedule=Schedule(steps=60, inits=2))
    base = train_final(task, arch, setting, tmp_path / "a.json")
    noise = dataclasses.replace(task.data, val_x=torch.zeros_like(task.data.val_x))
    assert (
        train_final(dataclasses.replace(task, data=noise), arch, setting, tmp_path / "b.json")["mean"] == base["mean"]
    )
    turned = dataclasses.replace(task.data, test_y=(task.data.test_y + 1) % 3)
    other = train_final(dataclasses.replace(task, data=turned), arch, setting, tmp_path / "c.json")
    assert base["mean"] < 40 < other["mean"]


def some_table(**values: float) -> ScoreTable:
    scores = {text: Scored(value=value, seconds=1.0) for text, value in values.items()}
    return ScoreTable(meta={"proxy": {"name": "some"}, "prepare_seconds": 0.5}, scores=scores)


def test_the_best_have_the_best_scores() -> None:
    assert best(some_table(a=1.0, b=3.0, c=3.0), 1) == ["b"]
    assert best(some_table(a=1.0, b=3.0, c=3.0), 2) == ["b", "c"]
    assert best(some_table(a=math.nan, b=-3.0), 5) == ["b", "a"]
    with pytest.raises(LimbeckError, match="table of some is empty"):
        best(some_table(), 1)


def test_real_data_chooses_among_the_best_of_the_learned_set() -> None:
    tables = {"synthetic": some_table(a=4.0, b=3.0, c=2.0, d=1.0), "real": some_table(a=1.0, b=2.0, c=1.5, d=9.0)}
    found = choose_winners(Scores(tables=tables, learned_seconds={"synthetic": 7.0}))
    assert {name: search.winner for name, search in found.items()} == {"synthetic": "a", "real": "d", SHORTLISTED: "b"}
    assert found["synthetic"].cost == Cost(prepare=7.5, score=4.0)
    assert found[SHORTLISTED].cost == Cost(prepare=8.0, score=4.0 + finals.SHORTLIST)
    assert SHORTLISTED not in choose_winners(Scores(tables={"real": tables["real"]}, learned_seconds={}))


def test_learners_are_made_wider() -> None:
    space = space_named("convnets-narrow", shape=(1, 28, 28), num_classes=10)
    task = Task(space=space, data=tiny_data())
    arch = space.read("convnet3,width=8,depth=2,norm=group,pooling=max,activation=relu")
    sizes = {factor: sum(p.numel() for p in build_wider(task, arch, factor).parameters()) for factor in (1, 2)}
    assert sizes[1] == space.parameters(arch)
    twice = space.read("convnet3,width=16,depth=2,norm=group,pooling=max,activation=relu")
    assert sizes[2] == space.parameters(twice)
    with pytest.raises(LimbeckError, match="cannot be made wider"):
        build_wider(tiny_task(), Tiny().read("8-yes-relu"), 2)
    assert [setting.wider for setting in final_settings()] == [1, 1, 2]


# Figures


def test_the_frontier_is_what_nothing_cheaper_beats() -> None:
    assert frontier({"a": (3, 9.0), "b": (1, 2.0), "c": (2, 2.0), "d": (2, 5.0), "e": (4, 9.0)}) == ["b", "d", "a"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_every_point_is_on_or_below_the_frontier(points: list[tuple[int, int]]) -> None:
    named = {str(index): point for index, point in enumerate(points)}
    kept = [named[name] for name in frontier(named)]
    assert all(any(x <= cost and y >= value for x, y in kept) for cost, value in points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(kept))


DIAMOND = Graph(
    nodes=tuple(
        Node(op=name, module=name if name == "conv" else None) for name in ("in", "conv", "skip", "sum", "out")
    ),
    edges=((0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (0, 4)),
)


def test_a_graph_is_laid_out_in_layers() -> None:
    assert depths(DIAMOND) == [0, 1, 1, 2, 3]
    places = layout(DIAMOND)
    assert len(set(places)) == 5
    assert all(places[low][1] > places[high][1] for low, high in DIAMOND.edges), "data flows downwards"
    with pytest.raises(LimbeckError, match="from lower nodes to higher"):
        depths(Graph(nodes=DIAMOND.nodes, edges=((2, 1),)))


def drawn_all(folder: Path) -> list[Path]:
    truth = {"a": 1.0, "b": 2.0, "c": math.nan, "d": 4.0}
    scores = {"a": 3.0, "b": math.nan, "c": 1.0, "d": 5.0}
    estimate = Estimate(value=0.5, std=0.1, low=0.3, high=0.6)
    costs = {"one": Cost(prepare=0.0, score=3.0), "two": Cost(prepare=100.0, score=0.5)}
    return [
        scatter_chart(folder / "scatter", truth, {f"proxy {k}": scores for k in range(5)}, title="t", y="y"),
        cost_chart(folder / "cost", {name: (cost, estimate) for name, cost in costs.items()}, title="t", y="y"),
        frontier_chart(folder / "frontier", {"a": 10, "b": 20, "c": 5, "d": 5000}, truth, title="t", y="y"),
        cost_bars(folder / "bars", costs, title="t"),
        graph_chart(
            folder / "graphs", {"diamond": DIAMOND, "one": Graph(nodes=DIAMOND.nodes[:1], edges=())}, title="t"
        ),
    ]


def test_figures_are_written_and_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for path in drawn_all(tmp_path / "one"):
        assert path.with_suffix(".png").stat().st_size > 1000
    again = graph_chart(tmp_path / "again", {"diamond": DIAMOND}, title="t").with_suffix(".svg")
    assert (
        again.read_bytes()
        == graph_chart(tmp_path / "two", {"diamond": DIAMOND}, title="t").with_suffix(".svg").read_bytes()
    )
    assert "proxy 4" in (tmp_path / "one" / "scatter.svg").read_text()
    assert "skip" in (tmp_path / "one" / "graphs.svg").read_text()
    with pytest.raises(LimbeckError, match="no proxy to draw"):
        cost_bars(tmp_path / "none", {}, title="t")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LimbeckError, match=r"limbeck\[figures\]"):
        drawn_all(tmp_path)
    assert not list(tmp_path.iterdir())


# The command and the record


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark, which imports its neighbours by their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.mark.parametrize("name", ["nas-ranking", "nas-cells", "nas-search"])
def test_studies_are_recorded_and_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(script("record", monkeypatch), "RESULTS", tmp_path / "results")
    benchmark, out = script("nas", monkeypatch), tmp_path / "study"
    scores = score_all(tiny_task(), draw_sample(Tiny(), 4, 0), rows_of(ByWidth(label="synthetic")), out)
    assert scores is not None
    table = scores.tables["synthetic"]
    made = {"mean": 5.25, "std": 0.5, "n": 3, "parameters": 1234567, "seconds": 9.0}
    won = best(table, 1)[0]
    rows = ranking_rows(table, scores, draws=20)
    if name == "nas-search":
        rows = finals.final_rows({"synthetic": won}, {("", won): made}, [""], choose_winners(scores))
    (out / "rows.json").write_text(json.dumps({"rows": rows}))
    (out / "study.json").write_text(json.dumps({"study": name, "seed": 2, "n": 4, "max_time": None}))
    values = json.loads(benchmark.record(name, out).read_text())
    assert values["command"] == f"limbeck reproduce {name} --n 4 --seed 2"
    assert all(set(row) == set(values["columns"]) for row in values["rows"])
    assert any("GPU: not measured" in note for note in values["notes"])
    text = script("render", monkeypatch).render(tmp_path / "results")
    assert (
        "| synthetic | 0.56 on the better half (CIFAR-10 cells) | 1.00 ± "
        if name != "nas-search"
        else "| 5.25 ± 0.50 | 3 | 1,234,567 |"
    ) in text


def test_the_oracle_is_filled_in_parts_and_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, path = script("nas", monkeypatch), tmp_path / "oracle.json"
    monkeypatch.setattr(benchmark, "study_task", tiny_task)
    monkeypatch.setattr(benchmark, "oracle", lambda: ByWidth(label="oracle"))
    for part in ("0", "1"):
        assert benchmark.main(["oracle", "--part", part, "2", "--out", str(path), "--n", "7"]) == 0
    assert benchmark.main(["merge", "--out", str(path)]) == 0
    assert ScoreTable.load(path).scores.keys() == {Tiny().text(arch) for arch in draw_sample(Tiny(), 7, 0)}


@pytest.fixture
def tiny_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = ByWidth(label="oracle")

    def ranked(*args: Any, **settings: Any) -> Any:
        return run_ranking(*args, **settings | {"proxies": few_proxies, "known": None, "truth": truth})

    def choose_winners(*args: Any, **settings: Any) -> Any:
        return run_finals(*args, **settings, proxies=few_proxies, settings=SETTINGS, widen=wide)

    for name in ("study_task", "cells_task"):
        monkeypatch.setattr(nas_studies, name, lambda seed, device, data_dir: tiny_task(seed))
    for name in ("synthetic_config", "cells_config"):
        monkeypatch.setattr(nas_studies, name, lambda seed: dataclasses.replace(tiny_set(), seed=seed))
    monkeypatch.setattr(nas_studies, "run_ranking", ranked)
    monkeypatch.setattr(nas_studies, "run_finals", choose_winners)


@pytest.mark.parametrize(("name", "rows"), [("nas-ranking", 2), ("nas-cells", 2), ("nas-search", 6)])
@pytest.mark.usefixtures("tiny_studies")
def test_reproduce(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    monkeypatch.setattr(nas_studies, "figures_missing", lambda: "Figures need matplotlib.")
    command = ["reproduce", name, "--out", str(tmp_path / "out"), "--n", "6"]
    assert limbeck([*command, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["study"] == name and len(values["rows"]) == rows
    assert all({"row", "paper", "mean", "std", "n", "seconds"} <= row.keys() for row in values["rows"])
    assert json.loads((tmp_path / "out" / "rows.json").read_text()) == values
    assert limbeck(command) == 2
    assert "already holds a study" in capsys.readouterr().err
    assert limbeck([*command, "--resume", "--iterations", "5"]) == 2
    assert "begun otherwise" in capsys.readouterr().err
    assert limbeck([*command, "--resume"]) == 0
    said = capsys.readouterr()
    assert "synthetic" in said.out and "no figures are drawn. Figures need matplotlib." in said.err


@pytest.mark.parametrize("name", ["nas-ranking", "nas-search"])
@pytest.mark.usefixtures("tiny_studies")
def test_reproduce_with_proxies_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    out = tmp_path / "out"
    command = ["reproduce", name, "--out", str(out), "--n", "4", "--json", "--proxies", "real,steps=1", "naswot"]
    assert limbeck(command) == 0
    rows = [row["row"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert rows[:2] == ["real,steps=1", "naswot"]
    assert not (out / "synthetic").exists(), "no set is learned that no row needs"
    kept = (out / "tables" / "naswot.json").stat().st_mtime_ns
    assert limbeck([*command[:-2], "naswot", "parameters", "--resume"]) == 0
    rows = [row["row"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert rows[:2] == ["naswot", "parameters"]
    assert (out / "tables" / "naswot.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", ["nas-ranking", "nas-cells", "nas-search", "mnist-fixed", "gtn-mnist", "bound"])
def test_wrong_proxies_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert limbeck(["reproduce", name, "--out", str(tmp_path / "out"), "--proxies", "naswott"]) == 2
    said = "did you mean 'naswot'" if name in nas_studies.TITLES else "--proxies belongs to nas-ranking"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "soft"], "do not belong"),
        (["--networks", "9"], "do not belong"),
        (["--n", "0"], "--n is 0"),
        (["--n", "11"], "fewer than 11"),
    ],
)
@pytest.mark.usefixtures("tiny_studies")
def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert limbeck(["reproduce", "nas-ranking", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies over three networks in the place of their own numbers: each is built to see whether it can be."""
    for study in (ranking, cell_ranking):
        monkeypatch.setattr(study, "SAMPLE", 3)
        monkeypatch.setattr(study, "FAMILY", 2)


@pytest.mark.usefixtures("few_networks")
def test_the_studies_are_among_the_names() -> None:
    assert set(nas_studies.TITLES) <= set(reproducing.recipe_names())
    assert reproducing.config_named("nas-ranking") == synthetic_config(0)
    assert reproducing.config_named("nas-cells") == cells_config(0)


@pytest.mark.usefixtures("few_networks")
def test_the_study_of_cells() -> None:
    config = cells_config(2)
    space = space_named(cell_ranking.SPACE, shape=(3, 16, 16), num_classes=10)
    chosen = set(map(space.text, draw_sample(space, cell_ranking.SAMPLE, 2)))
    assert len(set(config.learners) - chosen) == cell_ranking.FAMILY == len(config.learners)
    assert config.seed == 2 and cells_config(2) == config
    meta: dict[str, Any] = {"proxy": {"name": "synthetic"}, "prepare_seconds": 0.0}
    table = ScoreTable(meta=meta, scores={"a": Scored(value=1.0, seconds=2.0)})
    proxies = {
        proxy.name: proxy for proxy in (make({"synthetic": table}) for make in cells_proxies(Path("run"), 7).values())
    }
    assert list(proxies) == ["synthetic", "real, same steps", "real, same seconds", "naswot", "parameters"]
    schedules = [proxy.schedule for proxy in proxies.values() if isinstance(proxy, RealData)]
    assert [(schedule.steps, schedule.seconds) for schedule in schedules] == [(7, None), (None, 2.0)]
    assert cells_oracle().schedule.steps == 300
