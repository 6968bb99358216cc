"""Arrays in an ``.npz`` file."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import final

import numpy as np

from limbeck.data.arrays import Array, MaybeTest
from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.errors import LimbeckError


@final
class NpzReader(Reader):
    """The path of an ``.npz`` file with images and labels, see :func:`read_npz`."""

    name = "npz"
    takes = "the path of an .npz file"

    def can_read(self, source: object) -> bool:
        """Whether it ends in ``.npz``, in either case."""
        return isinstance(source, str) and source.lower().endswith(".npz")

    def data_name(self, source: str) -> str:
        """The file without its folder and ending."""
        return Path(source).stem

    def read(self, source: str, data_dir: Path | None) -> Raw:
        """The path is relative to the working directory, not to ``data_dir``."""
        x, y, test_x, test_y = read_npz(source)
        return Raw(train=(x, y), test=None if test_x is None else (test_x, test_y))


def read_npz(path: str | os.PathLike[str]) -> MaybeTest:
    """Images and labels from an ``.npz`` file; test images and labels too if it has them.

    Keys: ``x`` and ``y``, or ``x_train`` and ``y_train``; optionally ``x_test`` and ``y_test``. Or those of MedMNIST,
    ``train_images`` and ``train_labels``, optionally the same with ``test`` and ``val``: validation images join the
    training ones, of which a validation split is drawn anyway, or are the test set where there is no other. No pickled
    objects.

    Returns:
        ``x, y, x_test, y_test`` as stored, the last two None if the file has no test set.

    Raises:
        LimbeckError: missing or damaged file, or other keys; lists the keys that it has.
    """
    path = Path(path)
    if not path.is_file():
        raise LimbeckError(f"There is no file {path}; give the path of an .npz file.")
    try:
        with path.open("rb") as stream:  # opened here, because NumPy leaves a damaged file open
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise LimbeckError(f"{path} holds a single array, expected an .npz file with keys x and y.")
            with file:
                x, y, *others = (file[key] for key in _npz_keys(path, set(file.files)))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise LimbeckError(f"{path} is not a readable .npz file without pickled objects ({error}).") from error
    if len(others) > 2:
        x, y = _joined(path, x, others[2]), _joined(path, y, others[3])
    return (x, y, others[0], others[1]) if others else (x, y, None, None)


def _joined(path: Path, train: Array, val: Array) -> Array:
    if train.shape[1:] != val.shape[1:]:
        raise LimbeckError(
            f"{path} has training arrays of shape {train.shape[1:]} but validation arrays of {val.shape[1:]}; bring "
            "both to one form."
        )
    return np.concatenate([train, val])


def _npz_keys(path: Path, keys: set[str]) -> tuple[str, ...]:
    test = ("x_test", "y_test")
    has_test = len(keys.intersection(test))
    for train in (("x_train", "y_train"), ("x", "y")):
        if keys.issuperset(train) and has_test != 1:
            return (*train, *test) if has_test else train
    med = {part: (f"{part}_images", f"{part}_labels") for part in ("train", "val", "test")}
    there = [part for part in med if keys.issuperset(med[part])]
    if "train" in there and all(part in there or keys.isdisjoint(med[part]) for part in med):
        # The second is the test set: that of validation, where there is no other.
        return tuple(key for part in ("train", "test", "val") if part in there for key in med[part])
    raise LimbeckError(
        f"{path} has the keys {', '.join(sorted(keys)) or '(none)'}; expected x and y, or x_train and y_train, and "
        "x_test with y_test if there is a test set; or train_images and train_labels, as MedMNIST has them."
    )
