"""What every reader of ``READERS`` promises. A new one needs an example here, or fails by name.

Each example holds the same images, (N, 1, 28, 28) bytes, and labels of ten classes, in the reader's kind of source.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, final

import numpy as np
import pytest
import torch
from data_files import ClassLabel, Items, Rows, idx_bytes, without_extras, write_cifar, write_idx_set, write_pictures
from torch.utils.data import TensorDataset

from limbeck.data import READERS, Kind, Raw, Reader, load
from limbeck.data.arrays import Array
from limbeck.data.known import KNOWN_SETS, KnownSet, known_set
from limbeck.data.readers.named import NamedSetReader
from limbeck.data.sources import match_source
from limbeck.errors import LimbeckError


def random_images(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 28, 28)).astype(np.uint8)


X, Y = random_images(40, 0), np.arange(40) % 10
TEST_X, TEST_Y = random_images(10, 1), np.arange(10) % 10


@final
@dataclass(frozen=True, kw_only=True)
class Example:
    """How sources of one reader look.

    Attributes:
        source: puts (X, Y) and, where ``has_test``, (TEST_X, TEST_Y) below a folder or into memory.
        has_test: whether its sources have a test set of their own.
        damage: the same, spoilt.
        message: what the error must say of the spoilt one.
        name: what the data is called.
        kind: what the examples are there; rows of a table have a feature for each pixel.
        by_class: whether the examples come class by class.
    """

    source: Callable[[Path], Any]
    has_test: bool
    damage: Callable[[Path], Any]
    message: str
    name: str
    kind: Kind = "images"
    by_class: bool = False

    def stored(self, x: Array, y: Array) -> tuple[Array, Array]:
        """What comes of images and labels, in the order and the form of the source."""
        order = np.argsort(y, kind="stable") if self.by_class else np.arange(len(y))
        if self.kind == "table":
            x = x.reshape(len(x), -1, 1, 1).astype(np.float32)
        return x[order], y[order]


def idx_folder(folder: Path) -> str:
    arrays = {"train-images-idx3": X[:, 0], "train-labels-idx1": Y, "t10k-images-idx3": TEST_X[:, 0]}
    for name, array in (arrays | {"t10k-labels-idx1": TEST_Y}).items():
        (folder / "mnist").mkdir(exist_ok=True)
        (folder / "mnist" / f"{name}-ubyte").write_bytes(idx_bytes(array.astype(np.uint8)))
    return "mnist"


def short_idx_folder(folder: Path) -> str:
    idx_folder(folder)
    file = folder / "mnist/t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    return "mnist"


def npz_file(folder: Path) -> Path:
    np.savez(folder / "mine.npz", x=X, y=Y, x_test=TEST_X, y_test=TEST_Y)
    return folder / "mine.npz"


def short_npz_file(folder: Path) -> Path:
    npz_file(folder).write_bytes(npz_file(folder).read_bytes()[:-30])
    return folder / "mine.npz"


def picture_folder(folder: Path) -> str:
    for part, x, y in (("train", X, Y), ("test", TEST_X, TEST_Y)):
        write_pictures(folder / "pictures" / part, x[:, 0], y, tuple("0123456789"))
    return str(folder / "pictures")


def picture_folder_with_a_broken_one(folder: Path) -> str:
    picture_folder(folder)
    (folder / "pictures/test/3/3.png").write_bytes(b"hello")
    return str(folder / "pictures")


def columns() -> dict[str, list[Any]]:
    return {f"p{i}": column.tolist() for i, column in enumerate(X.reshape(40, -1).T)} | {"digit": Y.tolist()}


def csv_file(folder: Path) -> str:
    table = columns()
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    return f"{folder / 'mine.csv'},label=digit"


def short_csv_file(folder: Path) -> str:
    csv_file(folder)
    (folder / "mine.csv").write_text((folder / "mine.csv").read_text()[:-6])
    return f"{folder / 'mine.csv'},label=digit"


def parquet_file(folder: Path) -> str:
    (folder / "mine.parquet").write_bytes(pickle.dumps(columns()))
    return f"{folder / 'mine.parquet'},label=digit"


def short_parquet_file(folder: Path) -> str:
    parquet_file(folder)
    (folder / "mine.parquet").write_bytes(b"")
    return f"{folder / 'mine.parquet'},label=digit"


def rows(x: Array, y: Array) -> Rows:
    items = [{"id": i, "image": a[0], "label": int(b)} for i, (a, b) in enumerate(zip(x, y, strict=True))]
    return Rows(items, image=SimpleNamespace(), label=ClassLabel(names=list("0123456789")))


def saved_rows(folder: Path) -> str:
    (folder / "saved").mkdir(exist_ok=True)
    (folder / "saved/dataset_dict.json").write_text("{}")
    parts = {"train": rows(X, Y), "test": rows(TEST_X, TEST_Y)}
    (folder / "saved/data.pickle").write_bytes(pickle.dumps(parts))
    return str(folder / "saved")


def damaged_rows(folder: Path) -> str:
    saved_rows(folder)
    (folder / "saved/data.pickle").write_bytes(b"")
    return str(folder / "saved")


@pytest.fixture(autouse=True)
def stand_ins() -> Iterator[None]:
    with without_extras():
        yield


def tensors(x: Array, y: Array) -> TensorDataset:
    return TensorDataset(torch.tensor(x), torch.tensor(y))


EXAMPLES: Mapping[str, Example] = MappingProxyType(
    {
        "named": Example(
            source=idx_folder,
            has_test=True,
            damage=short_idx_folder,
            message=r"t10k-images-idx3-ubyte is truncated",
            name="mnist",
        ),
        "npz": Example(
            source=npz_file,
            has_test=True,
            damage=short_npz_file,
            message=r"mine\.npz is not a readable \.npz file",
            name="mine",
        ),
        "csv": Example(
            source=csv_file,
            has_test=False,
            damage=short_csv_file,
            message=r"mine\.csv has 78. fields in line 41, but 785 columns",
            name="mine",
            kind="table",
        ),
        "parquet": Example(
            source=parquet_file,
            has_test=False,
            damage=short_parquet_file,
            message=r"mine\.parquet is not a readable Parquet file",
            name="mine",
            kind="table",
        ),
        "saved-hugging-face": Example(
            source=saved_rows,
            has_test=True,
            damage=damaged_rows,
            message="saved cannot be read as a data set of Hugging Face",
            name="saved",
        ),
        "folder": Example(
            source=picture_folder,
            has_test=True,
            damage=picture_folder_with_a_broken_one,
            message=r"test/3/3\.png cannot be read as a picture",
            name="pictures",
            by_class=True,
        ),
        "hugging-face": Example(
            source=lambda _: {"train": rows(X, Y), "test": rows(TEST_X, TEST_Y)},
            has_test=True,
            damage=lambda _: {"train": rows(X, Y), "test": rows(TEST_X[:, :, 1:], TEST_Y)},
            message=r"Item 40 of the data set is uint8 of shape \(27, 28\)",
            name="hugging-face",
        ),
        "data-set": Example(
            source=lambda _: tensors(X, Y),
            has_test=False,
            damage=lambda _: Items(*zip(X[:-1], Y[:-1], strict=True), (X[-1, :, 1:], 0)),
            message=r"Item 39 of the data set is uint8 of shape \(1, 27, 28\)",
            name="tensordataset",
        ),
        "data-set-pair": Example(
            source=lambda _: (tensors(X, Y), Items(*zip(TEST_X, TEST_Y, strict=True))),
            has_test=True,
            damage=lambda _: (tensors(X, Y), Items()),
            message="The data set Items has no items",
            name="tensordataset",
        ),
        "array-pairs": Example(
            source=lambda _: ((X[:, 0], Y.tolist()), (TEST_X.transpose(0, 2, 3, 1), TEST_Y[:, None])),
            has_test=True,
            damage=lambda _: ((X, Y), (TEST_X, TEST_Y[:-1])),
            message="10 test images but 9 test labels",
            name="arrays",
        ),
        "arrays": Example(
            source=lambda _: (torch.tensor(X), torch.tensor(Y)),
            has_test=False,
            damage=lambda _: (X, Y + 0.5),
            message="training labels must be whole class numbers",
            name="arrays",
        ),
    }
)
NOBODYS = (3, None, X, [X, Y], {"x": X}, (X, Y, X), (X,), "mnits", "", "mine.npz.bak", b"mnist", {X.shape})

each_reader = pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])


def example_of(reader: Reader) -> Example:
    assert reader.name in EXAMPLES, f"the reader '{reader.name}' has no example in {__name__}"
    return EXAMPLES[reader.name]


def digest(*arrays: Array) -> str:
    """Written from the description of ``Raw.sha256``."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f"{array.dtype.str} {array.shape};".encode() + array.tobytes())
    return sha256.hexdigest()


