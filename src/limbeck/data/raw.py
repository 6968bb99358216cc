"""What a source has in it: examples and labels, checked, changed, counted and hashed.

Shapes: N examples, C channels, H × W pixels, K classes; D features of a table, T steps of a series.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final, Self, final

import numpy as np

from limbeck.data.arrays import Array, as_array, check_pair
from limbeck.data.labels import encode
from limbeck.data.layout import NOUNS, ask_for_channels, channel_axis, examples_NCHW, kind_of
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.reading import Channels, Kind, Reading
from limbeck.data.variants import Change, apply_changes
from limbeck.errors import LimbeckError

_BYTES_AT_ONCE: Final = 1 << 26


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Raw:
    """What a reader takes from a source.

    Attributes:
        train: examples and labels, each anything array-like. Images are (N, H, W), (N, C, H, W) or (N, H, W, C), a
            table is (N, D), series are (N, T) or (N, T, C); labels are class numbers, texts or truth values (N,), or
            one-hot rows (N, K). After :meth:`as_arrays`: (N, C, H, W), uint8 or float32, and int64 (N,).
        test: the same of the source's own test set; None where it has none.
        class_names: K names; None where the source has none: then the classes are called by their labels.
        preprocessing: how the pixels are normalised; None to measure it.
        kind: what the examples are; None to tell it from the number of axes.
        channels: which axis of an image is the channels; None to tell it from the sizes.
        known_by: SHA-256 of the source itself, for one whose arrays depend on how it is read; None for that of the
            arrays.
        pictured: whether the examples were pictures, which the reader brought to the size that was asked for; those
            of more than 8 bits are float32.
        random: whether the images were drawn at random and will be others next time: then ``known_by`` counts.
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any] | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    kind: Kind | None = None
    channels: Channels | None = None
    known_by: str | None = None
    pictured: bool = False
    random: bool = False

    @property
    def noun(self) -> str:
        """What the examples are called in a sentence."""
        return NOUNS[self.kind or "images"]

    def as_arrays(self, reading: Reading | None = None) -> Self:
        """The same as NumPy arrays of one form (see ``train``).

        Args:
            reading: what kind the examples are and where their channels, where the source does not say so itself.

        Raises:
            LimbeckError: examples or labels that are no such, or that can be read in two ways.
        """
        said = reading or Reading()
        kind, channels = self.kind or said.kind, self.channels or said.channels
        stored = as_array(self.train[0], f"training {NOUNS[kind or 'images']}")
        kind = kind_of(stored.ndim, kind, stored.shape, "training")
        if stored.ndim == 4 and channels is None:
            # The test set's are in the same place.
            channels = channel_axis(stored.shape[1:]) or ask_for_channels(stored.shape[1:], "training")
        train_x = examples_NCHW(stored, "training", kind=kind, channels=channels)
        test_x = None if self.test is None else examples_NCHW(self.test[0], "test", kind=kind, channels=channels)
        train_y, test_y, names = encode(self.train[1], None if self.test is None else self.test[1], self.class_names)
        return replace(
            self,
            train=(train_x, train_y),
            test=None if self.test is None else (test_x, test_y),
            class_names=names,
            kind=kind,
            channels="first",
        )

    def change(self, changes: tuple[Change, ...], base: str) -> Self:
        """The same with changed images, to be normalised as measured; ``base`` names the source in an error.

        Raises:
            LimbeckError: a change that such images do not allow, or of what is no image.
        """
        if not changes:
            return self
        if self.kind not in (None, "images"):
            raise LimbeckError(
                f"The option {changes[0]} changes images, but the data set '{base}' is a "
                f"{'table' if self.kind == 'table' else 'set of series'}; leave it out."
            )
        train = apply_changes(self.train[0], changes, base, "training"), self.train[1]
        test = None if self.test is None else (apply_changes(self.test[0], changes, base, "test"), self.test[1])
        return replace(self, train=train, test=test, preprocessing=None)

    def check(self) -> None:
        """Refuse examples and labels that do not fit each other, or training and test examples of two forms.

        Raises:
            LimbeckError: says what does not fit.
        """
        check_pair(*self.train, "training", self.noun)
        x_NCHW = self.train[0]
        if self.kind in (None, "images") and x_NCHW.min() == x_NCHW.max():
            raise LimbeckError(
                f"All pixels of all training images are {x_NCHW.flat[0]:g}; there is nothing to learn from them."
            )
        if self.test is None:
            return
        check_pair(*self.test, "test", self.noun)
        train_x, test_x = self.train[0], self.test[0]
        if train_x.shape[1:] != test_x.shape[1:] or train_x.dtype != test_x.dtype:
            raise LimbeckError(
                f"The training {self.noun} are {train_x.dtype} of shape {train_x.shape[1:]} (C, H, W), but the test "
                f"{self.noun} are {test_x.dtype} of shape {test_x.shape[1:]}; bring both to one form."
            )

    def count_classes(self) -> int:
        """K: as many as there are names, or the highest training label and one.

        Raises:
            LimbeckError: fewer than 2 classes.
        """
        y_N = self.train[1]
        if (y_N == y_N[0]).all():
            raise LimbeckError("All training labels are the same; a task needs at least 2 classes.")
        return len(self.class_names) if self.class_names else int(y_N.max()) + 1

    def sha256(self) -> str:
        """Of the arrays' dtypes, shapes and values: training images and labels, then those of the test set.

        Of images that were drawn at random it is ``known_by``.
        """
        if self.random and self.known_by is not None:
            return self.known_by
        digest = hashlib.sha256()
        for array in (*self.train, *(self.test or ())):
            update_digest(digest, array)
        return digest.hexdigest()


def update_digest(digest: Any, array: Array) -> None:
    """Feed an array's dtype, shape and values, in their order whatever the memory's, to a hash."""
    digest.update(f"{array.dtype.str} {array.shape};".encode())
    step = max(1, _BYTES_AT_ONCE // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[start : start + step]).data)
