"""Splits, batches, look-up and preprocessing of real data."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import HWC, Items, idx_bytes, write_cifar, write_idx_set
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from limbeck.data import Preprocessing, TaskData, available, known_names, load
from limbeck.data.known import KNOWN_SETS, known_set
from limbeck.data.registry import locate
from limbeck.data.splits import split_stratified
from limbeck.errors import LimbeckError
from limbeck.experiment.memory import LiveBytes


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arrays(n: int = 60, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """Images whose every pixel is the image's index, so that it can be told which image came out."""
    y = np.random.default_rng(seed).permutation(np.arange(n) % classes)
    x = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 1, 2, 2))
    return x.copy(), y


def ids(x_NCHW: torch.Tensor) -> set[int]:
    return set(x_NCHW[:, 0, 0, 0].int().tolist())


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data on this machine but what is embedded."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("LIMBECK_DATA", raising=False)
    return home


# --- preprocessing ---------------------------------------------------------------------------------------------------


def test_measured_data_is_standard() -> None:
    x = torch.randint(0, 256, (2500, 3, 4, 4), generator=gen(), dtype=torch.uint8)
    x[:, 1] //= 2
    x[:, 2] = 7
    pre = Preprocessing.measure(x)
    expected = x.double() / 255
    assert pre.scale == 1 / 255
    assert pre.mean == pytest.approx(expected.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert pre.std[:2] == pytest.approx(expected.std((0, 2, 3), correction=0).tolist()[:2], rel=1e-12)
    assert pre.std[2] == 1.0  # a constant channel
    z = pre.apply(x)
    assert z.dtype == torch.float32 and z.mean((0, 2, 3)).abs().max() < 1e-5
    assert z[:, :2].std((0, 2, 3)).sub(1).abs().max() < 1e-3 and z[:, 2].abs().max() < 1e-5


def test_measure_of_floats_far_from_zero() -> None:
    x = torch.randn(50, 1, 8, 8, generator=gen(), dtype=torch.float64).float() + 1000
    pre = Preprocessing.measure(x)
    assert pre.scale == 1.0
    assert pre.std[0] == pytest.approx(float(x.double().std(correction=0)), rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    scale=st.floats(1e-3, 10),
    channels=st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=4),
)
def test_preprocessing_round_trips(scale: float, channels: list[tuple[float, float]]) -> None:
    mean, std = zip(*channels, strict=True)
    pre = Preprocessing(scale=scale, mean=mean, std=std)
    assert Preprocessing.from_json(pre.to_json()) == pre
    x = torch.rand(2, len(channels), 3, 3, generator=gen(), dtype=torch.float32)
    before = x.clone()
    torch.testing.assert_close(pre.invert(pre.apply(x)), x * scale, atol=1e-4, rtol=1e-4)
    assert torch.equal(x, before)  # neither works in place


