"""Map-style data sets, such as those of torchvision.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from torch.utils.data import Dataset

from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.data.readers.items import Items, random_source, read_items
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError


@final
class DatasetReader(Reader):
    """All items of one data set; a test set is held out of them."""

    name = "data-set"
    takes = "a map-style data set"

    def can_read(self, source: object) -> bool:
        """Whether it is a data set, see :func:`is_dataset`."""
        return is_dataset(source)

    def data_name(self, source: object) -> str:
        """Its class in lower case."""
        return type(source).__name__.lower()

    options = frozenset({"limit"})

    def read(self, source: Any, data_dir: Path | None) -> Raw:
        """Item by item."""
        return self.read_as(source, data_dir, Reading())

    def read_as(self, source: Any, data_dir: Path | None, reading: Reading) -> Raw:
        """Item by item, the first ones if there is a limit."""
        return _raw([source], reading)


@final
class DatasetPairReader(Reader):
    """All items of two data sets, training and test; the first says what the classes are called."""

    name = "data-set-pair"
    takes = "a pair of data sets"

    def can_read(self, source: object) -> bool:
        """Whether it is a tuple of two data sets, see :func:`is_dataset`."""
        return isinstance(source, tuple) and len(source) == 2 and all(map(is_dataset, source))

    def data_name(self, source: tuple[Any, Any]) -> str:
        """The first one's class in lower case."""
        return type(source[0]).__name__.lower()

    options = frozenset({"limit"})

    def read(self, source: tuple[Any, Any], data_dir: Path | None) -> Raw:
        """Item by item."""
        return self.read_as(source, data_dir, Reading())

    def read_as(self, source: tuple[Any, Any], data_dir: Path | None, reading: Reading) -> Raw:
        """Item by item, the first ones of each if there is a limit."""
        return _raw([*source], reading)


def is_dataset(value: object) -> bool:
    """Whether it is a data set of torch, or behaves like one without being an array or a container."""
    if isinstance(value, Dataset):
        return True
    by_index = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return by_index and not hasattr(value, "__array__") and not isinstance(value, tuple | list | Mapping | str | bytes)


def _class_names(dataset: object) -> tuple[str, ...] | None:
    """Those in its ``classes``, torchvision's convention; None if the data set does not follow it."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and len(names) > 1 and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def read_dataset(dataset: Any, reading: Reading | None = None) -> Items:
    """All items of a map-style data set, such as one of torchvision; see :func:`limbeck.data.readers.items.read_items`.

    Raises:
        LimbeckError: no length, no items, or items that are no pairs of an example and a label.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise LimbeckError(
            f"{type(dataset).__name__} is not a map-style data set: it needs a length and items by index; "
            "collect an iterable one into arrays (x, y) first."
        )
    said = reading or Reading()

    def item(index: int) -> tuple[Any, Any]:
        pair = dataset[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise LimbeckError(
                f"Item {index} of the data set is a {type(pair).__name__}, expected a pair (image, label)."
            )
        return pair[0], pair[1]

    count = min(len(dataset), said.limit or len(dataset))
    return read_items(item, count, type(dataset).__name__, channels=said.channels)


def _raw(datasets: list[Any], reading: Reading) -> Raw:
    parts = [read_dataset(dataset, reading) for dataset in datasets]
    known_by = random_source(parts, type(datasets[0]).__name__)
    train, *test = ((part.x, part.y) for part in parts)
    return Raw(
        train=train,
        test=test[0] if test else None,
        class_names=_class_names(datasets[0]),
        channels=parts[0].channels,
        known_by=known_by,
        random=known_by is not None,
    )
