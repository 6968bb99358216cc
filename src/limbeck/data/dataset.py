"""A real task: images and labels in three splits, resident on one device as they are stored, batched there.

Shapes: N images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeAlias, final

import torch
from torch import Tensor

from limbeck.common.devices import Device, usable_device
from limbeck.data.arrays import Array
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.readers import READERS, Reader
from limbeck.data.sources import Source, match_source
from limbeck.data.splits import check_counts, split_stratified
from limbeck.errors import LimbeckError, unknown

Split: TypeAlias = Literal["train", "val", "test"]

_TEST_PART = 6  # one in six training images is held out where no test set is given, as many as MNIST's 10,000 of 60,000
_VAL_PART = 5  # at most one in five training images is used for validation
_TEST_SEED = 0  # the held-out test set must not move with the seed, or runs could not be compared


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TaskData:
    """A classification task, as :func:`load` gives it. All tensors are on one device.

    Attributes:
        name: of the data set, with the options that change it.
        train_x: (N, C, H, W), uint8 or float32, not normalised; so are ``val_x`` and ``test_x``.
        train_y: (N,) int64 in [0, K); so are ``val_y`` and ``test_y``.
        class_names: K names.
        preprocessing: normalises the stored pixels.
        sha256: of the training and test arrays as given, before any split; the same for every seed.
        source: the name or path, options included, by which it can be loaded again; None for what has none.
        split_seed: seed of which training examples are set aside; None where none are.
        base_sha256: of the arrays as read, before options change them, so that equal digests mean the same images in
            the same order; ``sha256`` where nothing changes them, None where nobody computed it.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    val_x: Tensor
    val_y: Tensor
    test_x: Tensor
    test_y: Tensor
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    sha256: str
    source: str | None = None
    split_seed: int | None = None
    base_sha256: str | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """The smallest and the largest value that a scaled pixel can have: 0 and 1 for bytes, else as in training."""
        if self.train_x.dtype == torch.uint8:
            return 0.0, 1.0
        scale = self.preprocessing.scale
        return scale * float(self.train_x.min()), scale * float(self.train_x.max())

    def to(self, device: Device) -> Self:
        """The same data on another device."""
        splits = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y")
        return replace(self, **{name: getattr(self, name).to(device) for name in splits})

    def sample(self, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        """A uniformly random batch of training examples: normalised images (n, C, H, W) and labels (n,).

        Within one draw no example comes twice, unless n is more than there are; draws are independent of each other.

        Args:
            generator: on any device.
            n: at least 1.

        Raises:
            LimbeckError: n below 1.
        """
        if n < 1:
            raise LimbeckError(f"A batch needs at least one image, got {n}.")
        total = len(self.train_y)
        if n <= total:
            index_N = torch.randperm(total, generator=generator, device=generator.device)[:n]
        else:
            index_N = torch.randint(total, (n,), generator=generator, device=generator.device)
        return self._batch("train", index_N.to(self.train_y.device))

    def per_class(self, generator: torch.Generator, n: int) -> Tensor:
        """n normalised training images of each class, (K, n, C, H, W).

        None comes twice, unless n is more than the class has; then all come before any comes again.

        Args:
            generator: on any device.
            n: at least 1.

        Raises:
            LimbeckError: n below 1.
        """
        if n < 1:
            raise LimbeckError(f"At least one image of each class is needed, got {n}.")
        return torch.stack([self._batch("train", self._members(k, generator, n))[0] for k in range(self.num_classes)])

    def _members(self, label: int, generator: torch.Generator, n: int) -> Tensor:
        members_N = (self.train_y == label).nonzero()[:, 0]
        rounds = -(-n // len(members_N))
        order = [torch.randperm(len(members_N), generator=generator, device=generator.device) for _ in range(rounds)]
        return members_N[torch.cat(order)[:n].to(members_N.device)]

    def split_batches(self, split: Split, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A whole split in order: normalised images (<= batch, C, H, W) and labels.

        Args:
            split: "train", "val" or "test".
            batch: images at a time, at least 1.

        Raises:
            LimbeckError: an unknown split, or a batch below 1.
        """
        if split not in ("train", "val", "test"):
            raise unknown("split", split, ("train", "val", "test"))
        if batch < 1:
            raise LimbeckError(f"A batch needs at least one image, got {batch}.")
        total = len(getattr(self, f"{split}_y"))
        return (self._batch(split, slice(start, start + batch)) for start in range(0, total, batch))

    def _batch(self, split: Split, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        x_NCHW: Tensor = getattr(self, f"{split}_x")
        y_N: Tensor = getattr(self, f"{split}_y")
        return self.preprocessing.apply(x_NCHW[index]), y_N[index]


def load(
    source: Source,
    *,
    data_dir: Path | None = None,
    device: Device = "cpu",
    val_size: int = 5000,
    seed: int = 0,
    readers: Sequence[Reader] = READERS,
) -> TaskData:
    """Real data from a name, a file, arrays or a data set, split for training, selection and the final test.

    The validation split is drawn from the training data, stratified by class, ``val_size`` in total but at most a fifth
    of the training images. If the source has no test set, a stratified sixth of the training data is held out first,
    the same for every seed. Known sets are normalised as in the literature, others by the mean and standard deviation
    of their training split; so are known sets that options change.

    The options are ``invert=True``, ``rotate=DEGREES`` counter-clockwise, ``resample=PIXELS`` down to so many and back,
    ``background=colour``, ``channels=3`` and ``size=PIXELS``, as in ``mnist,resample=16,invert=True``.

    Args:
        source: a known name (:func:`limbeck.data.known_names`) or the path of an ``.npz`` file, either with options
            that change all images, one after the other (see above); arrays or tensors ``(x, y)`` or
            ``((x, y), (x_test, y_test))``; a map-style data set or a pair of them, training and test; or what another
            reader takes. Images are (N, H, W), (N, C, H, W) or (N, H, W, C); uint8 is taken as 0 to 255, the rest as
            it is.
        data_dir: where known sets are looked for first.
        device: where all of it will reside.
        val_size: images for validation, at least 1.
        seed: of the validation split.
        readers: asked in order whether they can read the source; ``(MyReader(), *READERS)`` adds one.

    Raises:
        LimbeckError: a source that no reader takes; an unknown option, or one that the images do not allow; a set or
            file that is missing or damaged; images or labels that are no such or do not fit each other; fewer than 2
            classes; a class with too few examples to split.
    """
    if val_size < 1:
        raise LimbeckError(f"val_size must be at least 1, got {val_size}: selection needs a validation split.")
    device = usable_device(device)
    match = match_source(source, readers)
    read = match.read(data_dir)
    raw = read.change(match.changes, match.base)
    raw.check()
    digest = raw.sha256()
    classes = raw.count_classes()
    check_counts(raw.train[1], classes, need=2 if raw.test else 3)
    x, y = raw.train
    if raw.test is None:
        rest_N, test_N = _split(y, len(y) // _TEST_PART, classes, _TEST_SEED)
        x, y, test_x, test_y = x[rest_N], y[rest_N], x[test_N], y[test_N]
    else:
        test_x, test_y = raw.test
    train, val = _split(y, min(val_size, len(y) // _VAL_PART), classes, seed)
    train_x = _tensor(x[train], device)
    return TaskData(
        name=match.name,
        train_x=train_x,
        train_y=_tensor(y[train], device),
        val_x=_tensor(x[val], device),
        val_y=_tensor(y[val], device),
        test_x=_tensor(test_x, device),
        test_y=_tensor(test_y, device),
        class_names=raw.class_names or tuple(map(str, range(classes))),
        preprocessing=raw.preprocessing or Preprocessing.measure(train_x),
        sha256=digest,
        source=os.fspath(source) if isinstance(source, str | os.PathLike) else None,
        split_seed=seed,
        base_sha256=read.sha256() if match.changes else digest,
    )


def read_base_sha256(source: str, *, data_dir: Path | None = None) -> str:
    """The ``base_sha256`` that the data of a name or file will have, whatever options follow; changes nothing.

    Raises:
        LimbeckError: an unknown name, or a set or file that is missing or damaged.
    """
    return match_source(source).read(data_dir).sha256()


def _split(y: Array, size: int, classes: int, seed: int) -> tuple[Array, Array]:
    if size < 1:
        raise LimbeckError(f"{len(y)} training images are too few to split; at least {_VAL_PART} are needed.")
    return split_stratified(y, size, classes, torch.Generator().manual_seed(seed))


def _tensor(array: Array, device: Device) -> Tensor:
    # A copy, so that neither a later change of the caller's array nor a read-only file buffer reaches the tensors.
    return torch.tensor(array, device=device)
