"""Tables of scores: what a proxy gave each of many architectures, and how long that took, in one JSON file.

The file is written after each architecture, so that hours of work survive an interruption and go on where they stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

from limbeck.artefact.run_directory import ARTEFACT
from limbeck.common.files import read_json, write_json
from limbeck.common.provenance import versions
from limbeck.errors import LimbeckError
from limbeck.experiment.progress import Stop
from limbeck.nas.proxies.base import Proxy, Task, Tell
from limbeck.nas.spaces.base import Arch

_MACHINE = ("machine", "prepare_seconds")
"""Entries of a table's description that say how it was made, not what it holds."""


@final
@dataclass(frozen=True, kw_only=True)
class Scored:
    """An architecture's score, NaN where it failed, and the seconds that it took."""

    value: float
    seconds: float


@final
@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores by a proxy on a task.

    Attributes:
        meta: what was scored: ``space``, ``data``, ``seed`` and ``proxy`` with its settings; and how: ``machine`` and
            ``prepare_seconds``, what was done once.
        scores: by the architecture's text, in the order in which they were asked for.
    """

    meta: dict[str, Any]
    scores: dict[str, Scored] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the proxy."""
        return str(self.meta["proxy"]["name"])

    @property
    def values(self) -> dict[str, float]:
        """The score of each architecture, by its text."""
        return {text: scored.value for text, scored in self.scores.items()}

    @property
    def seconds(self) -> float:
        """Seconds of scoring all architectures, without preparing the proxy."""
        return math.fsum(scored.seconds for scored in self.scores.values())

    @property
    def prepare_seconds(self) -> float:
        """Seconds of preparing the proxy."""
        return float(self.meta["prepare_seconds"])

    def of(self, texts: Iterable[str]) -> Self:
        """The part on these architectures, in their order; raises LimbeckError where one has no score."""
        names = list(texts)
        lacking = [text for text in names if text not in self.scores]
        if lacking:
            raise LimbeckError(
                f"The table of {self.name} has no score of {len(lacking)} of {len(names)} architectures, such as "
                f"{lacking[0]}; go on filling it."
            )
        return dataclasses.replace(self, scores={text: self.scores[text] for text in names})

    def same_question(self, meta: dict[str, Any]) -> bool:
        """Whether a description is of the same scores, on whatever machine and at whatever cost."""
        return {k: v for k, v in self.meta.items() if k not in _MACHINE} == {
            k: v for k, v in meta.items() if k not in _MACHINE
        }

    def save(self, path: Path) -> None:
        """Replace the file; what was there stays until the new one is complete."""
        scores = {
            text: {"value": scored.value if math.isfinite(scored.value) else None, "seconds": scored.seconds}
            for text, scored in self.scores.items()
        }
        write_json(path, {"meta": self.meta, "scores": scores})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Inverse of ``save``; raises LimbeckError for a file that is missing, damaged or no table."""
        values = read_json(path)
        try:
            scores = {
                text: Scored(
                    value=math.nan if entry["value"] is None else float(entry["value"]), seconds=float(entry["seconds"])
                )
                for text, entry in values["scores"].items()
            }
            meta = dict(values["meta"])
            _ = meta["proxy"]["name"], float(meta["prepare_seconds"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LimbeckError(f"{path} is no table of scores ({error!r}); choose another file.") from None
        return cls(meta=meta, scores=scores)


def describe(task: Task, proxy: Proxy) -> dict[str, Any]:
    """A table's ``meta``, before anything was prepared."""
    settings: dict[str, Any] = dataclasses.asdict(proxy) if dataclasses.is_dataclass(proxy) else {}
    space = {"name": task.space.name, "shape": list(task.space.shape), "classes": task.space.num_classes}
    if task.space.options:
        space["options"] = dict(task.space.options)
    return {
        "space": space,
        "data": {
            "name": task.data.name,
            "sha256": task.data.sha256,
            "validation": len(task.data.val_y),
            "split_seed": task.data.split_seed,
        },
        "seed": task.seed,
        "proxy": {"name": proxy.name, "kind": type(proxy).__name__, "settings": _plain(settings)},
        "machine": versions(str(task.device)),
        "prepare_seconds": 0.0,
    }


