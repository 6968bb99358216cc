"""What every exporter offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from limbeck.artefact.distilled import Distilled


class Exporter(ABC):
    """One format that a learned set can be written in."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its own among the exporters: what follows ``--format``."""

    @property
    @abstractmethod
    def suffix(self) -> str:
        """How the paths end that it writes to, in lower case; empty for any path that no other exporter takes."""

    @property
    @abstractmethod
    def writes(self) -> str:
        """What comes of it, as an error lists it: ``a folder of PNG pictures``."""

    def is_own(self, name: str) -> bool:
        """Whether a file of a folder, by its path within it such as ``step-0001/000-cat.png``, is of such an export.

        Those that the new export does not have are removed when an older one is overwritten; none by default.
        """
        return False

    @abstractmethod
    def write(self, run: Distilled, path: Path) -> None:
        """Write the set.

        Args:
            run: the set.
            path: of a file or folder that is not there yet, in a folder that is; it ends in ``suffix``. It is moved to
                where the user wants it when it is complete, so nothing needs to be done about what is there.
        """
