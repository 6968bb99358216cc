"""The outer loop: learn the data by descending the meta-gradient, and keep what validation likes best.

Read top to bottom: ``distill`` prepares, ``_Run.iterate`` is the hot path, the guard and the checkpoint follow.
Shapes: B inits, S batches, M images a batch, N real images.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import RunDirectory
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import Execution, RealBatch, Tensors, add, make_adjoint, with_prefix
from limbeck.errors import DivergedError, LimbeckError
from limbeck.evaluation.train_and_score import Scores
from limbeck.experiment.build import make_source, prepare
from limbeck.experiment.config import Config
from limbeck.experiment.execution import choose_execution, use_compile_cache
from limbeck.experiment.progress import Progress, Reporter, Silent, interruptible
from limbeck.experiment.task import check_task, record_pool, task_of
from limbeck.models import load_card
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.learners import Family, members_of
from limbeck.outer.optimizer import OuterOptimizer, clip_and_average, inner_steps, own_gradient, rate, real_batch

CALIBRATION_FACTORS = (1.0, 0.9, 0.8, 0.7)
"""What calibration tries on the step sizes."""


def distill(
    config: Config,
    data: TaskData | None = None,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    data_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    trust: bool = False,
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
        reporter: told about progress.

    Raises:
        LimbeckError: wrong input, an ``out`` that holds another run, data that is split otherwise than that of the
            pool, or a run that diverges again and again.
    """
    reporter = reporter or Silent()
    folder = None if out is None else RunDirectory(Path(out))
    checkpoint = None
    if resume:
        if folder is None:
            raise LimbeckError("resume needs the run directory to go on from; give it as out.")
        checkpoint = Checkpoint.load(folder.path)
        recorded = Config.from_json(checkpoint.config, folder.path, trust=trust or config.trusted)
        config = recorded.with_pool(config.init.pool) if config.init.pooled and recorded.init.pooled else recorded
        same_data = data is None or checkpoint.data_sha256 in ("", data.sha256)
        if same_data and folder.finished():  # its budget, of iterations or of time, is spent
            made = dataclasses.replace(Distilled.load(folder.path), config=config)
            if config.init != recorded.init:  # its pool lies elsewhere now
                made.network()  # refuses other networks
                folder.finish(made)
            return made
    elif folder is not None:
        folder.check(overwrite=overwrite)
    if data is not None:
        config = dataclasses.replace(config, data=data.source or data.name)
    if config.init.pooled and checkpoint is None:
        config = record_pool(config, data=data, data_dir=None if data_dir is None else Path(data_dir))
    if data is not None:
        config = _split_as(data, config, checkpoint)
    else:
        data = task_of(config, data_dir=None if data_dir is None else Path(data_dir), device=device)
    if config.init.pooled:
        check_task(load_card(config.init.pool), config.init.pool, data)
    if checkpoint is not None and checkpoint.data_sha256 not in ("", data.sha256):
        raise LimbeckError(
            f"The run in {out} was made from other data than {data.name} is now; resume it with the same."
        )
    run = _Run(config, data.to(device), device, folder, reporter, checkpoint)
    if folder is not None and checkpoint is None:
        folder.clear()
    return run.execute()


def _split_as(data: TaskData, config: Config, checkpoint: Checkpoint | None) -> Config:
    """The configuration with the split of data that is given."""
    split = config.split if data.split_seed is None else data.split_seed
    if checkpoint is not None and split != config.split:
        raise LimbeckError(
            f"{data.name} is split with seed {split}, but the run began with {config.split}; load it with that seed."
        )
    return dataclasses.replace(
        config,
        val_size=len(data.val_y),
        split_seed=config.split_seed if split == config.split else split,
    )


