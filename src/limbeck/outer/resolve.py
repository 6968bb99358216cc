"""What a call of ``distill`` is to do: begin a run, go on with one, or hand over one that is finished."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import final

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import RunDirectory
from limbeck.data import TaskData
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.task import check_task, record_pool, task_of
from limbeck.models import load_card
from limbeck.outer.checkpoint import Checkpoint


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """A run to begin, or with a checkpoint to go on with; nothing is written without a folder."""

    config: Config
    data: TaskData
    folder: RunDirectory | None
    checkpoint: Checkpoint | None


@final
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is kept, and what may happen to what is there (see ``distill``)."""

    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    trust: bool = False


def resolve(
    config: Config, data: TaskData | None, place: Place, *, data_dir: Path | None, device: str
) -> Assignment | Distilled:
    """What is to be done, or the result where there is nothing left to do; nothing is changed yet.

    Raises:
        LimbeckError: as ``distill``.
    """
    if place.resume:
        return _go_on(config, data, place, data_dir=data_dir, device=device)
    folder = None if place.out is None else RunDirectory(place.out)
    if folder is not None:
        folder.check(overwrite=place.overwrite)
    config = _named_after(config, data)
    if config.init.pooled:
        config = record_pool(config, data=data, data_dir=data_dir)
    config, data = _with_task(config, data, None, data_dir=data_dir, device=device)
    return Assignment(config=config, data=data.to(device), folder=folder, checkpoint=None)


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
    same_data = data is None or checkpoint.data_sha256 in ("", data.sha256)
    if same_data and folder.finished():  # its budget, of iterations or of time, is spent
        result = dataclasses.replace(Distilled.load(folder.path, trust=trust), config=config)
        if config.init != recorded.init:  # its pool lies elsewhere now
            result.network()  # refuses other networks
            folder.finish(result)
        return result.kept_in(folder.path)
    config, data = _with_task(_named_after(config, data), data, checkpoint, data_dir=data_dir, device=device)
    if checkpoint.data_sha256 not in ("", data.sha256):
        raise LimbeckError(
            f"The run in {place.out} was made from other data than {data.name} is now; resume it with the same."
        )
    return Assignment(config=config, data=data.to(device), folder=folder, checkpoint=checkpoint)


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
