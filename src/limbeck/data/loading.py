"""From a source to a task: read, checked, changed, split, on a device.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from limbeck.common.devices import Device, usable_device
from limbeck.data.arrays import Array
from limbeck.data.dataset import TaskData
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.readers import READERS, Reader
from limbeck.data.reading import Channels, Kind, Reading
from limbeck.data.sources import Source, match_source
from limbeck.data.splits import check_counts, split_stratified
from limbeck.errors import LimbeckError

_TEST_PART: Final = 6  # one in six is held out where no test set is given, as many as MNIST's 10,000 of 60,000
_VAL_PART: Final = 5  # at most one in five training images is used for validation
_TEST_SEED: Final = 0  # the held-out test set must not move with the seed, or runs could not be compared
_BYTES_AT_ONCE: Final = 1 << 24


def load(
    source: Source,
    *,
    data_dir: Path | None = None,
    device: Device = "cpu",
    val_size: int = 5000,
    seed: int = 0,
    readers: Sequence[Reader] = READERS,
    channels: Channels | None = None,
    kind: Kind | None = None,
    image: str | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> TaskData:
    """Real data from a name, a file, arrays or a data set, split for training, selection and the final test.

    The validation split is drawn from the training data, stratified by class, ``val_size`` in total but at most a fifth
    of the training images. If the source has no test set, a stratified sixth of the training data is held out first,
    the same for every seed. Known sets are normalised as in the literature, others by the mean and standard deviation
    of their training split; so are known sets that options change.

    The options are ``invert=True``, ``rotate=DEGREES`` counter-clockwise, ``resample=PIXELS`` down to so many and back,
    ``background=colour``, ``channels=3`` and ``size=PIXELS``, as in ``mnist,resample=16,invert=True``. The last five
    arguments can be given as options, too: ``mine.npz,channels=last``.

    Labels are class numbers, with gaps or without, texts, truth values or one-hot rows; the classes keep their names.

    Args:
        source: a known name (:func:`limbeck.data.known_names`) or the path of an ``.npz``, ``.csv`` or Parquet file, of
            a folder with a folder of pictures for each class, or of a data set that Hugging Face's ``datasets`` saved,
            any of them with options that change all images, one after the other (see above); arrays or tensors
            ``(x, y)`` or ``((x, y), (x_test, y_test))``; a map-style data set or a pair of them, training and test; a
            data set of Hugging Face; or what another reader takes. Images are (N, H, W), (N, C, H, W) or (N, H, W, C);
            uint8 is taken as 0 to 255, the rest as it is. Rows of a table are (N, D), series (N, T) or (N, T, C).
        data_dir: where known sets are looked for first.
        device: where all of it will reside.
        val_size: images for validation, at least 1.
        seed: of the validation split.
        readers: asked in order whether they can read the source; ``(MyReader(), *READERS)`` adds one.
        channels: ``first`` for images (N, C, H, W), ``last`` for (N, H, W, C), where the sizes do not tell it.
        kind: ``images``, ``table`` or ``series``, where the number of axes does not tell it: three axes are grey
            images, two a table, unless it says ``series``.
        image: the column of the images, of sources that have columns.
        label: the column of the labels.
        limit: examples to read at most, of sources that are read one by one.

    Raises:
        LimbeckError: a source that no reader takes; an unknown option, or one that the images do not allow; a set or
            file that is missing or damaged; examples or labels that are no such or do not fit each other; images whose
            channels could be first or last; fewer than 2 classes; a class with too few examples to split, or with test
            examples only.
    """
    if val_size < 1:
        raise LimbeckError(f"val_size must be at least 1, got {val_size}: selection needs a validation split.")
    device = usable_device(device)
    said = Reading(channels=channels, kind=kind, image=image, label=label, limit=limit)
    match = match_source(source, readers, said)
    read = match.read(data_dir)
    raw = read.change(match.changes, match.base)
    raw.check()
    digest = raw.sha256()
    classes = raw.count_classes()
    names = raw.class_names or tuple(map(str, range(classes)))
    check_counts(raw.train[1], names, need=2 if raw.test else 3)
    x, y = raw.train
    rest_N = np.arange(len(y))
    if raw.test is None:
        rest_N, test_N = _split(y, len(y) // _TEST_PART, classes, _TEST_SEED)
        test_x, test_y = _pick(x, test_N, device), _pick(y, test_N, device)
    else:
        test_x, test_y = (_pick(array, np.arange(len(array)), device) for array in raw.test)
    train, val = _split(y[rest_N], min(val_size, len(rest_N) // _VAL_PART), classes, seed)
    train_x = _pick(x, rest_N[train], device)
    return TaskData(
        name=match.name,
        train_x=train_x,
        train_y=_pick(y, rest_N[train], device),
        val_x=_pick(x, rest_N[val], device),
        val_y=_pick(y, rest_N[val], device),
        test_x=test_x,
        test_y=test_y,
        class_names=names,
        preprocessing=raw.preprocessing or Preprocessing.measure(train_x),
        sha256=digest,
        source=match.text,
        split_seed=seed,
        base_sha256=read.known_by or (read.sha256() if match.changes else digest),
        read_size=read.train[0].shape[2:],
        deep=read.train[0].dtype == np.float32 if read.pictured else None,
        kind=raw.kind or "images",
    )


def read_base_sha256(source: str, *, data_dir: Path | None = None) -> str:
    """The ``base_sha256`` that the data of a name or file will have, whatever options follow; changes nothing.

    Raises:
        LimbeckError: an unknown name, or a set or file that is missing or damaged.
    """
    read = match_source(source).read(data_dir)
    return read.known_by or read.sha256()


def _split(y: Array, size: int, classes: int, seed: int) -> tuple[Array, Array]:
    if size < 1:
        raise LimbeckError(f"{len(y)} training images are too few to split; at least {_VAL_PART} are needed.")
    return split_stratified(y, size, classes, torch.Generator().manual_seed(seed))


def _pick(array: Array, index_N: Array, device: Device) -> Tensor:
    """Some examples in a tensor of their own: the one copy of the data, and neither later changes of the caller's array
    nor a read-only file reach it."""
    like = torch.from_numpy(np.empty(0, array.dtype))
    picked = torch.empty((len(index_N), *array.shape[1:]), dtype=like.dtype)  # where torch aligns it
    step = max(1, _BYTES_AT_ONCE // max(1, array[:1].nbytes))
    for start in range(0, len(index_N), step):
        picked[start : start + step] = torch.from_numpy(np.ascontiguousarray(array[index_N[start : start + step]]))
    return picked.to(device)
