"""What people bring: labels of every kind, tables and series, layouts that must be asked for, random transforms."""

from __future__ import annotations

import random
import tracemalloc
import warnings
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import Items
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data import TaskData, load
from limbeck.errors import LimbeckError

N = 60
Y = np.arange(N) % 3
X = np.random.default_rng(0).integers(0, 256, (N, 8, 8)).astype(np.uint8)


def pairs(data: TaskData) -> dict[bytes, str]:
    """Each image and the name of its class."""
    found = {}
    for split in ("train", "val", "test"):
        for x_CHW, y in zip(getattr(data, f"{split}_x"), getattr(data, f"{split}_y").tolist(), strict=True):
            found[x_CHW.numpy().tobytes()] = data.class_names[y]
    return found


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["cat", "dog", "ape"])[Y], ("ape", "cat", "dog")),
        (np.array(["c10", "c9", "c1"])[Y], ("c1", "c9", "c10")),
        (np.array(["c10", "c9", "c1"], object)[Y], ("c1", "c9", "c10")),
        (np.array([5, 70, -2])[Y], ("-2", "5", "70")),
        (np.array([5.0, 70.0, -2.0])[Y], ("-2", "5", "70")),
        (Y > 0, ("False", "True")),
        (np.eye(3)[Y], ("0", "1", "2")),
        (np.eye(5, dtype=np.int64)[2 * Y], ("0", "2", "4")),
        (Y[:, None], ("0", "1", "2")),
        ([f"{y}" for y in 5 * Y], ("0", "5", "10")),
    ],
)
def test_classes_keep_their_names(labels: Any, names: tuple[str, ...]) -> None:
    data = load((X, labels))
    assert data.class_names == names
    plain = np.asarray(labels)
    plain = plain.argmax(1) if plain.ndim == 2 and plain.shape[1] > 1 else plain.ravel()
    expected = {x[None].tobytes(): str(int(y) if plain.dtype.kind == "f" else y) for x, y in zip(X, plain, strict=True)}
    assert pairs(data) == expected
    counted = torch.cat([data.train_y, data.val_y, data.test_y]).bincount()
    assert len(counted) == len(names) and counted.min() > 0


@given(st.permutations(range(4)), st.lists(st.text("ab1", min_size=1), min_size=4, max_size=4, unique=True))
def test_the_order_of_examples_does_not_change_the_classes(order: list[int], names: list[str]) -> None:
    labels = np.array(names)[np.repeat(order, 5)]
    x = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((20, 2, 2), np.uint8)
    data = load((x, labels))
    assert data.class_names == load((x[::-1], labels[::-1])).class_names and set(data.class_names) == set(names)
    assert all(name == labels[int(np.frombuffer(image, np.uint8)[0])] for image, name in pairs(data).items())


def test_training_and_test_labels() -> None:
    words = np.array(["a", "b", "c"])[Y]
    data = load(((X, words), (X[:4], words[[0, 1, 0, 1]])))
    assert data.class_names == ("a", "b", "c") and data.test_y.tolist() == [0, 1, 0, 1]  # no c in the test set
    with pytest.raises(LimbeckError, match=r"of the classes 'd' \(2\), 'e' \(1\), of which the training set has none"):
        load(((X, words), (X[:3], ["d", "e", "d"])))
    with pytest.raises(LimbeckError, match="training labels are texts, but the test labels are numbers"):
        load(((X, words), (X, Y)))


def test_names_of_a_data_set_without_examples_are_dropped() -> None:
    dataset = Items(*zip(X, 2 * Y, strict=True))
    dataset.classes = list("abcde")  # type: ignore[attr-defined]
    assert load(dataset).class_names == ("a", "c", "e")
    dataset.classes = list("abcd")  # type: ignore[attr-defined]
    with pytest.raises(LimbeckError, match="A training label is 4, out of range: with 4 classes"):
        load(dataset)


# --- which axis is the channels --------------------------------------------------------------------------------------


def test_the_channels_are_asked_for(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(N, 12, 100, 1)).astype(np.float32)
    with pytest.raises(
        LimbeckError, match=r"\(N, 12, 100, 1\) can be read as 12 channels of 100 × 1 pixels .* or as 1 "
    ):
        load((x, Y))
    assert load((x, Y), channels="first").image_shape == (12, 100, 1)
    assert load((x, Y), channels="last").image_shape == (1, 12, 100)
    assert load(((x, Y), (x, Y)), channels="last").test_x.shape == (N, 1, 12, 100)
    file = tmp_path / "ecg.npz"
    np.savez(file, x=x, y=Y)
    said = load(f"{file},channels=first")
    assert said.image_shape == (12, 100, 1) and said.name == "ecg" and said.source == f"{file},channels=first"
    same = load(file, channels="first")
    assert same.sha256 == said.sha256 and same.source == said.source  # found again, too
    assert load(f"{file},channels=last,size=4").image_shape == (1, 4, 4)
    with pytest.raises(LimbeckError, match="given with channels=last and channels=first; say one"):
        load(f"{file},channels=last", channels="first")
    for wrong in ("middle", 3):
        with pytest.raises(LimbeckError, match="Unknown place of the channels"):
            load((x, Y), channels=wrong)  # type: ignore[arg-type]


