"""A space, proxies and a task that cost nothing, for the tests of the search; workers import them by name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from limbeck.data import TaskData, load
from limbeck.errors import LimbeckError
from limbeck.nas import Arch, Graph, Proxy, Scorer, Space, Task
from limbeck.nas.spaces.base import chain, own_names


class Chained(Space):
    """A space whose networks are plain sequences and whose texts are their options joined by dashes."""

    def text(self, arch: Arch) -> str:
        return "-".join(self.check(arch))

    def read(self, text: str) -> Arch:
        return self.check(tuple(text.split("-")))

    def graph(self, arch: Arch) -> Graph:
        return chain(self.build(arch))

    def shared(self, arch: Arch) -> dict[str, str]:
        return own_names(self.build(arch))


@dataclass(frozen=True, kw_only=True)
class Toy(Chained):
    """Three choices with 4 × 3 × 2 options; no network of width 4 and depth 3 can be built if ``broken`` says so."""

    shape: tuple[int, int, int] = (1, 4, 4)
    num_classes: int = 3
    broken: str = "none"

    @property
    def name(self) -> str:
        return "toy"

    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        return {"width": ("1", "2", "3", "4"), "depth": ("1", "2", "3"), "act": ("relu", "tanh")}

    def build(self, arch: Arch) -> nn.Module:
        width, depth, act = self.check(arch)
        if self.broken == "all" or (self.broken == "some" and width == "4"):
            raise LimbeckError(f"width {width} is too much for images of 4 x 4.")
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(16, int(width))]
        for _ in range(int(depth)):
            layers += [nn.ReLU() if act == "relu" else nn.Tanh(), nn.Linear(int(width), int(width))]
        return nn.Sequential(*layers, nn.Linear(int(width), self.num_classes))


def worth(arch: Arch) -> float:
    """What an architecture of the toy space is worth: 4-3-tanh is the best."""
    width, depth, act = arch
    return 10.0 * int(width) + 3.0 * int(depth) + (1.0 if act == "tanh" else 0.0)


@dataclass(frozen=True, kw_only=True)
class Worth(Proxy):
    """``worth`` and a matrix product of the seed's, whose last bits tell how it was computed.

    Args:
        fraction: of the training; with less of it the score is further from what is worth.
        seconds: that a score takes.
        log: folder where every score leaves a file with the process that made it.
        deadly: architectures that end the process that scores them, always.
        wrong: architecture whose score is not a number.
    """

    fraction: float = 1.0
    seconds: float = 0.0
    log: str | None = None
    deadly: tuple[str, ...] = ()
    wrong: str | None = None

    @property
    def name(self) -> str:
        return "worth"

    def at(self, fraction: float) -> Proxy:
        return replace(self, fraction=fraction)

    def prepare(self, task: Task, tell: object = None) -> Scorer:
        return WorthScorer(self)


@dataclass(frozen=True)
class WorthScorer(Scorer):
    config: Worth

    def score(self, task: Task, arch: Arch) -> float:
        text = task.space.text(arch)
        if self.config.log is not None:
            path = Path(self.config.log) / f"{text} {time.time_ns()}"
            path.with_suffix(".part").write_text(str(os.getpid()))
            path.with_suffix(".part").replace(path)
        time.sleep(self.config.seconds)
        if text in self.config.deadly:
            os._exit(9)
        if text == self.config.wrong:
            return float("nan")
        seed = sum(map(ord, text)) + 1000 * task.seed
        draw = torch.randn(200, 200, generator=torch.Generator().manual_seed(seed))
        noise = float((draw @ draw.T @ draw).softmax(1).std())
        return worth(arch) + noise * (1 + 20 * (1 - self.config.fraction))


def toy_data(seed: int = 0) -> TaskData:
    rng = torch.Generator().manual_seed(3)
    return load((torch.rand(60, 1, 4, 4, generator=rng), torch.arange(60) % 3), val_size=9, seed=seed)


def toy_task(seed: int = 0, broken: str = "none") -> Task:
    return Task(space=Toy(broken=broken), data=toy_data(), seed=seed)


def scored(log: Path) -> list[str]:
    """The architectures that were scored, one for each time."""
    return sorted(path.name.split()[0] for path in log.glob("* *") if path.suffix != ".part")


def workers_of(log: Path) -> set[int]:
    """The processes that scored."""
    return {int(path.read_text()) for path in log.glob("* *") if path.suffix != ".part"}
