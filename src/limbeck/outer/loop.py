"""The outer loop: learn the data by descending a gradient on it, and keep what validation likes best.

``distill`` resolves what to do and does it; ``outer_step`` (``step.py``) is the hot path; ``Budget``, ``Guard`` and
``Journal`` stand beside it. Shapes: B inits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import torch

from limbeck.artefact.distilled import Distilled
from limbeck.common.devices import Device, describe_load, usable_device
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import with_prefix
from limbeck.errors import LimbeckError
from limbeck.experiment.build import gather_materials
from limbeck.experiment.compilers import use_compile_cache
from limbeck.experiment.config import Config
from limbeck.experiment.planner import plan_distilling
from limbeck.experiment.progress import Progress, Reporter, Silent, interruptible
from limbeck.outer.budget import Budget
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.conclusion import conclude
from limbeck.outer.guard import Guard
from limbeck.outer.journal import Journal
from limbeck.outer.learners import Family, build_learners
from limbeck.outer.optimizer import OuterOptimizer
from limbeck.outer.resolve import Assignment, Place, resolve
from limbeck.outer.schedule import inner_steps, settings_at
from limbeck.outer.step import Setup, StepReport, outer_step
from limbeck.outer.step_size import with_step_size
from limbeck.outer.validator import Validator, ordinary_training

READ_EVERY: Final = 10
"""Iterations on an accelerator after which their losses are read: reading waits for the device."""


def distill(
    config: Config,
    data: TaskData | None = None,
    *,
    out: str | Path | None = None,
    device: Device = "cpu",
    data_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    iterations: int | None = None,
    max_time: float | None = None,
    verdict: bool = False,
    free: frozenset[str] | None = None,
    reporter: Reporter | None = None,
) -> Distilled:
    """Learn a tiny training set.

    Args:
        config: what to learn, for which networks, and how.
        data: the task; by default ``config.data`` is looked up.
        out: run directory; nothing is written without one.
        device: where to compute.
        data_dir: where data sets are looked for first.
        resume: go on from the checkpoint in ``out``, bit for bit as if never stopped. The recorded configuration
            counts; of ``config`` only the place of the pool, which may have moved.
        overwrite: replace a run that ``out`` already holds.
        trust: with ``resume``, import code that the run in ``out`` names as its learner or generator. What ``config``
            names is trusted anyway.
        iterations, max_time: with ``resume``, other budgets than the recorded ones, over all sittings: a run that ended
            goes on. The schedules follow the new budgets from there.
        verdict: at the end, compare learned images with real ones on validation data (see ``evaluation.verdict``).
        free: what follows from data and budget because nobody named it (see ``defaults``), besides what is None in
            ``config``; by default nothing does.
        reporter: told about progress.

    Raises:
        LimbeckError: wrong input, an ``out`` that holds another run, data that is split otherwise than that of the
            pool, or a run that diverges again and again.
    """
    device = usable_device(device)
    place = Place(
        out=None if out is None else Path(out),
        resume=resume,
        overwrite=overwrite,
        trust=trust,
        iterations=iterations,
        max_time=max_time,
        free=free,
    )
    looked_for = None if data_dir is None else Path(data_dir)
    assignment = resolve(config, data, place, data_dir=looked_for, device=device)
    if isinstance(assignment, Distilled):
        return assignment
    return OuterLoop(assignment, device, reporter or Silent(), verdict=verdict).run()


@final
class OuterLoop:
    """One distillation in progress; its state is in ``progress``, the optimiser, two older states, the generators."""

    def __init__(self, assignment: Assignment, device: str, reporter: Reporter, *, verdict: bool = False) -> None:
        self.begun, self.verdict = time.monotonic(), verdict
        self.config, self.data = assignment.config, assignment.data
        self.device, self.folder, self.reporter = device, assignment.folder, reporter
        config, checkpoint = self.config, assignment.checkpoint
        config.require_trust()
        if (busy := describe_load(torch.get_num_threads())) is not None:
            reporter.message(busy)
        learners = build_learners(config, self.data, device)
        self.method = config.method.build(None if config.attack is None else config.attack.objective)
        self.rngs = {
            name: generator(config.seed, name) for name in ("inits", "data", "start", "source", "family", "method")
        }
        if checkpoint is None:  # before what is learned is made, which may be more than there is memory for
            self.execution = plan_distilling(
                config, [learner for learner, _ in learners], self.data, reporter
            ).execution
            config = self.config = with_step_size(config, learners, self.data, self.execution, reporter)
        else:
            self.execution = checkpoint.restore_execution()
        materials = gather_materials(config, self.data, self.rngs["start"])
        source = config.source.build(materials)
        optimizer = OuterOptimizer(config.outer, source.parameters(), source.group_of)
        self.budget = Budget(iterations=config.outer.iterations, max_time=config.outer.max_time)
        self.guard = Guard(classes=self.data.num_classes, max_rollbacks=config.outer.max_rollbacks)
        reporter.message(self.data.summary())
        for note in assignment.notes:
            reporter.message(note)
        if checkpoint is None:
            self.progress = Progress()
            preparation = config.source.prepare(source, materials)
            if preparation is not None:
                reporter.message(preparation)
            self.good = self.best = optimizer.tensors()
        else:
            self.progress = checkpoint.progress
            if self.execution.compiled:
                use_compile_cache()
            if checkpoint.threads != torch.get_num_threads():
                reporter.message(
                    f"the run was computed with {checkpoint.threads} thread(s) and goes on with "
                    f"{torch.get_num_threads()}: equal to rounding, not bit for bit"
                )
            self.good, self.best = checkpoint.good, checkpoint.best
            optimizer.load(checkpoint.current)
            for name, state in checkpoint.generators.items():
                self.rngs[name].set_state(state)
        self.before = self.progress.elapsed
        self.source = source.compile() if self.execution.compiled else source
        usage = ordinary_training(config, self.data)
        self.family = Family.of(learners, self.method, self.execution, config.attack, usage)
        self.validator = Validator(
            source=self.source, family=self.family, data=self.data, config=config, tell=reporter.message, recipe=usage
        )
        if checkpoint is not None:
            self.family.check_same(checkpoint.networks, checkpoint.theta)
        self.setup = Setup(
            learners=self.family,
            method=self.method,
            source=self.source,
            optimizer=optimizer,
            data=self.data,
            config=config.outer,
        )
        self.read_every = 1 if self.data.train_x.device.type == "cpu" else READ_EVERY
        self.journal = Journal(self.folder, reporter, self.snapshot)
        if self.folder is not None and checkpoint is None:
            self.folder.clear()

    def run(self) -> Distilled:
        """Iterate until a budget is spent or someone stops it; save and return the best state."""
        try:
            return self._run()
        except BaseException as error:
            failed = isinstance(error, Exception)  # whoever interrupts it twice may want to go on
            if failed and self.folder is not None and self.progress.best_iteration < 0:
                self.folder.fail(error)
            self.reporter.close()
            raise

    def _run(self) -> Distilled:
        progress = self.progress
        if self.folder is not None:
            self.folder.start(self.config, progress.iteration)
            if progress.iteration == 0:
                self.journal.save()
        self.reporter.start(self.config, self.execution, progress)
        with interruptible() as stop:
            while not self.budget.is_spent(progress) and not stop.requested:
                self._do_or_give_up(self.iterate)
            interrupted = stop.requested
            self._do_or_give_up(self._look_back)
        if progress.best_iteration >= 0 and not interrupted:
            self.validator.choose_usage(with_prefix(self.best, "param."))
        progress.elapsed = self._elapsed()
        self.journal.write_last()
        self.journal.save()
        result = self.result(interrupted)
        if self.folder is not None:  # at once: it must not be lost to whoever stops the verdict
            self.folder.finish(result)
        self.reporter.finish(progress, interrupted)
        if interrupted and self.folder is not None:
            self.reporter.message("go on with --resume")
        if self.verdict and not interrupted:
            kernels = self.family.members[0].judged
            result = conclude(result, self.data, kernels, self.method, progress, self.reporter)
            if self.folder is not None:
                self.folder.finish(result)
        return result if self.folder is None else result.kept_in(self.folder.path)

    def _do_or_give_up(self, work: Callable[[], None]) -> None:
        """Do a part of the run; one that gives up still leaves its best validated state."""
        try:
            work()
        except LimbeckError:
            self.journal.write_last()
            if self.folder is not None and self.progress.best_iteration >= 0:
                self.folder.finish(self.result(interrupted=True))
            self.reporter.close()
            raise

    def iterate(self) -> None:
        """One outer iteration, and validation where it is due; what iterations saw is read now or later."""
        progress, config = self.progress, self.config.outer
        spent = self.budget.spent(progress)
        self._grow(inner_steps(config, self.source.steps, spent))
        at = settings_at(config, progress, spent, self.source.steps)
        report = outer_step(self.setup, at, self.rngs)
        progress.iteration += 1
        progress.elapsed = self._elapsed()
        self.journal.note(progress.iteration, report)
        over = self.budget.is_spent(progress)
        due = progress.iteration % config.validate_every == 0 or over
        if due or progress.iteration % self.read_every == 0:
            self._look_back(validate=due)

    def _look_back(self, *, validate: bool = False) -> None:
        """Read what iterations saw: guard against divergence, write the records, the last one with a validation."""
        progress = self.progress
        records = self.journal.read()
        first = bool(records) and records[0]["iteration"] == 1
        idle = self.setup.optimizer.idle() if first else frozenset()
        for index, record in enumerate(records):
            if self.guard.has_diverged(progress, record["loss"], record["norm"]):
                record["diverged"] = True
                records = records[: index + 1]  # those after it went on from what is no longer there
                self._roll_back(record)
                break
        params = self.source.parameters()
        if idle and "diverged" not in records[0] and ("images" in idle or idle == params.keys()):
            self.family.say_no_gradient(self.validator.batches(params), self.config.seed)
        if validate:
            if records[-1]["iteration"] != progress.iteration:
                records.append({"iteration": progress.iteration} | dict.fromkeys(StepReport._fields, math.nan))
            records[-1] |= self.validate()
            progress.elapsed = self._elapsed()
        for record in records:
            self.journal.write(record, progress, self.budget.spent(progress))

    def _roll_back(self, record: dict[str, Any]) -> None:
        """Go back to the last good state after an iteration diverged; raises DivergedError if that was too often."""
        at, loss, progress = record["iteration"], record["loss"], self.progress
        try:
            message = self.guard.roll_back(progress, at, loss, self.setup.optimizer, self.good)
        except LimbeckError:
            self.journal.write(record, progress, self.budget.spent(progress))
            raise
        self.reporter.message(message)

    def _grow(self, steps: int) -> None:
        """Go over to this number of inner steps, if it is another."""
        progress = self.progress
        if progress.inner_steps not in (0, steps):
            self._look_back()  # what is unread is of the shorter training, and a state that ran away is no good one
            self.setup.optimizer.restart()
            progress.grown_at = progress.iteration
            progress.smooth_loss = None  # the loss of longer training is another one
            self.good = self.setup.optimizer.tensors()  # a rollback must not bring the moments back
            self.reporter.message(f"iteration {progress.iteration + 1}: {steps} inner steps from here on")
        progress.inner_steps = steps

    def _elapsed(self) -> float:
        """Seconds of work over all sittings, from building what is learned on."""
        return self.before + time.monotonic() - self.begun

    def validate(self) -> dict[str, Any]:
        """Accuracy on the validation split over held-out inits; keeps the state if it is the best so far."""
        scores = self.validator.scores()
        progress = self.progress
        if scores.mean > progress.best:
            progress.best, progress.best_iteration = scores.mean, progress.iteration
            self.best = self.setup.optimizer.tensors()
        if progress.bad_in_a_row == 0:
            self.good = self.setup.optimizer.tensors()
        return {"val_mean": scores.mean, "val_std": scores.std, "val_worst": scores.worst, "val_n": scores.n}

    def result(self, interrupted: bool = False) -> Distilled:
        """The best state as an artefact."""
        progress = self.progress
        kept = self.best if progress.best_iteration >= 0 else self.setup.optimizer.tensors()
        params = with_prefix(kept, "param.")
        with torch.no_grad():
            lessons = self.source.materialise(params)
        return Distilled(
            images=lessons.images.contiguous().cpu(),
            labels=lessons.labels.contiguous().cpu(),
            training=self.validator.training(lessons),
            preprocessing=self.data.preprocessing,
            class_names=self.data.class_names,
            config=self.config,
            weights={name: value.cpu().clone() for name, value in self.family.theta.items()},
            generator={name: value.detach().cpu() for name, value in self.source.extras(params).items()},
            info={
                "data": self.data.provenance,
                "validation": {"accuracy": progress.best, "iteration": progress.best_iteration},
                "calibration": self.validator.calibration,
                "finished": not interrupted,
                "iterations": progress.iteration,
                "seconds": round(progress.elapsed, 1),
                "rollbacks": progress.rollbacks,
                "execution": asdict(self.execution),
                "versions": versions(self.device),
                **self.config.needs,
            },
        )

    def snapshot(self) -> Checkpoint:
        """Everything that the next iteration depends on."""
        return Checkpoint(
            progress=self.progress,
            current=self.setup.optimizer.tensors(),
            good=self.good,
            best=self.best,
            generators={name: rng.get_state() for name, rng in self.rngs.items()},
            config=self.config.to_json(None if self.folder is None else self.folder.path),
            execution=asdict(self.execution),
            data_sha256=self.data.sha256,
            threads=torch.get_num_threads(),
            networks=self.family.shapes,
            theta={name: value.cpu().clone() for name, value in self.family.theta.items()},
        )
