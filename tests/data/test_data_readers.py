"""Readers against hand-made files of the official formats, and against every way in which those go wrong."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from data_files import HWC, IDX_CODES, Items, idx_bytes, write_cifar
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils.data import IterableDataset, TensorDataset

from limbeck.data.idx import read_idx, read_idx_pair
from limbeck.data.known.cifar10 import read_cifar10
from limbeck.data.labels import label_values
from limbeck.data.layout import channel_axis, examples_NCHW
from limbeck.data.raw import Raw
from limbeck.data.readers.map_style import DatasetReader
from limbeck.data.readers.npz import read_npz
from limbeck.errors import LimbeckError


def test_official_example_bytes(tmp_path: Path) -> None:
    file = tmp_path / "images"
    file.write_bytes(bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(range(12)))
    assert read_idx(file).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    file.write_bytes(bytes.fromhex("00000b01 00000002 0102 fffe"))
    assert read_idx(file).tolist() == [258, -2]


@settings(deadline=None, max_examples=60)
@given(
    array=st.sampled_from(sorted(IDX_CODES)).flatmap(
        lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
    zipped=st.booleans(),
)
def test_idx_round_trip(tmp_path_factory: pytest.TempPathFactory, array: npt.NDArray[Any], zipped: bool) -> None:
    file = tmp_path_factory.mktemp("idx") / "file"
    file.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    back = read_idx(file)
    assert back.dtype == array.dtype and back.dtype.isnative and back.flags.writeable
    np.testing.assert_array_equal(back, array)


ZIPPED = gzip.compress(idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)), mtime=0)
PLAIN = gzip.decompress(ZIPPED)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not an IDX file.*nothing"),
        (b"\x89PNG\r\n", "not an IDX file.*89 50 4e 47"),
        (b"\0\0\x0a\x01" + bytes(8), "not an IDX file"),
        (PLAIN[:10], "truncated in its header of 16"),
        (PLAIN[:-1], r"truncated.*\(2, 3, 4\) uint8.*40 bytes.*39"),
        (PLAIN + b"x", "bytes left over"),
        (bytes.fromhex("00000e03 ffffffff ffffffff ffffffff") + bytes(8), "truncated"),
        (ZIPPED[:-12], "corrupt or truncated gzip"),
        (ZIPPED[:20], "corrupt or truncated gzip"),
        (ZIPPED[:-5] + bytes(5), "corrupt or truncated gzip"),
        (ZIPPED[:12] + b"\xff\xff\xff" + ZIPPED[15:], "corrupt or truncated gzip"),
        (gzip.compress(PLAIN[:-3], mtime=0), "truncated"),
        (gzip.compress(b"hello world", mtime=0), "not an IDX file"),
    ],
)
def test_bad_idx_names_the_file(tmp_path: Path, raw: bytes, message: str) -> None:
    file = tmp_path / "some-images-idx3-ubyte.gz"
    file.write_bytes(raw)
    with pytest.raises(LimbeckError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


def test_missing_or_unreadable_idx(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="no file .*nothing-here"):
        read_idx(tmp_path / "nothing-here")
    with pytest.raises(LimbeckError, match="cannot be read"):
        read_idx(tmp_path)


def test_swapped_images_and_labels_are_refused(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx_bytes(np.zeros((2, 3, 3), np.uint8)))
    labels.write_bytes(idx_bytes(np.array([1, 0], np.uint8)))
    x, y = read_idx_pair(images, labels)
    assert x.shape == (2, 1, 3, 3) and y.tolist() == [1, 0]
    with pytest.raises(LimbeckError, match=r"labels holds uint8 of shape \(2,\), expected uint8, 3 axes"):
        read_idx_pair(labels, images)


def test_cifar10(tmp_path: Path) -> None:
    records = write_cifar(tmp_path)
    train_x, train_y, test_x, test_y = read_cifar10(tmp_path)
    assert train_x.shape == (10, 3, 32, 32) and train_x.dtype == np.uint8 and test_x.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(train_y, records[:5, :, 0].ravel())
    np.testing.assert_array_equal(test_y, records[5, :, 0])
    assert train_x[3, 2, 5, 7] == records[1, 1, 1 + 2 * 1024 + 5 * 32 + 7]  # red, green, blue planes, row by row


def test_bad_cifar10_names_the_file(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(3072))
    with pytest.raises(LimbeckError, match=r"data_batch_3\.bin has 3072 bytes, expected a multiple of 3073"):
        read_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(b"")
    with pytest.raises(LimbeckError, match=r"data_batch_3\.bin has 0 bytes"):
        read_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(LimbeckError, match=r"no file .*data_batch_3\.bin"):
        read_cifar10(tmp_path)


def test_npz_keys(tmp_path: Path) -> None:
    x, y = np.arange(2 * 5 * 6 * 3, dtype=np.uint8).reshape(2, 5, 6, 3), np.array([[0], [1]])
    file = tmp_path / "set.npz"
    np.savez(file, x=x, y=y)
    back_x, back_y, no_x, no_y = read_npz(file)
    np.testing.assert_array_equal(back_x, x)
    assert back_y.tolist() == [[0], [1]] and no_x is None and no_y is None
    np.savez_compressed(file, x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    _, _, test_x, test_y = read_npz(file)
    assert test_x is not None and test_x.shape == (1, 5, 6, 3)
    assert test_y is not None and test_y.tolist() == [[0]]


def test_keys_of_medmnist(tmp_path: Path) -> None:
    x, y = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6), np.arange(4)[:, None]
    file = tmp_path / "med.npz"
    parts = {"train": slice(0, 2), "val": slice(2, 3), "test": slice(3, 4)}

    def save(*names: str) -> None:
        arrays = {f"{name}_images": x[parts[name]] for name in names}
        np.savez(file, **arrays, **{f"{name}_labels": y[parts[name]] for name in names})  # type: ignore[arg-type]

    save("train", "val", "test")
    train_x, train_y, test_x, test_y = read_npz(file)
    np.testing.assert_array_equal(train_x, x[:3])  # validation images join the training ones
    assert test_x is not None and test_y is not None
    np.testing.assert_array_equal(test_x, x[3:])
    assert train_y.tolist() == [[0], [1], [2]] and test_y.tolist() == [[3]]
    save("train", "val")
    _, _, _, test_y = read_npz(file)
    assert test_y is not None and test_y.tolist() == [[2]]  # the only ones that nothing was learned on
    save("train")
    assert read_npz(file)[2] is None
    save("val", "test")
    with pytest.raises(LimbeckError, match="keys test_images, .*as MedMNIST has them"):
        read_npz(file)
    np.savez(file, train_images=x, train_labels=y, val_images=x[:, :3], val_labels=y)
    assert read_npz(file)[2] is not None  # a test set of another size is refused later
    save("train", "val", "test")
    np.savez(file, train_images=x, train_labels=y, val_images=x[:, :3], val_labels=y, test_images=x, test_labels=y)
    with pytest.raises(LimbeckError, match=r"training arrays of shape \(5, 6\) but validation arrays of \(3, 6\)"):
        read_npz(file)


def test_bad_npz(tmp_path: Path) -> None:
    x, y = np.zeros((2, 3, 3), np.uint8), np.arange(2)
    file = tmp_path / "set.npz"
    with pytest.raises(LimbeckError, match=r"no file .*set\.npz"):
        read_npz(file)
    np.savez(file, images=x, labels=y)
    with pytest.raises(LimbeckError, match="keys images, labels; expected x and y, or x_train and y_train"):
        read_npz(file)
    np.savez(file, x=x, y=y, x_test=x)
    with pytest.raises(LimbeckError, match="keys x, x_test, y; expected"):
        read_npz(file)
    np.savez(file, x=np.array([object()]), y=y)
    with pytest.raises(LimbeckError, match="without pickled objects"):
        read_npz(file)
    np.savez(file, x=x, y=y)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(LimbeckError, match="not a readable .npz"):
        read_npz(file)
    file.write_bytes(b"hello")
    with pytest.raises(LimbeckError, match="not a readable .npz"):
        read_npz(file)
    file.write_bytes(b"")
    with pytest.raises(LimbeckError, match="not a readable .npz"):
        read_npz(file)
    with file.open("wb") as stream:
        np.save(stream, x)
    with pytest.raises(LimbeckError, match="single array"):
        read_npz(file)


def read_dataset(dataset: Any) -> Raw:
    return DatasetReader().read(dataset, None).as_arrays()


class Picture:
    """Behaves like a PIL image as far as the reader looks."""

    def __init__(self, pixels: npt.NDArray[Any], mode: str = "RGB") -> None:
        self.pixels, self.mode = pixels, mode

    def getbands(self) -> tuple[str, ...]:
        return tuple(self.mode)

    def convert(self, mode: str) -> Picture:
        return Picture(np.stack([self.pixels] * len(mode), -1), mode)

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        return self.pixels


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (HWC, HWC.transpose(2, 0, 1)),
        (HWC.transpose(2, 0, 1), HWC.transpose(2, 0, 1)),
        (HWC[:, :, 0], HWC[:, :, 0][None]),
        (torch.tensor(HWC).permute(2, 0, 1), HWC.transpose(2, 0, 1)),
        (torch.tensor(HWC).double(), HWC.transpose(2, 0, 1).astype(np.float32)),
        (torch.tensor(HWC[:, :, 0]).bfloat16(), HWC[:, :, 0][None].astype(np.float32)),
        (Picture(HWC), HWC.transpose(2, 0, 1)),
        (Picture(HWC[:3]), HWC[:3].transpose(2, 0, 1)),  # only a picture of height 3 can be told to be H, W, C
        (Picture(HWC[:, :, 0], "L"), HWC[:, :, 0][None]),
        (Picture(HWC[:, :, 0], "P"), np.stack([HWC[:, :, 0]] * 3)),
    ],
)
def test_dataset_image_forms(image: Any, expected: npt.NDArray[Any]) -> None:
    x, y = read_dataset(Items((image, 1), (image, torch.tensor(0)), (image, np.int32(2)))).train
    assert x.dtype == expected.dtype and x.shape == (3, *expected.shape)
    np.testing.assert_array_equal(x[1], expected)
    assert y.tolist() == [1, 0, 2] and y.dtype == np.int64


def test_tensor_dataset_of_torch() -> None:
    x, y = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    back_x, back_y = read_dataset(TensorDataset(x, y)).train
    np.testing.assert_array_equal(back_x, x.numpy())
    np.testing.assert_array_equal(back_y, y.numpy())


class Stream(IterableDataset[Any]):
    """A data set without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Items(), "Items has no items"),
        (Stream(), "Stream is not a map-style"),
        (Items({"image": HWC}), "Item 0 .* is a dict, expected a pair"),
        (Items((HWC, 0), (HWC,)), "Item 1 .* is a tuple, expected a pair"),
        (Items((HWC, 0), (HWC[:, :5], 0)), r"Item 1 .*\(5, 5, 3\).*item 0 .*\(5, 6, 3\)"),
        (Items((HWC, 0), (HWC.astype(np.float32), 0)), "Item 1 .* is float32"),
        (Items(("cat.png", 0)), "image of item 0 "),
        (Items((HWC[None], 0)), "image of item 0 "),
        (Items((np.float32(3), 0)), "image of item 0 "),
        (Items((HWC, 0), (HWC, [0, 1])), r"label of item 1 has shape \(2,\), but that of item 0 has \(\)"),
        (Items(([[1, 2], [3]], 0)), "pixels of item 0 do not form one array"),
        (Items((HWC, [[0, 1]])), "label of item 0 has shape"),
        (Items((HWC, [0.5, 0.5])), "labels of shape .1, 2. are soft"),
        (Items((HWC, "")), "1 of the training labels are empty"),
        (Items((HWC, 0.5)), "whole class numbers"),
    ],
)
def test_bad_datasets(dataset: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        read_dataset(dataset)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([3, 4]),
    height=st.integers(5, 8),
    width=st.integers(5, 8),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64, np.int32]),
)
def test_channels_first_and_last_agree(n: int, channels: int, height: int, width: int, dtype: Any) -> None:
    first = np.arange(n * channels * height * width).reshape(n, channels, height, width).astype(dtype)
    x = examples_NCHW(first, "some")
    np.testing.assert_array_equal(x, first)
    np.testing.assert_array_equal(examples_NCHW(first.transpose(0, 2, 3, 1), "some"), x)
    assert x.dtype == (np.uint8 if dtype == np.uint8 else np.float32)


