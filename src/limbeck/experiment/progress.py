"""What a person sees of a run, and how a person stops it."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, final

from limbeck.engine import Execution
from limbeck.errors import in_python
from limbeck.experiment.config import Config


class Reporter(ABC):
    """Told about a run's progress."""

    @abstractmethod
    def message(self, text: str) -> None:
        """Something a person should know."""

    @abstractmethod
    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        """The first iteration is about to begin."""

    @abstractmethod
    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        """An iteration is over; ``spent`` in [0, 1] is the spent part of the budget."""

    @abstractmethod
    def finish(self, progress: Progress, interrupted: bool) -> None:
        """The run is over."""

    def close(self) -> None:  # noqa: B027 (most have nothing to do)
        """The run ended in an error: take down what is on the screen."""


@final
class Silent(Reporter):
    """A reporter for whom nothing is to be said."""

    def message(self, text: str) -> None:
        pass

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        pass

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        pass

    def finish(self, progress: Progress, interrupted: bool) -> None:
        pass


@final
class Several(Reporter):
    """Passes everything on to several reporters, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def message(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.message(text)

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        for reporter in self._reporters:
            reporter.start(config, execution, progress)

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        for reporter in self._reporters:
            reporter.update(record, progress, spent)

    def finish(self, progress: Progress, interrupted: bool) -> None:
        for reporter in self._reporters:
            reporter.finish(progress, interrupted)

    def close(self) -> None:
        for reporter in self._reporters:
            reporter.close()


@final
class InPython(Reporter):
    """Passes everything on, messages with keyword arguments in the place of the command line's flags."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def message(self, text: str) -> None:
        self._reporter.message(in_python(text))

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        self._reporter.start(config, execution, progress)

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        self._reporter.update(record, progress, spent)

    def finish(self, progress: Progress, interrupted: bool) -> None:
        self._reporter.finish(progress, interrupted)

    def close(self) -> None:
        self._reporter.close()


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The same for a piece of work whose parts each say what concerns them all: nothing is told twice."""
    texts: set[str] = set()

    def say(text: str) -> None:
        if text not in texts:
            texts.add(text)
            tell(text)

    return say


@final
@dataclass
class Stop:
    """Whether someone asked to stop."""

    requested: bool = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the iteration; the second one interrupts at once.

    Outside the main thread signals cannot be caught, and nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@final
@dataclass(kw_only=True)
class Progress:
    """Where a run is.

    ``elapsed`` is in seconds over all sittings, ``best`` the validation accuracy in percent of the kept state,
    ``smooth_loss`` the running mean that the divergence guard compares with, ``factor`` what rollbacks left of the
    learning rates, ``inner_steps`` how many there are now and ``grown_at`` the iteration since when.
    """

    iteration: int = 0
    elapsed: float = 0.0
    best: float = -1.0
    best_iteration: int = -1
    smooth_loss: float | None = None
    bad_in_a_row: int = 0
    rollbacks: int = 0
    factor: float = 1.0
    inner_steps: int = 0
    grown_at: int = 0