def test_every_example_has_a_reader() -> None:
    assert [reader.name for reader in READERS] == list(EXAMPLES)


@each_reader
def test_it_is_the_one_that_is_asked(reader: Reader, tmp_path: Path) -> None:
    for name, example in EXAMPLES.items():
        match = match_source(example.source(tmp_path))
        assert (match.reader is reader) == (name == reader.name), name


@each_reader
def test_what_it_does_not_claim(reader: Reader) -> None:
    for source in NOBODYS:
        assert not reader.can_read(source), source


@each_reader
def test_it_says_what_it_takes(reader: Reader) -> None:
    with pytest.raises(LimbeckError, match="Cannot read data from this int; give ") as caught:
        load(3)  # type: ignore[arg-type]
    assert reader.takes in str(caught.value)


@each_reader
def test_the_same_arrays_have_one_digest(reader: Reader, tmp_path: Path) -> None:
    example = example_of(reader)
    data = load(example.source(tmp_path), data_dir=tmp_path)
    test = example.stored(TEST_X, TEST_Y) if example.has_test else ()
    assert data.sha256 == digest(*example.stored(X, Y), *test)
    assert data.name == example.name
    if example.has_test:
        assert torch.equal(data.test_x, torch.tensor(TEST_X)) and data.test_y.tolist() == TEST_Y.tolist()


