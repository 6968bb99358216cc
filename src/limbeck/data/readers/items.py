"""Examples that come one by one, as arrays.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from limbeck.data.arrays import Array, as_array
from limbeck.data.layout import ask_for_channels, channel_axis
from limbeck.data.raw import update_digest
from limbeck.data.reading import Channels
from limbeck.errors import LimbeckError

_READ_TWICE: Final = 16  # items, to see whether they are the same again


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """Examples and labels of a data set.

    Attributes:
        x: (N, ...) as they came, pictures as (N, C, H, W) or (N, H, W).
        y: (N, ...) as they came.
        channels: which axis the channels are; None where that is no question.
        random: whether items that were read again were others.
    """

    x: Array
    y: Array
    channels: Channels | None
    random: bool

    def update(self, digest: Any) -> None:
        """Feed length and labels to a hash: what stays the same of images that are random."""
        labels = np.char.encode(self.y, "utf-8") if self.y.dtype.kind == "U" else self.y
        update_digest(digest, labels)


def read_items(
    item: Callable[[int], tuple[Any, Any]], count: int, what: str, *, channels: Channels | None = None
) -> Items:
    """All items of a data set of known length.

    Each is an example and a label. An image is a PIL picture (known by its ``getbands``), an array or a tensor: (H, W),
    (H, W, C) or (C, H, W). A PIL picture says itself what it is; of three axes see
    :func:`limbeck.data.layout.channel_axis`, and a tensor that could be both is (C, H, W), as torchvision makes them.
    All must be equal in shape and dtype. Whatever is drawn at random by the global generators of Python, NumPy and
    torch is the same each time, and leaves these as they were.

    Args:
        item: an example and its label by index; raises LimbeckError if there is none.
        count: N.
        what: names the data set in an error.
        channels: where the channels are, where the item does not say so.

    Raises:
        LimbeckError: no items, items of another form, or images of different size. Says which item.
    """
    if count == 0:
        raise LimbeckError(f"The data set {what} has no items.")
    with fixed_chance():
        first, label = item(0)
        first_x, axis = _example(first, 0, channels)
        x = np.empty((count, *first_x.shape), first_x.dtype)
        x[0] = first_x
        labels = [_label(label, 0)]
        for i in range(1, count):
            example, label = item(i)
            x[i], y = _like(first_x, example, i), _label(label, i)
            if y.shape != labels[0].shape:
                raise LimbeckError(
                    f"The label of item {i} has shape {y.shape}, but that of item 0 has {labels[0].shape}; bring all "
                    "to one form."
                )
            labels.append(y)
        again = sorted({int(i) for i in np.linspace(0, count - 1, min(_READ_TWICE, count))})
        read = {i: item(i) for i in again}
        changed = any(not np.array_equal(x[i], _like(first_x, read[i][0], i), equal_nan=_float(x)) for i in again)
        noisy = any(str(labels[i]) != str(_label(read[i][1], i)) for i in again)
    if noisy:
        warnings.warn(
            f"the labels of {what} are others whenever they are read; those that were read first are used", stacklevel=2
        )
    return Items(x=x, y=np.stack(labels), channels=axis, random=changed)


def random_source(parts: list[Items], what: str) -> str | None:
    """The digest by which a data set with random images is known, told with a warning; None where all are the same."""
    if not any(part.random for part in parts):
        return None
    warnings.warn(
        f"the images of {what} are others whenever they are read, so it has random transforms: those that were read "
        "first are used throughout, and the data is known by its length and labels",
        stacklevel=2,
    )
    digest = hashlib.sha256(b"random images;")
    for part in parts:
        part.update(digest)
    return digest.hexdigest()


def _float(x: Array) -> bool:
    return x.dtype.kind == "f"


def _like(first: Array, example: Any, index: int) -> Array:
    x = _pixels(example, index)
    if x.shape != first.shape or x.dtype != first.dtype:
        raise LimbeckError(
            f"Item {index} of the data set is {x.dtype} of shape {x.shape}, but item 0 is {first.dtype} of shape "
            f"{first.shape}; resize and convert all to one form."
        )
    return x


def _example(example: Any, index: int, channels: Channels | None) -> tuple[Array, Channels | None]:
    """The first example, and where the channels are of all of them."""
    x = _pixels(example, index)
    if x.ndim not in (1, 2, 3) or x.dtype.kind not in "buif" or x.size == 0:
        raise LimbeckError(
            f"The image of item {index} is {x.dtype} of shape {np.shape(x)}, expected numbers of shape (H, W), "
            "(H, W, C) or (C, H, W), or (D,) for a row of a table."
        )
    if x.ndim != 3:
        return x, None
    if hasattr(example, "getbands"):
        return x, "first"
    axis = channels or channel_axis(x.shape) or ("first" if isinstance(example, Tensor) else None)
    return x, axis or ask_for_channels(x.shape, "data set's")


def _pixels(example: Any, index: int) -> Array:
    """One example as an array, pictures with several bands as (C, H, W)."""
    picture = hasattr(example, "getbands")
    if picture and example.mode == "P":  # palette indices are no colours
        example = example.convert("RGB")
    x = as_array(example, f"pixels of item {index}")
    return x.transpose(2, 0, 1) if picture and x.ndim == 3 else x


def _label(label: Any, index: int) -> Array:
    y = as_array(label, f"label of item {index}")
    if y.ndim > 1 and y.size != 1:
        raise LimbeckError(f"The label of item {index} has shape {y.shape}, expected one class.")
    return y.reshape(()) if y.size == 1 else y


@contextmanager
def fixed_chance() -> Iterator[None]:
    """With the global generators of Python, NumPy and torch in one state, and as they were afterwards."""
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
