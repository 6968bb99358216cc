"""The record of the measurements and the page that is made of it."""

from __future__ import annotations

import datetime
import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_runs import random_set, tiny_config

from limbeck.evaluation.baselines import baseline_names
from limbeck.studies import study, study_names
from limbeck.studies.recipes import recipes

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MACHINE = {"processor": "Some CPU", "cores": 2, "threads": 1, "memory_gib": 7.8, "device": "cpu"}
MACHINE |= {"python": "3.11.9", "torch": "2.13.0", "limbeck": "0.1.0", "compiler": "g++"}


def load(path: Path, name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def render() -> ModuleType:
    return load(BENCHMARKS / "render.py", "render")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/record.py, writing elsewhere; the other scripts import it by this name."""
    module = load(BENCHMARKS / "record.py", "record")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(sys.modules, "record", module)
    return module


def result(title: str = "A title", order: float = 1, **changes: Any) -> dict[str, Any]:
    values = {
        "title": title,
        "order": order,
        "command": "python benchmarks/a.py",
        "date": "2026-01-02",
        "environment": MACHINE,
        "columns": ["T", "ms", "what"],
        "rows": [{"T": 10, "ms": 1234.567, "what": "eager", "unseen": 1}, {"T": 30, "ms": None}],
        "notes": ["Seed 0.", "GPU: not measured."],
    }
    return values | changes


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (200, "200"),
        (12345, "12345"),
        ("≥ 93.76", "≥ 93.76"),
        (1234567.891, "1,234,567.89"),
        (10.0, "10.00"),
        (-12.345, "-12.35"),
        (9.8765, "9.88"),
        (0.0021544, "0.00215"),
        (0.1, "0.1"),
        (3.2e-7, "3.2e-07"),
        (0.0, "0"),
    ],
)
def test_cell(value: Any, shown: str, render: ModuleType) -> None:
    assert render.cell(value) == shown


def test_section(render: ModuleType) -> None:
    assert render.section(result()) == (
        "## A title\n"
        "\n"
        "`python benchmarks/a.py` (2026-01-02)\n"
        "\n"
        "| T | ms | what |\n"
        "|---|---|---|\n"
        "| 10 | 1,234.57 | eager |\n"
        "| 30 | – | – |\n"
        "\n"
        "On Some CPU, 2 cores, 1 thread(s), 7.8 GiB, device cpu; Python 3.11.9, torch 2.13.0, Limbeck 0.1.0, "
        "compiler g++.\n"
        "\n"
        "- Seed 0.\n"
        "- GPU: not measured.\n"
    )
    assert render.section(result(notes=[])).endswith("compiler g++.\n")


def write(folder: Path, **results: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    for name, values in results.items():
        (folder / f"{name}.json").write_text(json.dumps(values))


def test_sections_come_in_their_order(render: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, a=result("last", 30), b=result("first", 10), c=result("tie B", 10.5), d=result("tie A", 10.5))
    text = render.render(tmp_path)
    assert text.startswith("# Results\n")
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## first", "## tie A", "## tie B", "## last"]
    assert text.endswith("- GPU: not measured.\n")
    assert "\n\n\n" not in text


def test_check_tells_a_fresh_page_from_a_stale_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(BENCHMARKS / "render.py", tmp_path)
    copy = load(tmp_path / "render.py", "render_copy")
    write(tmp_path / "results", a=result())
    page = tmp_path / "RESULTS.md"
    assert copy.main(["--check"]) == 1
    assert not page.exists()
    assert "out of date" in capsys.readouterr().out
    assert copy.main([]) == 0
    assert page.read_text() == copy.render(tmp_path / "results")
    assert copy.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    for stale in (page.read_text() + " ", page.read_text().replace("1,234.57", "1,234.58"), ""):
        page.write_text(stale)
        assert copy.main(["--check"]) == 1
        assert page.read_text() == stale
    assert copy.main([]) == 0
    write(tmp_path / "results", b=result("another"))
    assert copy.main(["--check"]) == 1


def test_the_committed_page_is_up_to_date(render: ModuleType) -> None:
    results, page = BENCHMARKS / "results", BENCHMARKS / "RESULTS.md"
    assert render.HERE == BENCHMARKS
    if not page.exists() and not list(results.glob("*.json")):
        pytest.skip("nothing has been measured yet")
    assert page.is_file(), "run python benchmarks/render.py"
    assert page.read_text() == render.render(results), "run python benchmarks/render.py"


def test_every_committed_result_says_how_it_was_made(record: ModuleType) -> None:
    found = {path: json.loads(path.read_text()) for path in (BENCHMARKS / "results").glob("*.json")}
    for path, values in found.items():
        assert set(values) == set(result()), path
        assert set(values["environment"]) == set(record.environment()), path
        assert values["rows"], path
        assert all(set(row) == set(values["columns"]) for row in values["rows"]), path
        assert any("GPU: not measured" in note for note in values["notes"]), path


# --- the record ------------------------------------------------------------------------------------------------------


def test_environment_has_what_a_number_depends_on(record: ModuleType) -> None:
    machine = record.environment()
    assert set(machine) == set(MACHINE)
    assert machine["device"] == "cpu"
    assert machine["threads"] == torch.get_num_threads()
    assert machine["torch"] == torch.__version__
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0.5
    assert machine["processor"]
    assert json.loads(json.dumps(machine)) == machine


def test_what_is_written_can_be_rendered(record: ModuleType, render: ModuleType) -> None:
    words = {"title": "Größe", "order": 2.5, "command": "make x", "columns": ["a"], "rows": [{"a": 0.5}], "notes": []}
    path = record.write("one", **words)
    assert path == record.RESULTS / "one.json"
    assert "Größe" in path.read_text()
    values = json.loads(path.read_text())
    assert {name: values[name] for name in words} == words
    assert datetime.date.fromisoformat(values["date"]) <= datetime.date.today()
    assert "| 0.5 |" in render.render(record.RESULTS)


@pytest.mark.parametrize("name", ["mnist-random", "mnist-random-soft", "cifar10-random"])
def test_accuracy_records_the_rows_of_reproduce(name: str, record: ModuleType, render: ModuleType) -> None:
    accuracy = load(BENCHMARKS / "accuracy.py", "accuracy")
    rows: list[dict[str, Any]] = [
        {"row": name, "paper": "79.50 ± 8.08", "step_size": None, "std": 2.345, "seconds": 1234.5},
        {"row": "kmeans", "paper": None, "step_size": 0.0215443, "std": None, "seconds": 9.4},
    ]
    for row in rows:
        row |= {"before": 10.123, "mean": 85.678, "worst": 70.0, "n": 200}
    run = replace(random_set(tiny_config()), config=replace(tiny_config(), seed=7))
    run.info["execution"] = {"compiled": True, "bfloat16": False}
    run.info["rollbacks"] = 0
    run.info["seconds"] = 1234.5
    run.info["versions"]["threads"] = 1
    base = name.removesuffix("-soft")
    accuracy.record(name, base, rows, run)
    text = render.render(record.RESULTS)
    asked = accuracy.ASKED[base] if name == base else "–"
    paper = recipes()[base].paper
    assert f"| {name} | {paper} | {asked} | 10.12 | 85.68 ± 2.35 | 70.00 | 200 | learned | 1234 |" in text
    assert "| kmeans | – | – | 10.12 | 85.68 | 70.00 | 200 | 0.0215 | 9 |" in text
    assert ("--labels soft" in text) == ("learned soft labels" in text) == (name != base)
    assert f"Seed 7; 7 of {run.config.outer.iterations} iterations" in text
    assert "validation 81.25 %" in text


def test_every_recipe_is_measured(record: ModuleType) -> None:
    source = load(BENCHMARKS / "accuracy.py", "accuracy")
    assert set(source.ASKED) == set(source.ORDER) == set(recipes())
    assert baseline_names() == source.BASELINES


def test_a_study_is_recorded_as_it_is_printed(
    record: ModuleType, render: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = load(BENCHMARKS / "studies.py", "benchmarks_studies")
    chosen = study("gtn-weight-norm")
    scores = [
        {
            "group": variant.group,
            "seed": variant.seed,
            "diverged": index == 1,
            "rows": [],
            "mean": 10.0 * (index % 5),
            "std": 1.0,
            "n": 8,
            "curve": [],
            "seconds": 2.0,
            "versions": {"threads": 1},
        }
        for index, variant in enumerate(chosen.variants)
    ]
    studies.record(chosen, scores, "limbeck reproduce gtn-weight-norm")
    (written,) = (tmp_path / "results").glob("*.json")
    values = json.loads(written.read_text())
    assert [row["row"] for row in values["rows"]] == ["weight norm on", "weight norm off"]
    assert [row["diverged"] for row in values["rows"]] == [0, 1]
    assert [row["n"] for row in values["rows"]] == ["20 runs", "20 runs"]
    assert values["rows"][0]["accuracy"].startswith("20.00 ± ")
    assert values["environment"]["threads"] == 1
    assert "20 runs" in render.section(values)


def test_every_study_has_what_was_asked(record: ModuleType) -> None:
    studies = load(BENCHMARKS / "studies.py", "benchmarks_studies")
    assert set(studies.ASKED) == set(study_names())
