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
        LimbeckError: if they do not form an array, as rows of different length, or hide some of their values.
    """
    if isinstance(values, torch.Tensor):
        return plain_tensor(values, what).cpu().numpy()
    parts = values if isinstance(values, list | tuple) else (values,)
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise LimbeckError(
            f"Some of the {what} are masked, and what is behind the mask is no data; fill it in, as with x.filled(0), "
            "or leave those examples out."
        )
    try:
        array: Array = np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different length, or something that is no array
        raise LimbeckError(f"The {what} do not form one array ({error}); give a tensor or an array.") from error
    if array.dtype.kind == "O" and array.ndim == 1 and array.size and isinstance(array[0], np.ndarray | torch.Tensor):
        raise LimbeckError(f"The {what} are an array of arrays; make one of them, as with np.stack(list(x)).")
    return array


def plain_tensor(tensor: torch.Tensor, what: str) -> torch.Tensor:
    """The values of a tensor without gradients, in a layout and a type that NumPy has; a copy only where it must be.

    Raises:
        LimbeckError: a tensor without values, as on the meta device, or whose rows have different lengths.
    """
    try:
        if tensor.is_meta:
            raise TypeError("it is on the meta device and has no values")
        tensor = tensor.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        if tensor.is_floating_point() and (tensor.dtype.itemsize < 2 or tensor.dtype == torch.bfloat16):
            tensor = tensor.float()
        if tensor.is_nested:
            raise TypeError("it is nested")
        return tensor.resolve_conj().resolve_neg()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise LimbeckError(f"The {what} are a tensor that cannot be read ({reason}); give a plain one.") from error


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
