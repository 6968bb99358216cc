"""The parser of options: values as a person names them, and each mistake as one sentence."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from limbeck.cli import options as every
from limbeck.cli.main import run
from limbeck.cli.parser import flags_of, parse_words
from limbeck.errors import LimbeckError


@dataclass(frozen=True, kw_only=True)
class Oven:
    """A part of the options."""

    heat: float = 180.0
    mode: Literal["grill", "fan"] = "fan"
    secret: Annotated[int, tyro.conf.Suppress] = 3


@dataclass(frozen=True, kw_only=True)
class Cake:
    """Bake a cake.

    Args:
        name: what it is called.
        layers: how many.
        source: where from.
        sizes: of each layer.
        tags: words on it.
        out: where to.
        shape: what it looks like.
        glaze: whether it shines.
        oven: how it is baked.
    """

    name: Annotated[str, tyro.conf.Positional]
    layers: int | None = None
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    sizes: tuple[int, ...] = ()
    tags: tuple[str, ...] | None = None
    out: Path | None = None
    shape: Literal["round", "square"] | None = None
    glaze: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    oven: tyro.conf.OmitArgPrefixes[Oven] = field(default_factory=Oven)


def bake(*words: str, default: Cake | None = None) -> Cake:
    return parse_words(Cake, "limbeck bake", list(words), default)


def test_words_become_values() -> None:
    plain = bake("sacher")
    assert plain == Cake(name="sacher")
    cake = bake(
        *["sacher", "--layers", "3", "--from", "vienna", "--sizes", "30", "20", "--tags", "a", "b", "--out", "x/y"],
        *["--shape", "square", "--glaze", "--heat", "2e2", "--mode", "grill"],
    )
    assert cake == Cake(
        name="sacher",
        layers=3,
        source="vienna",
        sizes=(30, 20),
        tags=("a", "b"),
        out=Path("x/y"),
        shape="square",
        glaze=True,
        oven=Oven(heat=200.0, mode="grill"),
    )
    words = ("--layers", "None", "--from", "None", "--tags", "None", "--out", "None", "--shape", "None")
    assert bake("linzer", *words, default=dataclasses.replace(cake, name="sacher")) == dataclasses.replace(
        cake, name="linzer", layers=None, source=None, tags=None, out=None, shape=None
    )
    assert isinstance(bake("sacher", "--heat", "3").oven.heat, float)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "'limbeck bake' needs NAME; see 'limbeck bake --help'."),
        (["a", "--layer", "3"], "Unknown option --layer; did you mean --layers? See 'limbeck bake --help'."),
        (["a", "--form=3"], "Unknown option --form; did you mean --from? See 'limbeck bake --help'."),
        (["--mood", "fan"], "Unknown option --mood; did you mean --mode? See 'limbeck bake --help'."),
        (["a", "--no-such-thing"], "Unknown option --no-such-thing; see 'limbeck bake --help'."),
        (["a", "b"], "'b' is one word too many; see 'limbeck bake --help'."),
        (["a", "--layers"], "--layers needs a value; see 'limbeck bake --help'."),
        (["a", "--layers", "2.5"], "--layers is '2.5'; it must be a whole number."),
        (["a", "--heat", "hot"], "--heat is 'hot'; it must be a number."),
        (["a", "--sizes", "3", "x"], "--sizes is 'x'; it must be a whole number."),
        (["a", "--mode", "gril"], "Unknown value of --mode 'gril'; did you mean 'grill'? Known: fan, grill."),
        (["a", "--shape", "x"], "Unknown value of --shape 'x'. Known: round, square."),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LimbeckError) as error:
        bake(*words)
    assert error.value.with_flags == sentence
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_help_speaks_a_persons_language(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as end:
        bake("--help")
    assert not end.value.code
    text = capsys.readouterr().out
    assert "usage: limbeck bake [-h] [OPTIONS] NAME" in text
    for option in ("--layers INTEGER", "--from TEXT", "--sizes INTEGER ...", "--tags TEXT ...", "--out PATH"):
        assert f"{option} " in text
    assert "--heat NUMBER" in text and "(default: 180.0)" in text
    assert "{grill,fan}" in text and "{round,square}" in text and "--secret" not in text
    assert "None" not in text


OPTIONS = [name for name in every.__all__ if name not in ("Common", "PooledOptions")]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_verb_has_such_a_help(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    kind: Any = getattr(every, name)
    verb = name.removesuffix("Options").lower()
    assert run([verb, "--help-all"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: limbeck {verb} ")
    assert not re.search(r"None|\bSTR\b|\bINT\b|\bFLOAT\b", text)
    flags = list(flags_of(kind))
    assert len(set(flags)) == len(flags) and {"--json", "--threads"} <= set(flags)
    assert all(re.search(rf"{flag}\b", text) for flag in flags)
    assert run([verb, "--thread", "2"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"limbeck: Unknown option --thread; did you mean --threads? See 'limbeck {verb} --help'.\n"
