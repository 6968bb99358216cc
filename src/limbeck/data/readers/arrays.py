"""Arrays in memory: NumPy arrays, tensors, nested lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.errors import LimbeckError


@final
class ArraysReader(Reader):
    """Images and labels; a test set is held out of them."""

    name = "arrays"
    takes = "(x, y)"

    def can_read(self, source: object) -> bool:
        """Whether it is a tuple of two."""
        return isinstance(source, tuple) and len(source) == 2

    def data_name(self, source: tuple[Any, Any]) -> str:
        """Arrays do not say what they are."""
        return "arrays"

    def read(self, source: tuple[Any, Any], data_dir: Path | None) -> Raw:
        """As they are."""
        if source[1] is None:
            raise LimbeckError(
                "There is nothing beside the images: give (x, y), or with a test set ((x, y), (x_test, y_test))."
            )
        return Raw(train=source)


@final
class ArrayPairsReader(Reader):
    """Images and labels for training, and others for the test."""

    name = "array-pairs"
    takes = "((x, y), (x_test, y_test))"

    def can_read(self, source: object) -> bool:
        """Whether it is a tuple of two tuples of two."""
        pairs = (source, *source) if isinstance(source, tuple) else (source,)
        return len(pairs) == 3 and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)

    def data_name(self, source: tuple[Any, Any]) -> str:
        """Arrays do not say what they are."""
        return "arrays"

    def read(self, source: tuple[Any, Any], data_dir: Path | None) -> Raw:
        """As they are."""
        train, test = source
        return Raw(train=train, test=test)
