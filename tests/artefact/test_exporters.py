"""What every exporter of ``EXPORTERS`` promises. A new one needs an example here, or fails by name."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import random_set, tiny_config

from limbeck.artefact import EXPORTERS, Distilled, Exporter, export
from limbeck.artefact.exporting import exporter_named, exporter_of
from limbeck.artefact.preview import stretch
from limbeck.cli.main import run as cli
from limbeck.errors import LimbeckError

pytestmark = pytest.mark.filterwarnings("ignore:pictures of learned images")


@pytest.fixture
def run() -> Distilled:
    return random_set(tiny_config(pixels={"ipc": 2}))


@final
@dataclass(frozen=True, kw_only=True)
class Example:
    """An exporter's path, one that is not its, and a check that what is there has the values of the run."""

    path: str
    others: tuple[str, ...]
    check: Callable[[Distilled, Path], None]


def check_npz(run: Distilled, path: Path) -> None:
    arrays = np.load(path)
    expected: dict[str, Any] = {"images": run.images, "labels": run.labels, "order": run.order}
    expected |= {f"hyperparameters.{name}": value for name, value in run.hyperparameters.items()}
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value.numpy())
    np.testing.assert_allclose(arrays["pixels"], run.images.numpy() * 0.25 + 0.5, rtol=1e-6)
    assert set(arrays.files) == {"pixels", *expected}


