"""The trials of a search, kept in an Optuna study (Akiba et al. 2019), which other tools can open (extra: nas)."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from limbeck.errors import LimbeckError
from limbeck.nas.proxies.scale import UNKNOWN, Scale
from limbeck.nas.searches.optuna_terms import distributions_of, options_by_choice, quiet
from limbeck.nas.searches.storages import backend_of, guard, no_sampler, studies_in, without_password
from limbeck.nas.searches.workers import Outcome
from limbeck.nas.spaces.base import Arch, Space

if TYPE_CHECKING:
    import optuna

SETTINGS, DRIVER, PREPARED, BUDGET, SCALE = "limbeck", "driver", "prepare_seconds", "budget", "scale"
"""Names of the study's attributes: what its trials depend on, who is at it, seconds of preparation so far, how many
trials were asked for last, and what its scores say."""


@final
@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that is over.

    Attributes:
        slot: its number, from 0.
        arch: one option for each choice.
        text: the architecture in one word.
        score: on the last rung, higher is better; None if it failed or was given up on the way there.
        scores: on each rung that it reached.
        seconds: of scoring, on all rungs; 0 where another trial's scores were taken.
        parameters: numbers that are trained; None if the network could not be built.
        flops: of the forward pass on one image.
        failure: why there is no score; None for one that did not fail.
    """

    slot: int
    arch: Arch
    text: str
    score: float | None
    scores: tuple[float, ...]
    seconds: float
    parameters: int | None
    flops: int | None
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The trial as JSON has it."""
        return asdict(self)


@final
class Open:
    """A trial that has begun, and what is known of it so far, rung by rung."""

    def __init__(self, trial: optuna.Trial, arch: Arch) -> None:
        attrs = trial.user_attrs
        self.trial, self.arch = trial, arch
        self.slot: int = attrs["slot"]
        self.text: str = attrs["arch"]
        self.scores = _scores(attrs)
        self.seconds: float = attrs.get("seconds", 0.0)
        self.parameters: int | None = attrs.get("parameters")
        self.flops: int | None = attrs.get("flops")
        self.failure: str | None = attrs.get("failure")


@final
class Ledger:
    """A study: trials by their number (``slot``), each of which counts once, however often it was begun.

    Optuna's own numbers go on when a search is killed: what it was at is marked as failed there, and begun again.
    """

    def __init__(self, study: optuna.Study, where: str) -> None:
        self._study, self._where = study, where

    @classmethod
    def create(cls, storage: str | Path | None, name: str, settings: Mapping[str, Any], *, overwrite: bool) -> Ledger:
        """A new study.

        Args:
            storage: URL of a database, path of a journal file, or None to keep it in memory.
            name: of the study.
            settings: what its trials depend on, as JSON.
            overwrite: replace one of that name.

        Raises:
            LimbeckError: there is one that may not be replaced, or that a process is at; the storage cannot be used.
        """
        import optuna

        where = without_password(storage)
        with guard(where), quiet():
            backend = backend_of(storage)
            if name in optuna.get_all_study_names(backend):
                if not overwrite:
                    raise LimbeckError(
                        f"{where} holds a study '{name}' already; go on with --resume, replace it with --overwrite, or "
                        "choose another --study."
                    )
                cls(optuna.load_study(storage=backend, study_name=name, sampler=no_sampler()), where).check_free()
                optuna.delete_study(study_name=name, storage=backend)
            study = optuna.create_study(storage=backend, study_name=name, direction="maximize", sampler=no_sampler())
            study.set_user_attr(SETTINGS, dict(settings))
        return cls(study, where)

    @classmethod
    def open(cls, storage: str | Path, name: str | None = None) -> Ledger:
        """A study that there is; the only one, if it is not named. Nothing is changed."""
        import optuna

        where = without_password(storage)
        with guard(where), quiet():
            names = studies_in(storage)
            backend = backend_of(storage)
            if name is None and len(names) == 1:
                name = names[0]
            if name is None or name not in names:
                which = f"no study '{name}'" if name else "several studies" if names else "no study"
                raise LimbeckError(f"{where} holds {which}; choose one with --study: {', '.join(names) or 'none'}.")
            return cls(optuna.load_study(storage=backend, study_name=name, sampler=no_sampler()), where)

    @property
    def name(self) -> str:
        """Name of the study."""
        return self._study.study_name

    @property
    def settings(self) -> dict[str, Any]:
        """What its trials depend on; empty for a study of another program."""
        with guard(self._where):
            return dict(self._study.user_attrs.get(SETTINGS, {}))

    @property
    def prepare_seconds(self) -> float:
        """Seconds of preparation in all sittings."""
        with guard(self._where):
            return float(self._study.user_attrs.get(PREPARED, 0.0))

    @property
    def budget(self) -> int | None:
        """How many trials were asked for last; None for a study that does not say."""
        with guard(self._where):
            budget = self._study.user_attrs.get(BUDGET)
        return budget if isinstance(budget, int) else None

    @property
    def scale(self) -> Scale:
        """What the scores say; a study that does not tell has scores without a unit."""
        with guard(self._where):
            attrs = self._study.user_attrs.get(SCALE)
        return Scale(**attrs) if isinstance(attrs, dict) else UNKNOWN

    @property
    def size(self) -> int:
        """How many trials there are, be they over or wait to be begun again."""
        with guard(self._where):
            return len(self._latest())

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise LimbeckError unless this is the study of a search with these settings."""
        before = self.settings
        if not before:
            raise LimbeckError(f"The study '{self._study.study_name}' in {self._where} is no search of Limbeck's.")
        for name, value in settings.items():
            if before.get(name) != value:
                was, now = _apart(before.get(name), value), _apart(value, before.get(name))
                raise LimbeckError(
                    f"The study '{self._study.study_name}' in {self._where} was made with {name} "
                    f"{_short(was)}, not {_short(now)}; give the same settings, or choose another --out or --study."
                )

    def check_free(self) -> None:
        """Raise LimbeckError if another process of this machine adds trials."""
        with guard(self._where):
            attrs = self._study.user_attrs
        driver = attrs.get(DRIVER) if SETTINGS in attrs else None  # another program's attribute means something else
        if driver and driver["host"] == socket.gethostname() and driver["pid"] != os.getpid() and _alive(driver["pid"]):
            raise LimbeckError(
                f"Process {driver['pid']} is at the study '{self._study.study_name}' in {self._where}; wait for it, "
                "stop it, or choose another --study."
            )

    @contextmanager
    def drive(self, prepare_seconds: float, budget: int, scale: Scale) -> Iterator[None]:
        """While this lasts this process is the one that adds trials; unfinished ones are queued, before and afterwards.

        Args:
            prepare_seconds: of this sitting's preparation.
            budget: how many trials there are to be.
            scale: what their scores say.
        """
        self.check_free()
        with guard(self._where):
            self._study.set_user_attr(DRIVER, {"host": socket.gethostname(), "pid": os.getpid()})
            self._study.set_user_attr(PREPARED, self.prepare_seconds + prepare_seconds)
            self._study.set_user_attr(BUDGET, budget)
            self._study.set_user_attr(SCALE, asdict(scale))
            self._queue_again()
        try:
            yield
        finally:
            with guard(self._where):
                self._queue_again()
                self._study.set_user_attr(DRIVER, None)

    def trials(self) -> list[Trial]:
        """The trials that are over, by number."""
        with guard(self._where):
            latest = self._latest()
        return [self._trial(trial) for trial in latest.values() if _over(trial)]

    def queued(self) -> dict[int, Arch]:
        """Architectures of the trials that wait to be begun again, by number."""
        with guard(self._where):
            return {slot: self._arch(t.params) for slot, t in self._latest().items() if t.state.name == "WAITING"}

    def begin(self, space: Space, wanted: Mapping[int, Arch]) -> dict[int, Open]:
        """Begin trials of these numbers and architectures; those that are queued keep what is known of them."""
        from optuna.trial import TrialState, create_trial

        queued, distributions = self.queued(), distributions_of(space)
        begun: dict[int, Open] = {}
        with guard(self._where):
            for slot, arch in wanted.items():
                if slot not in queued:
                    # All of it at once, so that no trial is ever half proposed.
                    self._study.add_trial(
                        create_trial(
                            state=TrialState.WAITING,
                            params=options_by_choice(space, arch),
                            distributions=distributions,
                            user_attrs={"slot": slot, "arch": space.text(arch)},
                        )
                    )
            while len(begun) < len(wanted):
                trial = self._study.ask()
                if trial.user_attrs.get("slot") in wanted:
                    begun[trial.user_attrs["slot"]] = Open(trial, self._arch(trial.params))
                else:  # queued by someone else
                    self._study.tell(trial, state=TrialState.FAIL)
        return dict(sorted(begun.items()))

    def record(self, one: Open, outcome: Outcome) -> None:
        """Store the outcome of a trial's next rung; the trial is not over yet."""
        one.seconds += outcome.seconds
        attrs: dict[str, Any] = {"seconds": one.seconds}
        if outcome.parameters is not None:
            one.parameters, one.flops = outcome.parameters, outcome.flops
            attrs |= {"parameters": one.parameters, "flops": one.flops}
        if outcome.score is not None:
            one.scores = (*one.scores, outcome.score)
            attrs["scores"] = list(one.scores)
        else:
            one.failure = attrs["failure"] = outcome.failure or "it has no score"
        with guard(self._where):
            for name, value in attrs.items():
                one.trial.set_user_attr(name, value)

    def finish(self, one: Open, rungs: int) -> Trial:
        """The trial is over: complete on the last rung, given up on an earlier one, or failed."""
        from optuna.trial import TrialState

        complete = one.failure is None and len(one.scores) == rungs
        with guard(self._where):
            for rung, score in enumerate(one.scores) if rungs > 1 else ():
                one.trial.report(score, rung)
            if complete:
                self._study.tell(one.trial, one.scores[-1])
            else:
                self._study.tell(one.trial, state=TrialState.PRUNED if one.failure is None else TrialState.FAIL)
        return Trial(
            slot=one.slot,
            arch=one.arch,
            text=one.text,
            score=one.scores[-1] if complete else None,
            scores=one.scores,
            seconds=one.seconds,
            parameters=one.parameters,
            flops=one.flops,
            failure=one.failure,
        )

    def _queue_again(self) -> None:
        from optuna.trial import TrialState, create_trial

        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if "slot" in trial.user_attrs:
                self._study.add_trial(
                    create_trial(
                        state=TrialState.WAITING,
                        params=trial.params,
                        distributions=trial.distributions,
                        user_attrs=trial.user_attrs,
                    )
                )

    def _latest(self) -> dict[int, optuna.trial.FrozenTrial]:
        """The newest trial of each number; older ones of the same number were abandoned."""
        trials = self._study.get_trials(deepcopy=False)
        return dict(sorted({t.user_attrs["slot"]: t for t in trials if "slot" in t.user_attrs}.items()))

    def _arch(self, params: Mapping[str, str]) -> Arch:
        return tuple(params[name] for name in self._study.user_attrs[SETTINGS]["choices"])

    def _trial(self, trial: optuna.trial.FrozenTrial) -> Trial:
        attrs = trial.user_attrs
        return Trial(
            slot=attrs["slot"],
            arch=self._arch(trial.params),
            text=attrs["arch"],
            score=trial.value if trial.state.name == "COMPLETE" else None,
            scores=_scores(attrs),
            seconds=attrs.get("seconds", 0.0),
            parameters=attrs.get("parameters"),
            flops=attrs.get("flops"),
            failure=attrs.get("failure"),
        )


def _scores(attrs: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(attrs.get("scores", ()))


def _over(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial counts; one that failed without a reason was abandoned."""
    return trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "failure" in trial.user_attrs)


def _apart(one: Any, other: Any) -> Any:
    """``one`` without the entries of nested settings that ``other`` has, too."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one
    return {key: _apart(value, other.get(key)) for key, value in one.items() if key not in other or other[key] != value}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        return False  # there the question itself would be a Ctrl-C
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
