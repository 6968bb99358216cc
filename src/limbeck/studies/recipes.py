"""The published experiments as complete configurations, with the numbers that they have to beat."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import final

from limbeck.common.registry import Registry
from limbeck.engine import InnerConfig, PixelConfig
from limbeck.experiment.config import Config
from limbeck.experiment.parts import InitConfig, OuterConfig


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published result and how Limbeck goes about it.

    Args:
        name: what ``limbeck reproduce`` calls it.
        title: one line for people.
        config: everything that determines the run.
        paper: the published accuracy in percent, mean and standard deviation over inits, before and after.
        source: where that was published.
        n: held-out initial weights for the final score.
    """

    name: str
    title: str
    config: Config
    paper: str
    source: str
    n: int


WANG = "Wang et al. 2018, arXiv 1811.10959"


def _mnist_fixed() -> Recipe:
    config = Config(
        data="mnist",
        learner="lenet",
        init=InitConfig(init="fixed"),
        source=PixelConfig(steps=1, epochs=3, start="noise"),
        inner=InnerConfig(lr=0.3),
        outer=OuterConfig(
            iterations=20_000, inits=1, real_batch=256, lr_images=0.05, lr_steps=0.02, clip_init=0.1, validate_every=250
        ),
    )
    return Recipe(
        name="mnist-fixed",
        title="MNIST, LeNet, fixed init, 10 images, 1 step x 3 epochs",
        config=config,
        paper="12.90 -> 93.76",
        source=WANG,
        n=1,
    )


def _mnist_random() -> Recipe:
    config = Config(
        data="mnist",
        learner="lenet",
        source=PixelConfig(steps=10, epochs=3, start="noise"),
        inner=InnerConfig(lr=0.06),
        outer=OuterConfig(
            iterations=3_400,
            inits=4,
            real_batch=256,
            lr_images=0.05,
            lr_steps=0.001,
            clip_init=0.1,
            validate_every=200,
            calibrate_inits=48,
        ),
    )
    return Recipe(
        name="mnist-random",
        title="MNIST, LeNet, random init, 100 images, 10 steps x 3 epochs",
        config=config,
        paper="79.50 ± 8.08",
        source=WANG,
        n=200,
    )


def _cifar10_fixed() -> Recipe:
    config = Config(
        data="cifar10",
        learner="alexcifarnet",
        init=InitConfig(init="fixed"),
        source=PixelConfig(steps=10, epochs=3, start="real"),
        inner=InnerConfig(lr=0.03),
        outer=OuterConfig(
            iterations=1_100, inits=1, real_batch=512, lr_images=0.05, lr_steps=0.01, clip_init=0.1, validate_every=50
        ),
    )
    return Recipe(
        name="cifar10-fixed",
        title="CIFAR-10, AlexCifarNet, fixed init, 100 images, 10 steps x 3 epochs",
        config=config,
        paper="8.82 -> 54.03",
        source=WANG,
        n=1,
    )


def _cifar10_random() -> Recipe:
    config = Config(
        data="cifar10",
        learner="alexcifarnet",
        source=PixelConfig(steps=10, epochs=3, start="real"),
        inner=InnerConfig(lr=0.03),
        outer=OuterConfig(
            iterations=1_100,
            inits=1,
            real_batch=256,
            lr_images=0.05,
            lr_steps=0.005,
            clip_init=0.1,
            validate_every=150,
            validate_inits=4,
        ),
    )
    return Recipe(
        name="cifar10-random",
        title="CIFAR-10, AlexCifarNet, random init, 100 images, 10 steps x 3 epochs",
        config=config,
        paper="36.79 ± 1.18",
        source=WANG,
        n=20,
    )


def recipes() -> Registry[Recipe]:
    """All recipes by name."""
    return Registry.of("recipe", (_mnist_fixed(), _mnist_random(), _cifar10_fixed(), _cifar10_random()))


def recipe(name: str) -> Recipe:
    """A recipe by name; raises LimbeckError for an unknown one."""
    return recipes()[name]


def with_soft_labels(recipe: Recipe) -> Recipe:
    """The same with learned labels."""
    assert isinstance(recipe.config.source, PixelConfig)
    pixels = dataclasses.replace(recipe.config.source, labels="soft")
    config = dataclasses.replace(recipe.config, source=pixels)
    return dataclasses.replace(recipe, config=config, title=f"{recipe.title}, soft labels")
