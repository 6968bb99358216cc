"""Scoring on a Ray cluster (Moritz et al. 2018): many machines, or fractions of a GPU (extra: ray)."""

from __future__ import annotations

import importlib
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import torch

from limbeck.errors import LimbeckError
from limbeck.nas.searches.workers import (
    RETRIES,
    Executor,
    Job,
    Outcome,
    Stopped,
    Work,
    perform,
    pickle_work,
    unpickle_work,
)

ANSWER_SECONDS: Final = 25.0
"""How long a cluster has to answer."""


@contextmanager
def connect(address: str, number: int, gpus: float = 0.0) -> Iterator[None]:
    """A connection to a Ray cluster that has room for so many workers; one that was there already is used and stays.

    Args:
        address: ``local`` to start Ray on this machine, ``host:port`` of a cluster's head, or ``auto``.
        number: of workers, a CPU each.
        gpus: GPUs of each worker; a fraction shares one.

    Raises:
        LimbeckError: Ray is not installed; no cluster answers within half a minute; it is too small.
    """
    ray = _ray()
    if ray.is_initialized():
        _check_room(ray, number, gpus)
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        try:
            ray.init(num_cpus=number, include_dashboard=False, **quiet)
        except Exception as error:  # it raises that class itself
            ray.shutdown()
            raise LimbeckError(f"Ray did not start on this machine: {_last_line(error)}") from None
    else:
        _check_answers(address)
        _in_time(lambda: ray.init(address=address, **quiet), address)
    try:
        _check_room(ray, number, gpus)
        yield
    finally:
        ray.shutdown()


@final
class RayWorkers(Executor):
    """Workers on a cluster, each with the task and the scorers, which travel through Ray's object store once.

    A worker that is lost is started again, and its job is done again up to ``RETRIES`` times.
    """

    def __init__(self, work: Work, number: int, gpus: float = 0.0) -> None:
        self._ray = _ray()
        make = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)(_Worker)
        self._work = self._ray.put(pickle_work(work))
        # In a list the reference is sent, not what it stands for: a worker that is started again fetches that anew.
        self._workers = [make.remote([self._work]) for _ in range(number)]

    def run(self, jobs: Sequence[Job], stopped: Stopped) -> Iterator[Outcome]:
        left, idle = deque(jobs), deque(self._workers)
        running: dict[Any, tuple[Job, Any]] = {}
        while left or running:
            while left and idle and not stopped():
                job, worker = left.popleft(), idle.popleft()
                running[worker.perform.remote(job)] = job, worker
            if not running:
                return
            (ready, *_), _ = self._ray.wait(list(running), num_returns=1)
            job, worker = running.pop(ready)
            idle.append(worker)
            try:
                outcome = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                raise LimbeckError(
                    f"Ray gave up scoring {', '.join(job.arch)}: {_last_line(error)}. Its worker may be short of "
                    "memory, or limbeck may be missing on its machine. What is finished is kept; go on with --resume."
                ) from None
            yield outcome

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker)


@final
class _Worker:
    """A Ray actor that scores the architectures of its jobs."""

    def __init__(self, sent: Sequence[Any]) -> None:
        torch.set_num_threads(1)
        self._work = unpickle_work(_ray().get(sent[0]))

    def perform(self, job: Job) -> Outcome:
        return perform(self._work, job)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise LimbeckError("--ray needs Ray: pip install 'limbeck[ray]'.") from None


def _check_answers(address: str) -> None:
    """Raise LimbeckError unless something listens at the address; Ray itself takes minutes to give up."""
    if address == "auto":
        return
    match = re.fullmatch(r"(?:ray://)?\[?([^\s\]/]+)\]?:(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise LimbeckError(f"--ray is '{address}'; it must be local, auto, or HOST:PORT of a cluster's head.")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=ANSWER_SECONDS / 2).close()
    except OSError as error:
        raise LimbeckError(
            f"No Ray cluster answers at {address} ({error.strerror or error}); start one with 'ray start --head', or "
            "use --ray=local."
        ) from None


def _in_time(connect: Any, address: str) -> None:
    """Call ``connect``; raise LimbeckError if it fails or takes longer than ``ANSWER_SECONDS``/2."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            connect()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS / 2)
    if thread.is_alive() or failures:
        reason = _last_line(failures[0]) if failures else f"no answer within {ANSWER_SECONDS / 2:.0f} s"
        raise LimbeckError(
            f"Could not connect to a Ray cluster at {address} ({reason}); start one with 'ray start --head', or use "
            "--ray=local."
        )


def _check_room(ray: Any, number: int, gpus: float) -> None:
    have = ray.cluster_resources()
    for kind, need in (("CPU", float(number)), ("GPU", number * gpus)):
        if need > have.get(kind, 0.0):
            raise LimbeckError(
                f"{number} workers need {need:g} {kind}(s), and the Ray cluster has {have.get(kind, 0.0):g}; use "
                "fewer --workers."
            )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
