"""A learned set for ordinary training: as a data set of pairs, and in a loader.

Shapes: S batches, M images a batch, N = S·M images, K classes; C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from limbeck.errors import LimbeckError

Pair: TypeAlias = tuple[Tensor, ...]
"""An image and its label, or a batch of each."""


def pairs_of(images_SMCHW: Tensor, labels_SMK: Tensor) -> TensorDataset:
    """Copies of the images (C, H, W) and their labels: class indices where each is of one class, else (K,)."""
    images_NCHW, labels_NK = images_SMCHW.flatten(0, 1).clone(), labels_SMK.flatten(0, 1).clone()
    one_hot = bool(((labels_NK == 0) | (labels_NK == 1)).all())
    return TensorDataset(images_NCHW, labels_NK.argmax(-1) if one_hot else labels_NK)


def loader_of(
    dataset: TensorDataset, batch_size: int, shuffle: bool | None, options: Mapping[str, Any]
) -> DataLoader[Pair]:
    """A loader of it, shuffled where nothing says otherwise.

    Raises:
        LimbeckError: options that a ``DataLoader`` refuses.
    """
    batched = options.get("batch_sampler") is not None  # it says itself how many there are, and in which order
    if shuffle is None and not batched:
        shuffle = options.get("sampler") is None
    for name in ("sampler", "batch_sampler"):
        if not isinstance(options.get(name), Iterable | None):
            raise LimbeckError(f"{name} is {options[name]!r:.60}; it must give indices when it is gone through.")
    try:
        return DataLoader(dataset, batch_size=1 if batched else batch_size, shuffle=shuffle, **options)
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"A DataLoader cannot be made with these options: {error}.") from error
