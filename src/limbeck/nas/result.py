"""What a search found, and reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from limbeck.errors import LimbeckError
from limbeck.nas.ledger import Ledger, Trial
from limbeck.nas.storages import is_url, need_optuna, studies_in
from limbeck.storage import read_json, write_json

MARK: Final = "search.json"
"""The file by which a folder is known to hold a search; --overwrite deletes a folder that holds one."""

JOURNAL: Final = "study.log"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The trials of a search that are over, by number.

    ``settings`` are what they depend on; seconds are over all sittings, those of scoring summed over workers.
    """

    trials: tuple[Trial, ...]
    settings: Mapping[str, Any]
    budget: int
    prepare_seconds: float

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return len(self.trials) >= self.budget

    @property
    def scoring_seconds(self) -> float:
        """Seconds of scoring, summed over workers."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Trials that failed; ``failure`` says why."""
        return tuple(trial for trial in self.trials if trial.failure is not None)

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score, the earliest of equal ones."""
        return next(iter(self.top(1)), None)

    def top(self, number: int) -> list[Trial]:
        """The best trials, each architecture once."""
        ranked = sorted((t for t in self.trials if t.score is not None), key=lambda t: (-(t.score or 0.0), t.slot))
        return list({trial.text: trial for trial in reversed(ranked)}.values())[::-1][:number]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        best = self.best
        return {
            "settings": dict(self.settings),
            "budget": self.budget,
            "finished": self.finished,
            "trials": len(self.trials),
            "failed": len(self.failed),
            "prepare_seconds": self.prepare_seconds,
            "scoring_seconds": self.scoring_seconds,
            "best": None if best is None else best.to_json(),
            "rows": [trial.to_json() for trial in self.trials],
        }


def note(out: Path | None, storage: str | Path | None, study: str, result: SearchResult) -> None:
    """Write search.json into a folder, if there is one: where the study is, and what it found so far."""
    if out is not None:
        kept = None if storage is None else str(storage)
        write_json(out / MARK, {"schema": 1, "storage": kept, "study": study, **result.to_json()})


def read_search(source: str | Path, study: str | None = None) -> SearchResult:
    """A search that was kept.

    Args:
        source: the folder it was written to, or the storage of its study: a URL or a journal file.
        study: its name; that of the folder's search, or the only one of the storage, by default.

    Raises:
        LimbeckError: there is none, or several; the storage cannot be used.
    """
    need_optuna()
    storage, noted = _storage_of(source)
    ledger = Ledger.open(storage, study or noted.get("study"))
    ledger.check({})
    trials = tuple(ledger.trials())
    return SearchResult(
        trials=trials,
        settings=ledger.settings,
        budget=noted.get("budget", len(trials)),
        prepare_seconds=ledger.prepare_seconds,
    )


def read_searches(source: str | Path, study: str | None = None) -> dict[str, SearchResult]:
    """All searches that a storage or a folder holds, by the names of their studies, or the one that is named."""
    need_optuna()
    storage, noted = _storage_of(source)
    study = study or noted.get("study")
    names = [study] if study else studies_in(storage)
    if not names:
        raise LimbeckError(f"{source} holds no search.")
    return {name: read_search(source, name) for name in names}


def _storage_of(source: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """The storage of a search, and what its folder says of it, if it has one."""
    if is_url(str(source)) or not Path(source).is_dir():
        return source, {}
    folder = Path(source)
    if not (folder / MARK).is_file():
        raise LimbeckError(f"{folder} holds no search; name the folder that 'limbeck search' wrote, or a storage.")
    noted = read_json(folder / MARK)
    return noted["storage"] or folder / JOURNAL, noted
