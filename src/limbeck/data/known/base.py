"""What is known of a data set that has a name: where it comes from, how it is read, what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from limbeck.data.arrays import MaybeTest
from limbeck.data.preprocessing import Preprocessing


@final
@dataclass(frozen=True, kw_only=True)
class Download:
    """One file of the official source.

    Attributes:
        name: its name, below the set's address.
        sha256: of the file as served.
        members: of an archive, the files to take out of it; empty if the file itself is wanted.
    """

    name: str
    sha256: str
    members: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A data set known by name.

    Attributes:
        name: what people type.
        title: what people call it.
        folder: its folder below a data directory.
        url: official source, with a slash at the end.
        downloads: what to fetch from there.
        files: SHA-256 of the contents of every file needed in ``folder``, decompressed if its name ends with ``.gz``
            (so that a recompressed copy counts, and so does one without ``.gz``).
        class_names: K names.
        preprocessing: the normalisation of the literature; None to measure it.
        image_shape: (C, H, W).
        n_train: number of training images.
        n_test: number of test images, 0 if it has none of its own.
        read: folder to ``train_x, train_y, test_x, test_y``, the last two None if it has no test set.
        embedded: a copy comes with this package.
        module: the Python module that it comes with, which is the name of our extra, too; None if it is in files.
        package: what people call that module's package.
    """

    name: str
    title: str
    folder: str
    url: str
    downloads: tuple[Download, ...]
    files: Mapping[str, str]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing | None
    image_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    read: Callable[[Path], MaybeTest]
    embedded: bool = False
    module: str | None = None
    package: str | None = None

    @property
    def install(self) -> str:
        """The command that gets it."""
        return f"limbeck data get {self.name}" if self.module is None else f"pip install 'limbeck[{self.module}]'"

    def missing(self, folder: Path) -> tuple[str, ...]:
        """The files that ``folder`` lacks; all of them if it is not there."""
        return tuple(name for name in self.files if find_file(folder, name) is None)


def find_file(folder: Path, name: str) -> Path | None:
    """A file by name, or by name without ``.gz``; None if neither is there."""
    return next((path for path in (folder / name, folder / name.removesuffix(".gz")) if path.is_file()), None)