def fill(
    path: Path,
    task: Task,
    proxy: Proxy,
    archs: Sequence[Arch],
    *,
    part: tuple[int, int] = (0, 1),
    tell: Tell = lambda text: None,
    stop: Stop | None = None,
) -> ScoreTable:
    """Score what has no score yet, writing the table after each architecture.

    Args:
        path: its file; with a ``part``, that of the part, see ``part_path``.
        task: what architectures are scored on.
        proxy: what scores them; it is prepared where something is left to do.
        archs: distinct architectures.
        part: (i, n): only every n-th, from the i-th on, so that n processes share the work.
        tell: told of each score and of the time that is left.
        stop: looked at after each architecture; what is finished stays.

    Returns:
        The table, which lacks architectures if it was stopped.

    Raises:
        LimbeckError: the file holds other scores, or the proxy does not fit the task.
    """
    index, count = part
    if not 0 <= index < count:
        raise LimbeckError(f"The part is {index} of {count}; parts of {count} are counted from 0 to {count - 1}.")
    path = part_path(path, part)
    table = ScoreTable(meta=describe(task, proxy))
    if path.is_file():
        before = ScoreTable.load(path)
        _refuse_other(path, before.meta, table.meta)
        table = before
    share = list(archs)[index::count]
    left = [arch for arch in share if task.space.text(arch) not in table.scores]
    if not left:
        return table
    begun = time.perf_counter()
    scorer = proxy.prepare(task, tell)
    if not table.scores:
        table.meta["prepare_seconds"] = round(time.perf_counter() - begun, 3)
    begun = time.perf_counter()
    for done, arch in enumerate(left):
        if stop is not None and stop.requested:
            break
        text, started = task.space.text(arch), time.perf_counter()
        try:
            value = scorer.score(task, arch)
        except LimbeckError as error:
            tell(f"{proxy.name}: {text} failed: {error.with_flags}")
            value = math.nan
        now = time.perf_counter()
        table.scores[text] = Scored(value=value if math.isfinite(value) else math.nan, seconds=round(now - started, 6))
        table.save(path)
        eta = (now - begun) / (done + 1) * (len(left) - done - 1)
        tell(
            f"{proxy.name}: {len(share) - len(left) + done + 1} of {len(share)}, {text}: {value:.4g} in "
            f"{now - started:.1f} s, ETA {int(eta // 60)}:{int(eta % 60):02d}"
        )
    return table


def part_path(path: Path, part: tuple[int, int]) -> Path:
    """The file of a part.

    >>> part_path(Path("oracle.json"), (0, 2)).name, part_path(Path("oracle.json"), (0, 1)).name
    ('oracle.0-of-2.json', 'oracle.json')
    """
    index, count = part
    return path if count == 1 else path.with_name(f"{path.stem}.{index}-of-{count}{path.suffix}")


def parts_of(path: Path) -> list[Path]:
    """The files of all parts of a table that are there."""
    return sorted(path.parent.glob(f"{path.stem}.*-of-*{path.suffix}"))


def merge(paths: Sequence[Path]) -> ScoreTable:
    """One table of several, which must be of one proxy and task; ``prepare_seconds`` is that of the slowest.

    Raises:
        LimbeckError: there is none, they differ, or two score the same architecture.
    """
    if not paths:
        raise LimbeckError("There is no table to merge; name at least one file.")
    tables = [ScoreTable.load(path) for path in paths]
    first = tables[0]
    scores: dict[str, Scored] = {}
    for path, table in zip(paths, tables, strict=True):
        _refuse_other(path, table.meta, first.meta)
        twice = sorted(scores.keys() & table.scores.keys())
        if twice:
            raise LimbeckError(f"{path} scores {twice[0]}, which another of the tables does, too; merge parts of one.")
        scores |= table.scores
    seconds = max(table.prepare_seconds for table in tables)
    return ScoreTable(meta=first.meta | {"prepare_seconds": seconds}, scores=scores)


def _refuse_other(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise LimbeckError where two descriptions differ in anything but the cost of preparing."""
    for name, was, now in _differences(found, wanted):
        if name != "prepare_seconds":
            raise LimbeckError(
                f"{path} holds other scores: its {name} is {was}, not {now}. Go on with the same, or choose another "
                "file."
            )


def _differences(left: Any, right: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two nested dicts differ: dotted name and both values."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys([*left, *right]):
            yield from _differences(left.get(key), right.get(key), f"{name}.{key}" if name else key)
    elif left != right:
        yield name, left, right


def _plain(value: Any) -> Any:
    """Settings as JSON has them; a run directory by its name and the digest of what was learned, wherever it lies."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        artefact = value / ARTEFACT
        digest = f" {hashlib.sha256(artefact.read_bytes()).hexdigest()[:16]}" if artefact.is_file() else ""
        return f"{value.name}{digest}"
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
