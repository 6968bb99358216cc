"""Images of every scale and layout that people have, normalised as a set wants them."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import write_pictures
from PIL import Image
from tiny_runs import random_set, tiny_config
from torch import Tensor

import limbeck
from limbeck.artefact.distilled import Distilled
from limbeck.artefact.incoming import normalise
from limbeck.data import Preprocessing
from limbeck.data.sources import match_source
from limbeck.errors import LimbeckError

BYTES = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def of_bytes(channels: int = 1) -> Distilled:
    run = random_set(shape=(channels, 8, 8))
    return replace(run, preprocessing=replace(run.preprocessing, scale=1 / 255))


def expected() -> Tensor:
    return (BYTES / 255 - 0.5) / 0.25


@pytest.mark.parametrize(
    "images",
    [
        BYTES,
        BYTES.float(),
        BYTES.long(),
        BYTES.double(),
        BYTES / 255,
        (BYTES / 255).double(),
        BYTES.numpy(),
        BYTES.tolist(),
    ],
)
def test_the_scale_is_recognised(images: Any) -> None:
    x_NCHW = of_bytes().preprocess(images)
    assert x_NCHW.dtype == torch.float32 and torch.allclose(x_NCHW, expected(), atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [
        BYTES.numpy()[..., ::-1].copy()[..., ::-1],  # another order of memory, and of bytes
        BYTES.numpy().astype(">i4"),
        BYTES.numpy().astype(">f8"),
        BYTES.numpy().astype(np.longdouble),
        BYTES.to(torch.uint16),
        BYTES.float().to_sparse(),
        BYTES.float().requires_grad_(),
    ],
)
def test_numbers_of_every_make(images: Any) -> None:
    x_NCHW = of_bytes().preprocess(images)
    assert not x_NCHW.requires_grad and torch.allclose(x_NCHW, expected(), atol=1e-5)


def test_what_is_no_number_is_told_of() -> None:
    broken = BYTES.float()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.warns(UserWarning, match="some of the numbers of the images are NaN"):
        of_bytes().preprocess(broken)
    with pytest.raises(LimbeckError, match="given images are masked"):
        of_bytes().preprocess(np.ma.masked_less(BYTES.numpy(), 9))


def test_a_black_image_has_no_scale() -> None:
    assert torch.allclose(of_bytes().preprocess(torch.zeros(1, 1, 8, 8)), torch.tensor(-2.0))
    assert torch.allclose(of_bytes().preprocess(torch.ones(1, 1, 8, 8, dtype=torch.bool)), torch.tensor(2.0))


@pytest.mark.parametrize(
    ("images", "value", "message"),
    [
        (torch.ones(1, 1, 8, 8), 2.0, "only 0 and 1, taken as pixels from 0 to 1"),
        (torch.linspace(-0.02, 1.03, 64).view(1, 1, 8, 8), None, "-0.02 to 1.03, taken as pixels from 0 to 1"),
        (torch.linspace(-2, 3, 64).view(1, 1, 8, 8), None, "-2 to 3, taken as bytes.*leave out run.preprocess"),
        (torch.full((1, 1, 8, 8), 3000.0), None, "3e\\+03 to 3e\\+03, taken as bytes"),
    ],
)
def test_doubt_is_one_warning(images: Tensor, value: float | None, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as told:
        x_NCHW = of_bytes().preprocess(images)
    assert len(told) == 1 and told[0].filename == __file__
    if value is not None:
        assert torch.allclose(x_NCHW, torch.tensor(value))


def test_a_set_of_floats_takes_bytes() -> None:
    run = random_set()  # scale 1, mean 0.5
    assert torch.allclose(run.preprocess(BYTES), expected(), atol=1e-5)
    assert torch.allclose(run.preprocess(BYTES / 255), expected(), atol=1e-5)
    assert torch.allclose(run.preprocess(BYTES.float()), (BYTES.float() - 0.5) / 0.25)  # floats are what they are
    standard = replace(run, preprocessing=Preprocessing(scale=1.0, mean=(0.0,), std=(1.0,)))
    with pytest.warns(UserWarning, match="learned on floats of another range"):
        assert torch.equal(standard.preprocess(BYTES), BYTES.float())
    wide = replace(run, preprocessing=Preprocessing(scale=1.0, mean=(120.0,), std=(70.0,)))
    assert torch.allclose(wide.preprocess(BYTES), (BYTES.float() - 120) / 70)


GREY, COLOUR = torch.rand(5, 1, 8, 8), torch.rand(5, 3, 8, 8)


@pytest.mark.parametrize(
    ("channels", "images", "wanted"),
    [
        (1, GREY, GREY),
        (1, GREY[:, 0], GREY),
        (1, GREY.movedim(1, -1), GREY),
        (1, GREY.movedim(1, -1).numpy(), GREY),
        (1, GREY[0], GREY[:1]),
        (1, GREY[0, 0], GREY[:1]),
        (1, GREY[0].movedim(0, -1), GREY[:1]),
        (1, GREY[:1, 0], GREY[:1]),
        (3, COLOUR, COLOUR),
        (3, COLOUR.movedim(1, -1), COLOUR),
        (3, COLOUR[0], COLOUR[:1]),
        (3, COLOUR[0].movedim(0, -1), COLOUR[:1]),
        (3, COLOUR.repeat(1, 1, 2, 2), COLOUR.repeat(1, 1, 2, 2)),  # larger ones than those that were learned
        (3, COLOUR.repeat(1, 1, 2, 2).movedim(1, -1), COLOUR.repeat(1, 1, 2, 2)),
        (3, COLOUR[..., :3], COLOUR[..., :3]),  # either axis may be the channels: those before come first
        (3, COLOUR.view(1, 5, 3, 8, 8), COLOUR.view(1, 5, 3, 8, 8)),
    ],
)
@pytest.mark.filterwarnings("ignore:the images are .*, those of the set")
def test_layouts(channels: int, images: Any, wanted: Tensor) -> None:
    x_NCHW = of_bytes(channels).preprocess(images)
    assert x_NCHW.shape == wanted.shape
    assert torch.allclose(x_NCHW, (wanted - 0.5) / 0.25, atol=1e-5)


def test_the_callers_images_stay_as_they_are() -> None:
    for images in (GREY.clone(), GREY.numpy().copy()):
        of_bytes().preprocess(images).zero_()
        assert np.array_equal(np.asarray(images), GREY.numpy())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.rand(5, 2, 8, 8),
            r"shape \(5, 2, 8, 8\) are none of those.*\(N, H, W, C\), \(N, H, W\), \(H, W\) or one",
        ),
        (torch.rand(8), "none of those"),
        (torch.rand(0, 1, 8, 8), "no images"),
        (torch.rand(1, 1, 8, 8).to(torch.complex64), "real numbers"),
        ([[1, 2], [3]], "do not form one array"),
        (["seven", 7], "real numbers"),
        (None, "real numbers"),
    ],
)
def test_what_are_no_images(images: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        of_bytes().preprocess(images)


def test_nothing_is_said_where_nothing_is_doubtful() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (
            BYTES,
            BYTES / 255,
            BYTES.float(),
            BYTES.float() * 1.5 - 60,
        ):  # the last: learned pixels as bytes
            of_bytes().preprocess(images)


def test_rows_and_series_come_as_their_data_does() -> None:
    table = Preprocessing(mean=(1.0, 2.0), std=(1.0, 2.0), scale=1.0)
    rows = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    expected = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert torch.equal(normalise(rows, table, (2, 1, 1)).flatten(1), expected)
    assert torch.equal(normalise(rows[0].tolist(), table, (2, 1, 1)).flatten(1), expected[:1])
    series = torch.arange(12.0).view(2, 3, 2)  # (N, T, C)
    found = normalise(series, table, (2, 1, 3))
    assert found.shape == (2, 2, 1, 3) and torch.equal(found[1, :, 0, 2], torch.tensor([9.0, 4.5]))
    assert torch.equal(normalise(series[1], table, (2, 1, 3)), found[1:])
    grey = Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0)
    assert normalise(torch.zeros(5, 7), grey, (1, 1, 7)).shape == (5, 1, 1, 7)


def test_grey_images_are_made_rgb_for_a_set_of_colour() -> None:
    colour = Preprocessing(mean=(0.0, 0.5, 1.0), std=(1.0, 1.0, 1.0), scale=1 / 255)
    x = torch.randint(256, (2, 4, 6), dtype=torch.uint8)
    for images in (x, x[:, None], x[..., None]):
        found = normalise(images, colour, (3, 4, 6))
        assert found.shape == (2, 3, 4, 6)
        torch.testing.assert_close(found[:, 0], x / 255)
        torch.testing.assert_close(found[:, 0] - found[:, 2], torch.ones(2, 4, 6))
    assert normalise(x[0], colour, (3, 4, 6)).shape == (1, 3, 4, 6)


def test_images_of_another_size_are_warned_of() -> None:
    grey = Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0)
    with pytest.warns(UserWarning, match="are 5 × 5, those of the set 4 × 4.*resize"):
        normalise(torch.zeros(2, 1, 5, 5), grey, (1, 4, 4))


# --- pictures --------------------------------------------------------------------------------------------------------


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 8), ""),
        ((6, 8, 3), ""),
        ((9, 8), ",size=6"),
        ((6, 8), ",rotate=90,channels=3"),
        ((6, 8, 3), ",invert=True"),
    ],
)
def test_pictures_become_what_those_of_the_folder_became(shape: tuple[int, ...], options: str, tmp_path: Path) -> None:
    write_pictures(
        tmp_path / "pets", RNG.integers(0, 256, (24, *shape)).astype(np.uint8), np.arange(24) % 2, ("a", "b")
    )
    source = f"{tmp_path / 'pets'}{options}"
    match = match_source(source)
    x = match.read(None).change(match.changes, match.base).train[0]
    data = limbeck.load_data(source)
    run = replace(
        random_set(shape=data.image_shape),
        preprocessing=data.preprocessing,
        config=replace(tiny_config(), data=source),
    )
    files = sorted((tmp_path / "pets").rglob("*.png"), key=lambda path: (path.parent.name, int(path.stem)))
    expected = data.preprocessing.apply(torch.from_numpy(x))
    shutil.move(tmp_path / "pets", tmp_path / "elsewhere")  # all that is needed is in the run
    files = [tmp_path / "elsewhere" / path.relative_to(tmp_path / "pets") for path in files]
    assert torch.equal(run.preprocess(files), expected)
    assert torch.equal(run.preprocess(str(files[3])), expected[3:4])
    assert torch.equal(run.preprocess((Image.open(files[0]), Image.open(files[1]))), expected[:2])


def learned_from(source: str) -> tuple[Distilled, Tensor]:
    """A set as if learned from a source, and all its training images, normalised."""
    match = match_source(source)
    data = limbeck.load_data(source)
    recorded = {"kind": data.kind, "read_size": data.read_size, "deep": data.deep}
    run = random_set(config=replace(tiny_config(), data=source), shape=data.image_shape)
    run = replace(run, preprocessing=data.preprocessing, info=run.info | {"data": run.info["data"] | recorded})
    x = match.read(None).change(match.changes, match.base).train[0]
    return run, data.preprocessing.apply(torch.from_numpy(x))


@pytest.mark.parametrize("values", ["floats", "dark"])
def test_deep_pictures_of_small_numbers(values: str, tmp_path: Path) -> None:
    for index in range(24):
        x = RNG.random((8, 8)).astype(np.float32)
        folder = tmp_path / "scans" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if values == "floats":
            Image.fromarray(x).save(folder / f"{index:02}.tif")
        else:
            Image.fromarray((x * 250).astype(np.uint16)).save(folder / f"{index:02}.png")
    run, expected = learned_from(str(tmp_path / "scans"))
    files = sorted((tmp_path / "scans").rglob("*.*"), key=lambda path: (path.parent.name, path.name))
    assert torch.equal(run.preprocess([path for path in files if path.is_file()]), expected)
    white = run.preprocess(Image.new("L", (8, 8), 255))  # as in loading, where it stays white beside 16 bits
    assert torch.allclose(white, run.preprocess(torch.full((1, 1, 8, 8), 65535.0)))
    older = replace(run, info=run.info | {"data": random_set().info["data"]})
    assert torch.equal(older.preprocess(files[-1]), expected[-1:])


@pytest.mark.parametrize("options", [",size=12", ",size=12,rotate=90", ""])
def test_pictures_are_fitted_to_the_size_before_it_is_changed(options: str, tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (24, 20, 40)).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(24) % 2)
    run, expected = learned_from(f"{tmp_path / 'mine.npz'}{options}")
    assert torch.equal(run.preprocess([Image.fromarray(each) for each in x]), expected)


def test_a_run_records_how_its_pictures_were_read(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (24, 9, 8)).astype(np.uint8)
    write_pictures(tmp_path / "pets", x, np.arange(24) % 2, ("a", "b"))
    data = limbeck.load_data(f"{tmp_path / 'pets'},rotate=90")
    limbeck.distill(tiny_config(iterations=1), data, out=tmp_path / "run")
    run = limbeck.load(tmp_path / "run")
    assert (run.info["data"]["read_size"], run.info["data"]["deep"]) == ([9, 8], False)
    damaged = replace(run, info=run.info | {"data": run.info["data"] | {"read_size": [9]}})
    damaged.save(tmp_path / "run")
    with pytest.raises(LimbeckError, match="damaged: read_size is"):
        limbeck.load(tmp_path / "run")


def test_pictures_of_other_sizes_and_modes_are_fitted() -> None:
    large = Image.fromarray(RNG.integers(0, 256, (20, 40, 4)).astype(np.uint8), "RGBA")
    for channels in (1, 3):
        assert of_bytes(channels).preprocess(large).shape == (1, channels, 8, 8)
    white = of_bytes().preprocess([Image.new("L", (8, 8), 255), Image.new("RGBA", (9, 7), (0, 0, 0, 0)), large])
    assert (white[:2] == 2).all() and white.shape == (3, 1, 8, 8)


def test_deep_pictures_stay_in_their_units() -> None:
    run = random_set(shape=(1, 8, 8))
    run = replace(run, preprocessing=Preprocessing(scale=1.0, mean=(30000.0,), std=(1000.0,)))
    deep = Image.fromarray(np.full((8, 8), 31000, np.uint16))
    assert torch.allclose(run.preprocess(deep), torch.tensor(1.0))
    assert torch.allclose(run.preprocess(Image.new("L", (8, 8), 255)), torch.tensor(35.535))


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ("missing.png", "There is no picture missing.png; give the path of a file"),
        (["notes.png"], "notes.png cannot be read as a picture .it is none"),
        (Image.fromarray(np.zeros((8, 8), np.uint16)), "Picture 0 is grey of more than 8 bits"),
    ],
)
def test_what_are_no_pictures(pictures: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.png").write_text("no picture")
    with pytest.raises(LimbeckError, match=message):
        of_bytes().preprocess(pictures)


def test_opened_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (64, 64)).astype(np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with Image.open(tmp_path / "b.png") as cut, pytest.raises(LimbeckError, match="Picture 0 cannot be read"):
        of_bytes().preprocess(cut)
    with pytest.raises(LimbeckError, match="Picture 1 cannot be read"):
        of_bytes().preprocess([Image.new("L", (8, 8)), closed])


def test_a_set_that_no_picture_fits() -> None:
    for shape in ((2, 8, 8), (7, 1, 1)):
        run = random_set(shape=shape)
        run = replace(run, info=run.info | {"data": {"kind": "table" if shape[1] == 1 else "images"}})
        with pytest.raises(LimbeckError, match="was learned from (rows of a table|images of 2 channels).*give arrays"):
            run.preprocess("new.png")
