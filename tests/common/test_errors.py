"""Messages that name options: flags on the command line, keyword arguments in Python."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from tiny_runs import tiny_config, tiny_data

import limbeck
from limbeck.cli.main import run as cli
from limbeck.errors import DivergedError, LimbeckError, in_python


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("choose another --out.", "choose another out."),
        ("more --max-time or --ipc", "more max_time or images_per_class"),
        (
            "go on with --resume, or replace it with --overwrite",
            "go on with resume=True, or replace it with overwrite=True",
        ),
        ("leave it out with --no-verdict", "leave it out with verdict=False"),
        ("--lr 0.012, --seed 3.", "lr=0.012, seed=3."),
        ("--curriculum=none or --init=pool:FILE", "curriculum='none' or init='pool:FILE'"),
        ("give --init=pool:/a/b-1.x, or (--start=noise).", "give init='pool:/a/b-1.x', or (start='noise')."),
        ("see 'limbeck show --help' (--lr)", "see 'limbeck show --help' (lr)"),
        ("my--run.npz -- ETA --", "my--run.npz -- ETA --"),
    ],
)
def test_options_by_their_names_in_python(typed: str, said: str) -> None:
    assert in_python(typed) == said == in_python(said)
    assert str(LimbeckError(typed)) == said and LimbeckError(typed).with_flags == typed


def test_an_error_comes_through_a_pickle_as_it_was() -> None:
    error = pickle.loads(pickle.dumps(DivergedError("lower --lr")))
    assert type(error) is DivergedError and (str(error), error.with_flags) == ("lower lr", "lower --lr")


def test_errors_that_are_told_keep_their_flags() -> None:
    """What is told goes to the command line as it is; only ``str`` of an error in Python has keyword arguments."""
    told = re.compile(r"\b(?:tell|message)\(\s*f?[\"'][^)]*\{(?:str\()?error\)?[}!:]")
    for path in Path(limbeck.__file__).parent.rglob("*.py"):
        assert not told.search(path.read_text()), path


def test_each_hears_of_an_occupied_folder_in_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, folder = tiny_config(iterations=1), tmp_path / "run"
    limbeck.distill(config, tiny_data(), out=folder)
    with pytest.raises(LimbeckError, match="go on with resume=True, replace it with overwrite=True, .* another out"):
        limbeck.distill(config, tiny_data(), out=folder)
    assert cli(["distill", "mnist", "--out", str(folder)]) == 2
    assert "go on with --resume, replace it with --overwrite, or choose another --out" in capsys.readouterr().err