def test_items_that_say_themselves_where_the_channels_are() -> None:
    tensors = torch.rand(N, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    data = load(TensorDataset(tensors, torch.tensor(Y)))
    assert data.image_shape == (16, 3, 3)
    assert load(TensorDataset(tensors, torch.tensor(Y)), channels="last").image_shape == (3, 16, 3)
    pictures = Items(
        *((Image.fromarray(x[:4, :3].repeat(3, 1).reshape(4, 3, 3)), y) for x, y in zip(X, Y, strict=True))
    )
    assert load(pictures).image_shape == (3, 4, 3)
    arrays = Items(*zip(tensors.numpy(), Y, strict=True))
    with pytest.raises(LimbeckError, match=r"The data set's images \(N, 16, 3, 3\) can be read as"):
        load(arrays)
    assert load(arrays, channels="last").image_shape == (3, 16, 3)


# --- tables and series -----------------------------------------------------------------------------------------------


def test_a_table() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5)) * [1, 100, 1e-3, 1, 0] + [0, 5, 1, -3, 7]
    data = load((x, Y))
    assert data.kind == "table" and data.image_shape == (5, 1, 1) and data.train_x.dtype == torch.float32
    z = data.preprocessing.apply(data.train_x)[:, :, 0, 0]
    assert z.mean(0).abs().max() < 1e-4 and (z[:, :4].std(0, correction=0) - 1).abs().max() < 1e-4
    assert z[:, 4].abs().max() < 1e-6  # a constant feature
    assert len(data.preprocessing.mean) == 5 and "rows of 5 features, floats, 3 classes" in str(data)
    assert load((x.astype(np.uint8), Y)).train_x.dtype == torch.float32  # bytes that are no pixels
    dataset = load(TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(Y)))
    assert dataset.sha256 == data.sha256 and dataset.kind == "table"


def test_series(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(N, 20, 3)).astype(np.float32)
    assert load((x, Y)).kind == "images" and load((x, Y)).image_shape == (1, 20, 3)
    data = load((x, Y), kind="series")
    assert data.kind == "series" and data.image_shape == (3, 1, 20) and "series of 20 steps of 3 values" in str(data)
    assert load((x.transpose(0, 2, 1), Y), kind="series", channels="first").sha256 == data.sha256
    assert load((x[:, :, 0], Y), kind="series").image_shape == (1, 1, 20)
    np.savez(tmp_path / "mine.npz", x=x, y=Y)
    assert load(f"{tmp_path / 'mine.npz'},kind=series").sha256 == data.sha256
    with pytest.raises(
        LimbeckError, match=r"option rotate=90 changes images, but the data set '.*mine.npz' is a set of"
    ):
        load(f"{tmp_path / 'mine.npz'},kind=series,rotate=90")
    with pytest.raises(LimbeckError, match="Unknown kind of data 'serie'; did you mean 'series'"):
        load((x, Y), kind="serie")  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match="60 training series but 59 training labels; each series"):
        load((x, Y[1:]), kind="series")


def test_options_that_a_source_does_not_have(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=X, y=Y)
    with pytest.raises(LimbeckError, match=r"option label=y does nothing for the path of an \.npz file; leave it out"):
        load(tmp_path / "mine.npz", label="y")
    with pytest.raises(LimbeckError, match="option limit=5 does nothing for"):
        load(f"{tmp_path / 'mine.npz'},limit=5")
    for limit in (0, True, "many"):
        with pytest.raises(LimbeckError, match="limit on examples is"):
            load(Items(*zip(X, Y, strict=True)), limit=limit)  # type: ignore[arg-type]
    data = load(Items(*zip(X, Y, strict=True)), limit=30)
    assert sum(map(len, (data.train_y, data.val_y, data.test_y))) == 30


# --- random transforms -----------------------------------------------------------------------------------------------


class Mirrored(Dataset[Any]):
    """Mirrored at random whenever it is read, by a generator of torch, of Python, of NumPy or of its own."""

    def __init__(self, chance: str, y: Any = Y) -> None:
        self.chance, self.y, self.own = chance, y, random.Random(0)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        match self.chance:
            case "torch":
                flip = float(torch.rand(())) < 0.5
            case "python":
                flip = random.random() < 0.5
            case "numpy":
                flip = np.random.rand() < 0.5
            case _:
                flip = self.own.random() < 0.5
        return (X[index, :, ::-1].copy() if flip else X[index]), self.y[index]