@each_reader
def test_shapes_and_types(reader: Reader, tmp_path: Path) -> None:
    example = example_of(reader)
    raw = match_source(example.source(tmp_path)).read(tmp_path)
    assert (raw.test is not None) == example.has_test
    for x_NCHW, y_N in (raw.train, *([raw.test] if raw.test else [])):
        assert x_NCHW.dtype in (np.uint8, np.float32) and x_NCHW.ndim == 4
        assert y_N.dtype == np.int64 and y_N.shape == (len(x_NCHW),)
    data = load(example.source(tmp_path), data_dir=tmp_path)
    table = example.kind == "table"
    assert data.image_shape == ((784, 1, 1) if table else (1, 28, 28)) and data.kind == example.kind
    assert data.train_x.dtype == data.test_x.dtype == (torch.float32 if table else torch.uint8)
    assert data.train_x.is_contiguous() and data.test_x.is_contiguous()
    assert data.train_y.dtype == data.val_y.dtype == data.test_y.dtype == torch.int64
    assert data.num_classes == 10 and data.class_names == tuple("0123456789")


@each_reader
def test_reading_twice_gives_the_same_and_leaves_chance_alone(reader: Reader, tmp_path: Path) -> None:
    source, state, numpys = example_of(reader).source(tmp_path), torch.get_rng_state(), np.random.get_state()[1]
    first, second = (load(source, data_dir=tmp_path, seed=3) for _ in range(2))
    for part in ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y"):
        assert torch.equal(getattr(first, part), getattr(second, part)), part
    assert (first.name, first.sha256, first.preprocessing) == (second.name, second.sha256, second.preprocessing)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)


@each_reader
def test_the_task_does_not_share_the_source(reader: Reader, tmp_path: Path) -> None:
    source = example_of(reader).source(tmp_path)
    data = load(source, data_dir=tmp_path)
    pixels = [part.clone() for part in (data.train_x, data.val_x, data.test_x)]
    for part in (data.train_x, data.val_x, data.test_x):
        part.zero_()
    again = load(source, data_dir=tmp_path)
    assert all(map(torch.equal, (again.train_x, again.val_x, again.test_x), pixels))


