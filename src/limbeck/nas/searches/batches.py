"""One batch of trials: rung after rung, equal architectures once, told in order."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from limbeck.nas.searches.halving import promote
from limbeck.nas.searches.ledger import Ledger, Open, Trial
from limbeck.nas.searches.strategies import SearchConfig
from limbeck.nas.searches.workers import Executor, Job, Outcome, Stopped, measure_size
from limbeck.nas.spaces.base import Space


def run_batch(
    ledger: Ledger,
    over: Sequence[Trial],
    begun: Mapping[int, Open],
    executor: Executor,
    space: Space,
    config: SearchConfig,
    stopped: Stopped,
    report: Callable[[list[Trial]], None],
) -> None:
    """Score trials that have begun, and finish them in the order of their numbers.

    Every result is recorded as it comes, so that nothing is scored twice if the process ends in the middle.

    Args:
        ledger: where the trials are kept.
        over: all trials that are over, some of them perhaps of this batch.
        begun: the others of this batch, by number.
        executor: who scores.
        space: of the search.
        config: of the search.
        stopped: whether to begin nothing more.
        report: told all trials that are over, whenever there is one more.
    """
    rungs = len(config.fractions)
    finished: list[Trial] = []
    given_up: set[int] = set()

    def all_trials() -> list[Trial | Open]:
        return [*over, *begun.values()]

    def finish() -> None:
        for one in list(begun.values())[len(finished) :]:
            if one.failure is None and len(one.scores) < rungs and one.slot not in given_up:
                return
            finished.append(ledger.finish(one, rungs))
            report([*over, *finished])

    for rung in range(rungs):
        equal: dict[str, list[Open]] = defaultdict(list)
        for one in begun.values():
            if one.failure is None and one.slot not in given_up and len(one.scores) == rung:
                equal[one.text].append(one)
        # What was scored in another trial is known, be it over or resumed.
        for trial in all_trials():
            outcome = _outcome_of(trial, rung) if trial.text in equal else None
            if outcome is not None:
                _record(ledger, equal.pop(trial.text), outcome)
        jobs: list[Job] = []
        sizes: dict[int, Outcome] = {}
        for text, ones in list(equal.items()):
            job = Job(slot=ones[0].slot, arch=ones[0].arch, rung=rung)
            # Here, not where it is scored: counting operations makes torch load its compiler, in seconds.
            size = sizes[job.slot] = measure_size(space, job) if rung == 0 else Outcome(slot=job.slot, rung=rung)
            if size.failure is None:
                jobs.append(job)
            else:
                _record(ledger, equal.pop(text), size)
        finish()
        for outcome in executor.run(jobs, stopped):
            first, size = begun[outcome.slot], sizes[outcome.slot]
            outcome = dataclasses.replace(outcome, parameters=size.parameters, flops=size.flops)
            _record(ledger, [first], outcome)
            _record(ledger, equal.pop(first.text)[1:], dataclasses.replace(outcome, seconds=0.0))
            finish()
        if equal:
            return  # stopped
        if rung + 1 < rungs:
            scores = {trial.slot: trial.scores[rung] for trial in all_trials() if len(trial.scores) > rung}
            here = [one.slot for one in begun.values() if len(one.scores) > rung]
            given_up |= set(here) - promote(scores, here, config.reduction)
            finish()


def _outcome_of(trial: Trial | Open, rung: int) -> Outcome | None:
    """The outcome of a trial on a rung, at no cost."""
    if len(trial.scores) <= rung and (trial.failure is None or len(trial.scores) != rung):
        return None
    return Outcome(
        slot=trial.slot,
        rung=rung,
        score=trial.scores[rung] if len(trial.scores) > rung else None,
        parameters=trial.parameters if rung == 0 else None,
        flops=trial.flops if rung == 0 else None,
        failure=trial.failure if len(trial.scores) <= rung else None,
    )


def _record(ledger: Ledger, ones: Sequence[Open], outcome: Outcome) -> None:
    for one in ones:
        ledger.record(one, outcome)