@pytest.mark.parametrize("chance", ["torch", "python", "numpy", "own"])
def test_random_images_are_known_by_their_labels(chance: str) -> None:
    dataset = Mirrored(chance)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    with pytest.warns(UserWarning, match="the images of Mirrored are others whenever they are read") as caught:
        first = load(dataset)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="random transforms"):
        second = load(dataset)
    assert first.sha256 == second.sha256 == first.base_sha256
    assert torch.equal(first.train_x, second.train_x) == (chance != "own")  # by the global generators it is repeated
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    with pytest.warns(UserWarning, match="random transforms"):
        assert load(Mirrored(chance, Y[::-1])).sha256 != first.sha256
    with pytest.warns(UserWarning, match="random transforms"):
        assert load((dataset, Items(*zip(X, Y, strict=True)))).sha256 != first.sha256
    words = Mirrored(chance, [f"class {y}" for y in Y])
    with pytest.warns(UserWarning, match="random transforms"):
        assert load(words).class_names == ("class 0", "class 1", "class 2")


def test_images_that_stay_the_same_are_known_by_themselves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (load(Items(*zip(x, Y, strict=True))) for x in (X, X[::-1]))
    assert first.sha256 != second.sha256


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ma.masked_less(X, 9), Y, r"training images are masked.*x\.filled\(0\)"),
        (X, np.ma.masked_equal(Y, 2), r"training labels are masked"),
        (X * 1e-3 + 1e6, Y, r"1000000 to 1000000\.255, which single precision cannot tell apart; subtract their mean"),
        (X.astype(np.int64) + 2**40, Y, "single precision cannot tell apart"),
        (np.full((N, 8, 8), 3.5), Y, "All pixels of all training images are 3.5"),
        (torch.empty(N, 8, 8, device="meta"), Y, "training images are a tensor that cannot be read .*meta device"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), Y, "cannot be read"),
        (X, torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "labels.* cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_what_hides_or_loses_its_values_is_refused(x: Any, y: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        load((x, y))


@pytest.mark.parametrize(
    "like",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.requires_grad_,
        lambda x: torch.quantize_per_tensor(x, 1.0, 0, torch.qint32),
        lambda x: torch.complex(x, -x).conj().imag,
        lambda x: x.to(torch.float8_e4m3fn),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_tensors_of_every_make(like: Any) -> None:
    x = torch.from_numpy(X // 16).float()  # which eight bits hold
    assert torch.equal(load((like(x.clone()), Y)).train_x, load((x, Y)).train_x)


class NoisyLabels(Dataset[Any]):
    """The same images with other labels each time."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return X[index], int(torch.randint(3, ()))


def test_random_labels_are_noticed() -> None:
    with pytest.warns(UserWarning, match="the labels of NoisyLabels are others whenever they are read"):
        load(NoisyLabels())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))), r"give its data set, loader\.dataset"),
        ([X, Y], r"as a tuple, \(x, y\)"),
        ({"x": X, "y": Y}, r"as a tuple, \(x, y\)"),
        (list(zip(X, Y, strict=True)), r"np\.stack"),
        ((X, None), r"nothing beside the images: give \(x, y\)"),
        (((X, Y), None), r"nothing beside the images: give \(x, y\)"),
    ],
)
def test_what_is_nearly_data_says_what_is(source: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        load(source)


def test_members_of_an_enumeration_are_called_by_their_names() -> None:
    colours = list(Enum("Colour", "red green blue"))
    assert load((X, [colours[y] for y in Y])).class_names == ("blue", "green", "red")


def test_an_array_of_arrays() -> None:
    ragged = np.empty(N, object)
    ragged[:] = list(X)
    with pytest.raises(LimbeckError, match=r"array of arrays; make one of them, as with np\.stack"):
        load((ragged, Y))


# --- what is shown, what is held -------------------------------------------------------------------------------------


def test_a_task_says_what_it_is() -> None:
    data = load((X, np.array(["ape", "cat", "dog"])[Y]))
    assert data.summary() == (
        "arrays: 8 × 8 grey images, bytes, 3 classes (ape, cat, dog); 40 training, 10 validation, 10 test"
    )
    assert repr(data) == f"TaskData({data.summary()})"
    title, head, *rows, total = str(data).splitlines()
    assert title == "arrays: 8 × 8 grey images, bytes, 3 classes" and head.split() == [
        "class",
        "training",
        "validation",
        "test",
    ]
    assert [row.split()[0] for row in rows] == ["ape", "cat", "dog"] and total.split() == ["all", "40", "10", "10"]
    colours = load((np.eye(5)[np.zeros((300, 5, 3), int)].transpose(0, 1, 3, 2), np.arange(300) % 50))
    assert "5 × 5 RGB images, floats, 50 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …)" in colours.summary()
    assert len(str(colours).splitlines()) == 27 and "…" in str(colours)


@pytest.mark.parametrize("shape", [(1, 28, 28), (28, 28, 1)])
def test_bytes_are_copied_once(shape: tuple[int, int, int]) -> None:
    x = np.zeros((40_000, *shape), np.uint8)
    x[0] = 1
    y = np.arange(40_000) % 4
    tracemalloc.start()
    load(((x, y), (x[:4000], y[:4000])))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.1 * x.nbytes + 24e6  # what a slice at a time and the labels need
