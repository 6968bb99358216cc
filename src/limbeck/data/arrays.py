"""Anything array-like to NCHW images and integer labels, checked.

Shapes: N images, C channels, H × W pixels, K classes.
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
CHANNELS = (1, 3, 4)  # grey, RGB, RGB and alpha: the sizes that mark an axis as channels


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


def images_NCHW(images: object, what: str) -> Array:
    """Images as (N, C, H, W): uint8 stays uint8, everything else becomes float32.

    The array is shared with the original where that is possible.

    Rank 3 is (N, H, W). Rank 4 is (N, H, W, C) if the last axis is 1, 3 or 4 long and the second is not, and
    (N, C, H, W) otherwise; so pictures with another number of channels must come channels first.

    Args:
        images: a tensor, an array or nested lists.
        what: names the images in an error, such as "training".

    Raises:
        LimbeckError: not numbers, another rank, empty, or NaN or infinite pixels.
    """
    x = as_array(images, f"{what} images")
    if x.dtype.kind not in "buif":
        raise LimbeckError(f"The {what} images must be real numbers, got dtype {x.dtype}.")
    if x.ndim not in (3, 4):
        raise LimbeckError(
            f"The {what} images must have shape (N, H, W), (N, C, H, W) or (N, H, W, C), got {x.shape}; reshape them."
        )
    if x.size == 0:
        raise LimbeckError(f"The {what} images are empty (shape {x.shape}); at least one image is needed.")
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        x = x.transpose(0, 3, 1, 2)
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which the next check reports
            x = x.astype(np.float32, copy=False)
        bad = ~np.isfinite(x).all(axis=(1, 2, 3))
        if bad.any():
            raise LimbeckError(
                f"{int(bad.sum())} of the {what} images have NaN or infinite pixels, the first at index "
                f"{int(bad.argmax())}; remove or repair them."
            )
    return np.ascontiguousarray(x)


def labels_N(labels: object, what: str) -> Array:
    """Labels as int64 (N,), each >= 0. Whole floats and shape (N, 1) are accepted.

    Args:
        labels: a tensor, an array or a list.
        what: names the labels in an error, such as "training".

    Raises:
        LimbeckError: not numbers, not whole, negative, or not one for each image.
    """
    y = as_array(labels, f"{what} labels")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise LimbeckError(
            f"The {what} labels must be one class number for each image, shape (N,), got {y.shape}; "
            "use argmax on one-hot labels."
        )
    if y.dtype.kind not in "buif":
        raise LimbeckError(f"The {what} labels must be class numbers 0, 1, 2, ..., got dtype {y.dtype}.")
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise LimbeckError(f"The {what} labels must be whole class numbers, got fractions, NaN or infinity.")
    if y.size and (y.min() < 0 or y.max() >= 2**31):
        raise LimbeckError(f"The {what} labels must be class numbers 0, 1, 2, ..., got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def check_pair(x_NCHW: Array, y_N: Array, what: str) -> None:
    """Images and labels are of the same length.

    Raises:
        LimbeckError: if they are not.
    """
    if len(x_NCHW) != len(y_N):
        raise LimbeckError(
            f"There are {len(x_NCHW)} {what} images but {len(y_N)} {what} labels; each image needs one label."
        )


def check_classes(y_N: Array, classes: int, what: str) -> None:
    """Labels are below the number of classes.

    Raises:
        LimbeckError: if one is not.
    """
    if y_N.size and int(y_N.max()) >= classes:
        raise LimbeckError(
            f"A {what} label is {int(y_N.max())}, out of range: with {classes} classes they go from 0 to {classes - 1}."
        )