def test_other_image_forms() -> None:
    assert examples_NCHW(torch.zeros(2, 4, 4), "some").shape == (2, 1, 4, 4)
    assert examples_NCHW([[[0, 1], [1, 0]]], "some").shape == (1, 1, 2, 2)
    assert examples_NCHW(np.zeros((2, 4, 4), bool), "some").dtype == np.float32
    assert examples_NCHW(np.zeros((2, 5, 8, 8)), "some").shape == (2, 5, 8, 8)
    assert examples_NCHW(torch.zeros(2, 3, 5, 5, requires_grad=True), "some").shape == (2, 3, 5, 5)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 32, 32), "first"),
        ((1, 28, 28), "first"),
        ((1, 64, 101), "first"),
        ((3, 8, 2), "first"),
        ((1, 4, 4), "first"),
        ((3, 4, 4), "first"),
        ((5, 8, 8), "first"),
        ((1, 1, 1), "first"),
        ((28, 28, 1), "last"),
        ((32, 32, 3), "last"),
        ((48, 64, 3), "last"),
        ((4, 4, 1), "last"),
        ((4, 4, 3), "last"),
        ((12, 100, 1), None),
        ((512, 1, 1), None),
        ((16, 3, 3), None),
        ((16, 4, 4), None),
        ((3, 3, 3), None),
        ((8, 8, 8), None),
        ((8, 8, 2), None),
        ((8, 8, 5), None),
        ((2, 28, 32), None),
        ((3, 32, 3), None),
    ],
)
def test_where_the_channels_are(shape: tuple[int, int, int], axis: str | None) -> None:
    assert channel_axis(shape) == axis
    x = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    first, last = (examples_NCHW(x, "some", channels=place) for place in ("first", "last"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(last, x.transpose(0, 3, 1, 2))
    if axis is not None:
        np.testing.assert_array_equal(examples_NCHW(x, "some"), first if axis == "first" else last)
        return
    a, b, c = shape
    with pytest.raises(
        LimbeckError, match=rf"\(N, {a}, {b}, {c}\) can be read as {a} channels? of {b} × {c} pixels"
    ) as caught:
        examples_NCHW(x, "some")
    assert f"{c} channel" in str(caught.value) and f"of {a} × {b} pixels" in str(caught.value)
    assert "channels='last'" in str(caught.value) and "mine.npz,channels=last" in str(caught.value)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_the_two_layouts_of_an_image_are_never_both_taken_for_first(sizes: list[int]) -> None:
    """What is read one way is not read so when its channels are moved to the other end, but for equal readings."""
    a, b, c = sizes
    moved = channel_axis((b, c, a))
    if channel_axis((a, b, c)) == "first" and a in (1, 3, 4) and b == c > a:
        assert moved == "last"
    if channel_axis((a, b, c)) == "last":
        assert channel_axis((c, a, b)) == "first"


def test_tables_and_series() -> None:
    rows = np.arange(12).reshape(3, 4)
    assert examples_NCHW(rows, "some").shape == (3, 4, 1, 1)
    series = examples_NCHW(rows.astype(np.uint8), "some", kind="series")
    assert series.shape == (3, 1, 1, 4) and series.dtype == np.float32  # bytes that are no pixels
    many = np.arange(24).reshape(2, 3, 4)
    assert examples_NCHW(many, "some").shape == (2, 1, 3, 4)
    last = examples_NCHW(many, "some", kind="series")
    assert last.shape == (2, 4, 1, 3) and last[1, 2, 0].tolist() == many[1, :, 2].tolist()
    assert examples_NCHW(many, "some", kind="series", channels="first").shape == (2, 3, 1, 4)
    for shape, kind, message in (
        ((2, 3), "images", r"images must have shape \(N, H, W\)"),
        ((2, 3, 4), "table", r"rows of a table must have shape \(N, D\)"),
        ((2, 3, 4, 5), "series", r"series must have shape \(N, T\)"),
        ((2,), None, r"examples must be images .* or rows of a table \(N, D\), got \(2,\)"),
    ):
        with pytest.raises(LimbeckError, match=message):
            examples_NCHW(np.zeros(shape), "some", kind=kind)  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match="1 of the some rows have NaN or infinite numbers, the first at index 1"):
        examples_NCHW([[0.0, 1], [np.nan, 2]], "some")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 3, 3)), "empty"),
        (np.zeros((2, 0, 3)), "empty"),
        (np.full((2, 3, 3), "a"), "real numbers"),
        (np.zeros((2, 3, 3), complex), "real numbers"),
        ([[[1, 2], [3]]], "do not form one array"),
        (np.array([[[0.0]], [[np.nan]], [[np.inf]]]), "2 of the some images have NaN or infinite.*index 1"),
        (np.array([[[1e300]]]), "1 of the some images have NaN or infinite.*index 0"),
    ],
)
def test_bad_images(images: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        examples_NCHW(images, "some")


def test_label_forms() -> None:
    for labels in ([2, 0], np.array([[2], [0]], np.uint8), torch.tensor([2.0, 0.0]), np.eye(3)[[2, 0]], [-2, 2**40]):
        values = label_values(labels, "some")
        assert values.dtype == np.int64 and values.tolist() in ([2, 0], [-2, 2**40])
    assert label_values(np.eye(3, dtype=bool)[[1, 2]], "some").tolist() == [1, 2]
    assert label_values(np.array([True, False]), "some").tolist() == [True, False]
    for texts in (["b", "a"], np.array(["b", "a"], object), np.array([b"b", b"a"]), [["b"], ["a"]]):
        assert label_values(texts, "some").tolist() == ["b", "a"]
    assert label_values(np.array([3, 1], object), "some").tolist() == [3, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1], "whole class numbers"),
        ([np.nan, 1], "1 of the some labels are NaN"),
        ([np.inf, 1], "whole class numbers"),
        (np.array([0, 2**64 - 1], np.uint64), "got 0 to"),
        ([[0.2, 0.8], [1, 0]], r"labels of shape \(2, 2\) are soft"),
        ([[1, 0, 0], [1, 1, 0]], "give example 1 2 classes; each must have one"),
        ([[1, 0, 0], [0, 0, 0]], "give example 1 0 classes"),
        ([[1, 0, 0], [0, 2, 0]], r"shape \(N,\), got \(2, 3\)"),
        (["cat", ""], "1 of the some labels are empty"),
        (np.array(["cat", None], object), "1 of the some labels are missing"),
        (np.array(["cat", 3], object), "all numbers or all texts, got int, str"),
        (np.array([1j]), "numbers or texts, got dtype complex128"),
        ([[0], [1, 2]], "do not form one array"),
        (3, r"shape \(N,\), got \(\)"),
    ],
)
def test_bad_labels(labels: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        label_values(labels, "some")
