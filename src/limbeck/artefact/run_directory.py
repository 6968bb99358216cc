"""The run directory: who may write to it, and the files beside the artefact."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from limbeck.artefact.card import card
from limbeck.artefact.distilled import Distilled
from limbeck.artefact.preview import preview
from limbeck.common.files import read_json, write_atomically, write_json, write_text
from limbeck.errors import LimbeckError
from limbeck.evaluation.kept import SCORES
from limbeck.experiment.config import Config

# Names that no other program uses: --overwrite deletes a folder that holds one of them.
CHECKPOINT = "checkpoint/state.safetensors"
ARTEFACT = "distilled.json"
MARKS = (ARTEFACT, CHECKPOINT)
OWN = (
    "distilled.json",
    "distilled.safetensors",
    "README.md",
    "preview.png",
    "metrics.jsonl",
    "config.json",
    "checkpoint",
)
"""What a run keeps in its folder, and nobody else may write there."""
FAILED = "failed.json"
TRACES = frozenset({"config.json", "metrics.jsonl", FAILED, "checkpoint", "tensorboard"})
"""What a run leaves that ended before it had anything to keep."""


@final
class RunDirectory:
    """A folder with the artefact, its card and picture, ``metrics.jsonl`` and ``checkpoint/``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def holds_run(self) -> bool:
        """Whether there is a run, finished or not."""
        return any((self.path / mark).exists() for mark in MARKS)

    def check(self, *, overwrite: bool) -> None:
        """Raise LimbeckError if the folder holds anything, or with ``overwrite`` anything but a run; change nothing.

        What a run has left that failed before it had learned anything does not count.
        """
        if self.path.exists() and not self.path.is_dir():
            raise LimbeckError(f"{self.path} is a file; --out must be a folder.")
        if self.holds_traces_only():
            return
        if self.holds_run and not overwrite:
            raise LimbeckError(
                f"{self.path} already holds a run; go on with --resume, replace it with --overwrite, or choose "
                "another --out."
            )
        if not self.holds_run and self.path.exists() and any(self.path.iterdir()):
            raise LimbeckError(f"{self.path} is not empty and holds no run; choose another --out.")

    def holds_traces_only(self) -> bool:
        """Whether all there is was left by a run that failed, or was killed, before it had anything to keep."""
        try:
            config = read_json(self.path / "config.json")
        except LimbeckError:
            return False
        if not (isinstance(config, dict) and {"learner", "source", "outer"} <= config.keys()):
            return False  # that of another program
        names = {path.name for path in self.path.iterdir() if not path.name.endswith(".part")}
        killed = not (self.path / CHECKPOINT).exists()
        return names <= TRACES and (FAILED in names or killed)

    def fail(self, error: BaseException) -> None:
        """Note that the run failed before it had anything to keep; the folder is free for another one."""
        with suppress(LimbeckError):  # the error itself is what matters
            write_json(self.path / FAILED, {"error": f"{type(error).__name__}: {error}"})

    def clear(self) -> None:
        """Make the folder, and delete what is in it; call ``check`` first. Raises LimbeckError if that fails."""
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LimbeckError(f"Could not make the run directory {self.path}: {error.strerror}.") from None

    def finished(self) -> bool:
        """Whether the folder holds the artefact of a run that was not interrupted."""
        path = self.path / ARTEFACT
        return path.is_file() and bool(read_json(path).get("finished"))

    def start(self, config: Config, iteration: int) -> None:
        """Record the configuration, and drop the metrics after ``iteration``, which a resumed run will write again."""
        (self.path / FAILED).unlink(missing_ok=True)
        write_json(self.path / "config.json", config.to_json(self.path))
        # A line without a validation tells where a run stopped; going on replaces it.
        earlier = [line for line in self.metrics() if line["iteration"] <= iteration and "val_mean" in line]
        # always: the next line must not be glued to one that a kill cut off
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in earlier))

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``; raises LimbeckError if it cannot be written."""
        try:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise LimbeckError(f"Could not write {self.path / 'metrics.jsonl'}: {error.strerror}.") from None

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of ``metrics.jsonl``, in order; none where there is no such file."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        records = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                break  # a line that a kill cut off
            if not (isinstance(record, dict) and isinstance(record.get("iteration"), int)):
                break
            records.append(record)
        return records

    def finish(self, result: Distilled) -> None:
        """Write the artefact, its card and, of images, a picture; scores of another set go."""
        (self.path / SCORES).unlink(missing_ok=True)
        result.save(self.path)
        if result.kind == "images":
            picture = preview(result)
            write_atomically(self.path / "preview.png", lambda part: picture.save(part, format="PNG"))
        write_text(self.path / "README.md", card(result))
