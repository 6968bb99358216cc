"""Sources of real data: which reader takes one, and what it is called.

A source that is text, a name or a path, may have options after it that change its images: ``mnist,invert=True``.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from torch.utils.data import DataLoader, Dataset

from limbeck.common.files import relative_path
from limbeck.common.naming import split_words
from limbeck.common.registry import Registry
from limbeck.data.known import known_names
from limbeck.data.raw import Raw
from limbeck.data.readers import READERS, Reader
from limbeck.data.reading import Reading
from limbeck.data.variants import Change, read_words
from limbeck.errors import LimbeckError

_MOST_COMPARED: Final = 2000  # entries of a folder among which a misspelt one is looked for

Source: TypeAlias = str | os.PathLike[str] | tuple[Any, Any] | Dataset[Any]


@final
@dataclass(frozen=True, kw_only=True)
class Match:
    """A source and who reads it.

    Attributes:
        reader: takes ``base``.
        base: the source without its options.
        changes: what its options ask for.
        reading: how it is to be read where it does not say so itself.
        text: by which it can be loaded again, options included; None for what is no text.
    """

    reader: Reader
    base: Any
    changes: tuple[Change, ...] = ()
    reading: Reading = field(default_factory=Reading)
    text: str | None = None

    @property
    def name(self) -> str:
        """What the data is called, with the options that change it."""
        return ",".join((self.reader.data_name(self.base), *map(str, self.changes)))

    def read(self, data_dir: Path | None) -> Raw:
        """Arrays as the source has them, without the changes.

        Raises:
            LimbeckError: a source that is missing or damaged, examples or labels that are no such, or an option that
                such a source does not have.
        """
        for name in ("image", "label", "limit"):
            if getattr(self.reading, name) is not None and name not in self.reader.options:
                raise LimbeckError(
                    f"The option {name}={getattr(self.reading, name)} does nothing for {self.reader.takes}; leave it "
                    "out."
                )
        sizes = [change.value for change in self.changes if change.option == "size"]
        return self.reader.read_as(
            self.base, data_dir, replace(self.reading, size=sizes[0] if sizes else None)
        ).as_arrays(self.reading)


def match_source(source: object, readers: Sequence[Reader] = READERS, reading: Reading | None = None) -> Match:
    """The first of the readers that can read the source.

    Args:
        source: a name, a path, or an object that one of the readers takes.
        readers: asked in this order.
        reading: how it is to be read, besides what its options say.

    Raises:
        LimbeckError: two readers of one name; a source that none can read, with what they can; wrong options, or two
            that contradict each other.
    """
    said = reading or Reading()
    readers = Registry.of("reader", readers).values()
    if isinstance(source, str | os.PathLike):
        base, words = split_source(os.fspath(source), readers)
        reader = _reader_of(base, readers)
        if reader is not None:
            written, changes = read_words(base, words)
            both = written.joined(said, base)
            text = f"{os.fspath(source)}{both.beyond(written)}"
            return Match(reader=reader, base=base, changes=changes, reading=both, text=text)
        place = Path(source) if _is_there(Path(source)) else Path(base)  # a file's name may have commas
        if not _is_there(place):
            raise _missing(base)
        what = f"{'the file' if place.is_file() else 'the folder'} {place}"
    else:
        reader = _reader_of(source, readers)
        if reader is not None:
            return Match(reader=reader, base=source, reading=said)
        what = f"this {type(source).__name__}"
    remedy = _remedy(source)
    if remedy:
        raise LimbeckError(f"Cannot read data from {what}; give {remedy}.")
    *others, last = (reader.takes for reader in readers)
    raise LimbeckError(f"Cannot read data from {what}; give {', '.join(others)}, or {last}.")


def _remedy(source: object) -> str:
    """What to give in place of some sources that no reader takes, for an error; empty for others."""
    if isinstance(source, DataLoader):
        return "its data set, loader.dataset"
    if isinstance(source, list) and len(source) == 2:
        return "images and labels as a tuple, (x, y)"
    if isinstance(source, list):
        return "images and labels as a tuple (x, y) of two arrays, as with x, y = map(np.stack, zip(*pairs))"
    if isinstance(source, dict):
        return "its images and labels as a tuple, (x, y)"
    if hasattr(source, "to_numpy"):
        return "features and labels as a tuple, (table[features].to_numpy(), table[label].to_numpy())"
    return ""


def split_source(source: str, readers: Sequence[Reader] = READERS) -> tuple[str, list[str]]:
    """A name or path, which may have commas, and the options after it as words.

    The longest beginning that a reader takes is the name or path; where none takes any, it goes up to the first comma.

    >>> split_source("runs/a,b.npz,invert=True")
    ('runs/a,b.npz', ['invert=True'])
    """
    beginnings = [*itertools.accumulate(source.split(","), lambda left, right: f"{left},{right}")]
    base = next((text for text in reversed(beginnings) if _reader_of(text, readers)), None)
    if base is None:
        base, *words = split_words(source)
        return base, words
    return base, split_words(source[len(base) + 1 :]) if len(source) > len(base) else []


def is_named(source: str) -> bool:
    """Whether :func:`limbeck.data.load` goes by this name: a known set or a file, with options or without.

    >>> is_named("MNIST,invert=True"), is_named("mine.npz"), is_named("arrays")
    (True, True, False)
    """
    return _reader_of(split_source(source)[0], READERS) is not None


def relative_source(source: str, folder: Path) -> str:
    """A source as a folder's files record it: the path of a file from the folder on, other names as they are."""
    base, words = split_source(source)
    if base.lower() in known_names() or not is_named(source) or not Path(base).is_file():
        return source
    return ",".join((relative_path(Path(base), folder), *words))


