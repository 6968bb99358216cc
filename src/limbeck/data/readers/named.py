"""Data sets known by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from limbeck.data.known import KNOWN_SETS, KnownSet, by_name, known_set
from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.data.registry import folder_of


@final
@dataclass(frozen=True, kw_only=True)
class NamedSetReader(Reader):
    """``mnist``, in either case, and the other known sets."""

    sets: tuple[KnownSet, ...] = KNOWN_SETS
    name = "named"

    @property
    def takes(self) -> str:
        """Lists the names."""
        return f"a known name ({', '.join(by_name(self.sets))})"

    def can_read(self, source: object) -> bool:
        """Whether it is one of the names."""
        return isinstance(source, str) and source.lower() in by_name(self.sets)

    def data_name(self, source: str) -> str:
        """In lower case."""
        return known_set(source, self.sets).name

    def read(self, source: str, data_dir: Path | None) -> Raw:
        """From the first place that has all its files."""
        known = known_set(source, self.sets)
        x, y, test_x, test_y = known.read(folder_of(known, data_dir))
        return Raw(
            train=(x, y),
            test=None if test_x is None else (test_x, test_y),
            class_names=known.class_names,
            preprocessing=known.preprocessing,
        )
