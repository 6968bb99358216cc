"""A real task: images and labels in three splits, resident on one device as they are stored, batched there.

Shapes: N images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeAlias, final

import torch
from torch import Tensor

from limbeck.common.devices import Device
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.reading import Kind
from limbeck.errors import LimbeckError, unknown

Split: TypeAlias = Literal["train", "val", "test"]

SPLITS: Final[Mapping[Split, str]] = MappingProxyType({"train": "training", "val": "validation", "test": "test"})
"""The splits, and what they are for."""

_MOST_NAMES = 10  # classes that are called by name
_MOST_ROWS = 25  # of a table, its head included


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
            the same order; ``sha256`` where nothing changes them, None where nobody computed it. Of pictures in folders
            it is that of the files.
        read_size: (H, W) of the images as read, before options change them; None where nobody noted it.
        deep: whether they were pictures of more than 8 bits, which are floats; None where they were no pictures.
        kind: what the examples are. A table of D features is (N, D, 1, 1), series of T steps are (N, C, 1, T).
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
    read_size: tuple[int, int] | None = None
    deep: bool | None = None
    kind: Kind = "images"

    def __repr__(self) -> str:
        return f"TaskData({self.summary()})"

    def __str__(self) -> str:
        """A small table: what the examples are, and how many of each class are in each split."""
        counts = {split: getattr(self, f"{split}_y").bincount(minlength=self.num_classes).tolist() for split in SPLITS}
        rows = [("class", *SPLITS.values())]
        rows += [(name[:40], *(f"{n[k]:,}" for n in counts.values())) for k, name in enumerate(self.class_names)]
        if len(rows) > _MOST_ROWS:
            rows[_MOST_ROWS - 2 : -1] = [("…", "", "", "")]
        rows.append(("all", *(f"{sum(n):,}" for n in counts.values())))
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = ["  ".join((row[0].ljust(first), *map(str.rjust, row[1:], others))) for row in rows]
        return "\n".join((f"{self.name}: {self.form}", *lines))

    @property
    def form(self) -> str:
        """Kind, size and type of the examples, and how many classes: ``28 × 28 grey images, bytes, 10 classes``."""
        channels, height, width = self.image_shape
        stored = "bytes" if self.train_x.dtype == torch.uint8 else "floats"
        if self.kind == "table":
            what = f"rows of {channels:,} features"
        elif self.kind == "series":
            what = f"series of {width:,} steps" + (f" of {channels:,} values" if channels > 1 else "")
        else:
            colour = {1: "grey images", 3: "RGB images"}.get(channels, f"images of {channels} channels")
            what = f"{height} × {width} {colour}"
        return f"{what}, {stored}, {self.num_classes} classes"

    def summary(self) -> str:
        """One line: name, form, the classes' names, and the sizes of the splits."""
        names = ", ".join(self.class_names[:_MOST_NAMES]) + (", …" if self.num_classes > _MOST_NAMES else "")
        sizes = ", ".join(f"{len(getattr(self, f'{split}_y')):,} {what}" for split, what in SPLITS.items())
        return f"{self.name}: {self.form} ({names}); {sizes}"

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
    def provenance(self) -> dict[str, Any]:
        """What a learned set records of its data: name, content, kind, and how pictures were read."""
        size = None if self.read_size is None else list(self.read_size)
        return {"name": self.name, "sha256": self.sha256, "kind": self.kind, "read_size": size, "deep": self.deep}

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
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if batch < 1:
            raise LimbeckError(f"A batch needs at least one image, got {batch}.")
        total = len(getattr(self, f"{split}_y"))
        return (self._batch(split, slice(start, start + batch)) for start in range(0, total, batch))

    def _batch(self, split: Split, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        x_NCHW: Tensor = getattr(self, f"{split}_x")
        y_N: Tensor = getattr(self, f"{split}_y")
        return self.preprocessing.apply(x_NCHW[index]), y_N[index]
