"""What a search found, and reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from limbeck.common.files import read_json, write_json
from limbeck.errors import LimbeckError
from limbeck.nas.proxies.scale import UNKNOWN, Scale
from limbeck.nas.searches.ledger import Ledger, Trial
from limbeck.nas.searches.storages import is_url, need_optuna, place_of, studies_in, without_password

MARK: Final = "search.json"
"""The file by which a folder is known to hold a search; --overwrite deletes one that ``read_mark`` knows by it."""

JOURNAL: Final = "study.log"

_NAME_ONE: Final = "name the folder that 'limbeck search' wrote, or a storage."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The trials of a search that are over.

    Attributes:
        trials: by number.
        settings: what they depend on, as JSON.
        budget: how many trials there are to be.
        prepare_seconds: of preparation, over all sittings.
        scale: what the scores say.
        interrupted: whether a person stopped the sitting that this comes from.
        spent_preparing: whether that sitting's time was up before anything was scored.
    """

    trials: tuple[Trial, ...]
    settings: Mapping[str, Any]
    budget: int
    prepare_seconds: float
    scale: Scale = UNKNOWN
    interrupted: bool = False
    spent_preparing: bool = False

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return len(self.trials) >= self.budget

    @property
    def chance(self) -> float | None:
        """The score of networks that guess; None where guessing has none."""
        return self.scale.chance(int(self.settings["classes"]))

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
        by_score = sorted((t for t in self.trials if t.score is not None), key=lambda t: (-(t.score or 0.0), t.slot))
        return list({trial.text: trial for trial in reversed(by_score)}.values())[::-1][:number]

    def to_json(self) -> dict[str, Any]:
        """The search as JSON has it."""
        best = self.best
        return {
            "settings": dict(self.settings),
            "unit": self.scale.unit,
            "chance": self.chance,
            "budget": self.budget,
            "finished": self.finished,
            "trials": len(self.trials),
            "failed": len(self.failed),
            "prepare_seconds": self.prepare_seconds,
            "scoring_seconds": self.scoring_seconds,
            "best": None if best is None else best.to_json(),
            "rows": [trial.to_json() for trial in self.trials],
        }


@final
@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a folder says of its search: where the study is, its name, and how many trials were asked for."""

    storage: str | Path
    study: str
    budget: int


def note(out: Path | None, storage: str | Path | None, study: str, result: SearchResult) -> None:
    """Write search.json into a folder, if there is one: where the study is, and what it found so far."""
    if out is not None:
        # The journal in the folder is not named, so that the folder may be moved.
        inside = storage is None or place_of(storage) == place_of(out / JOURNAL)
        kept = None if inside else str(storage)
        write_json(out / MARK, {"schema": 1, "storage": kept, "study": study, **result.to_json()})


def read_mark(folder: Path) -> Mark | None:
    """What ``note`` wrote; None if the folder holds no search, be it that another program's file has that name."""
    if not (folder / MARK).is_file():
        return None
    try:
        values = read_json(folder / MARK)
    except LimbeckError:
        return None
    if not (isinstance(values, dict) and {"schema", "storage", "study", "budget", "rows"} <= values.keys()):
        return None
    storage, study, budget = values["storage"], values["study"], values["budget"]
    if not (isinstance(storage, str | None) and isinstance(study, str) and isinstance(budget, int)):
        return None
    return Mark(storage=storage or folder / JOURNAL, study=study, budget=budget)


def read_search(source: str | Path, study: str | None = None) -> SearchResult:
    """A search that was kept.

    Args:
        source: the folder it was written to, or the storage of its study: a URL or a journal file.
        study: its name; that of the folder's search, or the only one of the storage, by default.

    Raises:
        LimbeckError: there is none, or several; the storage cannot be used.
    """
    need_optuna()
    storage, mark = _storage_of(source)
    ledger = Ledger.open(storage, study or (None if mark is None else mark.study))
    ledger.check({})
    return _read(ledger, mark)


def read_searches(source: str | Path, study: str | None = None) -> dict[str, SearchResult]:
    """All searches that a storage holds, by the names of their studies; of a folder its own, or the one that is named.

    Studies of other programs in a storage are passed over unless they are named.

    Raises:
        LimbeckError: there is none; the storage cannot be used.
    """
    need_optuna()
    storage, mark = _storage_of(source)
    if study or mark is not None:
        study = study or (None if mark is None else mark.study)
        return {str(study): read_search(source, study)}
    ledgers = {name: Ledger.open(storage, name) for name in studies_in(storage)}
    results = {name: _read(ledger, None) for name, ledger in ledgers.items() if ledger.settings}
    if not results:
        raise LimbeckError(f"{without_password(source)} holds no search; {_NAME_ONE}")
    return results


def _read(ledger: Ledger, mark: Mark | None) -> SearchResult:
    """What a study holds; its folder tells the budget where the study does not."""
    trials = tuple(ledger.trials())
    budget = mark.budget if mark is not None and mark.study == ledger.name else len(trials)
    return SearchResult(
        trials=trials,
        settings=ledger.settings,
        # A search that went on with a lower budget than it had trials was possible once.
        budget=max(len(trials), budget if ledger.budget is None else ledger.budget),
        prepare_seconds=ledger.prepare_seconds,
        scale=ledger.scale,
    )


def _storage_of(source: str | Path) -> tuple[str | Path, Mark | None]:
    """The storage of a search, and what its folder says of it, if it has one."""
    if is_url(str(source)) or not Path(source).is_dir():
        return source, None
    mark = read_mark(Path(source))
    if mark is None:
        raise LimbeckError(f"{source} holds no search; {_NAME_ONE}")
    return mark.storage, mark
