"""Generative teaching networks: the comparisons of Such et al. 2019."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Final

import torch

from limbeck.common.registry import Registry
from limbeck.common.seeds import generator
from limbeck.engine import GeneratorConfig, InnerConfig, PixelConfig, RealConfig
from limbeck.engine.source.generator import CURRICULA
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.studies.kinds import CURVES, SEEDS, SPEED, SWEEP
from limbeck.studies.study import Study, Variant

SUCH = "Such et al. 2019, arXiv 1912.07768"


def _teaching(**changes: Any) -> Config:
    """The generator, learner and inner loop that the studies on MNIST share; smaller than the paper's."""
    base = Config(
        data="mnist",
        learner="stridednet",
        weight_norm=True,
        source=GeneratorConfig(inner_steps=32, batch=128, latent=64, hidden=128, width=16, warm_start=600),
        inner=InnerConfig(optimizer="sgd", lr=0.1, momentum=0.8, learn_momentum="per-step"),
        outer=OuterConfig(
            iterations=2_800,
            inits=1,
            real_batch=2048,
            lr_images=0.001,
            lr_noise=0.03,
            lr_steps=0.02,
            clip_init=0.5,
            validate_every=100,
            validate_inits=8,
            calibrate_inits=24,
        ),
    )
    return _changed(base, **changes)


def _changed(config: Config, **changes: Any) -> Config:
    """``part=dict`` changes fields of a nested part."""
    nested = {
        name: dataclasses.replace(getattr(config, name), **value)
        for name, value in changes.items()
        if isinstance(value, dict)
    }
    return dataclasses.replace(config, **(changes | nested))


def _on_real_data(config: Config, iterations: int) -> Config:
    """The same inner training on real batches, as many and as large, with learned hyper-parameters only."""
    sizes = RealConfig(inner_steps=config.inner_steps, batch=config.batch_size(10))
    rates = {"lr_images": OuterConfig().lr_images, "lr_noise": None}  # nothing has them
    return _changed(config, source=sizes, outer={"iterations": iterations, **rates})


def _single_runs(configs: dict[str, Config]) -> tuple[Variant, ...]:
    """A run for each group."""
    return tuple(Variant(group=group, seed=config.seed, config=config) for group, config in configs.items())


def _mnist(seed: int) -> Study:
    """The generator, pixels learned one by one, and real data in the same loop."""
    config = _teaching(seed=seed)
    pixels = _changed(
        config,
        source=PixelConfig(steps=32, epochs=1, ipc=13, start="real"),
        outer={"iterations": 1000, "lr_images": 0.05, "lr_noise": None},
    )
    real = _on_real_data(config, 500)
    return Study(
        name="gtn-mnist",
        title="MNIST, 32 inner steps of 128: a generator, learned pixels and real data in one loop",
        paper={"generator": "98.9"},
        source=SUCH,
        variants=_single_runs({"generator": config, "pixels": pixels, "real data": real}),
        n=40,
        kind=CURVES,
    )


def _curricula(seed: int) -> Study:
    variants = tuple(
        Variant(group=curriculum, seed=at, config=_small(seed=at, source={"curriculum": curriculum}))
        for at in range(seed, seed + 3)
        for curriculum in CURRICULA
    )
    return Study(
        name="gtn-curriculum",
        title="MNIST, the four curricula of a generator, three seeds each",
        paper={"full": "best", "none": "worst"},
        source=SUCH,
        variants=variants,
        n=20,
        kind=SEEDS,
    )


