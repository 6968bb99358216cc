"""Searching a space: propose architectures, score them wherever there are workers, keep the trials, go on any time."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

from limbeck.errors import LimbeckError
from limbeck.nas.batches import run_batch
from limbeck.nas.clusters import RayWorkers, connected
from limbeck.nas.ledger import Ledger, Trial
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.result import JOURNAL, MARK, SearchResult, note
from limbeck.nas.spaces.base import Arch
from limbeck.nas.storages import is_stored, need_optuna
from limbeck.nas.strategies import SearchConfig, propose
from limbeck.nas.workers import Executor, InProcess, ProcessPool, Stopped, Work
from limbeck.progress import interruptible


@final
@dataclass(frozen=True, kw_only=True)
class SearchProgress:
    """Where a search is: trials that are over, those that were over at its start, and the best so far."""

    done: int
    total: int
    begun_at: int
    best: Trial | None


Watch: TypeAlias = Callable[[SearchProgress], None]


def search(
    task: Task,
    proxy: Proxy,
    config: SearchConfig | None = None,
    *,
    out: Path | None = None,
    storage: str | Path | None = None,
    study: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    max_time: float | None = None,
    watch: Watch = lambda progress: None,
    tell: Tell = lambda text: None,
) -> SearchResult:
    """Search a space for architectures that a proxy scores highly on a task.

    The trials and their scores depend on the task, the proxy and the config alone: not on the number of workers, nor on
    where they are, nor on interruptions. The first Ctrl-C waits for what has begun, the second one does not.

    Args:
        task: the space, the data, the seed, the device.
        proxy: how architectures are scored.
        config: the strategy and the budget.
        out: folder for search.json and, unless a storage is given, the study; neither is kept by default.
        storage: where the Optuna study is kept instead: a URL such as sqlite:///studies.db, or a journal file.
        study: its name; that of ``out``, or "search", by default.
        resume: go on with the search that is there; its budget may be raised.
        overwrite: replace the search that is there.
        workers: processes that score; with 1 it is this one.
        ray: score on a Ray cluster instead: ``local``, ``auto`` or HOST:PORT.
        gpus_per_worker: of Ray's workers; a fraction lets several share a GPU.
        max_time: stop after so many seconds of this sitting, once what has begun is over.
        watch: told about every trial that is over.
        tell: told about preparation.

    Raises:
        LimbeckError: the proxy does not fit the task; the storage cannot be used, or holds another search; workers are
            lost again and again; every trial failed.
    """
    need_optuna()
    config = config or SearchConfig()
    _check(workers, gpus_per_worker, ray, max_time, resume, overwrite)
    begun = time.monotonic()
    settings = _settings(task, proxy, config)
    where, name = _place(out, storage, study)
    ledger = _before(out, where, name, settings, resume=resume, overwrite=overwrite)
    with ExitStack() as stack:
        if ray is not None:
            stack.enter_context(connected(ray, workers, gpus_per_worker))
        scorers, prepare_seconds = _prepared(task, proxy, config, tell)
        if ledger is None:
            _clear(out)
            ledger = Ledger.create(where, name, settings, overwrite=overwrite)
        note(out, storage, name, SearchResult(trials=(), settings=settings, budget=config.budget, prepare_seconds=0.0))
        stop = stack.enter_context(interruptible())
        stack.enter_context(ledger.driven(prepare_seconds))
        executor = stack.enter_context(_executor((task, scorers), workers, ray, gpus_per_worker))

        def stopped() -> bool:
            return stop.requested or (max_time is not None and time.monotonic() - begun > max_time)

        _run(ledger, executor, task, config, stopped, watch)
    result = SearchResult(
        trials=tuple(ledger.trials()), settings=settings, budget=config.budget, prepare_seconds=ledger.prepare_seconds
    )
    note(out, storage, name, result)
    if result.finished and result.best is None:
        raise LimbeckError(f"All {len(result.trials)} trials failed; the first because: {result.trials[0].failure}")
    return result


def _run(ledger: Ledger, executor: Executor, task: Task, config: SearchConfig, stopped: Stopped, watch: Watch) -> None:
    """Batch after batch, until the budget is spent."""
    begun_at = len(ledger.trials())

    def report(trials: list[Trial]) -> None:
        scored = [trial for trial in trials if trial.score is not None]
        best = max(scored, key=lambda trial: (trial.score or 0.0, -trial.slot), default=None)
        watch(SearchProgress(done=len(trials), total=config.budget, begun_at=begun_at, best=best))

    while not stopped():
        over = ledger.trials()
        if len(over) >= config.budget:
            return
        base = len(over) - len(over) % config.batch
        queued = ledger.queued()
        end = max([min(base + config.batch, config.budget), *(slot + 1 for slot in queued)])
        history, mates = over[:base], [trial.arch for trial in over[base:]]
        known = [(trial.arch, trial.score) for trial in history]
        wanted: dict[int, Arch] = {}
        for slot in range(len(over), end):
            wanted[slot] = queued.get(slot) or propose(config, task.space, task.seed, slot, known, mates)
            mates.append(wanted[slot])

        run_batch(ledger, over, ledger.begin(task.space, wanted), executor, task.space, config, stopped, report)


def _prepared(task: Task, proxy: Proxy, config: SearchConfig, tell: Tell) -> tuple[tuple[Scorer, ...], float]:
    """A scorer for each rung, and the seconds that took."""
    begun = time.monotonic()
    rungs = [proxy if fraction == 1 else proxy.at(fraction) for fraction in config.fractions]
    return tuple(rung.prepare(task, tell) for rung in rungs), time.monotonic() - begun


def _executor(work: Work, workers: int, ray: str | None, gpus: float) -> Executor:
    if ray is not None:
        return RayWorkers(work, workers, gpus)
    return ProcessPool(work, workers) if workers > 1 else InProcess(work)


def _settings(task: Task, proxy: Proxy, config: SearchConfig) -> dict[str, Any]:
    """What the trials depend on, as JSON."""
    return {
        "data": task.data.name,
        "data_sha256": task.data.sha256,
        "split_seed": task.data.split_seed,
        "validation_images": len(task.data.val_y),
        "space": task.space.name,
        "shape": list(task.space.shape),
        "classes": task.space.num_classes,
        "space_settings": _described(task.space),
        "choices": {name: list(options) for name, options in task.space.choices.items()},
        "proxy": proxy.name,
        "proxy_settings": _described(proxy),
        "seed": task.seed,
        **config.identity,
    }


def _described(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # where it lies in memory is no setting


def _check(workers: int, gpus: float, ray: str | None, max_time: float | None, resume: bool, overwrite: bool) -> None:
    if workers < 1:
        raise LimbeckError(f"workers is {workers}; it must be at least 1.")
    if not gpus >= 0:
        raise LimbeckError(f"gpus_per_worker is {gpus}; it must be 0 or more.")
    if gpus and ray is None:
        raise LimbeckError("gpus_per_worker shares GPUs among Ray's workers; give --ray, too.")
    if max_time is not None and not max_time > 0:
        raise LimbeckError(f"max_time is {max_time}; it must be a positive number of seconds.")
    if resume and overwrite:
        raise LimbeckError("resume goes on with what is there and overwrite begins anew; give one of them.")


def _place(out: Path | None, storage: str | Path | None, study: str | None) -> tuple[str | Path | None, str]:
    """Where the study is kept, and its name."""
    if storage is None and out is not None:
        storage = out / JOURNAL
    return storage, study or (out.name if out is not None and out.name else "search")


def _before(
    out: Path | None,
    where: str | Path | None,
    name: str,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> Ledger | None:
    """The ledger to go on with, or None where a new one may be made; nothing is changed yet."""
    if out is not None and out.exists() and not out.is_dir():
        raise LimbeckError(f"{out} is a file; --out must be a folder.")
    held = out is not None and (out / MARK).is_file()
    if out is not None and out.exists() and not held and any(out.iterdir()):
        raise LimbeckError(f"{out} is not empty and holds no search; choose another --out.")
    if resume:
        if where is None:
            raise LimbeckError("A search that is kept nowhere cannot go on; name its --out or its --storage.")
        ledger = Ledger.open(where, name)
        ledger.check(settings)
        return ledger
    if held and not overwrite:
        raise LimbeckError(
            f"{out} already holds a search; go on with --resume, replace it with --overwrite, or choose another --out."
        )
    if where is not None and not overwrite and is_stored(where, name):
        raise LimbeckError(
            f"{where} holds a study '{name}' already; go on with --resume, replace it with --overwrite, or choose "
            "another --study."
        )
    return None


def _clear(out: Path | None) -> None:
    if out is None:
        return
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise LimbeckError(f"Could not make the folder {out}: {error.strerror}.") from None
