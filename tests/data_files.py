"""Hand-made files of the official formats, shared by the tests of data/."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.utils.data import Dataset

from limbeck.data.known.cifar10 import CIFAR10_FILES

HWC = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array: npt.NDArray[Any]) -> bytes:
    """An IDX file, written from the format's description and independently of the reader."""
    code = IDX_CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx_set(folder: Path, n: int = 40, seed: int = 0, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for prefix, size in (("train", n), ("t10k", 10)):
        x = rng.integers(0, 256, (size, 28, 28)).astype(np.uint8)
        y = (np.arange(size) % 10).astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", x), (f"{prefix}-labels-idx1-ubyte", y)):
            raw = idx_bytes(array)
            (folder / (name + suffix)).write_bytes(gzip.compress(raw) if suffix else raw)


def write_cifar(folder: Path, per_batch: int = 2) -> npt.NDArray[Any]:
    """A tiny CIFAR-10 folder; returns its (batches, per_batch, 3073) records."""
    records = np.random.default_rng(0).integers(0, 256, (6, per_batch, 3073)).astype(np.uint8)
    records[:, :, 0] %= 10
    for name, batch in zip(CIFAR10_FILES, records, strict=True):
        (folder / name).write_bytes(batch.tobytes())
    return records


class Items(Dataset[Any]):
    """A map-style data set of given items."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


def write_pictures(folder: Path, images: npt.NDArray[Any], labels: npt.NDArray[Any], names: tuple[str, ...]) -> None:
    """A folder for each class, with PNG pictures that are called by their numbers."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / names[label] / f"{i}.png")


class Columns:
    """Behaves like a table of pyarrow as far as the reader looks."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def column(self, name: str) -> Any:
        return SimpleNamespace(to_pylist=lambda: self.columns[name])


class ClassLabel(SimpleNamespace):
    """The feature of that name, of Hugging Face."""


class Rows:
    """Behaves like a data set of Hugging Face: rows with columns, and what the columns are."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        self.rows, self.features = rows, features or None
        self.column_names = list(rows[0]) if rows else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class RowStream:
    """The same without a length, as it is streamed."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        self.rows, self.features, self.column_names = rows, features or None, list(rows[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


@contextmanager
def without_extras() -> Iterator[None]:
    """With stand-ins for pyarrow and Hugging Face's datasets, which read what ``pickle`` wrote."""

    def read(path: Any) -> Any:
        try:
            return pickle.loads(Path(path).read_bytes())
        except (EOFError, pickle.UnpicklingError) as error:
            raise ValueError("truncated") from error

    modules: dict[str, Any] = {
        "pyarrow.parquet": SimpleNamespace(read_table=lambda path: Columns(read(path))),
        "datasets": SimpleNamespace(load_from_disk=lambda path: read(Path(path) / "data.pickle")),
    }
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
