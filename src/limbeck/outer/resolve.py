"""What a call of ``distill`` is to do: begin a run, go on with one, or hand over one that is finished."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import RunDirectory
from limbeck.data import TaskData, is_named
from limbeck.engine import PixelConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.experiment.progress import Progress
from limbeck.experiment.task import check_task, record_pool, task_of
from limbeck.models import load_card
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.defaults import describe_choice, fit_defaults


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """A run to begin, or with a checkpoint to go on with; nothing is written without a folder.

    ``notes`` say what was chosen or found that is worth a line.
    """

    config: Config
    data: TaskData
    folder: RunDirectory | None
    checkpoint: Checkpoint | None
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is kept, what may happen to what is there, its other budgets, what is open (see ``distill``)."""

    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    trust: bool = False
    iterations: int | None = None
    max_time: float | None = None
    free: frozenset[str] | None = None

    def budget(self, outer: OuterConfig) -> OuterConfig:
        """The settings of the outer loop with the budgets that are named here."""
        named: dict[str, Any] = {"iterations": self.iterations, "max_time": self.max_time}
        return dataclasses.replace(outer, **{name: value for name, value in named.items() if value is not None})


def resolve(
    config: Config, data: TaskData | None, place: Place, *, data_dir: Path | None, device: str
) -> Assignment | Distilled:
    """What is to be done, or the result where there is nothing left to do; nothing is changed yet.

    Raises:
        LimbeckError: as ``distill``.
    """
    if place.resume:
        return _go_on(config, data, place, data_dir=data_dir, device=device)
    if (place.iterations, place.max_time) != (None, None):
        raise LimbeckError("iterations and max_time are for resume; otherwise they are in the configuration, as outer.")
    folder = None if place.out is None else RunDirectory(place.out)
    if folder is not None:
        folder.check(overwrite=place.overwrite)
    config = _named_after(config, data)
    if config.init.pooled:
        config = record_pool(config, data=data, data_dir=data_dir)
    config, data = _with_task(config, data, None, data_dir=data_dir, device=device)
    fitted = config.settled() if place.free is None else fit_defaults(config, data, place.free)
    notes = [describe_choice(fitted.learner, data)] if fitted.learner != config.learner else []
    notes += _compare_with_real(fitted, data)
    return Assignment(config=fitted, data=data.to(device), folder=folder, checkpoint=None, notes=tuple(notes))


def _compare_with_real(config: Config, data: TaskData) -> list[str]:
    """A line where images start from more real ones than some class has, so that some begin alike.

    Raises:
        LimbeckError: a batch has more of each class than any class has; equal images of a batch stay equal.
    """
    source = config.source
    if not isinstance(source, PixelConfig) or source.start != "real":
        return []
    counts = data.train_y.bincount(minlength=data.num_classes).tolist()
    if source.ipc > max(counts):
        raise LimbeckError(
            f"--ipc is {source.ipc}, but no class of {data.name} has more than {max(counts)} training examples for "
            f"images to start from; give --ipc {max(counts)} or less, or start from noise (--start=noise)."
        )
    wanted, least = source.steps * source.ipc, min(counts)
    if wanted <= least:
        return []
    scarce = data.class_names[counts.index(least)]
    return [f"class {scarce} has {least} training examples for {wanted} images to start from: some begin alike"]


def _go_on(
    config: Config, data: TaskData | None, place: Place, *, data_dir: Path | None, device: str
) -> Assignment | Distilled:
    """The run that is there: the recorded configuration counts; of the other only where its pool is now."""
    if place.out is None:
        raise LimbeckError("resume needs the run directory to go on from; give it as out.")
    folder = RunDirectory(place.out)
    checkpoint = Checkpoint.load(folder.path)
    trust = place.trust or config.trusted
    recorded = Config.from_json(checkpoint.config, folder.path, trust=trust).passing(config.given)
    config = recorded.with_pool(config.init.pool) if config.init.pooled and recorded.init.pooled else recorded
    config = dataclasses.replace(config, outer=place.budget(config.outer))
    longer = config.outer != recorded.outer
    if longer:
        _refuse_spent(config.outer, checkpoint.progress, folder.path)
    same_data = data is None or checkpoint.data_sha256 in ("", data.sha256)
    if same_data and not longer and folder.finished():  # its budget, of iterations or of time, is spent
        result = dataclasses.replace(Distilled.load(folder.path, trust=trust), config=config)
        if config.init != recorded.init:  # its pool lies elsewhere now
            result.network()  # refuses other networks
            folder.finish(result)
        return result.kept_in(folder.path)
    if data is None and not is_named(config.data):
        raise LimbeckError(
            f"The run in {place.out} was learned from data given in Python ('{config.data}'), or from a folder that is "
            "gone; go on in Python: limbeck.distill(config, data, out=..., resume=True)."
        )
    config, data = _with_task(_named_after(config, data), data, checkpoint, data_dir=data_dir, device=device)
    if checkpoint.data_sha256 not in ("", data.sha256):
        raise LimbeckError(
            f"The run in {place.out} was made from other data than {data.name} is now; resume it with the same."
        )
    return Assignment(config=config, data=data.to(device), folder=folder, checkpoint=checkpoint)


def _refuse_spent(outer: OuterConfig, progress: Progress, path: Path) -> None:
    """Raise LimbeckError for budgets that a run has spent already; they count over all sittings."""
    if progress.iteration >= outer.iterations:
        raise LimbeckError(
            f"The run in {path} has done {progress.iteration} iterations; --iterations counts them, so it must be more "
            f"than that to go on, not {outer.iterations}."
        )
    if outer.max_time is not None and progress.elapsed >= outer.max_time:
        raise LimbeckError(
            f"The run in {path} has taken {progress.elapsed:.0f} s; --max-time counts all sittings, so it must be more "
            f"than that to go on, not {outer.max_time:g}."
        )


def _named_after(config: Config, data: TaskData | None) -> Config:
    """The configuration with the name of data that is given."""
    return config if data is None else dataclasses.replace(config, data=data.source or data.name)


def _with_task(
    config: Config, data: TaskData | None, checkpoint: Checkpoint | None, *, data_dir: Path | None, device: str
) -> tuple[Config, TaskData]:
    """Configuration and data, split alike; raises LimbeckError for data that the pool's networks cannot take."""
    if data is None:
        data = task_of(config, data_dir=data_dir, device=device)
    else:
        config = _split_as(data, config, checkpoint)
    if data.kind != "images" and (config.augment_shift or config.augment_flip):
        raise LimbeckError(
            f"augment_shift and augment_flip are for images, but {data.name} holds "
            f"{'rows of a table' if data.kind == 'table' else 'series'}; leave them out."
        )
    if config.init.pooled:
        check_task(load_card(config.init.pool), config.init.pool, data)
    return config, data


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
