"""Images of any scale and layout as the networks of a learned set take them.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limbeck.data import Preprocessing
from limbeck.data.arrays import Array, as_array, plain_tensor
from limbeck.data.readers.pictures import fit_pictures
from limbeck.data.sources import changes_of
from limbeck.data.variants import apply_changes
from limbeck.errors import LimbeckError

NEAR_UNIT: Final = (-0.5, 1.5)
"""Floats within it are from 0 to 1 but for the overshoot of a resampling; bytes would hardly all be."""

NORMALISED_SPAN: Final = 32.0
"""Floats below 0 that span less may be normalised already; those of learned pixels in units of bytes span more."""


def normalise(images: Any, preprocessing: Preprocessing, shape: tuple[int, int, int]) -> Tensor:
    """Images normalised like those of a set, (N, C, H, W); more axes in front stay.

    Args:
        images: a tensor, an array or lists: (N, C, H, W), (N, H, W, C), (N, H, W) where C is 1, or a single image
            (C, H, W), (H, W, C) or (H, W). Grey ones are made RGB for a set of colour, as in loading. Rows of a table
            are (N, D) or (D,), series (N, T, C), (N, T) where C is 1, or (T, C).
        preprocessing: of the set.
        shape: (C, H, W) of the set's images; of others, larger or smaller, is warned.

    Raises:
        LimbeckError: no images, of another number of channels, or not of real numbers.
    """
    if isinstance(images, Tensor):
        x = plain_tensor(images, "given images")
        if x.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch computes little with them
            x = x.to(torch.int64)
    else:
        x = _as_tensor(as_array(images, "given images"))
    if x.is_complex():
        raise LimbeckError(f"Images must be real numbers, got {x.dtype}.")
    if x.numel() == 0:
        raise LimbeckError(f"There are no images to normalise (shape {tuple(x.shape)}).")
    if x.is_floating_point() and bool(x.isnan().any()):
        _warn("some of the numbers of the images are NaN, and so are what networks make of them; repair them first")
    x_NCHW = _of_rows(x, shape)
    if x_NCHW is None:
        x_NCHW = _channels_first(x, shape)
    if tuple(x_NCHW.shape[-2:]) != tuple(shape[1:]):
        height, width = x_NCHW.shape[-2:]
        _warn(
            f"the images are {height} × {width}, those of the set {shape[1]} × {shape[2]}; a network that learned from "
            "it expects that size, so resize them"
        )
    return dataclasses.replace(preprocessing, scale=_scale_of(x_NCHW, preprocessing)).apply(x_NCHW)


def open_pictures(
    images: Any, source: str, recorded: Mapping[str, Any], preprocessing: Preprocessing, shape: tuple[int, int, int]
) -> Any:
    """Pictures and paths of such, one or several, as those of a data set were loaded; anything else as it is.

    They are scaled, cut, and changed by the data's options, but for backgrounds: a new picture keeps its own.

    Args:
        images: whatever was given.
        source: of the data, with its options.
        recorded: ``kind`` of its examples, ``read_size`` and ``deep`` as ``TaskData`` has them; older sets have less.
        preprocessing: of the set; it tells what it can where it is not recorded whether pictures were deep.
        shape: (C, H, W) of the set's images.

    Returns:
        (N, C, H, W) where they are pictures, bytes or float32.

    Raises:
        LimbeckError: a set that is not of pictures, or a picture that cannot be read or changed.
    """
    pictures = list(images) if isinstance(images, list | tuple) else [images]
    if not pictures or not all(isinstance(each, str | os.PathLike | Image.Image) for each in pictures):
        return images
    channels, kind = shape[0], recorded.get("kind", "images")
    if kind != "images" or channels not in (1, 3):
        what = f"images of {channels} channels" if kind == "images" else f"{'rows of a ' * (kind == 'table')}{kind}"
        raise LimbeckError(f"The set was learned from {what}, which no picture has; give arrays.")
    changes = [change for change in changes_of(source) if change.option != "background"]
    size = recorded.get("read_size")
    if size is None:  # it is what the set's images had before they were turned, if they were pictures
        changes = [change for change in changes if change.option != "size"]
        turned = sum(change.option == "rotate" and change.value % 180 == 90 for change in changes) % 2
        size = shape[:0:-1] if turned else shape[1:]
    grey = channels == 1 or any(change.option == "channels" for change in changes)
    deep = recorded.get("deep") if grey else False
    if deep is None:  # of arrays, or not recorded
        deep = preprocessing.scale == 1 and (max(preprocessing.mean) > 255 or None)
    x_NCHW = fit_pictures(pictures, (size[1], size[0]), colour=not grey, deep=deep)
    return apply_changes(x_NCHW, tuple(changes), source, "test")


def _as_tensor(array: Array) -> Tensor:
    """A copy."""
    if array.dtype.kind not in "buif":
        raise LimbeckError(f"Images must be real numbers, got dtype {array.dtype}.")
    if array.dtype.kind in "ui" and array.dtype != np.uint8:  # torch computes little with the other unsigned ones
        array = array.astype(np.int64)
    if array.dtype.itemsize > 8:  # longer doubles are unknown to torch, as are other orders of bytes and of memory
        array = array.astype(np.float64)
    return torch.tensor(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _of_rows(x: Tensor, shape: tuple[int, int, int]) -> Tensor | None:
    """(N, D, 1, 1) of rows of a table, or (N, C, 1, T) of series; None for images."""
    channels, height, width = shape
    sizes = tuple(x.shape)
    if height == width == 1 and sizes[-1:] == (channels,) and len(sizes) <= 2:
        return x.view(-1, channels, 1, 1)
    if height == 1 < width:
        if sizes in ((width, channels), (width,)) and len(sizes) == (2 if channels > 1 or x.dim() == 2 else 1):
            return x.view(width, -1).mT[None, :, None]
        if sizes[1:] == (width, channels):
            return x.mT[:, :, None]
        if channels == 1 and sizes[1:] == (width,):
            return x[:, None, None]
    return None


def _channels_first(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, C, H, W), from the layout that fits best: the very shape of the set's images before the channels alone."""
    channels, *size = shape
    sizes = tuple(x.shape)
    if x.dim() > 4 and sizes[-3] == channels:
        return x
    if x.dim() == 4:
        last = sizes[3] == channels and (sizes[1] != channels or (sizes[1:] != shape and list(sizes[1:3]) == size))
        if last:
            return x.movedim(-1, 1)
        if sizes[1] == channels:
            return x
    if x.dim() == 3:
        if sizes == shape:
            return x[None]
        if sizes == (*size, channels):
            return x.movedim(-1, 0)[None]
        if channels == 1 and (list(sizes[1:]) == size or sizes[0] != 1):
            return x[:, None]
        if sizes[0] == channels:
            return x[None]
        if sizes[2] == channels:
            return x.movedim(-1, 0)[None]
    if x.dim() == 2 and channels == 1:
        return x[None, None]
    if channels == 3 and (x.dim() == 2 or 1 in (sizes[0], sizes[1], sizes[-1]) or list(sizes[-2:]) == size):
        return _channels_first(x, (1, *shape[1:])).expand(-1, 3, -1, -1)  # grey, of which loading makes RGB, too
    grey = ", (N, H, W), (H, W)" if channels == 1 else ""
    raise LimbeckError(
        f"Images of shape {sizes} are none of those that the set has; give (N, C, H, W), (N, H, W, C){grey} or one "
        f"image (C, H, W), with C = {channels} as in {shape}."
    )