@each_reader
def test_damaged_input_is_one_clear_sentence(reader: Reader, tmp_path: Path) -> None:
    example = example_of(reader)
    with pytest.raises(LimbeckError, match=example.message) as caught:
        load(example.damage(tmp_path), data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@each_reader
def test_options_change_what_has_a_name(reader: Reader, tmp_path: Path) -> None:
    source = example_of(reader).source(tmp_path)
    if not isinstance(source, str | Path):
        pytest.skip("arrays and data sets have no name that options could follow")
    if example_of(reader).kind == "table":
        with pytest.raises(LimbeckError, match="The option invert=True changes images, but the data set .* is a table"):
            load(f"{source},invert=True", data_dir=tmp_path)
        return
    plain, inverse = (load(text, data_dir=tmp_path) for text in (f"{source},invert=False", f"{source},invert=True"))
    assert torch.equal(inverse.train_x, 255 - plain.train_x) and torch.equal(inverse.test_x, 255 - plain.test_x)
    assert inverse.name == f"{plain.name},invert=True" and inverse.class_names == plain.class_names
    assert plain.sha256 == load(source, data_dir=tmp_path).sha256 != inverse.sha256


# --- the tables ------------------------------------------------------------------------------------------------------


@final
class Blank(Reader):
    """Reads whatever is ``"blank"`` as images of one grey value each."""

    name, takes = "blank", "'blank'"

    def can_read(self, source: object) -> bool:
        return source == "blank"

    def data_name(self, source: str) -> str:
        return source

    def read(self, source: str, data_dir: Path | None) -> Raw:
        return Raw(train=(np.arange(30)[:, None, None] * np.ones((4, 4)), np.arange(30) % 2), class_names=("a", "b"))


def test_a_reader_of_the_user() -> None:
    data = load("blank", readers=(Blank(), *READERS))
    assert data.name == data.source == "blank" and data.class_names == ("a", "b") and data.image_shape == (1, 4, 4)
    assert load("blank,size=8", readers=(*READERS, Blank())).image_shape == (1, 8, 8)
    with pytest.raises(LimbeckError, match="There is no data set, folder or file 'blank'"):
        load("blank")  # the table is as before
    with pytest.raises(LimbeckError, match=r"from this int; give 'blank', or the path of an \.npz file\."):
        load(3, readers=(Blank(), READERS[1]))  # type: ignore[arg-type]


def test_a_reader_that_lacks_something_cannot_be_made() -> None:
    class Nameless(Reader):
        takes = "nothing"

        def can_read(self, source: object) -> bool:
            return False

        def data_name(self, source: Any) -> str:
            return ""

        def read(self, source: Any, data_dir: Path | None) -> Raw:
            raise NotImplementedError

    with pytest.raises(TypeError, match="name"):
        Nameless()  # type: ignore[abstract]


@each_reader
def test_a_reader_registered_twice_is_refused(reader: Reader) -> None:
    message = f"^The reader '{reader.name}' is registered twice; give one of the two another name.$"
    with pytest.raises(LimbeckError, match=message):
        load((X, Y), readers=(*READERS, reader))


def test_a_table_of_other_known_sets(tmp_path: Path) -> None:
    mine = replace(known_set("fashion-mnist"), name="mine", folder="fashion-mnist", class_names=tuple("abcdefghij"))
    write_idx_set(tmp_path / "fashion-mnist")
    reader = NamedSetReader(sets=(*KNOWN_SETS, mine))
    data = load("Mine,rotate=90", data_dir=tmp_path, readers=(reader, *READERS[1:]))
    assert data.name == "mine,rotate=90" and data.class_names[0] == "a"
    with pytest.raises(LimbeckError, match="The data set 'mnist' is registered twice"):
        load("mnist", readers=(NamedSetReader(sets=(*KNOWN_SETS, KNOWN_SETS[0])),))


def folder_of_files(known: KnownSet, root: Path) -> None:
    if known.name == "cifar10":
        (root / known.folder).mkdir()
        write_cifar(root / known.folder, per_batch=40)
    elif known.module is None:
        write_idx_set(root / known.folder)


@pytest.mark.parametrize("known", KNOWN_SETS, ids=[known.name for known in KNOWN_SETS])
def test_every_known_set_is_what_its_entry_says(known: KnownSet, tmp_path: Path) -> None:
    if known.module is not None:
        pytest.importorskip(known.module)
    folder_of_files(known, tmp_path)
    raw = match_source(known.name.upper()).read(tmp_path)
    x_NCHW, y_N = raw.train
    assert x_NCHW.shape[1:] == known.image_shape and x_NCHW.dtype == np.uint8 and len(y_N) == len(x_NCHW)
    assert raw.class_names == known.class_names and raw.preprocessing == known.preprocessing
    assert (raw.test is not None) == (known.n_test > 0) and raw.count_classes() == len(known.class_names)
    for name in known.files:
        assert name not in known.missing(tmp_path / known.folder)
