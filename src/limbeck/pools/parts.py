"""What is finished of a pool, in a folder beside it, so that a stopped one goes on where it was."""

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


def begun(out: Path) -> bool:
    """Whether there is a pool or parts of one, for ``make_pool`` to go on with."""
    return out.is_file() or mark_of(out).is_file()


def threads_of(out: Path) -> int | None:
    """CPU threads that an unfinished pool was begun with; None where there is none."""
    mark = mark_of(out)
    threads: int | None = read_json(mark).get("computed", {}).get("threads") if mark.is_file() else None
    return threads


def mark_of(out: Path) -> Path:
    """Says what lies beside it; parts without it belong to nothing."""
    return out.with_name(f"{out.name}.parts") / "pool.json"


@final
class Parts:
    """The groups that are finished, and the one that is not, in a folder beside the pool."""

    def __init__(self, out: Path, config: PoolConfig, data: TaskData) -> None:
        self.out, self.mark = out, mark_of(out)
        self.folder = self.mark.parent
        self.split_seed = config.seed if data.split_seed is None else data.split_seed
        values = dataclasses.asdict(config)
        del values["compile"]
        self.wanted = {"config": values, "data": data.sha256, "split_seed": self.split_seed}

    def saved(self) -> bool:
        """Whether the pool is written; a kill may have left something of its parts, but not their mark."""
        return self.out.is_file() and not self.mark.is_file()

    def check_place(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a place that holds something else; nothing is changed yet."""
        if self.out.suffix != ".safetensors":
            raise LimbeckError(f"--out is {self.out}; a pool is a file whose name ends in .safetensors.")
        if self.folder.exists() and not self._ours():
            raise LimbeckError(f"{self.folder} holds no parts of a pool; move it away, or choose another --out.")
        if resume:
            if not self.mark.is_file():
                raise LimbeckError(f"{self.out} was not begun yet; begin it without --resume.")
            begun = {"split_seed": self.wanted["split_seed"]} | read_json(self.mark)  # older marks do not name it
            if {name: begun.get(name) for name in self.wanted} != self.wanted:
                raise LimbeckError(f"{self.folder} holds parts of another pool; go on with the same, or --overwrite.")
        elif self.mark.is_file() and not overwrite:
            raise LimbeckError(f"{self.folder} holds an unfinished pool; go on with --resume, or --overwrite it.")
        elif self.out.exists() and not overwrite:
            raise LimbeckError(f"{self.out} is there already; replace it with --overwrite, or choose another --out.")

    def prepare(self, compiled: bool, *, resume: bool, tell: Callable[[str], None]) -> None:
        """Make the folder, empty unless it is gone on with."""
        computed: dict[str, Any] = {"threads": torch.get_num_threads(), "compiled": compiled}
        if not resume:
            self.remove()
            write_json(self.mark, self.wanted | {"computed": computed})
        elif (before := read_json(self.mark).get("computed")) not in (None, computed):
            changed = f"begun {described(before)} and goes on {described(computed)}"
            tell(f"the pool was {changed}: equal to rounding, not bit for bit")

    def check(self, card: dict[str, Any], where: str) -> None:
        """Refuse a finished pool that was made otherwise."""
        found = {name: value for name, value in card["config"].items() if name != "compile"}
        known = card["data"]
        split_seed = known.get("split_seed", self.split_seed)  # pools of 0.1's beginnings do not say
        if {"config": found, "data": known["sha256"], "split_seed": split_seed} != self.wanted:
            raise LimbeckError(f"{where} was made otherwise; choose another --out, or replace it with --overwrite.")

    def has(self, index: int) -> bool:
        """Whether a group is finished."""
        return self._path(index).is_file()

    def finish(self, index: int, networks: Tensors, accuracy: list[float], seconds: float) -> None:
        """Keep a group."""
        write_tensors(self._path(index), networks, {"accuracy": accuracy})
        write_json(self.folder / "seconds.json", seconds)
        (self.folder / "unfinished.safetensors").unlink(missing_ok=True)

    def interrupt(self, index: int, state: State, step: int, seconds: float) -> None:
        """Keep a group that is not finished."""
        tensors = {f"{kind}.{name}": v for kind, f in zip(State._fields, state, strict=True) for name, v in f.items()}
        write_tensors(self.folder / "unfinished.safetensors", tensors, {"group": index, "step": step})
        write_json(self.folder / "seconds.json", seconds)

    def unfinished(self, index: int) -> tuple[State, int] | None:
        """The state of a group that was not finished and the steps that it took, if it is this one."""
        path = self.folder / "unfinished.safetensors"
        if not path.is_file():
            return None
        tensors, told = read_tensors(path)
        if told.get("group") != index:
            return None
        return State(*(with_prefix(tensors, f"{kind}.") for kind in State._fields)), int(told["step"])

    def seconds(self) -> float:
        """Spent so far."""
        path = self.folder / "seconds.json"
        return float(read_json(path)) if path.is_file() else 0.0

    def gathered(self, groups: int) -> tuple[Tensors, list[float]]:
        """All networks and their accuracies."""
        found = [read_tensors(self._path(index)) for index in range(groups)]
        return concatenate([tensors for tensors, _ in found]), [a for _, told in found for a in told["accuracy"]]

    def remove(self) -> None:
        """Let the parts go, their mark first: what a kill leaves then is not taken for the parts of a pool."""
        if self.folder.exists() and self._ours():
            self.mark.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _ours(self) -> bool:
        """Whether the folder holds nothing but what is written here."""
        names = r"\.?(\d{5}|unfinished)\.safetensors(\.part)?|\.?(pool|seconds)\.json(\.part)?"
        return self.folder.is_dir() and all(re.fullmatch(names, path.name) for path in self.folder.iterdir())

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.safetensors"


def described(computed: dict[str, Any]) -> str:
    return f"with {computed['threads']} thread(s) {'compiled' if computed['compiled'] else 'eager'}"