def _scale_of(x_NCHW: Tensor, preprocessing: Preprocessing) -> float:
    """What brings the images to about [0, 1]: that of the set, or another where their values tell."""
    low, high = float(x_NCHW.min()), float(x_NCHW.max())
    if preprocessing.scale == 1:
        return _scale_for_floats(x_NCHW, preprocessing)
    if x_NCHW.dtype == torch.bool:
        return 1.0
    if not x_NCHW.is_floating_point() or preprocessing.scale != 1 / 255:
        return preprocessing.scale
    if NEAR_UNIT[0] <= low and high <= NEAR_UNIT[1]:
        whole = high > 0 and bool((x_NCHW == x_NCHW.round()).all())
        if whole or low < 0 or high > 1:
            what = "only 0 and 1" if whole and low >= 0 and high <= 1 else f"{low:.3g} to {high:.3g}"
            _warn(f"the images are floats from {what}, taken as pixels from 0 to 1; give uint8 for bytes")
        return 1.0
    if (low < 0 and high - low < NORMALISED_SPAN) or high > 4 * 255:
        _warn(
            f"the images are floats from {low:.3g} to {high:.3g}, taken as bytes from 0 to 255; if they are normalised "
            "already, leave out run.preprocess"
        )
    return preprocessing.scale


def _scale_for_floats(x_NCHW: Tensor, preprocessing: Preprocessing) -> float:
    """The same for a set that was learned on floats, whose range only its mean and spread tell."""
    if x_NCHW.dtype != torch.uint8 or int(x_NCHW.max()) <= 1:
        return 1.0
    unit = all(0 <= mean <= 1 for mean in preprocessing.mean) and all(std <= 0.5 for std in preprocessing.std)
    if unit:
        return 1 / 255
    if all(mean + 4 * std < 32 for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)):
        _warn("the images are bytes, but the set was learned on floats of another range; bring them to that first")
    return 1.0


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=5)
