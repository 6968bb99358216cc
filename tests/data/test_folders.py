"""Folders of pictures: parts, classes, sizes, modes, what is skipped and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import write_pictures
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from limbeck.data import load
from limbeck.data.readers.folder import FolderReader
from limbeck.data.readers.pictures import common_size
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 6, 8)).astype(np.uint8)
RGB = RNG.integers(0, 256, (24, 6, 8, 3)).astype(np.uint8)
Y = np.arange(24) % 2


def read(folder: Path, size: int | None = None) -> Any:
    return FolderReader().read_as(str(folder), None, Reading(size=size)).as_arrays()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pets", GREY, Y, ("dog", "cat"))
    return tmp_path / "pets"


def test_folders_are_classes_in_natural_order(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pets", GREY, np.arange(24) % 3, ("class10", "class9", "class1"))
    raw = read(tmp_path / "pets")
    assert raw.class_names == ("class1", "class9", "class10") and raw.test is None and raw.train[0].dtype == np.uint8
    order = [i for k in (2, 1, 0) for i in range(24) if i % 3 == k]  # class after class, 2.png before 10.png
    np.testing.assert_array_equal(raw.train[0][:, 0], GREY[order])
    assert raw.train[1].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    data = load(f"{tmp_path / 'pets'},invert=True")
    assert data.name == "pets,invert=True" and data.image_shape == (1, 6, 8) and data.kind == "images"


def test_a_folder_is_known_by_its_files(pets: Path, tmp_path: Path) -> None:
    plain, small = load(pets), load(f"{pets},size=4")
    assert small.image_shape == (1, 4, 4) and plain.sha256 != small.sha256
    assert plain.base_sha256 == small.base_sha256 == load(f"{pets},rotate=90").base_sha256
    pets.rename(tmp_path / "moved")
    assert load(tmp_path / "moved").base_sha256 == plain.base_sha256
    Image.fromarray(GREY[0]).save(tmp_path / "moved/cat/new.png")
    assert load(tmp_path / "moved").base_sha256 != plain.base_sha256


@pytest.mark.parametrize(
    ("parts", "train", "test"),
    [
        (("train", "test"), 24, 24),
        (("Train", "valid"), 24, 24),
        (("train", "val", "test"), 48, 24),
        (("training",), 24, None),
    ],
)
def test_parts(tmp_path: Path, parts: tuple[str, ...], train: int, test: int | None) -> None:
    for part in parts:
        write_pictures(tmp_path / "pets" / part, GREY, Y, ("dog", "cat"))
    raw = read(tmp_path / "pets")
    assert len(raw.train[1]) == train and (None if raw.test is None else len(raw.test[1])) == test
    assert raw.class_names == ("cat", "dog")


def test_modes(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    write_pictures(folder, GREY, Y, ("dog", "cat"))
    Image.fromarray(RGB[0]).save(folder / "cat/colour.png")
    with pytest.warns(UserWarning, match="24 of the 25 pictures of .*pets are grey among coloured ones and become RGB"):
        x = read(folder).train[0]
    assert x.shape == (25, 3, 6, 8)
    np.testing.assert_array_equal(x[-1], x[-1, :1].repeat(3, 0))
    assert any(np.array_equal(each.transpose(1, 2, 0), RGB[0]) for each in x)


def test_alpha_is_put_on_white(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    alpha = np.concatenate([RGB, np.zeros((24, 6, 8, 1), np.uint8)], 3)
    alpha[:, 3:, :, 3] = 255
    write_pictures(folder, alpha, Y, ("dog", "cat"))
    with pytest.warns(UserWarning, match="24 of the 24 pictures of .*pets are transparent in places") as caught:
        x = read(folder).train[0]
    assert len(caught) == 1 and (x[:, :, :3] == 255).all()
    np.testing.assert_array_equal(x[0, :, 3:], RGB[1, 3:].transpose(2, 0, 1))


def test_sixteen_bits_are_not_clipped(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    write_pictures(tmp_path / "scans", deep, Y, ("a", "b"))
    x = read(tmp_path / "scans").train[0]
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0], np.concatenate([deep[::2], deep[1::2]]))
    Image.fromarray(GREY[0]).save(tmp_path / "scans/a/0.png")  # of 8 bits, and as white
    np.testing.assert_array_equal(read(tmp_path / "scans").train[0], x)
    Image.fromarray(RGB[0]).save(tmp_path / "scans/a/0.png")
    with pytest.raises(LimbeckError, match=r"a/2\.png is grey of more than 8 bits, but .*a/0\.png has colour"):
        read(tmp_path / "scans")


def test_orientation_is_respected(pets: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(GREY[1])).save(pets / "cat/1.png", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one size, once upright
        np.testing.assert_array_equal(read(pets).train[0][0, 0], GREY[1])


def test_sizes(pets: Path) -> None:
    Image.fromarray(np.full((12, 12), 7, np.uint8)).save(pets / "cat/1.png")
    with pytest.warns(
        UserWarning, match="1 of the 24 pictures of .* are of another size and are scaled and cut to 8 × 6"
    ):
        x = read(pets).train[0]
    assert x.shape == (24, 1, 6, 8) and (x[0] == 7).all()
    assert load(f"{pets},size=5").image_shape == (1, 5, 5)
    assert common_size([(1, 9), (2, 8), (3, 7), (3, 7)], None) == (2, 7)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9))
def test_the_common_size_does_not_depend_on_the_order(sizes: list[tuple[int, int]]) -> None:
    width, height = common_size(sizes, None)
    assert (width, height) == common_size(sizes[::-1], None)
    assert min(w for w, _ in sizes) <= width <= max(w for w, _ in sizes)
    assert min(h for _, h in sizes) <= height <= max(h for _, h in sizes)


def test_what_is_no_picture_is_counted(pets: Path) -> None:
    for name in ("cat/.DS_Store", "dog/notes.txt", "README.md", ".hidden/x.png", "cat/Thumbs.db"):
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_text("no picture")
    with pytest.warns(
        UserWarning, match=r"4 files in .*pets are hidden or no picture and left out \(README\.md, "
    ) as caught:
        assert len(read(pets).train[1]) == 24
    assert len(caught) == 1


def animation(folder: Path) -> None:
    first, *more = (Image.fromarray(x) for x in GREY[:3])
    first.save(folder / "cat/a.gif", save_all=True, append_images=more)


def cut_short(folder: Path) -> None:
    whole = (folder / "cat/1.png").read_bytes()
    (folder / "cat/1.png").write_bytes(whole[: len(whole) // 2])


def beside_parts(folder: Path) -> None:
    write_pictures(folder / "train", GREY, Y, ("dog", "cat"))


def only_pictures(folder: Path) -> None:
    for name in ("cat", "dog"):
        for file in (folder / name).iterdir():
            file.rename(folder / f"{name}-{file.name}")
        (folder / name).rmdir()


def another_class_in_the_test_set(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).rename(folder.parent / name)
    write_pictures(folder / "train", GREY, Y, ("dog", "cat"))
    write_pictures(folder / "test", GREY, Y, ("dog", "cow"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "owl").mkdir(), r"pets/owl holds no picture"),
        (
            lambda folder: (folder / "cat/x.png").write_text("hello"),
            r"cat/x\.png cannot be read as a picture \(it is none",
        ),
        (cut_short, r"cat/1\.png cannot be read as a picture"),
        (animation, r"cat/a\.gif is an animation or holds several pictures \(3\)"),
        (lambda folder: (folder / "cat").rename(folder.parent / "cat"), "pets has the one class dog"),
        (only_pictures, r"no folders of classes, and pictures such as cat-1\.png in none"),
        (lambda folder: (folder / "cat/1.png").rename(folder / "1.png"), r"pets/1\.png is in no class"),
        (beside_parts, r"pets has parts \(train\) and other folders beside them \(cat, dog\)"),
        (
            another_class_in_the_test_set,
            r"The test set has examples of the class 'cow' \(12\), of which the training set has none",
        ),
    ],
)
def test_one_sentence_that_names_the_file(pets: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(pets)
    with pytest.raises(LimbeckError, match=message) as caught:
        load(pets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pictres", "There is no data set, folder or file 'pictres'; did you mean 'pictures'? Known data sets: mnist"),
        ("pictres/", "There is no file or folder pictres/; .*; did you mean 'pictures'?"),
        ("pictres/train,size=8", "There is no file or folder pictres/train; .*; did you mean 'pictures'?"),
        ("nowhere/at/all", "There is no file or folder nowhere/at/all; .* directory\\.$"),
        ("/zzzzzzzz/all", "There is no file or folder /zzzzzzzz/all\\.$"),
        ("a" * 300, "There is no data set, folder or file 'aaa"),
        ("a" * 300 + "/b,size=8", "There is no file or folder aaa"),
        ("zzz", "There is no data set, folder or file 'zzz'\\. Known"),
    ],
)
def test_a_folder_that_is_not_there(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimbeckError, match=said.replace("?", "\\?")):
        load(source)