@final
class _Run:
    """One distillation in progress; all of its state is in ``progress``, ``optimizer``, and the generators."""

    def __init__(
        self,
        config: Config,
        data: TaskData,
        device: str,
        folder: RunDirectory | None,
        reporter: Reporter,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.config, self.data, self.device, self.folder, self.reporter = config, data, device, folder, reporter
        members = members_of(config, data, device)
        self.adjoint = make_adjoint(config.engine.adjoint)
        self.generators = {
            name: generator(config.seed, name) for name in ("inits", "data", "start", "source", "family")
        }
        self.source = make_source(config, data, self.generators["start"])
        self.optimizer = OuterOptimizer(config.outer, self.source.parameters())
        self.progress = Progress()
        self.calibration: dict[str, Any] = {"factor": 1.0, "n": 0}
        if checkpoint is None:
            execution = choose_execution(config, [learner for learner, _ in members], data, reporter)
            begun = time.monotonic()
            told = prepare(self.source, data, self.generators["start"])
            if told is not None:
                self.progress.elapsed = time.monotonic() - begun
                reporter.message(told)
            self.good = self.best = self.optimizer.tensors()
        else:
            execution = _execution(checkpoint)
            if execution.compiled:
                use_compile_cache()
            if checkpoint.threads != torch.get_num_threads():
                reporter.message(
                    f"the run was computed with {checkpoint.threads} thread(s) and goes on with "
                    f"{torch.get_num_threads()}: equal to rounding, not bit for bit"
                )
            self.progress = checkpoint.progress
            self.good, self.best = checkpoint.good, checkpoint.best
            self.optimizer.load(checkpoint.current)
            for name, state in checkpoint.generators.items():
                self.generators[name].set_state(state)
        if execution.compiled:
            self.source = self.source.compiled()
        self.family = Family.of(config, members, execution)
        self.execution = execution

    def execute(self) -> Distilled:
        """Iterate until a budget is spent or someone stops it; save and return the best state."""
        config, progress = self.config.outer, self.progress
        if self.folder is not None:
            self.folder.start(self.config, progress.iteration)
            if progress.iteration == 0:
                self._checkpoint()
        self.reporter.start(self.config, self.execution, progress)
        begun, before = time.monotonic(), progress.elapsed
        with interruptible() as stop:
            while progress.iteration < config.iterations and not stop.requested:
                if config.max_time is not None and progress.elapsed >= config.max_time:
                    break
                record = self._iterate_or_give_up()
                last = progress.iteration >= config.iterations
                if progress.iteration % config.validate_every == 0 or last:
                    record |= self.validate()
                progress.elapsed = before + time.monotonic() - begun
                self._record(record | {"elapsed": progress.elapsed, "rollbacks": progress.rollbacks})
            interrupted = stop.requested
        if not interrupted and progress.iteration % config.validate_every and progress.iteration < config.iterations:
            self.validate()  # the time budget ended between two validations
        if not interrupted and config.calibrate_inits and self.family.resampled and progress.best_iteration >= 0:
            self.calibrate()
            progress.elapsed = before + time.monotonic() - begun
        if self.folder is not None:
            self._checkpoint()
        result = self.result(interrupted)
        if self.folder is not None:
            self.folder.finish(result)
        self.reporter.finish(progress, interrupted)
        return result

    def _iterate_or_give_up(self) -> dict[str, Any]:
        """``iterate``; a run that gives up still leaves its best validated state."""
        try:
            return self.iterate()
        except LimbeckError:
            if self.folder is not None and self.progress.best_iteration >= 0:
                self.folder.finish(self.result(interrupted=True))
            self.reporter.close()
            raise

    def iterate(self) -> dict[str, Any]:
        """One outer iteration: draw inits and real images, differentiate, clip, step."""
        config, progress = self.config.outer, self.progress
        spent = self._spent()
        pupil = self.family.drawn(self.generators["family"])
        self._grow(inner_steps(config, self.source.steps, spent))
        with torch.no_grad():
            weights = pupil.sample(config.inits, self.generators["inits"])
            real = RealBatch(*self.data.sample(self.generators["data"], real_batch(config, spent)))
        params = self.source.parameters()
        source = self.source.drawn(self.generators["source"]).first(progress.inner_steps)
        states = pupil.kernels.init(weights)
        loss_B, grads = self.adjoint.meta_gradient(pupil.kernels, source, params, states, real)
        mean, norm_B = clip_and_average(grads, config.clip_init, config.clip)
        observed = len(pupil.kernels.objective.observed(source.steps))
        loss, norm = float(loss_B.mean()) / observed, float(norm_B.max())
        own = own_gradient(self.source, params, *real)
        if own is not None:  # no init has a part in it, and no clipping reaches it
            loss, mean = loss + own[0], add(mean, own[1])
        progress.iteration += 1
        record: dict[str, Any] = {
            "iteration": progress.iteration,
            "loss": loss,
            "norm": norm,
            "norm_median": float(norm_B.median()),
        }
        if self._diverged(loss, norm):
            record |= {"loss": None if not math.isfinite(loss) else loss, "norm": None, "norm_median": None}
            self._roll_back(loss)
        else:
            since = progress.iteration - 1 - (progress.grown_at if config.schedule != "step" else 0)
            self.optimizer.step(mean, rate(config, since, spent) * progress.factor)
            self.optimizer.constrain(self.source)
        return record

    def _grow(self, steps: int) -> None:
        """Go over to another number of inner steps."""
        progress = self.progress
        if progress.inner_steps not in (0, steps):
            self.optimizer.restart()
            progress.grown_at = progress.iteration
            progress.smooth_loss = None  # the loss of longer training is another one
            self.good = self.optimizer.tensors()  # a rollback must not bring the moments back
            self.reporter.message(f"iteration {progress.iteration + 1}: {steps} inner steps from here on")
        progress.inner_steps = steps

    def validate(self) -> dict[str, Any]:
        """Accuracy on the validation split over held-out inits; keeps the state if it is the best so far."""
        scores = self.validation_scores()
        progress = self.progress
        if scores.mean > progress.best:
            progress.best, progress.best_iteration = scores.mean, progress.iteration
            self.best = self.optimizer.tensors()
        if progress.bad_in_a_row == 0:
            self.good = self.optimizer.tensors()
        return {"val_mean": scores.mean, "val_std": scores.std, "val_worst": scores.worst, "val_n": scores.n}

    def calibrate(self) -> None:
        """Choose the factor on the best state's step sizes, over inits that no validation has seen."""
        count = self.config.outer.calibrate_inits
        found: list[dict[str, Any]] = []
        for factor in CALIBRATION_FACTORS:
            scores = self.validation_scores(with_prefix(self.best, "param."), count, 2, factor)
            found.append({"factor": factor, "accuracy": scores.mean, "std": scores.std, "worst": scores.worst})
        learned, best = found[0], max(found, key=lambda row: row["accuracy"])
        self.calibration = best | {"n": self.config.outer.calibrate_inits}
        self.reporter.message(
            f"step sizes times {best['factor']:g}: {best['accuracy']:.2f} % on validation data, worst "
            f"{best['worst']:.1f}; as learned {learned['accuracy']:.2f} %, worst {learned['worst']:.1f}"
        )

    def validation_scores(
        self, params: Tensors | None = None, count: int | None = None, stream: int = 1, factor: float = 1.0
    ) -> Scores:
        """Train held-out inits of every learner on a set and score them on the validation split.

        Args:
            params: of the source, the present ones by default.
            count: inits of each learner; by default what the configuration says for validation.
            stream: other numbers give other inits.
            factor: on the step sizes.
        """
        if count is None:
            count = self.config.outer.validate_inits if self.family.resampled else 1
        params = self.source.parameters() if params is None else params
        with torch.no_grad():
            batches = [self.source.batch(params, t) for t in range(self.source.steps)]
            batches = [batch._replace(h={**batch.h, "lr": factor * batch.h["lr"]}) for batch in batches]
        return self.family.validated(batches, self.data, count, self.config.seed + stream)

    def result(self, interrupted: bool = False) -> Distilled:
        """The best state as an artefact."""
        progress = self.progress
        params = with_prefix(self.best if progress.best_iteration >= 0 else self.optimizer.tensors(), "param.")
        with torch.no_grad():
            made = self.source.materialised(params)
        return Distilled(
            images=made.images.contiguous().cpu(),
            labels=made.labels.contiguous().cpu(),
            hyperparameters={
                name: (self.calibration["factor"] if name == "lr" else 1.0) * value.contiguous().cpu()
                for name, value in made.hyperparameters.items()
            },
            order=made.order,
            preprocessing=self.data.preprocessing,
            class_names=self.data.class_names,
            config=self.config,
            weights={name: value.cpu().clone() for name, value in self.family.theta.items()},
            generator={name: value.detach().cpu() for name, value in self.source.extras(params).items()},
            info={
                "data": {"name": self.data.name, "sha256": self.data.sha256},
                "validation": {"accuracy": progress.best, "iteration": progress.best_iteration},
                "calibration": self.calibration,
                "finished": not interrupted,
                "iterations": progress.iteration,
                "seconds": round(progress.elapsed, 1),
                "rollbacks": progress.rollbacks,
                "execution": asdict(self.execution),
                "versions": versions(self.device),
            },
        )

    def _spent(self) -> float:
        """Part of the budget that is spent, in [0, 1]."""
        config = self.config.outer
        spent = self.progress.iteration / config.iterations
        if config.max_time is not None:
            spent = max(spent, self.progress.elapsed / config.max_time)
        return min(1.0, spent)

    def _diverged(self, loss: float, norm: float) -> bool:
        """Non-finite at once; a loss far above its running mean only if it stays there."""
        progress = self.progress
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return True
        usual = progress.smooth_loss if progress.smooth_loss is not None else loss
        chance = math.log(self.data.num_classes)
        progress.bad_in_a_row = progress.bad_in_a_row + 1 if loss > max(3 * usual, 1.5 * chance) else 0
        if progress.bad_in_a_row == 0 or progress.smooth_loss is None:
            progress.smooth_loss = 0.98 * usual + 0.02 * loss
        return progress.bad_in_a_row >= 10

    def _roll_back(self, loss: float) -> None:
        progress, config = self.progress, self.config.outer
        progress.rollbacks += 1
        progress.bad_in_a_row = 0
        if progress.rollbacks > config.max_rollbacks:
            raise DivergedError(
                f"The run diverged {progress.rollbacks} times (loss {loss:.3g} at iteration {progress.iteration}), also"
                f" at {progress.factor:.3g} of the learning rates. The usual cause is a step size that runs away: "
                "lower --lr-steps or --lr, bound it with --lr-max, or average over more --inits."
            )
        progress.factor *= 0.5
        self.optimizer.load(self.good)
        self.reporter.message(
            f"diverged at iteration {progress.iteration} (loss {loss:.3g}); back to the last good state, "
            f"learning rates at {progress.factor:.3g} of their setting"
        )

    def _record(self, record: dict[str, Any]) -> None:
        if self.folder is not None and "val_mean" in record:
            self.folder.append_metrics(record)
            self._checkpoint()
        self.reporter.update(record, self.progress, self._spent())

    def _checkpoint(self) -> None:
        assert self.folder is not None
        Checkpoint(
            progress=self.progress,
            current=self.optimizer.tensors(),
            good=self.good,
            best=self.best,
            generators={name: g.get_state() for name, g in self.generators.items()},
            config=self.config.to_json(self.folder.path),
            execution=asdict(self.execution),
            data_sha256=self.data.sha256,
            threads=torch.get_num_threads(),
        ).save(self.folder.path)


def _execution(checkpoint: Checkpoint) -> Execution:
    try:
        return Execution(**checkpoint.execution)
    except TypeError as error:
        raise LimbeckError(f"The checkpoint does not fit this version of Limbeck: {error}.") from None
