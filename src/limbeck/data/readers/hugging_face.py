"""Data sets of Hugging Face's ``datasets``: in memory, streamed, or saved to disk.

Those in memory are known by how they behave; only for those on disk is the package imported. Shapes: N examples.
"""

from __future__ import annotations

import importlib
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.data.readers.columns import table_of
from limbeck.data.readers.items import Items, random_source, read_items
from limbeck.data.readers.parts import PARTS, split_parts
from limbeck.data.readers.pictures import form_of, read_pictures
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError

_LABELS = ("label", "labels")
_IMAGES = ("image", "img", "pixel_values")
_TABLES = ("arrow", "pandas", "polars")  # formats whose rows are tables


@final
class HuggingFaceReader(Reader):
    """A ``Dataset``, an ``IterableDataset``, or a dictionary of such by the names of its parts."""

    name = "hugging-face"
    takes = "a data set of Hugging Face"
    options = frozenset({"image", "label", "limit"})

    def can_read(self, source: object) -> bool:
        """Whether it has columns and their features, or all its values have."""
        if isinstance(source, Mapping):
            return bool(source) and all(map(_is_dataset, source.values()))
        return _is_dataset(source)

    def data_name(self, source: Any) -> str:
        """What it calls itself; ``hugging-face`` where it does not."""
        first = next(iter(source.values())) if isinstance(source, Mapping) else source
        name = getattr(getattr(first, "info", None), "dataset_name", None)
        return name if isinstance(name, str) and name else "hugging-face"

    def read(self, source: Any, data_dir: Path | None) -> Raw:
        """All examples of the image and the label column, which their features tell."""
        return self.read_as(source, data_dir, Reading())

    def read_as(self, source: Any, data_dir: Path | None, reading: Reading) -> Raw:
        """All examples, or the first ones of each part, of the columns that are named."""
        return read_parts(source, self.data_name(source), reading)


@final
class SavedHuggingFaceReader(Reader):
    """The path of a folder that ``save_to_disk`` wrote; needs the extra ``huggingface``."""

    name = "saved-hugging-face"
    takes = "the path of a data set that Hugging Face saved"
    options = frozenset({"image", "label", "limit"})

    def can_read(self, source: object) -> bool:
        """Whether it is a folder with ``dataset_dict.json`` or ``dataset_info.json``."""
        files = ("dataset_dict.json", "dataset_info.json")
        return isinstance(source, str) and source != "" and any((Path(source) / file).is_file() for file in files)

    def data_name(self, source: str) -> str:
        """The folder's own name."""
        return Path(source).resolve().name

    def read(self, source: str, data_dir: Path | None) -> Raw:
        """The path is relative to the working directory, not to ``data_dir``."""
        return self.read_as(source, data_dir, Reading())

    def read_as(self, source: str, data_dir: Path | None, reading: Reading) -> Raw:
        """As :class:`HuggingFaceReader` does."""
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise LimbeckError(
                f"Reading {source} needs the package datasets; install it by pip install 'limbeck[huggingface]'."
            ) from error
        try:
            loaded = datasets.load_from_disk(source)
        except Exception as error:  # whatever its files are damaged by
            raise LimbeckError(
                f"{source} cannot be read as a data set of Hugging Face ({' '.join(str(error).split())})."
            ) from error
        return read_parts(loaded, source, reading)


def _is_dataset(value: object) -> bool:
    readable = hasattr(value, "__getitem__") or hasattr(value, "__iter__")
    return readable and hasattr(value, "features") and hasattr(value, "column_names")


def read_parts(source: Any, what: str, reading: Reading) -> Raw:
    """Training and test examples of a data set or of a dictionary of them.

    Raises:
        LimbeckError: no part to learn from, columns that cannot be told or are not there, or examples of more than one
            form.
    """
    parts = {"train": [source]}
    if isinstance(source, Mapping):
        known = [name for name in source if str(name).lower() in PARTS]
        if not known or (
            len(source) > len(known) and len(source) > 1 and not any(PARTS[n.lower()] == "train" for n in known)
        ):
            if len(source) > 1:
                raise LimbeckError(
                    f"{what} has the parts {', '.join(map(str, source))}; give one that is called train."
                )
            parts = {"train": list(source.values())}
        else:
            parts = {part: [source[name] for name in names] for part, names in split_parts(known, what).items()}
    datasets = [dataset for each in parts.values() for dataset in each]
    first = datasets[0]
    features = getattr(first, "features", None) or {}
    rows = [_rows(dataset, reading.limit, what) for dataset in datasets]
    joined = _Joined(rows)
    label, image = _columns(features, joined[0], what, reading)
    train = sum(len(each) for each in rows[: len(parts["train"])])
    names = getattr(features.get(label), "names", None)
    class_names = tuple(names) if names else None
    if image is None:
        raw = _table(joined, train, label, what, reading, "test" in parts)
        return replace(raw, class_names=class_names)
    items, channels, pictured = _examples(joined, image, label, what, reading, _dtype_of(features.get(image)))
    known_by = random_source([items], what)
    return Raw(
        train=(items.x[:train], items.y[:train]),
        test=(items.x[train:], items.y[train:]) if "test" in parts else None,
        class_names=class_names,
        channels=channels,
        pictured=pictured,
        known_by=known_by,
        random=known_by is not None,
    )