def _small(**changes: Any) -> Config:
    """A run of some two minutes, from a generator that has seen nothing."""
    small: dict[str, Any] = {
        "source": {"inner_steps": 16, "batch": 64, "width": 16, "hidden": 128, "warm_start": 0},
        "outer": {
            "iterations": 300,
            "real_batch": 1024,
            "lr_images": 0.01,
            "lr_noise": None,
            "lr_steps": 0.03,
            "clip_init": 1.0,
            "validate_every": 50,
            "calibrate_inits": 0,
        },
        "engine": {"compile": "on"},  # kernels are compiled for the first run and come from the cache for the others
    }
    merged = {
        key: {**small.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    return _teaching(**(small | merged))


DRAWS = 20
"""Sampled settings on each side of the weight-norm study."""


def _weight_norm(seed: int) -> Study:
    """Hyper-parameters drawn at random, each set of them with weight normalisation of both networks and without."""
    rng = generator(seed, "weight norm study")
    variants = []
    for draw in range(seed, seed + DRAWS):
        lr, lr_images, momentum, hidden = torch.rand(4, generator=rng, dtype=torch.float32).tolist()
        settings: dict[str, Any] = {
            "seed": draw,
            "inner": {"lr": _log_uniform(lr, 0.01, 0.5), "momentum": 0.95 * momentum},
            "outer": {
                "iterations": 60,
                "lr_images": _log_uniform(lr_images, 0.001, 0.05),
                "validate_every": 20,
                "max_rollbacks": 0,
            },
        }
        for on in (True, False):
            part = {"generator_weight_norm": on, "hidden": 64 if hidden < 0.5 else 256, "batch": 32}
            config = _small(**settings, weight_norm=on, source=part)
            variants.append(Variant(group=f"weight norm {'on' if on else 'off'}", seed=draw, config=config))
    return Study(
        name="gtn-weight-norm",
        title=f"MNIST, {DRAWS} sampled settings with weight normalisation and without",
        paper={"weight norm on": "robust", "weight norm off": "many diverge"},
        source=SUCH,
        variants=tuple(variants),
        n=8,
        kind=SWEEP,
    )


def _log_uniform(u: float, low: float, high: float) -> float:
    return low * math.exp(u * math.log(high / low))


UNSEEN = (
    "lenet",
    "stridednet,width=24",
    "stridednet,width=16,depth=2",
    "stridednet,width=16,norm=running",
    "convnet3,width=24,depth=2,norm=none,pooling=max",
    "mlp",
)
"""Learners of other widths, depth, normalisation and pooling than those of the family."""


def _learners(seed: int) -> Study:
    config = _teaching(
        seed=seed,
        learner="stridednet,width=8",
        family=(
            "stridednet,width=12,depth=2,norm=running",
            "stridednet,width=16",
            "convnet3,width=12,depth=2,norm=none,pooling=avg",
            "mlp,hidden=(64,)",
        ),
        source={"inner_steps": 64, "batch": 64},
        outer={"iterations": 1200, "real_batch": 1024, "validate_inits": 2},
    )
    return Study(
        name="gtn-learners",
        title="MNIST, a generator for a family of learners, and learners that it never saw, after 64 steps",
        paper={"generator": "most unseen learners 11 to 22"},
        source=f"an independent run of the code of {SUCH}",
        variants=_single_runs({"generator": config}),
        n=20,
        learners=UNSEEN,
        kind=SEEDS,
    )


def _cifar10(seed: int) -> Study:
    config = _teaching(
        seed=seed,
        data="cifar10",
        source={"batch": 64},
        outer={"iterations": 800, "real_batch": 1024},
    )
    return Study(
        name="gtn-cifar10",
        title="CIFAR-10, inner steps to equal accuracy, a generator against real data (reduced: 32 steps of 64)",
        paper={"generator": "4 times fewer steps"},
        source=SUCH,
        variants=_single_runs({"generator": config, "real data": _on_real_data(config, 200)}),
        n=20,
        kind=SPEED,
    )


TEACHING: Final[Registry[Callable[[int], Study]]] = Registry(
    "study",
    ("gtn-mnist", _mnist),
    ("gtn-curriculum", _curricula),
    ("gtn-weight-norm", _weight_norm),
    ("gtn-learners", _learners),
    ("gtn-cifar10", _cifar10),
)
"""Studies by name, from their first seed."""
