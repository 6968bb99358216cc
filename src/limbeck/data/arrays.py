"""Anything array-like as a NumPy array.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from limbeck.errors import LimbeckError

Array: TypeAlias = npt.NDArray[Any]
Pair: TypeAlias = tuple[Array, Array]  # images NCHW, labels N
TrainTest: TypeAlias = tuple[Array, Array, Array, Array]
MaybeTest: TypeAlias = tuple[Array, Array, Array | None, Array | None]  # None and None: no test set of its own


def as_array(values: object, what: str) -> Array:
    """A tensor, array or nested lists as a NumPy array, shared with the original where that is possible.

    Raises:
        LimbeckError: if they do not form an array, as rows of different length.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:  # unknown to NumPy
            values = values.float()
        return values.numpy()
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different length, or something that is no array
        raise LimbeckError(f"The {what} do not form one array ({error}); give a tensor or an array.") from error


def check_pair(x_NCHW: Array, y_N: Array, what: str, noun: str = "images") -> None:
    """Images and labels are of the same length.

    Raises:
        LimbeckError: if they are not.
    """
    if len(x_NCHW) != len(y_N):
        each = {"images": "image", "rows": "row"}.get(noun, noun)
        raise LimbeckError(
            f"There are {len(x_NCHW)} {what} {noun} but {len(y_N)} {what} labels; each {each} needs one label."
        )
