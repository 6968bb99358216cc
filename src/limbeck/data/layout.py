"""Examples of every kind in one form, (N, C, H, W): which axis is the channels, and what is asked for.

Images are (N, C, H, W). A table (N, D) is (N, D, 1, 1): a feature is a channel, normalised on its own. A series of T
steps is (N, C, 1, T). Shapes: N examples, C channels, H × W pixels, D features, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from limbeck.data.arrays import Array, as_array
from limbeck.data.reading import Channels, Kind
from limbeck.errors import LimbeckError

CHANNELS: Final = (1, 3, 4)  # grey, RGB, RGB and alpha: the sizes that mark an axis as channels
NOUNS: Final[Mapping[Kind, str]] = MappingProxyType({"images": "images", "table": "rows", "series": "series"})
_ROUNDING: Final = 1e-12  # numbers that differ by less than this part of their size are equal but for rounding,
_LOST: Final = 3e-6  # and by less than this they have too few steps of single precision between them
_AT_ONCE: Final = 1 << 24  # numbers that are looked at at a time


def channel_axis(shape: tuple[int, ...]) -> Channels | None:
    """Where the channels of an image are, by its three sizes; None if it can be read both ways.

    Channels are last in (H, W, 3 or 4) of larger H and W, and in (H, W, 1) of larger, equal H and W. They are first in
    (1, 3 or 4, H, W) of larger H and W or where the last axis is another, and before two equal axes. The rest could be
    either.

    >>> [channel_axis(shape) for shape in ((3, 32, 32), (28, 28, 1), (12, 100, 1), (16, 3, 3), (8, 8, 5))]
    ['first', 'last', None, None, None]
    """
    a, b, c = shape
    if a == b == c == 1:
        return "first"
    if a in CHANNELS and (c not in CHANNELS or min(b, c) > a):
        return "first"
    if c in CHANNELS and min(a, b) > c and (c > 1 or a == b):
        return "last"
    if c not in CHANNELS and a != b == c:
        return "first"
    return None


def kind_of(axes: int, asked: Kind | None, shape: tuple[int, ...], what: str) -> Kind:
    """What examples with so many axes, N included, are.

    Raises:
        LimbeckError: examples that can be none of the kinds, or not the one that is asked for.
    """
    if asked is None and axes in (2, 3, 4):
        return "table" if axes == 2 else "images"
    possible: dict[Kind | None, tuple[int, ...]] = {"images": (3, 4), "table": (2,), "series": (2, 3)}
    if axes in possible.get(asked, ()) and asked is not None:
        return asked
    forms = {
        "images": "The {} images must have shape (N, H, W), (N, C, H, W) or (N, H, W, C)",
        "table": "The {} rows of a table must have shape (N, D)",
        "series": "The {} series must have shape (N, T) or (N, T, C)",
        None: "The {} examples must be images (N, H, W), (N, C, H, W) or (N, H, W, C), or rows of a table (N, D)",
    }
    raise LimbeckError(f"{forms[asked].format(what)}, got {shape}; reshape them.")


def examples_NCHW(values: object, what: str, *, kind: Kind | None = None, channels: Channels | None = None) -> Array:
    """Examples as (N, C, H, W): images of bytes stay bytes, everything else becomes float32.

    The array is shared with the original where that is possible, and need not be contiguous. Two axes are the rows of a
    table, three are grey images, or series if ``kind`` says so; of four see :func:`channel_axis`.

    Args:
        values: a tensor, an array or nested lists.
        what: names the examples in an error, such as "training".
        kind: what they are, where that is not told by the number of axes.
        channels: where the channels are, where that is not told by the sizes; of series they are last by default.

    Raises:
        LimbeckError: not numbers, another number of axes, empty, NaN or infinite, or images that can be read both ways.
    """
    x = as_array(values, f"{what} {NOUNS[kind or 'images']}")
    found = kind_of(x.ndim, kind, x.shape, what)
    noun = NOUNS[found]
    if x.dtype.kind not in "buif":
        raise LimbeckError(f"The {what} {noun} must be real numbers, got dtype {x.dtype}.")
    if x.size == 0:
        raise LimbeckError(f"The {what} {noun} are empty (shape {x.shape}); at least one is needed.")
    if found == "table":
        x = x[:, :, None, None]
    elif found == "series":
        x = x[:, None, None] if x.ndim == 2 else (x if channels == "first" else x.transpose(0, 2, 1))[:, :, None]
    elif x.ndim == 3:
        x = x[:, None]
    elif (channels or channel_axis(x.shape[1:]) or ask_for_channels(x.shape[1:], what)) == "last":
        x = x.transpose(0, 3, 1, 2)
    if x.dtype == np.uint8 and found == "images":
        return x
    _refuse_far_from_zero(x, what, noun)
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which the next check reports
        x = x.astype(np.float32, copy=False)
    refuse_not_finite(x, what, noun)
    return x


def _refuse_far_from_zero(x_NCHW: Array, what: str, noun: str) -> None:
    """Raise LimbeckError for numbers that differ, but not in single precision any more."""
    if x_NCHW.dtype.itemsize < 4 or x_NCHW.dtype == np.float32:
        return
    low_C, high_C = (reduce(x_NCHW, axis=(0, 2, 3)).astype(np.float64) for reduce in (np.min, np.max))
    with np.errstate(over="ignore", invalid="ignore"):
        part_C = (high_C - low_C) / np.maximum(np.abs(low_C), np.abs(high_C))
    lost_C = (part_C > _ROUNDING) & (part_C < _LOST)
    if lost_C.any():
        place = int(lost_C.argmax())
        raise LimbeckError(
            f"The {what} {noun} are from {low_C[place]:.10g} to {high_C[place]:.10g}"
            f"{'' if len(lost_C) == 1 else f' in channel {place}' if noun == 'images' else f' in column {place}'}, "
            "which single precision cannot tell apart; subtract their mean before you give them."
        )


def ask_for_channels(shape: tuple[int, ...], what: str) -> Channels:
    """Raise LimbeckError with both readings of an image's three sizes."""
    a, b, c = shape
    raise LimbeckError(
        f"The {what} images (N, {a}, {b}, {c}) can be read as {_channels(a)} of {b} × {c} pixels (channels first) or "
        f"as {_channels(c)} of {a} × {b} pixels (channels last); say which by channels='first' or channels='last' in "
        "load_data, or by the option of the data's name, as in mine.npz,channels=last."
    )


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def refuse_not_finite(x_NCHW: Array, what: str, noun: str) -> None:
    """Raise LimbeckError for examples with NaN or infinite numbers; says how many and which is the first."""
    step = max(1, _AT_ONCE // x_NCHW[0].size)
    bad = np.concatenate(
        [~np.isfinite(x_NCHW[start : start + step]).all(axis=(1, 2, 3)) for start in range(0, len(x_NCHW), step)]
    )
    if bad.any():
        numbers = "pixels" if noun == "images" else "numbers"
        raise LimbeckError(
            f"{int(bad.sum())} of the {what} {noun} have NaN or infinite {numbers}, the first at index "
            f"{int(bad.argmax())}; remove or repair them."
        )
