"""Map-style data sets, such as those of torchvision.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from torch.utils.data import Dataset

from limbeck.data.arrays import CHANNELS, Array, Pair, as_array, images_NCHW, labels_N
from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
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

    def read(self, source: Any, data_dir: Path | None) -> Raw:
        """Item by item."""
        return Raw(train=read_dataset(source), class_names=_class_names(source))


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

    def read(self, source: tuple[Any, Any], data_dir: Path | None) -> Raw:
        """Item by item."""
        train, test = source
        return Raw(train=read_dataset(train), test=read_dataset(test), class_names=_class_names(train))


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


def read_dataset(dataset: Any) -> Pair:
    """All items of a map-style data set, such as one of torchvision, as arrays.

    Each item is ``(image, label)``. The image is a PIL picture (known by its ``getbands``, PIL is not needed), an
    array or a tensor: (H, W), (H, W, C) or (C, H, W). A PIL picture is (H, W, C) for sure; of the others, three axes
    with the last 1, 3 or 4 long and the first not are (H, W, C), as for whole arrays. All must be equal in size and
    dtype.

    Returns:
        Images NCHW (uint8 stays uint8, everything else float32) and int64 labels.

    Raises:
        LimbeckError: no length, no items, items of another form, or images of different size. Says which item.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise LimbeckError(
            f"{type(dataset).__name__} is not a map-style data set: it needs a length and items by index; "
            "collect an iterable one into arrays (x, y) first."
        )
    count = len(dataset)
    if count == 0:
        raise LimbeckError(f"The data set {type(dataset).__name__} has no items.")
    first_x, first_y = _item(dataset, 0)
    x = np.empty((count, *first_x.shape), first_x.dtype)
    labels = []
    for i in range(count):
        image, label = (first_x, first_y) if i == 0 else _item(dataset, i)
        if image.shape != first_x.shape or image.dtype != first_x.dtype:
            raise LimbeckError(
                f"Item {i} of the data set is {image.dtype} of shape {image.shape} (C, H, W), but item 0 is "
                f"{first_x.dtype} of shape {first_x.shape}; resize and convert all to one form."
            )
        x[i] = image
        labels.append(label)
    return images_NCHW(x, "data set"), labels_N(np.stack(labels), "data set")


def _item(dataset: Any, index: int) -> Pair:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise LimbeckError(f"Item {index} of the data set is a {type(item).__name__}, expected a pair (image, label).")
    image, label = item
    x, y = _pixels(image, index), as_array(label, f"label of item {index}")
    if x.ndim != 3 or x.dtype.kind not in "buif":
        raise LimbeckError(
            f"The image of item {index} is {x.dtype} of shape {np.shape(x)}, expected numbers of shape (H, W), "
            "(H, W, C) or (C, H, W)."
        )
    if y.size != 1:
        raise LimbeckError(f"The label of item {index} has shape {y.shape}, expected one class number.")
    return x, y.reshape(())


def _pixels(image: Any, index: int) -> Array:
    """One image as (C, H, W) where that can be told."""
    picture = hasattr(image, "getbands")
    if picture and image.mode == "P":  # palette indices are no colours
        image = image.convert("RGB")
    x = as_array(image, f"pixels of item {index}")
    if x.ndim == 2:
        return x[None]
    if x.ndim == 3 and (picture or (x.shape[2] in CHANNELS and x.shape[0] not in CHANNELS)):
        return x.transpose(2, 0, 1)
    return x
