"""A folder with a folder of pictures for each class.

Shapes: N pictures, C channels, H × W pixels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from PIL import Image

from limbeck.data.labels import natural_key
from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.data.readers.parts import PARTS, split_parts
from limbeck.data.readers.pictures import form_of_file, picture_of_file, read_pictures
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError

_NO_PICTURES: Final = (
    "BUFR",
    "EPS",
    "FITS",
    "GRIB",
    "HDF5",
    "MPEG",
    "WMF",
)  # Pillow only knows them, or needs a program
_MOST_IN_A_WARNING: Final = 3


@final
class FolderReader(Reader):
    """The path of a folder; the names of its folders are the classes.

    With ``train`` and ``test`` in it (or ``val``, ``valid``, ``validation``), the classes are the folders of those.
    """

    name = "folder"
    takes = "the path of a folder with a folder of pictures for each class"

    def can_read(self, source: object) -> bool:
        """Whether it is a folder that is there."""
        return isinstance(source, str) and source != "" and Path(source).is_dir()

    def data_name(self, source: str) -> str:
        """The folder's own name."""
        return Path(source).resolve().name

    def read(self, source: str, data_dir: Path | None) -> Raw:
        """All pictures in the natural order of their paths; relative to the working directory, not to ``data_dir``."""
        return self.read_as(source, data_dir, Reading())

    def read_as(self, source: str, data_dir: Path | None, reading: Reading) -> Raw:
        """All pictures, at the size that is asked for."""
        folder = Path(source)
        skipped = _Skipped()
        parts = {part: _pictures(each, skipped) for part, each in _parts(folder, skipped).items()}
        skipped.tell(folder)
        files = [file for pictures in parts.values() for file in pictures]
        x = read_pictures(
            lambda i: picture_of_file(files[i].path),
            [form_of_file(file.path) for file in files],
            str(folder),
            size=reading.size,
            name=lambda i: str(files[i].path),
        )
        train = len(parts["train"])
        labels = [file.label for file in files]
        return Raw(
            train=(x[:train], labels[:train]),
            test=(x[train:], labels[train:]) if "test" in parts else None,
            kind="images",
            channels="first",
            pictured=True,
            known_by=_digest(folder, files),
        )


@final
@dataclass(frozen=True, kw_only=True)
class _Picture:
    path: Path
    label: str


@final
@dataclass
class _Skipped:
    """Files that are no pictures."""

    files: list[Path] = field(default_factory=list)

    def tell(self, folder: Path) -> None:
        """One warning that counts them."""
        if self.files:
            names = ", ".join(file.name for file in self.files[:_MOST_IN_A_WARNING])
            more = ", …" if len(self.files) > _MOST_IN_A_WARNING else ""
            count = len(self.files)
            warnings.warn(
                f"{count} {'file' if count == 1 else 'files'} in {folder} {'is' if count == 1 else 'are'} hidden or no "
                f"picture and left out ({names}{more})",
                stacklevel=5,
            )


def endings() -> frozenset[str]:
    """Those of pictures that Pillow opens, in lower case."""
    formats = Image.registered_extensions()
    return frozenset(end for end, name in formats.items() if name in Image.OPEN and name not in _NO_PICTURES)


def _hidden(path: Path) -> bool:
    return path.name.startswith((".", "__"))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise LimbeckError(f"{folder} cannot be read: {error.strerror}.") from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir() and not _hidden(path)]


def _parts(folder: Path, skipped: _Skipped) -> dict[str, list[Path]]:
    """The folders that hold classes, of the training and of the test set.

    Validation pictures join the training ones where there is a test set, and are the test set where there is none.
    """
    folders = _folders(folder)
    named = {path.name: path for path in folders if path.name.lower() in PARTS and _folders(path)}
    if not any(PARTS[name.lower()] == "train" for name in named):
        return {"train": [folder]}
    others = [path.name for path in folders if path.name not in named]
    if others:
        raise LimbeckError(
            f"{folder} has parts ({', '.join(named)}) and other folders beside them ({', '.join(others)}); move these "
            "elsewhere."
        )
    skipped.files += [path for path in _listed(folder) if path.is_file()]
    return {part: [named[name] for name in names] for part, names in split_parts(list(named), str(folder)).items()}


def _pictures(roots: list[Path], skipped: _Skipped) -> list[_Picture]:
    """The pictures of every class of one part, in order.

    Raises:
        LimbeckError: a class without pictures, fewer than two classes, or pictures that are in no class.
    """
    found: list[_Picture] = []
    pictures = endings()
    for root in roots:
        classes = _folders(root)
        loose = [path for path in _listed(root) if path.is_file()]
        stray = next((path for path in loose if path.suffix.lower() in pictures and not _hidden(path)), None)
        if len(classes) < 2:
            beside = f", and pictures such as {stray.name} in none" if stray is not None and not classes else ""
            has = f"the one class {classes[0].name}" if classes else f"no folders of classes{beside}"
            raise LimbeckError(
                f"{root} has {has}; give a folder with a folder of pictures for each of at least 2 classes."
            )
        if stray is not None:
            raise LimbeckError(f"{stray} is in no class; move it into the folder of one, or away.")
        skipped.files += loose
        for folder in classes:
            files = list(_walk(folder))
            mine = [path for path in files if path.suffix.lower() in pictures and not _hidden(path)]
            if not mine:
                raise LimbeckError(f"{folder} holds no picture; put some of the class into it, or remove it.")
            skipped.files += [path for path in files if path not in set(mine)]
            found += [_Picture(path=path, label=folder.name) for path in mine]
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, hidden folders left out, in natural order."""
    for path in _listed(folder):
        if path.is_dir():
            if not _hidden(path):
                yield from _walk(path)
        else:
            yield path


def _digest(folder: Path, files: list[_Picture]) -> str:
    """SHA-256 of all pictures and where they are in the folder."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        digest.update(f"{file.path.relative_to(folder).as_posix()} {content};".encode())
    return digest.hexdigest()