def test_preprocessing_passes_gradients() -> None:
    pre = Preprocessing(scale=2.0, mean=(0.5,), std=(0.25,))
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    pre.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [[[[8.0, 8.0], [8.0, 8.0]]]]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"scale": 1, "mean": [0]}, "Damaged"),
        ({"scale": 1, "mean": ["a"], "std": [1]}, "Damaged"),
        ({"scale": None, "mean": [0], "std": [1]}, "Damaged"),
        ({"scale": 1, "mean": [0, 0], "std": [1]}, "one mean and one std"),
        ({"scale": 1, "mean": [], "std": []}, "one mean and one std"),
        ({"scale": 1, "mean": [0], "std": [0]}, "positive"),
        ({"scale": -1, "mean": [0], "std": [1]}, "positive"),
        ({"scale": 1, "mean": [float("nan")], "std": [1]}, "finite"),
    ],
)
def test_bad_preprocessing(saved: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Preprocessing.from_json(saved)


def test_preprocessing_refuses_other_channels() -> None:
    pre = Preprocessing(scale=1.0, mean=(0.0,), std=(1.0,))
    with pytest.raises(LimbeckError, match=r"for images \(\.\.\., 1, H, W\), got shape \(2, 3, 4, 4\)"):
        pre.apply(torch.zeros(2, 3, 4, 4))
    with pytest.raises(LimbeckError, match="got shape"):
        pre.invert(torch.zeros(4, 4))
    with pytest.raises(LimbeckError, match="Measuring needs images"):
        Preprocessing.measure(torch.zeros(0, 1, 2, 2))


def test_measuring_large_pictures_takes_little_memory() -> None:
    x = torch.arange(256, dtype=torch.uint8).expand(80, 3, 256, 256)
    with LiveBytes() as live:
        pre = Preprocessing.measure(x)
    assert live.peak < 80 * 3 * 256 * 256 * 8  # all of it as doubles
    assert pre.mean == pytest.approx((0.5,) * 3) and pre.std == pytest.approx((73.9 / 255,) * 3, abs=1e-4)


# --- splits ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=6),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_stratified(counts: list[int], fraction: float, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    size = int(fraction * (len(y) // 5))
    rest, drawn = split_stratified(y, size, len(counts), gen(seed))
    assert len(drawn) == size
    assert sorted([*rest, *drawn]) == list(range(len(y)))
    per_class = np.bincount(y[drawn], minlength=len(counts))
    assert (np.bincount(y[rest], minlength=len(counts)) >= 1).all()
    exact = size * np.array(counts) / len(y)
    if size >= len(counts):
        assert (per_class >= 1).all()
    if (exact >= 1).all():
        assert (abs(per_class - exact) < 1).all()
    again = split_stratified(y, size, len(counts), gen(seed))
    np.testing.assert_array_equal(drawn, again[1])


def test_splits_are_disjoint_and_complete() -> None:
    x, y = arrays(120)
    data = load((x, y), val_size=9)
    assert (len(data.train_y), len(data.val_y), len(data.test_y)) == (91, 9, 20)
    assert data.val_y.bincount().tolist() == [3, 3, 3]
    parts = [ids(part) for part in (data.train_x, data.val_x, data.test_x)]
    assert set.union(*parts) == set(range(120)) and sum(map(len, parts)) == 120
    for part_x, part_y in ((data.train_x, data.train_y), (data.val_x, data.val_y), (data.test_x, data.test_y)):
        assert part_y.tolist() == y[part_x[:, 0, 0, 0].long()].tolist()  # images keep their labels


def test_seed_moves_validation_but_not_test() -> None:
    first, same, other = (load(arrays(120), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train_x, same.train_x) and first.sha256 == same.sha256 == other.sha256
    assert ids(first.val_x) != ids(other.val_x) and ids(first.test_x) == ids(other.test_x)


def test_val_size_is_capped_and_test_is_kept() -> None:
    x, y = arrays(60)
    data = load(((x, y), (x[:4], y[:4])))
    assert (len(data.train_y), len(data.val_y), len(data.test_y)) == (48, 12, 4)
    assert data.test_x[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(LimbeckError, match="val_size must be at least 1"):
        load((x, y), val_size=0)


# --- TaskData --------------------------------------------------------------------------------------------------------


@pytest.fixture
def data() -> TaskData:
    return load(arrays(60))


def raw_ids(data: TaskData, x_NCHW: torch.Tensor) -> list[int]:
    return data.preprocessing.invert(x_NCHW)[:, 0, 0, 0].round().int().tolist()


def test_sample(data: TaskData) -> None:
    x, y = data.sample(gen(), 20)
    assert x.shape == (20, 1, 2, 2) and x.dtype == torch.float32 and y.dtype == torch.int64
    drawn = raw_ids(data, x)
    assert len(set(drawn)) == 20 and set(drawn) <= ids(data.train_x)
    again, _ = data.sample(gen(), 20)
    other, _ = data.sample(gen(1), 20)
    assert torch.equal(x, again) and not torch.equal(x, other)
    generator = gen()
    assert raw_ids(data, data.sample(generator, 20)[0]) != raw_ids(data, data.sample(generator, 20)[0])
    assert sorted(raw_ids(data, data.sample(gen(), len(data.train_y))[0])) == sorted(ids(data.train_x))
    assert len(data.sample(gen(), 500)[1]) == 500  # more than there are: with replacement
    with pytest.raises(LimbeckError, match="at least one image"):
        data.sample(gen(), 0)


def test_sampling_ignores_and_spares_the_global_generator(data: TaskData) -> None:
    before = torch.random.get_rng_state()
    data.sample(gen(), 5)
    load(arrays(60))
    assert torch.equal(before, torch.random.get_rng_state())


def test_per_class(data: TaskData) -> None:
    x = data.per_class(gen(), 4)
    assert x.shape == (3, 4, 1, 2, 2)
    labels = dict(zip(data.train_x[:, 0, 0, 0].int().tolist(), data.train_y.tolist(), strict=True))
    for k in range(3):
        drawn = raw_ids(data, x[k])
        assert len(set(drawn)) == 4 and {labels[i] for i in drawn} == {k}
    size = int((data.train_y == 0).sum())
    every = raw_ids(data, data.per_class(gen(), 2 * size)[0])
    assert len(set(every[:size])) == size and set(every) == set(every[:size])
    with pytest.raises(LimbeckError, match="At least one image"):
        data.per_class(gen(), 0)


def test_split_batches(data: TaskData) -> None:
    for split in ("train", "val", "test"):
        batches = list(data.split_batches(split, 7))
        assert all(len(y) == 7 for _, y in batches[:-1]) and 1 <= len(batches[-1][1]) <= 7
        x, y = (torch.cat(part) for part in zip(*batches, strict=True))
        assert torch.equal(x, data.preprocessing.apply(getattr(data, f"{split}_x")))
        assert torch.equal(y, getattr(data, f"{split}_y"))
    with pytest.raises(LimbeckError, match="Unknown split 'tests'; did you mean 'test'"):
        data.split_batches("tests", 7)  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match="at least one image"):
        data.split_batches("test", 0)


def test_properties_and_device(data: TaskData) -> None:
    assert data.image_shape == (1, 2, 2) and data.num_classes == 3 and data.class_names == ("0", "1", "2")
    moved = data.to("meta")
    assert moved.train_x.device.type == moved.test_y.device.type == "meta" and moved.sha256 == data.sha256


# --- sources ---------------------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_task(tmp_path: Path) -> None:
    x, y = arrays(60)
    file = tmp_path / "mine.npz"
    np.savez(file, x=x, y=y)
    tensors = torch.tensor(x), torch.tensor(y)
    sources: list[Any] = [(x, y), (x[:, 0], y.tolist()), tensors, file, str(file), TensorDataset(*tensors)]
    tasks = [load(source) for source in sources]
    assert len({task.sha256 for task in tasks}) == 1
    assert all(torch.equal(task.train_x, tasks[0].train_x) for task in tasks)
    assert [task.name for task in tasks] == ["arrays", "arrays", "arrays", "mine", "mine", "tensordataset"]
    pair = load((TensorDataset(*tensors), Items(*zip(*tensors, strict=True))))
    assert len(pair.test_y) == 60 and pair.sha256 == load(((x, y), (x, y))).sha256 != tasks[0].sha256
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    assert load(file).sha256 == pair.sha256


def test_later_changes_of_the_array_do_not_reach_the_task() -> None:
    x, y = arrays(60)
    data = load(((x, y), (x, y)))
    before = data.test_x.clone()
    x[:] = -1
    assert torch.equal(data.test_x, before)


def test_uint8_stays_uint8_and_is_scaled() -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3)).astype(np.uint8)
    data = load((x, np.arange(30) % 2))
    assert data.train_x.dtype == torch.uint8 and data.image_shape == (3, 6, 6)
    assert data.preprocessing.scale == 1 / 255 and all(0 < mean < 1 for mean in data.preprocessing.mean)