def check_png(run: Distilled, path: Path) -> None:
    names = [run.class_names[m // 2] for m in range(6)]
    pictures = {f"step-000{s + 1}/00{m}-{names[m]}.png": run.images[s, m] for s in range(2) for m in range(6)}
    beside = ["README.md", "images.npz", "labels.json"]
    assert sorted(file.relative_to(path).as_posix() for file in path.rglob("*.*")) == [*beside, *sorted(pictures)]
    check_npz(run, path / "images.npz")
    for name, x_CHW in pictures.items():
        np.testing.assert_array_equal(np.asarray(Image.open(path / name)), stretch(x_CHW).permute(1, 2, 0).numpy())
    labels = json.loads((path / "labels.json").read_text())
    assert labels == {"classes": ["cat", "dog", "owl"], "labels": run.labels.tolist()}


EXAMPLES: Mapping[str, Example] = MappingProxyType(
    {
        "npz": Example(path="deep/set.NPZ", others=("set", "npz", "set.npz.bak", "set.npy"), check=check_npz),
        "png": Example(path="deep/v1.2", others=("set.npz",), check=check_png),
    }
)

each_exporter = pytest.mark.parametrize("exporter", EXPORTERS, ids=[exporter.name for exporter in EXPORTERS])


def example_of(exporter: Exporter) -> Example:
    assert exporter.name in EXAMPLES, f"the exporter '{exporter.name}' has no example in {__name__}"
    return EXAMPLES[exporter.name]


def content(path: Path) -> dict[str, bytes]:
    """All bytes at a path by file."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_every_example_has_an_exporter() -> None:
    assert [exporter.name for exporter in EXPORTERS] == list(EXAMPLES)


@each_exporter
def test_values_and_number_are_those_of_the_run(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    example = example_of(exporter)
    assert export(run, tmp_path / example.path) == 12
    example.check(run, tmp_path / example.path)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [Path(example.path).name]  # and nothing beside


@each_exporter
def test_paths_that_it_claims(exporter: Exporter) -> None:
    example = example_of(exporter)
    assert exporter_of(Path(example.path)) is exporter and exporter_named(exporter.name) is exporter
    for path in example.others:
        assert exporter_of(Path(path)) is not exporter, path


@each_exporter
def test_it_may_be_named_whatever_the_path(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    path = tmp_path / "set.other"
    assert export(run, str(path), format=exporter.name) == 12
    example_of(exporter).check(run, path)


@each_exporter
def test_the_same_run_gives_the_same_bytes(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    for name in ("first", "second"):
        export(run, tmp_path / name, format=exporter.name)
    assert content(tmp_path / "first") == content(tmp_path / "second")


@each_exporter
def test_what_is_there_stays_unless_the_user_says_so(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    example = example_of(exporter)
    path = tmp_path / example.path
    export(random_set(tiny_config(pixels={"ipc": 2}), seed=1), path)
    before = content(path)
    with pytest.raises(LimbeckError, match="exists; choose another place, or replace it with overwrite=True"):
        export(run, path)
    assert content(path) == before
    assert export(run, path, overwrite=True) == 12
    example.check(run, path)


@each_exporter
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_ever_half_written(
    exporter: Exporter, there: bool, run: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    if there:
        export(random_set(tiny_config(pixels={"ipc": 2}), seed=1), path, format=exporter.name)
    before = content(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LimbeckError, match="Could not write .*No space left on device.* choose another place"):
        export(run, path, format=exporter.name, overwrite=True)
    assert content(tmp_path) == before and path.exists() == there


@each_exporter
def test_a_failing_exporter_leaves_nothing(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    class Broken(Exporter):
        name, suffix, writes = "broken", exporter.suffix, exporter.writes

        def write(self, run: Distilled, path: Path) -> None:
            exporter.write(run, path)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        export(run, tmp_path / "set", format="broken", exporters=(Broken(),))
    assert list(tmp_path.iterdir()) == []


@each_exporter
def test_a_file_is_no_folder(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    file.write_text("mine")
    before = content(tmp_path)
    wrong = file if exporter_named("png") is exporter else folder
    with pytest.raises(LimbeckError, match=f"is a {wrong.name}, but the format {exporter.name} writes "):
        export(run, wrong, format=exporter.name, overwrite=True)
    assert content(tmp_path) == before


def test_other_files_of_a_folder_are_left_alone(run: Distilled, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/mine.txt").write_text("mine")
    export(run, tmp_path / "pictures", overwrite=True)
    assert (tmp_path / "pictures/mine.txt").read_text() == "mine"
    assert (tmp_path / "pictures/step-0002/005-owl.png").is_file()


def test_pictures_of_a_larger_export_do_not_stay(run: Distilled, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    export(random_set(tiny_config(pixels={"steps": 3, "ipc": 4})), folder)
    others = {"notes.txt", "step-0003/mine.png", "step-0002/000-cat.png.bak", "more/000-cat.png", "step-1/000-cat.png"}
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    export(run, folder, overwrite=True)
    assert {name for name in others if (folder / name).read_text() == "mine"} == others
    for name in others:
        (folder / name).unlink()
    check_png(run, folder)
    for empty in ("step-0003", "more", "step-1"):
        (folder / empty).rmdir()
    export(random_set(tiny_config(pixels={"steps": 1})), folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {
        *("step-0001", "labels.json", "images.npz", "README.md")
    }  # a folder goes with its pictures


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        (".", "png", "is a run directory; choose a folder of its own"),
        ("checkpoint", "png", "checkpoint belongs to the run in"),
        ("distilled.safetensors", "npz", "distilled.safetensors belongs to the run in"),
        ("README.md", "npz", "README.md belongs to the run in"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_is_not_exported_onto_itself(
    name: str, format: str, says: str, overwrite: bool, run: Distilled, tmp_path: Path
) -> None:
    run.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LimbeckError, match=says):
        export(run, tmp_path / name, format=format, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert export(run, tmp_path / "images.npz") == 12


def test_pictures_say_what_they_lose(run: Distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.images.fill_(0.0)
    run.images[0, 0] = 10.0  # 0.25 · 10 + 0.5 = 3 in the units of a picture: a twelfth of all pixels
    loss = r"learned pixels go from 0.50 to 3.00 where .* 0 to 1, and 8 % of them lie outside"
    with pytest.warns(UserWarning, match=f"{loss}; the exact values are in images.npz") as told:
        export(run, tmp_path / "set")
    assert len(told) == 1 and told[0].filename == __file__
    readme = (tmp_path / "set/README.md").read_text()
    assert "`images.npz` has the exact values" in readme and "go from 0.50 to 3.00" in readme
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(run, tmp_path / "set.npz")  # without a word: nothing is lost
    run.save(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli(["export", str(tmp_path / "run"), "--format", "png"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("limbeck: note: pictures of learned images are")
    assert printed.err.count("8 % of them lie outside") == 1 and "UserWarning" not in printed.err
    assert printed.out.startswith("12 images in ")


def test_a_place_that_cannot_be_written(run: Distilled, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    for name in ("set.npz", "set"):
        with pytest.raises(LimbeckError, match="Could not write .*file/set"):
            export(run, tmp_path / "file" / name)


# --- the table -------------------------------------------------------------------------------------------------------


class Csv(Exporter):
    """The labels' classes."""

    name, suffix, writes = "csv", ".csv", "one .csv file of classes"

    def write(self, run: Distilled, path: Path) -> None:
        np.savetxt(path, run.labels.argmax(-1).numpy(), fmt="%d", delimiter=",")


def test_an_exporter_of_the_user(run: Distilled, tmp_path: Path) -> None:
    assert export(run, tmp_path / "set.csv", exporters=(Csv(), *EXPORTERS)) == 12
    assert (tmp_path / "set.csv").read_text() == "0,0,1,1,2,2\n0,0,1,1,2,2\n"
    with pytest.raises(LimbeckError, match="Unknown export format 'csv'"):
        export(run, tmp_path / "other", format="csv")  # the table is as before


def test_an_ending_that_nobody_claims(run: Distilled, tmp_path: Path) -> None:
    message = r"set\.txt stands for no format; name one with format: csv \(one \.csv file of classes\)\."
    with pytest.raises(LimbeckError, match=message):
        export(run, tmp_path / "set.txt", exporters=(Csv(),))


@each_exporter
def test_an_exporter_registered_twice_is_refused(exporter: Exporter, run: Distilled, tmp_path: Path) -> None:
    message = f"^The export format '{exporter.name}' is registered twice; give one of the two another name.$"
    for name in (None, exporter.name):
        with pytest.raises(LimbeckError, match=message):
            export(run, tmp_path / "set", format=name, exporters=(*EXPORTERS, exporter))


def test_an_exporter_that_lacks_something_cannot_be_made() -> None:
    class Nameless(Exporter):
        suffix, writes = "", "nothing"

        def write(self, run: Distilled, path: Path) -> None:
            raise NotImplementedError

    with pytest.raises(TypeError, match="name"):
        Nameless()  # type: ignore[abstract]


# --- limbeck export --------------------------------------------------------------------------------------------------


@each_exporter
def test_the_verb(exporter: Exporter, run: Distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.save(tmp_path / "run")
    assert cli(["export", str(tmp_path / "run"), "--format", exporter.name, "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert path == tmp_path / "run" / f"images{exporter.suffix}"
    example_of(exporter).check(run, path)


def test_the_verb_by_path(run: Distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.save(tmp_path / "run")
    assert cli(["export", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == f"12 images in {tmp_path / 'run/images.npz'}\n"
    assert cli(["export", str(tmp_path / "run"), "--out", str(tmp_path / "pictures")]) == 0
    check_png(run, tmp_path / "pictures")
    assert torch.equal(torch.tensor(np.load(tmp_path / "run/images.npz")["images"]), run.images)


def test_the_verb_with_an_unknown_format(run: Distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.save(tmp_path / "run")
    assert cli(["export", str(tmp_path / "run"), "--format", "pngs"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "Unknown export format 'pngs'; did you mean 'png'? Known: npz, png." in message
    assert not (tmp_path / "run/images.npz").exists()
