"""What every reader of real data offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from limbeck.data.raw import Raw
from limbeck.data.reading import Reading


class Reader(ABC):
    """One kind of source of real data.

    A source that is text (a name or a path) comes to a reader as ``str``, without the options that may follow it: these
    change whatever images a reader gives.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Its own among the readers."""

    @property
    @abstractmethod
    def takes(self) -> str:
        """What it reads, as an error lists it: ``the path of an .npz file``."""

    @property
    def options(self) -> frozenset[str]:
        """Which of the options ``image``, ``label`` and ``limit`` its sources have; none by default."""
        return frozenset()

    @abstractmethod
    def can_read(self, source: object) -> bool:
        """Whether the source is of this kind, by its looks; whether it is there and sound turns out in reading."""

    @abstractmethod
    def data_name(self, source: Any) -> str:
        """What the data is called; nothing is read for that."""

    @abstractmethod
    def read(self, source: Any, data_dir: Path | None) -> Raw:
        """Images and labels.

        Args:
            source: for which :meth:`can_read` is true.
            data_dir: where data sets are looked for first.

        Raises:
            LimbeckError: missing, damaged, or not what it looked like. Names the file or item.
        """

    def read_as(self, source: Any, data_dir: Path | None, reading: Reading) -> Raw:
        """As :meth:`read`, by what was said of the source; for readers that leave something to be said.

        Args:
            source: for which :meth:`can_read` is true.
            data_dir: where data sets are looked for first.
            reading: what was said. Its ``kind`` and ``channels`` are seen to for every reader.

        Raises:
            LimbeckError: as :meth:`read`.
        """
        return self.read(source, data_dir)