def test_class_names_of_a_dataset() -> None:
    dataset = Items(*((HWC, i % 2) for i in range(12)))
    dataset.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    assert load(dataset).class_names == ("cat", "dog")
    dataset.classes = [3, 4]  # type: ignore[attr-defined]
    assert load(dataset).class_names == ("0", "1")


class NoLength(Dataset[Any]):
    """Not quite map-style."""

    def __getitem__(self, index: int) -> Any:
        raise IndexError


X, Y = arrays(60)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnits", "There is no data set, folder or file 'mnits'; did you mean 'mnist'"),
        ("missing.npz", r"no file missing\.npz"),
        (3, "Cannot read data from this int; give a known name"),
        ((X, Y, X), "Cannot read data from this tuple"),
        (NoLength(), "not a map-style"),
        ((X, Y[:-1]), "60 training images but 59 training labels"),
        (((X, Y), (X, Y[:5])), "60 test images but 5 test labels"),
        (((X, Y), (X[:, :, :1], Y)), "bring both to one form"),
        (((X, Y), (X.astype(np.uint8), Y)), "bring both to one form"),
        (
            ((X, Y), (X, Y + 1)),
            r"The test set has examples of the class '3' \(20\), of which the training set has none",
        ),
        (((X, Y), (X, Y.astype(str))), "training labels are numbers, but the test labels are texts"),
        ((X, Y % 2 == 2), "at least 2 classes"),
        (((X, Y), (X[:0], Y[:0])), "test images are empty"),
        ((X, Y + 0.5), "whole class numbers"),
        ((X * np.nan, Y), "60 of the training images have NaN"),
        ((X[:0], Y[:0]), "empty"),
        ((X, Y * 0), "at least 2 classes"),
        ((X, Y * 0 + 2), "at least 2 classes"),
        ((X, np.arange(60)), r"Class 0 has too few .*\(1\): each of the 60 classes needs at least 3"),
        ((X, np.where(np.arange(60) < 2, 1, 0)), r"Class 1 has too few .*\(2\).*at least 3"),
        (((X, np.where(np.arange(60) < 1, 1, 0)), (X, Y % 2)), r"Class 1 has too few .*\(1\).*at least 2"),
        (((X[:4], [0, 0, 1, 1]), (X, Y % 2)), "4 training images are too few to split"),
        ((X[:, 0, 0, 0], Y), r"must be images \(N, H, W\)"),
    ],
)
def test_bad_sources(source: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        load(source)


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    file = tmp_path / "images.npy"
    np.save(file, X)
    with pytest.raises(
        LimbeckError, match=r"Cannot read data from the file .*images\.npy; give .*the path of an \.npz file"
    ):
        load(file)


# --- registry --------------------------------------------------------------------------------------------------------


def test_registry_is_consistent() -> None:
    assert known_names() == ("mnist", "fashion-mnist", "cifar10", "digits")
    for known in KNOWN_SETS:
        assert known_set(known.name.upper()) is known and len(known.class_names) == 10
        assert known.preprocessing is None or len(known.preprocessing.mean) == known.image_shape[0]
        fetched = [file for download in known.downloads for file in (download.members or (download.name,))]
        assert sorted(fetched) == sorted(known.files)
        hashes = [*known.files.values(), *(download.sha256 for download in known.downloads)]
        assert all(len(bytes.fromhex(value)) == 32 for value in hashes) and len(set(hashes)) == len(hashes)
    assert known_set("MNIST").name == "mnist"


def test_mnist_is_embedded(no_home: Path) -> None:
    rows = {row.name: row for row in available()}
    assert rows["mnist"].embedded and rows["mnist"].where == locate("mnist")
    assert rows["cifar10"].where is None and rows["cifar10"].to_json()["where"] is None
    assert rows["fashion-mnist"].n_train == 60_000 and rows["fashion-mnist"].classes == 10
    data = load("mnist")
    assert (len(data.train_y), len(data.val_y), len(data.test_y)) == (55_000, 5_000, 10_000)
    assert data.image_shape == (1, 28, 28) and data.train_x.dtype == torch.uint8
    assert data.class_names == tuple("0123456789") and data.preprocessing.mean == (0.1307,)
    measured = Preprocessing.measure(data.train_x)
    assert measured.mean == pytest.approx(data.preprocessing.mean, abs=1e-3)
    assert measured.std == pytest.approx(data.preprocessing.std, abs=1e-3)
    assert (data.val_y.bincount() - torch.cat([data.train_y, data.val_y]).bincount() / 12).abs().max() < 1


def test_look_up_order(no_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [tmp_path / "given", tmp_path / "variable", no_home / ".cache/limbeck"]
    for seed, root in enumerate(roots):
        write_idx_set(root / "mnist", seed=seed)
    monkeypatch.setenv("LIMBECK_DATA", str(roots[1]))
    for root in roots:
        assert locate("mnist", roots[0]) == root / "mnist"
        shutil.rmtree(root / "mnist")
    assert "embedded" in locate("mnist", roots[0]).parts


def test_missing_sets_say_where_and_how(no_home: Path, tmp_path: Path) -> None:
    write_idx_set(tmp_path / "fashion-mnist")
    (tmp_path / "fashion-mnist/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(LimbeckError) as caught:
        locate("fashion-mnist", tmp_path)
    message = str(caught.value)
    assert "`limbeck data get fashion-mnist`" in message and "without t10k-labels-idx1-ubyte.gz" in message
    assert str(tmp_path / "fashion-mnist") in message and str(no_home / ".cache/limbeck/fashion-mnist") in message
    with pytest.raises(LimbeckError, match="data directory .*typo is not there"):
        load("mnist", data_dir=tmp_path / "typo")


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_official_folders(no_home: Path, tmp_path: Path, suffix: str) -> None:
    write_idx_set(tmp_path / "fashion-mnist", suffix=suffix)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar(tmp_path / "cifar-10-batches-bin", per_batch=40)
    fashion = load("fashion-mnist", data_dir=tmp_path)
    assert fashion.class_names[9] == "Ankle boot" and len(fashion.val_y) == 8 and len(fashion.test_y) == 10
    cifar = load("cifar10", data_dir=tmp_path)
    assert cifar.image_shape == (3, 32, 32) and cifar.class_names[6] == "frog"
    assert len(cifar.train_y) == 160 and cifar.preprocessing.std == (0.247, 0.243, 0.261)


def test_label_out_of_range_in_a_known_set(no_home: Path, tmp_path: Path) -> None:
    write_idx_set(tmp_path / "mnist")
    labels = np.arange(40, dtype=np.uint8) % 11
    (tmp_path / "mnist/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    with pytest.raises(LimbeckError, match="training label is 10, out of range: with 10 classes"):
        load("mnist", data_dir=tmp_path)
