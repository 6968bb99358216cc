"""Data sets that are changed in a stated way: ``mnist,rotate=45,background=colour``.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from limbeck.common.naming import read_options
from limbeck.data.arrays import Array
from limbeck.data.pixels import backgrounds, invert, put_on, repeat_channel, resample, resize, rotate
from limbeck.data.reading import OPTIONS, Reading, take_reading
from limbeck.errors import LimbeckError, unknown

Option: TypeAlias = Literal["invert", "rotate", "resample", "background", "channels", "size"]

_OPTIONS: tuple[Option, ...] = ("invert", "rotate", "resample", "background", "channels", "size")
_BACKGROUNDS = ("colour",)
_LARGEST = 1024  # pixels along a side; a slip of the finger should not fill the memory
_SPLITS = ("training", "test")  # their places are the seeds of backgrounds


@final
@dataclass(frozen=True, kw_only=True)
class Change:
    """One option of a data set, its value checked as far as that goes without the images."""

    option: Option
    value: Any

    def __str__(self) -> str:
        """``option=value``, as people write it."""
        return f"{self.option}={self.value}"


def read_words(base: str, words: Iterable[str]) -> tuple[Reading, tuple[Change, ...]]:
    """How options say that a source is to be read, and the changes that they ask for.

    Changes are in their order; those that change nothing are left out.

    Raises:
        LimbeckError: an unknown option, one without a value or twice, or a value that does not fit.
    """
    reading, options = take_reading(read_options(base, words, "data set"))
    changes = []
    for key, value in options.items():
        option = next((option for option in _OPTIONS if option == key), None)
        if option is None:
            raise unknown(f"option of the data set '{base}'", key, (*_OPTIONS, *OPTIONS))
        effect = _read_value(option, value, base)
        if effect:  # not invert=False, rotate=0
            changes.append(Change(option=option, value=effect))
    return reading, tuple(changes)


def _read_value(option: Option, value: Any, base: str) -> bool | int | float | str:
    def fail(needed: str) -> LimbeckError:
        return LimbeckError(f"The option {option} of the data set '{base}' must be {needed}, got {value!r}.")

    whole = isinstance(value, int) and not isinstance(value, bool)
    match option:
        case "invert":
            if not isinstance(value, bool):
                raise fail("True or False")
            return value
        case "rotate":
            if not whole and not (isinstance(value, float) and math.isfinite(value)):
                raise fail("an angle in degrees, counter-clockwise, such as 45")
            angle = value % 360
            # What is left of a tiny negative angle rounds to a full turn.
            return int(angle) % 360 if angle == int(angle) else float(angle)
        case "background":
            if value not in _BACKGROUNDS:
                raise unknown("background", str(value), _BACKGROUNDS)
            return str(value)
        case "channels":
            if not whole or value != 3:
                raise fail("3 (or first or last, to say which axis they are)")
            return 3
        case "resample" | "size":
            if not whole or not 2 <= value <= _LARGEST:
                raise fail(f"a whole number of pixels, 2 to {_LARGEST}")
            return int(value)


def apply_changes(
    x_NCHW: Array,
    changes: tuple[Change, ...],
    base: str,
    split: Literal["training", "test"],
    *,
    numbers_at_once: int = 1 << 20,
) -> Array:
    """Images after all changes, one after the other; bytes stay bytes, and float32 stays float32.

    Args:
        x_NCHW: uint8 or float32.
        changes: what to do, in this order.
        base: names the data set in an error.
        split: backgrounds differ between training and test images.
        numbers_at_once: pixel values to work on at a time, so that no second copy of the data set in double precision
            is needed; the result does not depend on it.

    Raises:
        LimbeckError: a change that such images do not allow.
    """
    if not changes:
        return x_NCHW
    first = _apply(x_NCHW, 0, 1, changes, base, split)
    step = max(1, numbers_at_once // max(x_NCHW[0].size, first[0].numel()))
    out: Array = np.empty((len(x_NCHW), *first.shape[1:]), x_NCHW.dtype)
    for start in range(0, len(out), step):
        out[start : start + step] = _apply(x_NCHW, start, step, changes, base, split).numpy()
    return out


def _apply(
    x_NCHW: Array, start: int, count: int, changes: tuple[Change, ...], base: str, split: Literal["training", "test"]
) -> Tensor:
    x = torch.tensor(x_NCHW[start : start + count])  # a copy, because NumPy's may be read-only
    for change in changes:
        _refuse(change, x, base)
        match change.option:
            case "invert":
                x = invert(x)
            case "rotate":
                x = rotate(x, change.value)
            case "resample":
                x = resample(x, change.value)
            case "background":
                n, _, height, width = x.shape
                x = put_on(x, backgrounds(_SPLITS.index(split), start, n, height, width))
            case "channels":
                x = repeat_channel(x)
            case "size":
                x = resize(x, change.value)
    return x


def _refuse(change: Change, x_NCHW: Tensor, base: str) -> None:
    """Raise for what these images do not allow."""
    channels, height, width = x_NCHW.shape[1:]
    why = None
    if change.option == "resample" and change.value > min(height, width):
        why = f"resamples to more pixels than its images have, {height} × {width}; use size to enlarge them"
    elif change.option == "channels" and channels != 1:
        why = f"is for grey images, but its images have {channels} channels; leave it out"
    elif change.option == "background" and channels not in (1, 3):
        why = f"is for images of 1 or 3 channels, but its images have {channels}"
    elif change.option in ("invert", "background") and x_NCHW.is_floating_point():
        low, high = x_NCHW.aminmax()
        if low < 0 or high > 1:
            why = f"needs bytes or floats from 0 to 1, but its images go from {low:g} to {high:g}; bring them there"
    if why is not None:
        raise LimbeckError(f"The option {change} of the data set '{base}' {why}.")
