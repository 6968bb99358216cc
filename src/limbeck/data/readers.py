"""Files and data sets to arrays: IDX, CIFAR-10 binary, ``.npz``, map-style data sets.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch

from limbeck.data.arrays import CHANNELS, Array, as_array, images_NCHW, labels_N
from limbeck.data.pixels import as_bytes, bilinear
from limbeck.errors import LimbeckError

Split: TypeAlias = tuple[Array, Array]  # images NCHW, labels N
TrainTest: TypeAlias = tuple[Array, Array, Array, Array]
MaybeTest: TypeAlias = tuple[Array, Array, Array | None, Array | None]  # None and None: no test set of its own

_IDX_TYPES = MappingProxyType({0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"})
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = ("test_batch.bin",)
CIFAR10_FILES = (*_CIFAR_TRAIN, *_CIFAR_TEST)
_DOWNLOAD_AGAIN = "it is damaged or not the right file; delete it and get it again"


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, the format of MNIST; gzipped or not, told apart by its first bytes.

    Format: two zero bytes, one for the dtype, one for the rank, then the sizes as big-endian uint32, then the values,
    big-endian, last axis fastest (http://yann.lecun.com/exdb/mnist/).

    Returns:
        A fresh array in native byte order, of the file's dtype (uint8, int8, int16, int32, float32 or float64).

    Raises:
        LimbeckError: missing, corrupt gzip, wrong magic number, truncated, or bytes left over. Names the file.
    """
    path = Path(path)
    raw = _gunzipped(path, _bytes(path))
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES:
        raise LimbeckError(
            f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}, expected 00 00, "
            f"a type from 08 to 0e, and the number of axes; {_DOWNLOAD_AGAIN}."
        )
    dtype, rank = np.dtype(_IDX_TYPES[raw[2]]), raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise LimbeckError(f"{path} is truncated in its header of {start} bytes; {_DOWNLOAD_AGAIN}.")
    shape = struct.unpack(f">{rank}I", raw[4:start])
    expected = start + math.prod(shape) * dtype.itemsize  # Python integers: a lying header cannot overflow
    if len(raw) != expected:
        wrong = "is truncated" if len(raw) < expected else "has bytes left over"
        raise LimbeckError(
            f"{path} {wrong}: its header says {shape} {dtype.name}, which is {expected} bytes, "
            f"but it has {len(raw)}; {_DOWNLOAD_AGAIN}."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_pair(images: Path, labels: Path) -> Split:
    """Images (N, 1, H, W) uint8 and labels (N,) uint8 from two IDX files.

    Raises:
        LimbeckError: as :func:`read_idx`, or if they are not bytes of rank 3 and 1.
    """
    x, y = read_idx(images), read_idx(labels)
    for path, array, rank in ((images, x, 3), (labels, y, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise LimbeckError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected uint8, {rank} axes; {_DOWNLOAD_AGAIN}."
            )
    return x[:, None], y


def read_cifar10(folder: str | os.PathLike[str]) -> TrainTest:
    """The official binary version of CIFAR-10: five training batches and one test batch.

    Each record is one label byte and 3 × 32 × 32 pixel bytes, channels first (https://www.cs.toronto.edu/~kriz/cifar.html).

    Returns:
        ``train_x, train_y, test_x, test_y``: images (N, 3, 32, 32) uint8, labels (N,) uint8.

    Raises:
        LimbeckError: a batch is missing, empty, or not a whole number of records. Names the file.
    """
    folder = Path(folder)
    train_x, train_y = _cifar_batches(folder, _CIFAR_TRAIN)
    test_x, test_y = _cifar_batches(folder, _CIFAR_TEST)
    return train_x, train_y, test_x, test_y


def _cifar_batches(folder: Path, names: tuple[str, ...]) -> Split:
    record = 1 + math.prod(_CIFAR_SHAPE)
    batches = []
    for name in names:
        raw = _bytes(folder / name)
        if not raw or len(raw) % record:
            raise LimbeckError(
                f"{folder / name} has {len(raw)} bytes, expected a multiple of {record} (a label and 3 × 32 × 32 "
                f"pixels); {_DOWNLOAD_AGAIN}."
            )
        batches.append(np.frombuffer(raw, np.uint8).reshape(-1, record))
    rows = np.concatenate(batches)
    return rows[:, 1:].reshape(-1, *_CIFAR_SHAPE), rows[:, 0].copy()


def read_npz(path: str | os.PathLike[str]) -> MaybeTest:
    """Images and labels from an ``.npz`` file; test images and labels too if it has them.

    Keys: ``x`` and ``y``, or ``x_train`` and ``y_train``; optionally ``x_test`` and ``y_test``. No pickled objects.

    Returns:
        ``x, y, x_test, y_test`` as stored, images NCHW (see :func:`limbeck.data.arrays.images_NCHW`), the last two None
        if the file has no test set.

    Raises:
        LimbeckError: missing or damaged file, or other keys; lists the keys found.
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
                arrays = {key: file[key] for key in _npz_keys(path, set(file.files))}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise LimbeckError(f"{path} is not a readable .npz file without pickled objects ({error}).") from error
    x, y, *test = (
        images_NCHW(array, f"{path.name} {key}") if key.startswith("x") else labels_N(array, f"{path.name} {key}")
        for key, array in arrays.items()
    )
    return (x, y, test[0], test[1]) if test else (x, y, None, None)


def _npz_keys(path: Path, found: set[str]) -> tuple[str, ...]:
    test = ("x_test", "y_test")
    has_test = len(found.intersection(test))
    for train in (("x_train", "y_train"), ("x", "y")):
        if found.issuperset(train) and has_test != 1:
            return (*train, *test) if has_test else train
    raise LimbeckError(
        f"{path} has the keys {', '.join(sorted(found)) or '(none)'}; expected x and y, or x_train and y_train, "
        "and x_test with y_test if there is a test set."
    )


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
    x_NCHW = bilinear(torch.tensor(digits.images, dtype=torch.float64)[:, None], (28, 28))
    return as_bytes(x_NCHW * (255 / 16)).numpy(), np.asarray(digits.target, np.int64), None, None


def from_dataset(dataset: Any) -> Split:
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


def _item(dataset: Any, index: int) -> Split:
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


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LimbeckError(f"There is no file {path}.") from error
    except OSError as error:
        raise LimbeckError(f"{path} cannot be read: {error.strerror}.") from error


def _gunzipped(path: Path, raw: bytes) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise LimbeckError(f"{path} is a corrupt or truncated gzip file ({error}); {_DOWNLOAD_AGAIN}.") from error
