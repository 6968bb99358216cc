"""Searching a space: propose architectures, score them wherever there are workers, keep the trials, go on any time."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import torch

from limbeck.errors import LimbeckError
from limbeck.experiment.progress import interruptible
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.searches.batches import run_batch
from limbeck.nas.searches.clusters import RayWorkers, connected
from limbeck.nas.searches.ledger import Ledger, Trial
from limbeck.nas.searches.result import JOURNAL, Marked, SearchResult, marked, note
from limbeck.nas.searches.storages import is_stored, need_optuna, place_of, shown, studies_in
from limbeck.nas.searches.strategies import SearchConfig
from limbeck.nas.searches.strategy import Question
from limbeck.nas.searches.workers import Executor, InProcess, ProcessPool, Stopped, Work
from limbeck.nas.spaces.base import Arch
from limbeck.nas.table import describe


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
    where they are, nor on interruptions (unless the proxy itself counts seconds). The first Ctrl-C waits for what has
    begun, the second one does not.

    Args:
        task: the space, the data, the seed, the device.
        proxy: how architectures are scored.
        config: the strategy and the budget.
        out: folder for search.json and, unless a storage is given, the study; neither is kept by default.
        storage: where the Optuna study is kept instead: a URL such as sqlite:///studies.db, or a journal file.
        study: its name; that of ``out``, or "search", by default.
        resume: go on with the search that is there, which ``out`` knows the storage and the study of; its budget may
            be raised.
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
    mark = _mark_of(out)
    where, name = _place(out, storage, study, mark if resume else None)
    ledger = _before(out, mark, where, name, settings, resume=resume, overwrite=overwrite)
    with ExitStack() as stack:
        if ray is not None:
            stack.enter_context(connected(ray, workers, gpus_per_worker))
        scorers, prepare_seconds = _prepared(task, proxy, config, tell)
        if ledger is None:
            # Once more: preparation may have taken hours, in which someone else began.
            _before(out, _mark_of(out), where, name, settings, resume=False, overwrite=overwrite)
            _clear(out)
            ledger = Ledger.create(where, name, settings, overwrite=overwrite)
        stop = stack.enter_context(interruptible())
        stack.enter_context(ledger.driven(prepare_seconds, config.budget))
        note(out, where, name, _result(ledger, settings, config))  # not before it is known that this may go on
        executor = stack.enter_context(_executor((task, scorers), workers, ray, gpus_per_worker))

        def stopped() -> bool:
            return stop.requested or (max_time is not None and time.monotonic() - begun > max_time)

        _run(ledger, executor, task, config, stopped, watch)
    result = _result(ledger, settings, config, interrupted=stop.requested)
    note(out, where, name, result)
    failed = result.failed
    if result.finished and result.best is None and failed:
        which = "trials" if len(failed) == len(result.trials) else "trials that were not given up"
        raise LimbeckError(f"All {len(failed)} {which} failed; the first because: {failed[0].failure}")
    return result


def _result(
    ledger: Ledger, settings: Mapping[str, Any], config: SearchConfig, *, interrupted: bool = False
) -> SearchResult:
    return SearchResult(
        trials=tuple(ledger.trials()),
        settings=settings,
        budget=config.budget,
        prepare_seconds=ledger.prepare_seconds,
        interrupted=interrupted,
    )


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
            wanted[slot] = queued.get(slot) or config.propose(
                Question(space=task.space, seed=task.seed, slot=slot, history=known, mates=mates)
            )
            mates.append(wanted[slot])

        run_batch(ledger, over, ledger.begin(task.space, wanted), executor, task.space, config, stopped, report)


def _prepared(task: Task, proxy: Proxy, config: SearchConfig, tell: Tell) -> tuple[tuple[Scorer, ...], float]:
    """A scorer for each rung, and the seconds that took."""
    begun = time.monotonic()
    rungs = [proxy if fraction == 1 else proxy.at(fraction) for fraction in config.fractions]
    with _one_thread():
        scorers = tuple(rung.prepare(task, tell) for rung in rungs)
    return scorers, time.monotonic() - begun


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is prepared again when a search goes on must be the same, on however many cores: as scores are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
        **({"space_options": dict(task.space.options)} if task.space.options else {}),
        "choices": {name: list(options) for name, options in task.space.choices.items()},
        "proxy": proxy.name,
        "proxy_settings": _proxy_settings(task, proxy),
        "seed": task.seed,
        **config.identity,
    }


def _proxy_settings(task: Task, proxy: Proxy) -> dict[str, Any]:
    """What scores depend on, as JSON: a learned set by the digest of what was learned, not by where it lies.

    A label is what people call the proxy, often the path of its set, and no setting.
    """
    told = describe(task, proxy)["proxy"]
    settings = dict(told["settings"]) or {"repr": repr(proxy)}
    name = {} if settings.pop("label", None) == told["name"] else {"name": told["name"]}
    plain: dict[str, Any] = json.loads(_placeless(json.dumps({"class": told["kind"], **name, **settings})))
    return plain


def _described(value: object) -> str:
    return _placeless(repr(value))


def _placeless(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # where something lies in memory is no setting


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


def _mark_of(out: Path | None) -> Marked | None:
    """What a folder says of the search that it holds; None if there is nothing in it yet."""
    if out is None or not out.exists():
        return None
    if not out.is_dir():
        raise LimbeckError(f"{out} is a file; --out must be a folder.")
    mark = marked(out)
    if mark is None and any(out.iterdir()):
        raise LimbeckError(f"{out} is not empty and holds no search; choose another --out.")
    return mark


def _place(
    out: Path | None, storage: str | Path | None, study: str | None, mark: Marked | None
) -> tuple[str | Path | None, str]:
    """Where the study is kept, and its name; with a mark those of the search to go on with."""
    if mark is not None:
        chosen = mark.storage if storage is None else storage
        if place_of(chosen) != place_of(mark.storage) or study not in (None, mark.study):
            raise LimbeckError(
                f"{out} holds the search '{mark.study}' in {shown(mark.storage)}, not '{study or mark.study}' in "
                f"{shown(chosen)}; choose another --out, or leave out --storage and --study."
            )
        return chosen, mark.study
    if storage is None and out is not None:
        storage = out / JOURNAL
    return storage, study or (out.name if out is not None and out.name else "search")


def _before(
    out: Path | None,
    mark: Marked | None,
    where: str | Path | None,
    name: str,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> Ledger | None:
    """The ledger to go on with, or None where a new one may be made; nothing is changed yet."""
    if resume:
        if where is None:
            raise LimbeckError("A search that is kept nowhere cannot go on; name its --out or its --storage.")
        ledger = Ledger.open(where, name)
        # The settings of the proxy tell what it is; its name may be another path of the same set.
        ledger.check({key: value for key, value in settings.items() if key != "proxy"})
        ledger.check_free()
        return ledger
    if overwrite:
        _check_unattended(out, mark, where, name)
        return None
    if mark is not None:
        raise LimbeckError(
            f"{out} already holds a search; go on with --resume, replace it with --overwrite, or choose another --out."
        )
    if where is not None and is_stored(where, name):
        raise LimbeckError(
            f"{where} holds a study '{name}' already; go on with --resume, replace it with --overwrite, or choose "
            "another --study."
        )
    return None


def _check_unattended(out: Path | None, mark: Marked | None, where: str | Path | None, name: str) -> None:
    """Raise LimbeckError if a process is at a study that is to be replaced, or whose folder is."""
    going: dict[tuple[str | Path, str], None] = {} if where is None else {(where, name): None}
    if mark is not None:
        going[(mark.storage, mark.study)] = None
    if out is not None and (out / JOURNAL).exists():
        going |= {(out / JOURNAL, study): None for study in studies_in(out / JOURNAL)}
    for storage, study in going:
        if is_stored(storage, study):
            Ledger.open(storage, study).check_free()


def _clear(out: Path | None) -> None:
    if out is None:
        return
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise LimbeckError(f"Could not make the folder {out}: {error.strerror}.") from None
