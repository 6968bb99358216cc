"""Where architectures are scored: in this process, or in a pool of processes that survives the loss of a worker.

Whatever the executor, a score is computed by one thread from the task, the scorer and the architecture alone, so that
it is the same to the last bit.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeAlias, final

import torch

from limbeck.errors import LimbeckError
from limbeck.nas.proxies.base import Scorer, Task
from limbeck.nas.spaces.base import Arch, Space

RETRIES = 3
"""How often in a row, without a single result, workers may be lost."""

Work: TypeAlias = tuple[Task, tuple[Scorer, ...]]
"""What every worker is sent once: the task, and a scorer for each rung."""

Stopped: TypeAlias = Callable[[], bool]


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """An architecture to score: the number of its trial, and the rung of fidelity."""

    slot: int
    arch: Arch
    rung: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job: a finite score, or the reason why there is none.

    ``seconds`` are those of scoring; the size is told on the lowest rung only, FLOPs for one image.
    """

    slot: int
    rung: int
    score: float | None = None
    seconds: float = 0.0
    parameters: int | None = None
    flops: int | None = None
    failure: str | None = None


class Executor(ABC):
    """Scores architectures; a context manager that lets its workers go."""

    @abstractmethod
    def run(self, jobs: Sequence[Job], stopped: Stopped) -> Iterator[Outcome]:
        """The outcomes as they come, in any order; once ``stopped`` only those of jobs that have begun.

        Raises:
            LimbeckError: workers are lost again and again.
        """

    def close(self) -> None:  # noqa: B027 (not all have workers)
        """Let the workers go; what they are at is lost."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@final
class InProcess(Executor):
    """Scores one architecture after the other, in this process."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, jobs: Sequence[Job], stopped: Stopped) -> Iterator[Outcome]:
        for job in jobs:
            if stopped():
                return
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                outcome = perform(self._work, job)
            finally:
                torch.set_num_threads(threads)
            yield outcome


@final
class ProcessPool(Executor):
    """Several processes of one thread each.

    A worker that dies takes the pool with it; a new one does what is unfinished, at most ``RETRIES`` times in a row.
    """

    def __init__(self, work: Work, number: int) -> None:
        sent = pickle_work(work)
        self._number = number
        # A file, not the pipe to each worker: written once, whatever the number of workers and pools.
        self._folder = tempfile.TemporaryDirectory(prefix="limbeck-search-")
        self._path = Path(self._folder.name) / "work.pickle"
        self._path.write_bytes(sent)
        self._pool = self._new()

    def run(self, jobs: Sequence[Job], stopped: Stopped) -> Iterator[Outcome]:
        left = deque(jobs)
        running: dict[Future[Outcome], Job] = {}
        losses = 0
        while left or running:
            broken = False
            while left and len(running) < self._number and not broken and not stopped():
                try:
                    running[self._pool.submit(_perform, str(self._path), left[0])] = left[0]
                    left.popleft()
                except BrokenProcessPool:
                    broken = True
            if not running and not broken:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = True
                elif error is not None:
                    raise LimbeckError(f"A worker could not begin: {type(error).__name__}: {error}.")
                else:
                    del running[future]
                    losses = 0
                    yield future.result()
            if broken:
                losses += 1
                if losses > RETRIES:
                    raise lost_workers([*running.values(), *left][: self._number])
                left.extendleft(reversed(running.values()))
                running = {}
                self._stop()
                self._pool = self._new()

    def close(self) -> None:
        self._stop()
        self._folder.cleanup()

    def _new(self) -> ProcessPoolExecutor:
        # spawn: torch's threads do not survive a fork.
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._number, mp_context=spawn, initializer=_begin)

    def _stop(self) -> None:
        # Waiting for what nobody wants any more could take minutes.
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def perform(work: Work, job: Job) -> Outcome:
    """Score one architecture; whatever goes wrong with it is its outcome, and other architectures go on."""
    task, scorers = work
    begun = time.perf_counter()
    try:
        value = float(scorers[job.rung].score(task, job.arch))
        failure = None if math.isfinite(value) else f"its score is {value}"
    except Exception as error:  # an architecture may fail in any way, such as running out of memory
        value, failure = math.nan, _reason(error)
    return Outcome(
        slot=job.slot,
        rung=job.rung,
        score=None if failure else value,
        seconds=time.perf_counter() - begun,
        failure=failure,
    )


def measure_size(space: Space, job: Job) -> Outcome:
    """The size of an architecture without a score, or why it cannot be built."""
    try:
        parameters, flops = space.parameters(job.arch), space.flops(job.arch)
    except Exception as error:
        return Outcome(slot=job.slot, rung=job.rung, failure=_reason(error))
    return Outcome(slot=job.slot, rung=job.rung, parameters=parameters, flops=flops)


def pickle_work(work: Work) -> bytes:
    """What workers are sent, with the places of modules; raises LimbeckError if something of one's own cannot be."""
    places = [os.path.abspath(place) for place in (*sys.path, "")]
    try:
        return pickle.dumps((places, pickle.dumps(work)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise LimbeckError(
            f"The space, the data or the proxy cannot be sent to other processes ({error}); define its classes at the "
            "top of a module, or search with one worker."
        ) from None


def unpickle_work(sent: bytes) -> Work:
    """Inverse of ``pickle_work``, in another process: modules are found where they were found before."""
    places, inside = pickle.loads(sent)
    sys.path.extend(place for place in places if place not in sys.path)
    work: Work = pickle.loads(inside)
    return work


def lost_workers(jobs: Sequence[Job]) -> LimbeckError:
    """The error for jobs whose workers die again and again."""
    archs = "; ".join(", ".join(job.arch) for job in jobs)
    return LimbeckError(
        f"Workers died {RETRIES + 1} times in a row, the last while scoring {archs}. They may be short of memory: use "
        "fewer --workers; a script that calls search() must do so under 'if __name__ == \"__main__\":'. What is "
        "finished is kept; go on with --resume."
    )


def _reason(error: Exception) -> str:
    return error.with_flags if isinstance(error, LimbeckError) else f"{type(error).__name__}: {error}"


def _begin() -> None:
    """Set up a worker: Ctrl-C is for the process that gives it work, and it does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


@lru_cache(maxsize=1)
def _work(path: str) -> Work:
    return unpickle_work(Path(path).read_bytes())


def _perform(path: str, job: Job) -> Outcome:
    return perform(_work(path), job)
