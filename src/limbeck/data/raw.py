"""What a source has in it: images and labels, checked, changed, counted and hashed.

Shapes: N images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np

from limbeck.data.arrays import check_classes, check_pair, images_NCHW, labels_N
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.variants import Change, apply_changes
from limbeck.errors import LimbeckError


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Raw:
    """What a reader takes from a source.

    Attributes:
        train: images and labels, each anything array-like; images are (N, H, W), (N, C, H, W) or (N, H, W, C), labels
            are class numbers (N,). After :meth:`as_arrays`: (N, C, H, W), uint8 or float32, and int64 (N,).
        test: the same of the source's own test set; None where it has none.
        class_names: K names; None where the source has none: then the classes are called by their numbers.
        preprocessing: how the pixels are normalised; None to measure it.
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any] | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None

    def as_arrays(self) -> Self:
        """The same as NumPy arrays of one form (see ``train``).

        Raises:
            LimbeckError: images or labels that are no such.
        """
        train = images_NCHW(self.train[0], "training"), labels_N(self.train[1], "training")
        if self.test is None:
            return replace(self, train=train)
        return replace(self, train=train, test=(images_NCHW(self.test[0], "test"), labels_N(self.test[1], "test")))

    def change(self, changes: tuple[Change, ...], base: str) -> Self:
        """The same with changed images, to be normalised as measured; ``base`` names the source in an error.

        Raises:
            LimbeckError: a change that such images do not allow.
        """
        if not changes:
            return self
        train = apply_changes(self.train[0], changes, base, "training"), self.train[1]
        test = None if self.test is None else (apply_changes(self.test[0], changes, base, "test"), self.test[1])
        return replace(self, train=train, test=test, preprocessing=None)

    def check(self) -> None:
        """Refuse images and labels that do not fit each other, or training and test images of two forms.

        Raises:
            LimbeckError: says what does not fit.
        """
        check_pair(*self.train, "training")
        if self.test is None:
            return
        check_pair(*self.test, "test")
        train_x, test_x = self.train[0], self.test[0]
        if train_x.shape[1:] != test_x.shape[1:] or train_x.dtype != test_x.dtype:
            raise LimbeckError(
                f"The training images are {train_x.dtype} of shape {train_x.shape[1:]} (C, H, W), but the test images "
                f"are {test_x.dtype} of shape {test_x.shape[1:]}; bring both to one form."
            )

    def count_classes(self) -> int:
        """K: as many as there are names, or the highest training label and one.

        Raises:
            LimbeckError: fewer than 2 classes, labels with large gaps, or a label that is out of range.
        """
        y_N = self.train[1]
        classes = len(self.class_names) if self.class_names else int(y_N.max()) + 1
        # The bound keeps one absurd label (a pixel, an id) from asking for a table of that size.
        if self.class_names is None and classes > len(y_N):
            raise LimbeckError(
                f"The labels go up to {classes - 1} but there are only {len(y_N)} training images; "
                "number the classes 0, 1, 2, ... without gaps."
            )
        if classes < 2 or (y_N == y_N[0]).all():
            raise LimbeckError("All training labels are the same; a task needs at least 2 classes.")
        check_classes(y_N, classes, "training")
        if self.test is not None:
            check_classes(self.test[1], classes, "test")
        return classes

    def sha256(self) -> str:
        """Of the arrays' dtypes, shapes and values: training images and labels, then those of the test set."""
        digest = hashlib.sha256()
        for array in (*self.train, *(self.test or ())):
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
