"""Where a search is kept: its folder and its study, and what may happen to what is there already."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from limbeck.errors import LimbeckError
from limbeck.nas.searches.ledger import Ledger
from limbeck.nas.searches.result import JOURNAL, Mark, read_mark
from limbeck.nas.searches.storages import is_stored, place_of, studies_in, without_password


@final
@dataclass(frozen=True, kw_only=True)
class SearchPlace:
    """Where a search is kept.

    Args:
        out: folder for search.json and, unless a storage is given, the study; neither is kept by default.
        storage: where the Optuna study is kept instead: a URL such as sqlite:///studies.db, or a journal file.
        study: its name; that of ``out``, or "search", by default.
        resume: go on with the search that is there, which ``out`` knows the storage and the study of; its budget may
            be raised.
        overwrite: replace the search that is there.
    """

    out: Path | None = None
    storage: str | Path | None = None
    study: str | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise LimbeckError("resume goes on with what is there and overwrite begins anew; give one of them.")

    def site(self) -> Site:
        """The study that is meant; with ``resume`` the one that the folder knows of.

        Raises:
            LimbeckError: the folder holds something else, or the search of another study.
        """
        mark = _mark_of(self.out)
        if mark is None or not self.resume:
            storage = self.storage
            if storage is None and self.out is not None:
                storage = self.out / JOURNAL
            name = self.study or (self.out.name if self.out is not None and self.out.name else "search")
            return Site(out=self.out, mark=mark, storage=storage, study=name)
        storage = mark.storage if self.storage is None else self.storage
        if place_of(storage) != place_of(mark.storage) or self.study not in (None, mark.study):
            raise LimbeckError(
                f"{self.out} holds the search '{mark.study}' in {without_password(mark.storage)}, not "
                f"'{self.study or mark.study}' in {without_password(storage)}; choose another --out, or leave out "
                "--storage and --study."
            )
        return Site(out=self.out, mark=mark, storage=storage, study=mark.study)


@final
@dataclass(frozen=True, kw_only=True)
class Site:
    """The folder and the study of a search.

    Attributes:
        out: its folder, if it has one.
        mark: what the folder says of the search that it holds; None if there is nothing in it yet.
        storage: of the study; None to keep it in memory.
        study: its name.
    """

    out: Path | None
    mark: Mark | None
    storage: str | Path | None
    study: str

    def open(self, settings: Mapping[str, Any], budget: int) -> Ledger:
        """The study to go on with, up to a budget of trials; nothing is changed yet.

        Raises:
            LimbeckError: there is none, it was made with other settings, its budget is spent, or a process is at it.
        """
        if self.storage is None:
            raise LimbeckError("A search that is kept nowhere cannot go on; name its --out or its --storage.")
        ledger = Ledger.open(self.storage, self.study)
        # The settings of the proxy tell what it is; its name may be another path of the same set.
        ledger.check({key: value for key, value in settings.items() if key != "proxy"})
        ledger.check_free()
        if ledger.size > budget:
            raise LimbeckError(
                f"The study '{self.study}' in {without_password(self.storage)} has {ledger.size} trials, so that a "
                f"budget of {budget} is spent; raise --budget, or look at what is there with 'limbeck search show'."
            )
        return ledger

    def check_new(self, *, overwrite: bool) -> None:
        """Raise LimbeckError unless a new search may be made here; nothing is changed yet."""
        if overwrite:
            self._check_unattended()
        elif self.mark is not None:
            raise LimbeckError(
                f"{self.out} already holds a search; go on with --resume, replace it with --overwrite, or choose "
                "another --out."
            )
        elif self.storage is not None and is_stored(self.storage, self.study):
            raise LimbeckError(
                f"{self.storage} holds a study '{self.study}' already; go on with --resume, replace it with "
                "--overwrite, or choose another --study."
            )

    def create(self, settings: Mapping[str, Any], *, overwrite: bool) -> Ledger:
        """A new study in an empty folder; what was in the folder is deleted."""
        if self.out is not None:
            try:
                if self.out.exists():
                    shutil.rmtree(self.out)
                self.out.mkdir(parents=True)
            except OSError as error:
                raise LimbeckError(f"Could not make the folder {self.out}: {error.strerror}.") from None
        return Ledger.create(self.storage, self.study, settings, overwrite=overwrite)

    def _check_unattended(self) -> None:
        """Raise LimbeckError if a process is at the study that is to be replaced, or at one in the folder."""
        studies: dict[tuple[str | Path, str], None] = {}
        if self.storage is not None:
            studies[(self.storage, self.study)] = None
        if self.mark is not None:
            studies[(self.mark.storage, self.mark.study)] = None
        if self.out is not None and (self.out / JOURNAL).exists():
            studies |= {(self.out / JOURNAL, study): None for study in studies_in(self.out / JOURNAL)}
        for storage, study in studies:
            if is_stored(storage, study):
                Ledger.open(storage, study).check_free()


def _mark_of(out: Path | None) -> Mark | None:
    """What a folder says of the search that it holds; None if there is nothing in it yet."""
    if out is None or not out.exists():
        return None
    if not out.is_dir():
        raise LimbeckError(f"{out} is a file; --out must be a folder.")
    mark = read_mark(out)
    if mark is None and any(out.iterdir()):
        raise LimbeckError(f"{out} is not empty and holds no search; choose another --out.")
    return mark
