"""The unfinished pool on disk: a folder ``OUT.parts`` beside it, so that a stopped one goes on where it was.

==========================  ============================================================================
``pool.json``               the mark: which pool this is to be, and how it was computed; without it, parts
                            belong to no pool
``00000.safetensors``, ...  the groups that are trained, and their accuracy
``unfinished.safetensors``  the group that is not, as it was when the training was stopped
``seconds.json``            time spent so far
==========================  ============================================================================
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch

from limbeck.common.files import read_json, read_tensors, write_json, write_tensors
from limbeck.data import TaskData
from limbeck.engine import State, Tensors, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import concatenate
from limbeck.pools.config import PoolConfig


def can_resume(out: Path) -> bool:
    """Whether there is a pool at ``out``, or parts of one, for ``make_pool`` to resume."""
    return out.is_file() or mark_path(out).is_file()


def read_threads(out: Path) -> int | None:
    """The CPU threads that an unfinished pool was begun with; None if there is no unfinished pool at ``out``."""
    mark = mark_path(out)
    threads: int | None = read_json(mark).get("computed", {}).get("threads") if mark.is_file() else None
    return threads


def mark_path(out: Path) -> Path:
    """The file that says which pool the parts beside ``out`` belong to."""
    return out.with_name(f"{out.name}.parts") / "pool.json"


@final
class Parts:
    """The parts of the pool that ``config`` and ``data`` make at ``out``."""

    def __init__(self, out: Path, config: PoolConfig, data: TaskData) -> None:
        self.out, self.mark = out, mark_path(out)
        self.folder = self.mark.parent
        self.split_seed = config.seed if data.split_seed is None else data.split_seed
        values = dataclasses.asdict(config)
        del values["compile"]  # makes no other pool
        self.identity = {"config": values, "data": data.sha256, "split_seed": self.split_seed}

    def is_finished(self) -> bool:
        """Whether the pool is written; a kill may have left some of its parts, but not their mark."""
        return self.out.is_file() and not self.mark.is_file()

    def check_place(self, *, resume: bool, overwrite: bool) -> None:
        """Raise LimbeckError for a place that holds something else; changes nothing."""
        if self.out.suffix != ".safetensors":
            raise LimbeckError(f"--out is {self.out}; a pool is a file whose name ends in .safetensors.")
        if self.folder.exists() and not self._is_ours():
            raise LimbeckError(f"{self.folder} holds no parts of a pool; move it away, or choose another --out.")
        if resume:
            if not self.mark.is_file():
                raise LimbeckError(f"{self.out} was not begun yet; begin it without --resume.")
            mark = {"split_seed": self.split_seed} | read_json(self.mark)  # older marks do not name it
            if {name: mark.get(name) for name in self.identity} != self.identity:
                raise LimbeckError(
                    f"{self.folder} holds parts of another pool; go on with the same, or replace it with --overwrite."
                )
        elif self.mark.is_file() and not overwrite:
            raise LimbeckError(
                f"{self.folder} holds an unfinished pool; go on with --resume, or replace it with --overwrite."
            )
        elif self.out.exists() and not overwrite:
            raise LimbeckError(f"{self.out} is there already; replace it with --overwrite, or choose another --out.")

    def check_card(self, card: dict[str, Any]) -> None:
        """Raise LimbeckError if the pool at ``out``, whose card this is, was made otherwise."""
        config = {name: value for name, value in card["config"].items() if name != "compile"}
        data = card["data"]
        split_seed = data.get("split_seed", self.split_seed)  # pools of 0.1's beginnings do not say
        if {"config": config, "data": data["sha256"], "split_seed": split_seed} != self.identity:
            raise LimbeckError(f"{self.out} was made otherwise; choose another --out, or replace it with --overwrite.")

    def prepare(self, compiled: bool, *, resume: bool, tell: Callable[[str], None]) -> None:
        """Make the folder, without old parts unless they are resumed; tell if those were computed in another way."""
        computed: dict[str, Any] = {"threads": torch.get_num_threads(), "compiled": compiled}
        if not resume:
            self.remove()
            write_json(self.mark, self.identity | {"computed": computed})
        elif (before := read_json(self.mark).get("computed")) not in (None, computed):
            tell(
                f"the pool was begun {_describe(before)} and goes on {_describe(computed)}: equal to rounding, not bit "
                "for bit"
            )

    def has_group(self, index: int) -> bool:
        """Whether a group is trained."""
        return self._path(index).is_file()

    def write_group(self, index: int, networks: Tensors, accuracy: list[float], seconds: float) -> None:
        """Keep a group that is trained, its validation accuracy in percent, and the time spent on the pool so far."""
        write_tensors(self._path(index), networks, {"accuracy": accuracy})
        write_json(self.folder / "seconds.json", seconds)
        (self.folder / "unfinished.safetensors").unlink(missing_ok=True)

    def read_groups(self, groups: int) -> tuple[Tensors, list[float]]:
        """The networks of all groups, {name: (n, *shape)}, and the n accuracies."""
        parts = [read_tensors(self._path(index)) for index in range(groups)]
        accuracy = [value for _, metadata in parts for value in metadata["accuracy"]]
        return concatenate([tensors for tensors, _ in parts]), accuracy

    def write_state(self, index: int, state: State, step: int, seconds: float) -> None:
        """Keep a group that has taken ``step`` steps and is not finished."""
        tensors = {f"{kind}.{name}": v for kind, f in zip(State._fields, state, strict=True) for name, v in f.items()}
        write_tensors(self.folder / "unfinished.safetensors", tensors, {"group": index, "step": step})
        write_json(self.folder / "seconds.json", seconds)

    def read_state(self, index: int) -> tuple[State, int] | None:
        """The state of a group that is not finished, on the CPU, and the steps that it took; None if none are kept."""
        path = self.folder / "unfinished.safetensors"
        if not path.is_file():
            return None
        tensors, metadata = read_tensors(path)
        if metadata.get("group") != index:
            return None
        return State(*(with_prefix(tensors, f"{kind}.") for kind in State._fields)), int(metadata["step"])

    def read_seconds(self) -> float:
        """The time spent on the pool so far."""
        path = self.folder / "seconds.json"
        return float(read_json(path)) if path.is_file() else 0.0

    def remove(self) -> None:
        """Delete the parts, their mark first: what a kill leaves then is not taken for the parts of a pool."""
        if self.folder.exists() and self._is_ours():
            self.mark.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_ours(self) -> bool:
        """Whether the folder holds nothing but what is written here."""
        names = r"\.?(\d{5}|unfinished)\.safetensors(\.part)?|\.?(pool|seconds)\.json(\.part)?"
        return self.folder.is_dir() and all(re.fullmatch(names, path.name) for path in self.folder.iterdir())

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.safetensors"


def _describe(computed: dict[str, Any]) -> str:
    return f"with {computed['threads']} thread(s) {'compiled' if computed['compiled'] else 'eager'}"
