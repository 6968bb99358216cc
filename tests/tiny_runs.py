"""A task of a few pixels and distillations of a few iterations, shared by the tests of the outer loop."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.data import Preprocessing, TaskData, load
from limbeck.engine import (
    Adjoint,
    Execution,
    GeneratorConfig,
    InnerConfig,
    Kernels,
    MetaGradient,
    Objective,
    PixelConfig,
    RealBatch,
    RealConfig,
    RealLoss,
    Remat,
    Source,
    SourceConfig,
    State,
    Tensors,
)
from limbeck.evaluation.training import LearnedSchedule
from limbeck.experiment.config import Config
from limbeck.experiment.parts import EngineConfig, InitConfig, OuterConfig
from limbeck.experiment.progress import Progress, Reporter
from limbeck.methods import Unrolled, UnrolledConfig
from limbeck.outer.checkpoint import Checkpoint

EAGER = EngineConfig(compile="off", bfloat16="off")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_data(channels: int = 1) -> TaskData:
    """90 training and 30 test images, 8 x 8, of 3 classes that are a pattern each under noise."""
    patterns = torch.randn(3, channels, 8, 8, generator=generator(7))

    def part(n: int, seed: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(n) % 3
        return patterns[y] + torch.randn(n, channels, 8, 8, generator=generator(seed)), y

    return load((part(90, 1), part(30, 2)), val_size=18)


def tiny_source(kind: str, labels: str, pixels: dict[str, Any], generator: dict[str, Any]) -> SourceConfig:
    """What is learned: two batches of an image for each class, or three of six from a generator or of real data."""
    if kind == "pixels":
        return PixelConfig(**{"steps": 2, "epochs": 2, "labels": labels, **pixels})
    if kind == "real":
        return RealConfig(**{"inner_steps": 3, "batch": 6, **generator})
    sizes = {"inner_steps": 3, "batch": 6, "latent": 4}
    if ":" not in generator.get("generator", "conv"):
        sizes |= {"hidden": 8, "width": 4}
    return GeneratorConfig(**{**sizes, **generator})


def tiny_config(
    *,
    init: str = "random",
    labels: str = "hard",
    learner: str = "linear",
    seed: int = 0,
    engine: EngineConfig = EAGER,
    pixels: dict[str, Any] | None = None,
    inner: dict[str, Any] | None = None,
    generator: dict[str, Any] | None = None,
    source: Literal["pixels", "generator", "real"] = "pixels",
    adjoint: Adjoint | None = None,
    loss_every: int | None = None,
    **outer: Any,
) -> Config:
    """Two batches gone through twice; validation in every third of seven iterations."""
    settings: dict[str, Any] = {
        "iterations": 7,
        "inits": 1 if init == "fixed" else 3,
        "real_batch": 16,
        "validate_every": 3,
        "validate_inits": OuterConfig().validate_inits if init == "fixed" else 2,
        "warmup": 2,
    }
    return Config(
        data="arrays",
        learner=learner,
        init=InitConfig(init=init),
        source=tiny_source(source, labels, pixels or {}, generator or {}),
        method=UnrolledConfig(adjoint=adjoint or Remat(), loss_every=loss_every),
        inner=InnerConfig(**{"lr": 0.1, **(inner or {})}),
        outer=OuterConfig(**(settings | outer)),
        engine=engine,
        seed=seed,
        val_size=18,
    )


class Recorder(Reporter):
    """Keeps what it is told, and sends itself Ctrl-C right after the given iterations."""

    def __init__(self, *interrupt_after: int, times: int = 1) -> None:
        self._interrupt_after, self._times = interrupt_after, times
        self.messages: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.interrupted: bool | None = None

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        pass

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        self.records.append(record)
        if record["iteration"] in self._interrupt_after:
            for _ in range(self._times):
                signal.raise_signal(signal.SIGINT)

    def finish(self, progress: Progress, interrupted: bool) -> None:
        self.interrupted = interrupted


class Faulty(Adjoint):
    """The usual meta-gradient, but from some calls on (the first is 1) with another loss or gradient."""

    def __init__(self, *, losses: dict[int, float] | None = None, grads: dict[int, float] | None = None) -> None:
        self.losses, self.grads = losses or {}, grads or {}
        self.calls = 0

    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        self.calls += 1
        loss_B, grads = Remat().meta_gradient(kernels, source, params, states, real)
        if self.calls in self.losses:
            loss_B = torch.full_like(loss_B, self.losses[self.calls])
        if self.calls in self.grads:
            grads["images"].view(-1)[0] = self.grads[self.calls]
        return MetaGradient(loss_B, grads)


def use(monkeypatch: pytest.MonkeyPatch, adjoint: Adjoint) -> None:
    """Distil with this adjoint."""

    def build(config: UnrolledConfig, goal: Objective | None = None) -> Unrolled:
        return Unrolled(adjoint=adjoint, objective=goal or RealLoss(every=config.loss_every))

    monkeypatch.setattr(UnrolledConfig, "build", build)


def same_tensors(left: Tensors, right: Tensors) -> bool:
    """Equal in names, types and every bit."""
    return left.keys() == right.keys() and all(
        value.dtype == right[name].dtype and torch.equal(value, right[name]) for name, value in left.items()
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "elapsed"} for line in lines]


def assert_same_run(left: Path, right: Path) -> None:
    """Artefact, checkpoint and metrics are equal in everything but times."""
    assert (left / "distilled.safetensors").read_bytes() == (right / "distilled.safetensors").read_bytes()
    summaries = [json.loads((folder / "distilled.json").read_text()) | {"seconds": 0} for folder in (left, right)]
    assert summaries[0] == summaries[1]
    one, other = Checkpoint.load(left), Checkpoint.load(right)
    for part in ("current", "good", "best", "generators"):
        assert same_tensors(getattr(one, part), getattr(other, part)), part
    assert replace(one.progress, elapsed=0.0) == replace(other.progress, elapsed=0.0)
    assert (one.config, one.execution) == (other.config, other.execution)
    assert metrics(left) == metrics(right)


def random_set(config: Config | None = None, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Distilled:
    """A set of random images and labels for three classes, as if learned; nothing is trained."""
    config = config or tiny_config()
    pixels, draw = config.source, generator(seed)
    assert isinstance(pixels, PixelConfig)
    steps, images = pixels.steps * pixels.epochs, 3 * pixels.ipc
    labels = torch.eye(3).repeat_interleave(pixels.ipc, dim=0).expand(pixels.steps, -1, -1).contiguous()
    if pixels.labels == "soft":
        labels = torch.softmax(torch.randn(pixels.steps, images, 3, generator=draw), dim=-1)
    return Distilled(
        images=torch.randn(pixels.steps, images, *shape, generator=draw),
        labels=labels,
        training=LearnedSchedule(
            inner=config.inner,
            order=torch.arange(steps) % pixels.steps,
            hyperparameters={"lr": 0.05 + 0.1 * torch.rand(steps, generator=draw)},
        ),
        preprocessing=Preprocessing(scale=1.0, mean=(0.5,) * shape[0], std=(0.25,) * shape[0]),
        class_names=("cat", "dog", "owl"),
        config=config,
        weights={},
        info={
            "data": {"name": "animals", "sha256": "0" * 64},
            "validation": {"accuracy": 81.25, "iteration": 6},
            "finished": True,
            "iterations": 7,
            "seconds": 1.5,
            "versions": {"limbeck": "0.1.0", "torch": "2.13.0", "device": "a processor"},
        },
    )
