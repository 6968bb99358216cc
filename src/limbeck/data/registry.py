"""Where the data sets known by name lie."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

from limbeck.data.known import KnownSet, known_set, known_sets
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
    """Where data sets are looked for, in order: ``data_dir``, the variable LIMBECK_DATA, ``~/.cache/limbeck``."""
    variable = os.environ.get("LIMBECK_DATA")
    given = () if data_dir is None else (Path(data_dir),)
    return (*given, *((Path(variable).expanduser(),) if variable else ()), Path("~/.cache/limbeck").expanduser())


def locate(name: str, data_dir: Path | None = None) -> Path:
    """The folder that holds a known data set: the first place of :func:`data_roots` that has all its files.

    MNIST is found in this package if nowhere else. Of a set that comes with a Python package it is that package's.

    Raises:
        LimbeckError: unknown name, a ``data_dir`` that is no directory, or a set that is nowhere: says where it was
            looked for and how to get it.
    """
    known = known_set(name)
    folder = _find(known, data_dir)
    if folder is not None:
        return folder
    if known.module is not None:
        raise LimbeckError(
            f"{known.title} comes with {known.package}, which is not installed; install it with `{known.install}`."
        )
    places = ", ".join(_describe(known, root / known.folder) for root in data_roots(data_dir))
    raise LimbeckError(f"{known.title} is not on this machine; get it with `{known.install}` (looked at {places}).")


def available(data_dir: Path | None = None) -> list[Available]:
    """One row for each known data set, whether it is on this machine or not.

    Raises:
        LimbeckError: a ``data_dir`` that is no directory.
    """
    return [_row(known, _find(known, data_dir)) for known in known_sets().values()]


def _row(known: KnownSet, where: Path | None) -> Available:
    return Available(
        name=known.name,
        title=known.title,
        where=where,
        embedded=where is not None and where == _embedded(known),
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
        return _installed(known.module)
    folders = [root / known.folder for root in data_roots(data_dir)]
    embedded = _embedded(known)
    if embedded is not None:
        folders.append(embedded)
    return next((folder for folder in folders if not known.missing(folder)), None)


def _embedded(known: KnownSet) -> Path | None:
    if not known.embedded:
        return None
    folder = resources.files("limbeck.data").joinpath("embedded", known.folder)
    return folder if isinstance(folder, Path) else None  # a package inside a zip file has no folders


def _installed(module: str) -> Path | None:
    found = importlib.util.find_spec(module)
    return None if found is None or found.origin is None else Path(found.origin).parent


def _describe(known: KnownSet, folder: Path) -> str:
    missing = known.missing(folder)
    return f"{folder} without {missing[0]}" if len(missing) < len(known.files) else str(folder)
