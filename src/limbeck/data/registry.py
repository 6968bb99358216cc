"""Where the data sets known by name lie."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

from limbeck.common.files import own_cache
from limbeck.data.known import KNOWN_SETS, KnownSet, known_set
from limbeck.errors import LimbeckError


@final
@dataclass(frozen=True, kw_only=True)
class Available:
    """A row of ``limbeck data list``; ``where`` is None if the set is not on this machine.

    ``package`` is the Python package that it comes with, None if it is in files; ``install`` is the command to get it.
    """

    name: str
    title: str
    where: Path | None
    embedded: bool
    n_train: int
    n_test: int
    classes: int
    image_shape: tuple[int, int, int]
    package: str | None
    install: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "where": None if self.where is None else str(self.where),
            "embedded": self.embedded,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "classes": self.classes,
            "image_shape": list(self.image_shape),
            "package": self.package,
        }


def data_roots(data_dir: Path | None) -> tuple[Path, ...]:
    """Where data sets are looked for, in order: ``data_dir``, the variable LIMBECK_DATA, ``~/.cache/limbeck``.

    There may be none: a user without a home has no ``~``.
    """
    variable, cache = os.environ.get("LIMBECK_DATA"), own_cache()
    first = () if data_dir is None else (Path(data_dir),)
    return (*first, *((Path(os.path.expanduser(variable)),) if variable else ()), *(() if cache is None else (cache,)))


def locate(name: str, data_dir: Path | None = None) -> Path:
    """The folder that holds a known data set: the first place of :func:`data_roots` that has all its files.

    Raises:
        LimbeckError: unknown name, or as :func:`folder_of`.
    """
    return folder_of(known_set(name), data_dir)


def folder_of(known: KnownSet, data_dir: Path | None = None) -> Path:
    """As :func:`locate`, for a set that need not be in the table.

    What comes with this package is taken from there if it is nowhere else. Of a set that comes with another Python
    package it is that package's folder.

    Raises:
        LimbeckError: a ``data_dir`` that is no directory, or a set that is nowhere: says where it was
            looked for and how to get it.
    """
    folder = _find(known, data_dir)
    if folder is not None:
        return folder
    if known.module is not None:
        raise LimbeckError(
            f"{known.title} comes with {known.package}, which is not installed; install it with `{known.install}`."
        )
    places = ", ".join(_describe(known, root / known.folder) for root in data_roots(data_dir)) or "no folder"
    raise LimbeckError(f"{known.title} is not on this machine; get it with `{known.install}` (looked at {places}).")


def available(data_dir: Path | None = None) -> list[Available]:
    """One row for each known data set, whether it is on this machine or not.

    Raises:
        LimbeckError: a ``data_dir`` that is no directory.
    """
    return [_row(known, _find(known, data_dir)) for known in KNOWN_SETS]


def _row(known: KnownSet, where: Path | None) -> Available:
    return Available(
        name=known.name,
        title=known.title,
        where=where,
        embedded=where is not None and where == embedded_folder(known),
        n_train=known.n_train,
        n_test=known.n_test,
        classes=len(known.class_names),
        image_shape=known.image_shape,
        package=known.package,
        install=known.install,
    )


def _find(known: KnownSet, data_dir: Path | None) -> Path | None:
    if data_dir is not None and not Path(data_dir).is_dir():
        # Going on to the next place would hide a typing error.
        raise LimbeckError(f"The data directory {data_dir} is not there; create it or give another one.")
    if known.module is not None:
        return _module_folder(known.module)
    folders = [root / known.folder for root in data_roots(data_dir)]
    embedded = embedded_folder(known)
    if embedded is not None:
        folders.append(embedded)
    return next((folder for folder in folders if not known.missing(folder)), None)


def embedded_folder(known: KnownSet) -> Path | None:
    """Where in this package a set lies; None if it is not embedded."""
    if not known.embedded:
        return None
    folder = resources.files("limbeck.data").joinpath("embedded", known.folder)
    return folder if isinstance(folder, Path) else None  # a package inside a zip file has no folders


def _module_folder(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _describe(known: KnownSet, folder: Path) -> str:
    missing = known.missing(folder)
    return f"{folder} without {missing[0]}" if len(missing) < len(known.files) else str(folder)
