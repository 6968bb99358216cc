"""What the documentation shows works: code, commands, links."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import itertools
import os
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

from limbeck.cli import main as cli
from limbeck.engine import ADJOINTS, SOURCES
from limbeck.methods import METHODS
from limbeck.outer.step import outer_step
from limbeck.studies import study_names
from limbeck.studies.recipes import recipes

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = (
    "distill", "evaluate", "show", "export", "data", "pool", "adapt", "attack", "bound", "search", "sensitivity",
    "reproduce", "compare",
)  # fmt: skip


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced code blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The ``limbeck ...`` lines of the code blocks and of code within lines, without comments."""
    lines = [line for language, text in blocks(page) if language != "python" for line in text.splitlines()]
    outside = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(limbeck [^`]+)`", outside.replace("\n", " "))
    lines = [line.removeprefix("$ ").split(" #")[0].strip() for line in lines]
    return [line for line in lines if line.startswith("limbeck ")]


# --- code ------------------------------------------------------------------------------------------------------------


def test_the_first_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = [text for language, text in blocks(README) if language == "python"]
    assert code, "README.md shows no Python"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # what this machine has measured stays as it is
    # the text shows as many as make the images worth a look; verdict and compiler have tests of their own
    short = code[0].replace("iterations=150", "iterations=20, inits=4, verdict=False, compile='off'")
    assert short != code[0]
    exec(compile(short, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    accuracy = re.search(r"\d+\.\d+", printed)
    assert accuracy is not None, f"the example prints no accuracy: {printed!r}"
    assert 15 < float(accuracy.group()) < 100
    # what the text below it promises about the run directory
    (run,) = (tmp_path / "runs").iterdir()
    assert {"distilled.safetensors", "distilled.json", "README.md", "preview.png"} <= {p.name for p in run.iterdir()}


def test_the_outer_step_is_quoted_as_it_is() -> None:
    (quoted,) = (text for language, text in blocks(ROOT / "docs" / "engine.md") if language == "python")
    assert quoted == inspect.getsource(outer_step)


def test_the_files_that_pages_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:limbeck|tests|benchmarks)/[\w./-]+)`", page.read_text()):
            assert (ROOT / path).exists() or (ROOT / "src" / path).exists(), f"{page.name}: {path}"
    rooms = re.findall(r"^\|.*\| `([a-z_]+/[\w./]*)`", (ROOT / "docs" / "engine.md").read_text(), flags=re.MULTILINE)
    assert len(rooms) > 10 and all((ROOT / "src" / "limbeck" / room).exists() for room in rooms), rooms


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            compile(text, page.name, "exec")
    assert page.read_text().count("```") % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_limbeck_exist(page: Path) -> None:
    """In code, ``from limbeck.nas import search`` and ``limbeck.evaluate(...)``; in text, `limbeck.evaluate`."""
    code = [text for language, text in blocks(page) if language == "python"]
    names = re.findall(r"\blimbeck(?:\.[A-Za-z_]\w*)+", "\n".join(code))
    names += re.findall(r"`(limbeck(?:\.[A-Za-z_]\w*)+)(?=[`(])", page.read_text())
    for tree in map(ast.parse, code):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "limbeck":
                names += [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        pkgutil.resolve_name(name)


# --- commands --------------------------------------------------------------------------------------------------------


CHOICES = {"--source": SOURCES, "--method": METHODS, "--adjoint": ADJOINTS}
"""Options of ``distill`` whose value decides which others there are."""


@functools.cache
def options_of(verb: str, *choices: str) -> frozenset[str]:
    """The options that ``limbeck VERB CHOICES --help`` names, such as those with ``--source generator``."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("COLUMNS", "200")
        assert cli.run([verb, *choices, "--help-all"]) == 0
        assert cli.run([verb, *choices, "--help"]) == 0  # which names --help-all where it is not all
    return frozenset(re.findall(r"--[a-z0-9][a-z0-9-]*", output.getvalue()))


def choices_in(words: list[str]) -> list[str]:
    """Those words of a ``distill`` command that decide which other options it has."""
    return [word for pair in itertools.pairwise(words) if pair[0] in (*CHOICES, "--recipe") for word in pair]


def test_help_names_all_options() -> None:
    for verb in VERBS:
        assert {"--help", "--json", "--device", "--threads", "--out"} <= options_of(verb), verb
    assert {"--recipe", "--resume", "--steps", "--lr-images", "--compile"} <= options_of("distill")
    assert {"--batch", "--curriculum"} <= options_of("distill", "--source", "generator")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)[1:]
        if words[0] in ("--help", "--version", "VERB"):
            continue
        assert words[0] in VERBS, command
        known = options_of(words[0], *(choices_in(words) if words[0] == "distill" else ()))
        for index, word in enumerate(words):
            if word.startswith("--"):
                assert word.split("=")[0] in known, command
            if word in ("--recipe", "reproduce") and index + 1 < len(words):
                assert words[index + 1] in (*recipes(), *study_names(), "bound", "NAME"), command


def test_the_readme_shows_every_verb() -> None:
    shown = {shlex.split(command)[1] for command in commands(README)}
    assert set(VERBS) <= shown


def test_options_named_in_the_text_exist() -> None:
    members = [(option, name) for option, registry in CHOICES.items() for name in registry]
    known = set().union(*map(options_of, VERBS), *(options_of("distill", *member) for member in members))
    for page in (README, *(ROOT / "docs" / name for name in ("guide.md", "engine.md", "extending.md"))):
        for code in re.findall(r"`(--[^`\n]+)`", page.read_text()):
            for word in re.findall(r"--[a-z0-9-]+", code):
                assert word in known, f"{page.name}: {word}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for language, text in blocks(page):
            for target in re.findall(r"^make (\w+)", text if language != "python" else "", flags=re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page.name}: make {target}"


# --- links -----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
        assert os.path.commonpath([ROOT, target.resolve()]) == str(ROOT), link
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"^[A-Z]+(?:_[A-Z]+)+$|\bTODO\b|\bTBD\b|\bFIXME\b", page.read_text(), flags=re.MULTILINE) == []
