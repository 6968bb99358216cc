"""Data sets that are changed by the options of their name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from data_files import write_cifar, write_idx_set
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limbeck.data import TaskData, canonical_name, get, is_named, load, read_base_sha256
from limbeck.data.arrays import Array
from limbeck.data.pixels import backgrounds, rotate
from limbeck.data.sources import split_source
from limbeck.data.variants import Change, apply_changes, read_words
from limbeck.errors import LimbeckError

BYTES = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(2, 9), st.integers(2, 9))
)


def pictures(n: int = 40, channels: int = 1, side: int = 12, seed: int = 0) -> Array:
    """Random bytes with black and white among them."""
    x = np.random.default_rng(seed).integers(-128, 384, (n, channels, side, side))
    return x.clip(0, 255).astype(np.uint8)


def change(x: Array, text: str, split: Literal["training", "test"] = "training") -> Array:
    return apply_changes(x, read_words("set", text.split(","))[1], "set", split)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.npz"
    y = np.arange(40) % 4
    np.savez(path, x=pictures(), y=y, x_test=pictures(20, seed=1), y_test=y[:20])
    return path


def same(a: TaskData, b: TaskData) -> bool:
    tensors = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y")
    return a.sha256 == b.sha256 and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


# --- what each option does -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(x=BYTES)
def test_inversion(x: Array) -> None:
    inverse = change(x, "invert=True")
    assert inverse.dtype == np.uint8
    np.testing.assert_array_equal(inverse, 255 - x)
    np.testing.assert_array_equal(change(inverse, "invert=True"), x)
    floats = (x / np.float32(255)).astype(np.float32)
    np.testing.assert_array_equal(change(floats, "invert=True"), 1 - floats)


@settings(deadline=None)
@given(x=BYTES, turns=st.integers(-5, 5))
def test_quarter_turns(x: Array, turns: int) -> None:
    turned = change(x, f"rotate={90 * turns}")
    np.testing.assert_array_equal(turned, np.rot90(x, turns, (2, 3)))
    for _ in range(3):
        turned = change(turned, f"rotate={90 * turns}")
    np.testing.assert_array_equal(turned, x)


@pytest.mark.parametrize("shape", [(12, 12), (9, 14)])
def test_other_angles_follow_the_quarter_turn(shape: tuple[int, int]) -> None:
    """A smooth picture turned by thirds of a right angle; a wrong sign or aspect would be far off."""
    height, width = shape
    v, u = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")

    def field(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.03 * u + 0.01 * v

    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    wanted = field(u * cos - v * sin, u * sin + v * cos)  # linear, so bilinear sampling is exact
    got = rotate(field(u, v)[None, None].double(), 30)[0, 0]
    middle = (slice(height // 2 - 2, height // 2 + 2), slice(width // 2 - 2, width // 2 + 2))
    torch.testing.assert_close(got[middle].float(), wanted[middle])
    near = rotate(torch.tensor(pictures(2)), 90 - 1e-7).short() - torch.rot90(torch.tensor(pictures(2)), 1, (2, 3))
    assert near.abs().max() <= 1


def test_rotation_is_black_outside() -> None:
    turned = change(np.full((1, 1, 12, 12), 200, np.uint8), "rotate=45")
    assert turned[0, 0, 0, 0] == 0 and turned[0, 0, 6, 6] == 200 and turned.shape == (1, 1, 12, 12)


@settings(deadline=None)
@given(x=BYTES, size=st.integers(2, 9))
def test_resampling(x: Array, size: int) -> None:
    size = min(size, *x.shape[2:])
    got = change(x, f"resample={size}")
    assert got.dtype == np.uint8 and got.shape == x.shape
    assert (got >= x.min((2, 3), keepdims=True)).all() and (got <= x.max((2, 3), keepdims=True)).all()
    constant = np.full_like(x, x.flat[0])
    np.testing.assert_array_equal(change(constant, f"resample={size}"), constant)
    if x.shape[2:] == (size, size):
        np.testing.assert_array_equal(got, x)


def test_resampling_averages_areas() -> None:
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, :, 1] = 1  # a column that lies half in each of two
    np.testing.assert_allclose(change(x, "resample=2"), np.full_like(x, 1 / 3), rtol=1e-6)


@settings(deadline=None)
@given(x=BYTES, size=st.integers(2, 20))
def test_sizes(x: Array, size: int) -> None:
    got = change(x, f"size={size}")
    assert got.dtype == np.uint8 and got.shape == (*x.shape[:2], size, size)
    assert (got >= x.min((2, 3), keepdims=True)).all() and (got <= x.max((2, 3), keepdims=True)).all()
    if x.shape[2:] == (size, size):
        np.testing.assert_array_equal(got, x)


def test_enlarging_is_plain_bilinear() -> None:
    x = pictures(5).astype(np.float32) / 255
    wanted = torch.nn.functional.interpolate(torch.tensor(x).double(), (17, 17), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(change(x, "size=17"), wanted.numpy(), rtol=1e-6, atol=1e-7)


def test_backgrounds() -> None:
    x = pictures()
    got = change(x, "background=colour")
    assert got.shape == (40, 3, 12, 12) and got.dtype == np.uint8
    np.testing.assert_array_equal(got, change(x, "background=colour"))
    plain = change(np.zeros_like(x), "background=colour")
    np.testing.assert_array_equal(got, abs(plain.astype(int) - x))  # where the digit is black it is the background
    assert (got == plain)[np.broadcast_to(x == 0, got.shape)].all()
    white = change(np.full_like(x, 255), "background=colour")
    np.testing.assert_array_equal(white, 255 - plain)
    assert len(np.unique(plain.reshape(40, -1), axis=0)) == 40
    assert (plain[:, 0] != plain[:, 1]).any((1, 2)).all()  # coloured
    assert not (plain == change(np.zeros_like(x), "background=colour", "test")).all((1, 2, 3)).any()
    assert abs(np.diff(plain.astype(int), axis=3)).max() <= np.ceil(255 * 3 / 11) + 1  # smooth
    np.testing.assert_array_equal(got, change(change(x, "channels=3"), "background=colour"))
    floats = change(x.astype(np.float32) / 255, "background=colour")
    assert floats.dtype == np.float32 and abs(floats * 255 - got).max() < 1


def test_backgrounds_depend_on_the_image_number_alone() -> None:
    every = backgrounds(1, 0, 6, 5, 7)
    assert torch.equal(every[2:5], backgrounds(1, 2, 3, 5, 7))
    assert every.min() >= 0 and every.max() < 1
    many = backgrounds(0, 0, 2000, 4, 4)  # the grid itself: uniform and independent
    assert (many.mean(0) - 0.5).abs().max() < 0.04 and (many.var(0) - 1 / 12).abs().max() < 0.01
    assert torch.corrcoef(many.flatten(1).T).fill_diagonal_(0).abs().max() < 0.12
    # The pixels are part of the data's sha256, so the sequence must never change: SplitMix64, seed 0.
    assert (many[0, 0, 0, :2] * 2**53).long().tolist() == [0xE220A8397B1DCDAF >> 11, 0x6E789E6AA1B965F4 >> 11]


def test_channels() -> None:
    x = pictures()
    np.testing.assert_array_equal(change(x, "channels=3"), np.concatenate([x, x, x], axis=1))


def test_many_images_are_changed_as_one_by_one() -> None:
    x, text = pictures(7), "resample=5,rotate=20,background=colour,size=13"
    whole, changes = change(x, text), read_words("set", text.split(","))[1]
    np.testing.assert_array_equal(apply_changes(x, changes, "set", "training", numbers_at_once=1), whole)
    x.flags.writeable = False  # as a file's buffer may be
    np.testing.assert_array_equal(apply_changes(x, changes, "set", "training", numbers_at_once=1), whole)


@settings(deadline=None, max_examples=20)
@given(x=BYTES, order=st.permutations(["invert=True", "rotate=30", "resample=2", "size=7", "background=colour"]))
def test_options_apply_one_after_the_other(x: Array, order: list[str]) -> None:
    step = x
    for option in order:
        step = change(step, option)
    np.testing.assert_array_equal(change(x, ",".join(order)), step)


def test_order_matters() -> None:
    x = np.zeros((1, 1, 12, 12), np.uint8)
    assert change(x, "rotate=45,invert=True")[0, 0, 0, 0] == 255
    assert change(x, "invert=True,rotate=45")[0, 0, 0, 0] == 0


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mnist", "mnist"),
        ("MNIST,invert=True", "mnist,invert=True"),
        ("mnist,invert=False,rotate=720", "mnist"),
        ("mnist,rotate=-90", "mnist,rotate=270"),
        ("mnist,rotate=22.5,resample=16", "mnist,rotate=22.5,resample=16"),
        ("mnist,rotate=45.0", "mnist,rotate=45"),
        ("mnist,rotate=-1e-20", "mnist"),
        ("some/where/my.npz,size=32", "my,size=32"),
        ("a,b.NPZ,background=colour", "a,b,background=colour"),
    ],
)
def test_canonical_names(source: str, name: str) -> None:
    assert canonical_name(source) == name
    assert is_named(source)


def test_what_is_no_name() -> None:
    assert not any(map(is_named, ("arrays", "arrays,invert=True", "mnits", "", "my,invert=True", "my.npz.bak")))
    assert is_named("mnist,anything")  # load says what is wrong with it
    assert split_source("a,b.npz") == ("a,b.npz", [])


@pytest.mark.parametrize("options", ["", ",invert=False", ",invert=True", ",rotate=45,size=16", ",background=colour"])
def test_the_base_is_the_data_as_it_was_read(options: str, file: Path, tmp_path: Path) -> None:
    plain, data = load(file), load(f"{file}{options}")
    assert data.base_sha256 == plain.base_sha256 == plain.sha256
    assert (data.sha256 == data.base_sha256) == (options in ("", ",invert=False"))
    assert read_base_sha256(f"{file}{options}") == plain.sha256
    path = tmp_path / "other.npz"
    y = np.arange(40) % 4
    np.savez(path, x=pictures(), y=y, x_test=pictures(20, seed=2), y_test=y[:20])  # another test set
    assert load(f"{path}{options}").base_sha256 != plain.sha256


def test_equal_names_are_equal_data(file: Path) -> None:
    plain = load(file)
    assert same(load(f"{file},invert=False,rotate=360"), plain) and plain.name == "my"
    assert same(load(f"{file},rotate=-90"), load(f"{file},rotate=270.0"))
    inverse = load(f"{file},invert=True")
    assert inverse.sha256 != plain.sha256 and inverse.name == "my,invert=True"
    assert torch.equal(inverse.train_x, 255 - plain.train_x) and torch.equal(inverse.test_x, 255 - plain.test_x)
    assert torch.equal(inverse.val_y, plain.val_y)
    backgrounds = load(f"{file},background=colour", seed=3), load(f"{file},background=colour", seed=4)
    assert backgrounds[0].sha256 == backgrounds[1].sha256 and backgrounds[0].image_shape == (3, 12, 12)


@pytest.mark.parametrize("options", ["invert=True", "background=colour,rotate=45", "channels=3,resample=5,size=16"])
def test_changed_data_is_standard(file: Path, options: str) -> None:
    data = load(f"{file},{options}")
    assert data.train_x.dtype == data.test_x.dtype == torch.uint8
    assert data.train_x.shape[1:] == data.val_x.shape[1:] == data.test_x.shape[1:] == data.image_shape
    z = data.preprocessing.apply(data.train_x)
    assert z.mean((0, 2, 3)).abs().max() < 1e-5 and (z.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_known_sets(tmp_path: Path) -> None:
    write_idx_set(tmp_path / "fashion-mnist")
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar(tmp_path / "cifar-10-batches-bin", per_batch=40)
    plain = load("fashion-mnist", data_dir=tmp_path)
    data = load("Fashion-MNIST,size=32,channels=3", data_dir=tmp_path)
    assert data.name == "fashion-mnist,size=32,channels=3" and data.class_names == plain.class_names
    assert data.image_shape == (3, 32, 32) and data.preprocessing.mean != plain.preprocessing.mean * 3
    assert torch.equal(data.train_y, plain.train_y) and plain.preprocessing.mean == (0.2860,)
    same_as_before = load("fashion-mnist,rotate=0", data_dir=tmp_path)
    assert same_as_before.preprocessing == plain.preprocessing and same(same_as_before, plain)
    assert load("cifar10,rotate=90,background=colour", data_dir=tmp_path).image_shape == (3, 32, 32)


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("inverted=True", "Unknown option of the data set 'mnist' 'inverted'; did you mean 'invert'?"),
        ("invert", "'invert' is no option of the data set 'mnist'; write mnist,option=value."),
        ("invert=True,invert=True", "The option invert of the data set 'mnist' is given twice."),
        ("invert=3", "The option invert of the data set 'mnist' must be True or False, got 3."),
        ("invert=yes", "must be True or False, got 'yes'"),
        ("rotate=left", "must be an angle in degrees, counter-clockwise, such as 45, got 'left'"),
        ("rotate=True", "must be an angle"),
        ("rotate=1e999", "must be an angle"),
        ("rotate=(1,2)", "must be an angle"),
        ("resample=1", "must be a whole number of pixels, 2 to 1024, got 1"),
        ("resample=7.5", "must be a whole number of pixels"),
        ("size=0", "must be a whole number of pixels"),
        ("size=99999", "must be a whole number of pixels"),
        ("background=color", "Unknown background 'color'; did you mean 'colour'?"),
        ("background=3", "Unknown background '3'"),
        (
            "channels=4",
            "The option channels of the data set 'mnist' must be 3 (or first or last, to say which axis they are), "
            "got 4.",
        ),
        ("channels=True", "to say which axis they are), got True"),
        (
            "resample=29",
            "The option resample=29 of the data set 'mnist' resamples to more pixels than its images have, 28 × 28; "
            "use size to enlarge them.",
        ),
        (
            "background=colour,channels=3",
            "The option channels=3 of the data set 'mnist' is for grey images, but its images have 3 channels; "
            "leave it out.",
        ),
    ],
)
def test_wrong_options(options: str, message: str, tmp_path: Path) -> None:
    write_idx_set(tmp_path / "mnist")
    with pytest.raises(LimbeckError) as caught:
        load(f"mnist,{options}", data_dir=tmp_path)
    assert message in str(caught.value)


def test_options_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="There is no data set, folder or file 'mnits'; did you mean 'mnist'"):
        load("mnits,invert=True")
    with pytest.raises(LimbeckError, match=r"no file .*my\.npz;"):
        load(f"{tmp_path / 'my.npz'},invert=True")
    with pytest.raises(LimbeckError, match="Unknown data set 'mnist,invert=True'"):
        get("mnist,invert=True")


@pytest.mark.parametrize("option", [Change(option="invert", value=True), Change(option="background", value="colour")])
def test_floats_of_another_range(option: Change) -> None:
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    with pytest.raises(LimbeckError, match="needs bytes or floats from 0 to 1, but its images go from -1 to"):
        apply_changes(x, (option,), "set", "training")


def test_backgrounds_of_other_channels() -> None:
    with pytest.raises(LimbeckError, match="is for images of 1 or 3 channels, but its images have 4"):
        change(pictures(channels=4), "background=colour")
