"""Searching a space: propose architectures, score them wherever there are workers, keep the trials, go on any time."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch

from limbeck.errors import LimbeckError
from limbeck.experiment.progress import interruptible
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.searches.batches import run_batch
from limbeck.nas.searches.crew import SearchWorkers
from limbeck.nas.searches.ledger import Ledger, Trial
from limbeck.nas.searches.place import SearchPlace
from limbeck.nas.searches.result import SearchResult, note
from limbeck.nas.searches.storages import need_optuna
from limbeck.nas.searches.strategies import SearchConfig
from limbeck.nas.searches.strategy import Question
from limbeck.nas.searches.workers import Executor, Stopped
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
    place: SearchPlace | None = None,
    workers: SearchWorkers | None = None,
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
        place: where the search is kept, and whether one that is there goes on; it is kept nowhere by default.
        workers: who scores; this process by default.
        max_time: stop after so many seconds of work, preparing and compiling included, once what has begun is over;
            each sitting has its own.
        watch: told about every trial that is over.
        tell: told about preparation.

    Raises:
        LimbeckError: the proxy does not fit the task; the storage cannot be used, or holds another search; workers are
            lost again and again; every trial failed.
    """
    need_optuna()
    config, place, workers = config or SearchConfig(), place or SearchPlace(), workers or SearchWorkers()
    if max_time is not None and not max_time > 0:
        raise LimbeckError(f"max_time is {max_time}; it must be a positive number of seconds.")
    begun = time.monotonic()
    settings = _settings(task, proxy, config)
    site = place.site()
    ledger = None
    if place.resume:
        ledger = site.open(settings, config.budget)
    else:
        site.check_new(overwrite=place.overwrite)
    with ExitStack() as stack:
        stack.enter_context(workers.connect())
        scorers, prepare_seconds = _prepare(task, proxy, config, tell)
        if ledger is None:
            # Once more: preparation may have taken hours, in which someone else began.
            place.site().check_new(overwrite=place.overwrite)
            ledger = site.create(settings, overwrite=place.overwrite)
        stop = stack.enter_context(interruptible())
        stack.enter_context(ledger.drive(prepare_seconds, config.budget, proxy.scale))
        # Not before it is known that this may go on.
        note(site.out, site.storage, site.study, _result(ledger, settings, config))
        executor = stack.enter_context(workers.executor((task, scorers)))

        def time_is_up() -> bool:
            return max_time is not None and time.monotonic() - begun >= max_time

        spent_preparing = time_is_up()
        _run(ledger, executor, task, config, lambda: stop.requested or time_is_up(), watch)
    result = dataclasses.replace(
        _result(ledger, settings, config), interrupted=stop.requested, spent_preparing=spent_preparing
    )
    note(site.out, site.storage, site.study, result)
    failed = result.failed
    if result.finished and result.best is None and failed:
        which = "trials" if len(failed) == len(result.trials) else "trials that were not given up"
        raise LimbeckError(f"All {len(failed)} {which} failed; the first because: {failed[0].failure}")
    return result


def _result(ledger: Ledger, settings: Mapping[str, Any], config: SearchConfig) -> SearchResult:
    return SearchResult(
        trials=tuple(ledger.trials()),
        settings=settings,
        budget=config.budget,
        prepare_seconds=ledger.prepare_seconds,
        scale=ledger.scale,
    )


def _run(ledger: Ledger, executor: Executor, task: Task, config: SearchConfig, stopped: Stopped, watch: Watch) -> None:
    """Propose and score batch after batch, until the budget is spent or ``stopped`` says so."""
    begun_at = len(ledger.trials())

    def report(trials: list[Trial]) -> None:
        with_score = [trial for trial in trials if trial.score is not None]
        best = max(with_score, key=lambda trial: (trial.score or 0.0, -trial.slot), default=None)
        watch(SearchProgress(done=len(trials), total=config.budget, begun_at=begun_at, best=best))

    while not stopped():
        over = ledger.trials()
        if len(over) >= config.budget:
            return
        base = len(over) - len(over) % config.batch
        queued = ledger.queued()
        end = max([min(base + config.batch, config.budget), *(slot + 1 for slot in queued)])
        history, mates = over[:base], [trial.arch for trial in over[base:]]
        pairs = [(trial.arch, trial.score) for trial in history]
        archs: dict[int, Arch] = {}
        for slot in range(len(over), end):
            archs[slot] = queued.get(slot) or config.propose(
                Question(space=task.space, seed=task.seed, slot=slot, history=pairs, mates=mates)
            )
            mates.append(archs[slot])

        run_batch(ledger, over, ledger.begin(task.space, archs), executor, task.space, config, stopped, report)


def _prepare(task: Task, proxy: Proxy, config: SearchConfig, tell: Tell) -> tuple[tuple[Scorer, ...], float]:
    """A scorer for each rung, and the seconds that took."""
    begun = time.monotonic()
    rungs = [proxy if fraction == 1 else proxy.at(fraction) for fraction in config.fractions]
    with _one_thread():
        scorers = tuple(rung.prepare(task, tell) for rung in rungs)
    return scorers, time.monotonic() - begun


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: what is prepared again when a search goes on must be the same on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
    description = describe(task, proxy)["proxy"]
    settings = dict(description["settings"]) or {"repr": repr(proxy)}
    name = {} if settings.pop("label", None) == description["name"] else {"name": description["name"]}
    plain: dict[str, Any] = json.loads(_placeless(json.dumps({"class": description["kind"], **name, **settings})))
    return plain


def _described(value: object) -> str:
    return _placeless(repr(value))


def _placeless(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # where something lies in memory is no setting
