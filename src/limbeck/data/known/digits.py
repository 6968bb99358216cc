"""The digits of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from limbeck.data.arrays import MaybeTest
from limbeck.data.known.base import KnownSet
from limbeck.data.pixels import interpolate, to_bytes
from limbeck.errors import LimbeckError


def read_digits(folder: Path) -> MaybeTest:
    """scikit-learn's digits: 1,797 grey images of 8 × 8 pixels, made bilinearly 28 × 28 and bytes; no test set.

    Args:
        folder: not looked at; scikit-learn knows where they are.

    Raises:
        LimbeckError: scikit-learn cannot be imported.
    """
    try:
        from sklearn.datasets import load_digits  # slow to import, and an extra
    except ImportError as error:
        raise LimbeckError(f"Digits needs scikit-learn ({error}): pip install 'limbeck[sklearn]'.") from error
    digits = load_digits()
    x_NCHW = interpolate(torch.tensor(digits.images, dtype=torch.float64)[:, None], (28, 28))
    return to_bytes(x_NCHW * (255 / 16)).numpy(), np.asarray(digits.target, np.int64), None, None


DIGITS = KnownSet(
    name="digits",
    title="Digits",
    folder="",
    url="",
    downloads=(),
    files=MappingProxyType({}),
    class_names=tuple("0123456789"),
    preprocessing=None,
    image_shape=(1, 28, 28),
    n_train=1797,
    n_test=0,
    read=read_digits,
    module="sklearn",
    package="scikit-learn",
)