@final
class _Joined:
    """Several sequences of rows as one."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._places = [(each, index) for each in rows for index in range(len(each))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rows, place = self._places[index]
        row: Mapping[str, Any] = _readable(lambda: rows[place], f"Row {place}")
        return row


@final
class _First:
    """The first rows of a data set that can be read by index."""

    def __init__(self, dataset: Any, count: int) -> None:
        self._dataset, self._count = dataset, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]


def _rows(dataset: Any, limit: int | None, what: str) -> Any:
    """Rows by index; of a stream they are collected."""
    if (getattr(dataset, "format", None) or {}).get("type") in _TABLES:
        dataset = dataset.with_format(None)
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        rows: Any = _First(dataset, min(len(dataset), limit or len(dataset)))
    else:
        rows = _readable(lambda: list(itertools.islice(iter(dataset), limit)), f"A row of {what}")
    if len(rows) == 0:
        raise LimbeckError(f"{what} has a part without examples.")
    return rows


def _readable(read: Callable[[], Any], what: str) -> Any:
    """What a read gives; raises LimbeckError where it fails, as with a damaged picture."""
    try:
        return read()
    except Exception as error:  # of whatever decodes or transforms it
        raise LimbeckError(
            f"{what} of the data set cannot be read ({' '.join(str(error).split()) or type(error).__name__}); repair "
            "or leave it out."
        ) from error


def _columns(
    features: Mapping[str, Any], row: Mapping[str, Any], what: str, reading: Reading
) -> tuple[str, str | None]:
    """The columns of the labels and of the images; None for the second where the rest is a table."""
    names = [*row]
    for asked in (reading.label, reading.image):
        if asked is not None and asked not in row:
            raise LimbeckError(f"{what} has no column {asked}; it has the columns {', '.join(names)}.")
    kinds = {name: type(feature).__name__ for name, feature in features.items() if name in row}
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [n for n in _LABELS if n in row]
    label = reading.label or _only(labels, "label", "labels", names, what)
    images = [name for name, kind in kinds.items() if kind == "Image"]
    images = images or [name for name, value in row.items() if hasattr(value, "getbands")]
    images = images or [name for name, kind in kinds.items() if kind in ("Array2D", "Array3D")]
    images = images or [name for name in _IMAGES if name in row]
    if reading.image is not None or len(images) > 1:
        return label, reading.image or _only(images, "image", "images", names, what)
    return label, images[0] if images else None


def _only(found: Sequence[str], option: str, noun: str, names: Sequence[str], what: str) -> str:
    if len(found) == 1:
        return found[0]
    among = f"could be {' or '.join(found)}" if found else "cannot be told"
    raise LimbeckError(
        f"The column of the {noun} of {what} {among}; name it with the option {option}=COLUMN. It has the columns "
        f"{', '.join(names)}."
    )


def _decoded(stored: Mapping[str, Any]) -> Image.Image:
    """The picture in ``bytes``, or in the file at ``path``."""
    held = Path(stored["path"]).read_bytes() if stored["bytes"] is None else stored["bytes"]
    picture = Image.open(io.BytesIO(held))
    picture.load()
    return picture


def _dtype_of(feature: Any) -> str | None:
    """Of the numbers in a feature: rows have them as lists, which do not say that they are bytes."""
    while getattr(feature, "feature", None) is not None:
        feature = feature.feature
    return getattr(feature, "dtype", None)


def _examples(
    rows: _Joined, image: str, label: str, what: str, reading: Reading, dtype: str | None
) -> tuple[Items, Any, bool]:
    """Images and labels, where the channels are, and whether they were pictures, of any size and mode as in folders."""

    def item(index: int) -> tuple[Any, Any]:
        row = rows[index]
        value = row[image]
        if value is None:
            raise LimbeckError(f"Example {index} of {what} has no image; fill it in, or leave it out.")
        if isinstance(value, Mapping) and "bytes" in value:  # a picture that nobody decoded
            stored = value
            value = _readable(lambda: _decoded(stored), f"Picture {index}")
        return np.asarray(value, np.uint8) if dtype == "uint8" else value, row[label]

    first = item(0)[0]
    if not hasattr(first, "getbands"):
        items = read_items(item, len(rows), what, channels=reading.channels)
        return items, items.channels, False
    forms = [form_of(item(i)[0], f"Picture {i} of {what}") for i in range(len(rows))]
    x = read_pictures(lambda i: item(i)[0], forms, what, size=reading.size, name=lambda i: f"picture {i} of {what}")
    labels = read_items(lambda i: (x[i], item(i)[1]), len(rows), what, channels="first")
    return labels, "first", True


def _table(rows: _Joined, train: int, label: str, what: str, reading: Reading, has_test: bool) -> Raw:
    columns = {name: [rows[i][name] for i in range(len(rows))] for name in rows[0]}
    if len(columns) < 2:
        raise LimbeckError(f"{what} has only the column {label}; name that of the images with the option image=COLUMN.")
    raw = table_of(columns, what, Reading(label=label, kind=reading.kind))
    x, y = raw.train
    return Raw(train=(x[:train], y[:train]), test=(x[train:], y[train:]) if has_test else None, kind=reading.kind)