def absolute_source(source: str, folder: Path) -> str:
    """Inverse of :func:`relative_source`, for a file that is still there; names of others are as they were recorded."""
    base, words = split_source(source)
    place = (folder.resolve() / base).resolve()
    return ",".join((str(place), *words)) if place.is_file() else source


def same_source(one: str, other: str) -> bool:
    """Whether two sources are one set of images but for the options that change it; files go by their names.

    >>> same_source("mnist", "MNIST,rotate=90"), same_source("a.npz", "b/a.npz,invert=True"), same_source("a.npz", "a")
    (True, True, False)
    """
    first, second = (Path(split_source(source)[0]).name.lower() for source in (one, other))
    return first == second


def canonical_name(source: str) -> str:
    """The name that the data of a source has: ``mnist,rotate=270`` for ``MNIST,invert=False,rotate=-90``.

    A file goes without its folder and ending.

    Raises:
        LimbeckError: wrong options.
    """
    base, _ = split_source(source)
    reader = _reader_of(base, READERS)
    name = Path(base).stem if reader is None else reader.data_name(base)
    return ",".join((name, *map(str, changes_of(source))))


def changes_of(source: str) -> tuple[Change, ...]:
    """How the options of a source change its images; raises LimbeckError for wrong ones.

    >>> [str(change) for change in changes_of("mnist,channels=last,size=16")]
    ['size=16']
    """
    return read_words(*split_source(source))[1]


def _looks_like_path(base: str) -> bool:
    """Whether text is rather a place than a name.

    >>> [_looks_like_path(text) for text in ("mnits", "data/mine", "mine.csv", "~", "fashion-mnits")]
    [False, True, True, True, False]
    """
    return "/" in base or os.sep in base or base.startswith(("~", ".")) or bool(Path(base).suffix)


def _missing(base: str) -> LimbeckError:
    """The error for a name or place that leads nowhere, with the nearest that there is."""
    lost = Path(base)
    while not _is_there(lost.parent):
        lost = lost.parent
    try:
        beside = [str(path) for path in itertools.islice(lost.parent.iterdir(), _MOST_COMPARED)]
    except OSError:
        beside = []
    a_path = _looks_like_path(base)
    near = difflib.get_close_matches(str(lost), beside if a_path else [*known_names(), *beside], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    if a_path:
        where = "" if lost.is_absolute() else "; it is looked for in the current directory"
        return LimbeckError(f"There is no file or folder {base}{where}{hint}")
    return LimbeckError(
        f"There is no data set, folder or file '{base}'{hint} Known data sets: {', '.join(known_names())}."
    )


def _reader_of(base: object, readers: Sequence[Reader]) -> Reader | None:
    try:
        return next((reader for reader in readers if reader.can_read(base)), None)
    except OSError:  # text too long for a file's name
        return None


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return False
