"""What trained networks can be made to do: attacks and adaptation (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from limbeck.attack.config import AttackSettings, attack_config, attack_outer
from limbeck.common.registry import Registry
from limbeck.evaluation.baselines import FINE_TUNING, baseline_names
from limbeck.experiment.parts import AttackConfig
from limbeck.pools.adapt import AdaptSettings, adapt_config, adapt_outer
from limbeck.pools.config import PoolConfig
from limbeck.pools.pool import default_shares
from limbeck.studies.kinds import ATTACK, BASELINES
from limbeck.studies.recipes import WANG
from limbeck.studies.study import PoolPlan, Study, Variant

_LENETS = PoolConfig(n=200)


def _poison_mnist(seed: int) -> Study:
    """Four pairs of classes; for one of them also the paper's objective, and images that stay near real ones.

    Budgets differ, so pairs are not compared at equal ones: 300 outer iterations, but 800 for 0->1, whose validation on
    networks kept for selection still rose after 300, and 600 for 3->8.
    """
    pool = PoolPlan(name="mnist-lenet", data="mnist", config=_LENETS)
    others = (
        PoolPlan(name="mnist-mlp", data="mnist", config=PoolConfig(learner="mlp", n=20, steps=1500)),
        PoolPlan(name="mnist-stridednet", data="mnist", config=PoolConfig(learner="stridednet", n=20, steps=1500)),
    )

    def variant(
        group: str,
        source: int,
        target: int,
        keep: float | None = 1.0,
        compared: tuple[str, ...] = (),
        iterations: int = 300,
        **settings: Any,
    ) -> Variant:
        attack = AttackConfig(source=source, target=target, keep=keep)
        outer = attack_outer(iterations=iterations)
        batch = AttackSettings(seed=seed, **settings)
        config = attack_config(pool.path, attack, batch, outer=outer, card=pool.card)
        return Variant(group=group, seed=seed, config=config, baselines=compared)

    return Study(
        name="poison-mnist",
        title="MNIST, 10 images, one gradient step on them makes trained LeNets take K for T",
        paper={},
        source=WANG,
        variants=(
            variant("7->1", 7, 1, compared=baseline_names()),
            variant("0->1", 0, 1, compared=("best-random",), iterations=800),
            variant("3->8", 3, 8, compared=("best-random",), iterations=600),
            variant("4->9", 4, 9, compared=("best-random",)),
            variant("7->1, paper's objective", 7, 1, None),
            variant("7->1, real images within 8/255", 7, 1, max_change=8 / 255),
            variant("7->1, real images within 32/255", 7, 1, max_change=32 / 255),
        ),
        n=50,
        kind=ATTACK,
        pools=(pool, *others),
        transfer=tuple(plan.name for plan in others),
    )


def _poison_cifar10(seed: int) -> Study:
    pool = PoolPlan(
        name="cifar10-lenet",
        data="cifar10",
        config=PoolConfig(n=60, steps=5000, batch=64, lr=0.002, weight_decay=1e-4),
    )
    attack = AttackConfig(source=0, target=1, keep=1.0)
    config = attack_config(pool.path, attack, AttackSettings(held_out=15, seed=seed), card=pool.card)
    variant = Variant(group="airplane->automobile", seed=seed, config=config, baselines=baseline_names())
    return Study(
        name="poison-cifar10",
        title="CIFAR-10, 10 images, one gradient step, a pool of 60 LeNets (the paper: 2,000 AlexCifarNets)",
        paper={},
        source=WANG,
        variants=(variant,),
        n=15,
        kind=ATTACK,
        pools=(pool,),
    )


TARGETS: Final = MappingProxyType(
    {"mnist,rotate=90": (3, 500), "fashion-mnist": (6, 500), "mnist,invert=True": (3, 300)}
)
"""What MNIST's networks are moved to: how often they go through the images, and the outer iterations."""


def _adapt(seed: int) -> Study:
    pool = PoolPlan(name="mnist-lenet", data="mnist", config=_LENETS)
    selection = default_shares(_LENETS.n).selection

    def variant(target: str, compared: tuple[str, ...], network: int | None = None) -> Variant:
        epochs, iterations = TARGETS[target]
        outer = adapt_outer(network, iterations=iterations, validate_inits=selection)
        settings = AdaptSettings(epochs=epochs, network=network, seed=seed)
        config = adapt_config(pool.path, target, settings, outer=outer, card=pool.card)
        group = target if network is None else f"{target}, one network"
        return Variant(group=group, seed=seed, config=config, baselines=compared)

    fixed = variant("mnist,rotate=90", (FINE_TUNING,), network=0)
    variants = [variant(target, (*baseline_names(), FINE_TUNING)) for target in TARGETS]
    return Study(
        name="adapt",
        title="LeNets trained on MNIST, moved to other data by 100 learned images in 30 steps (Fashion-MNIST: 60)",
        paper={},
        source=WANG,
        variants=(*variants, fixed),
        n=50,
        kind=BASELINES,
        pools=(pool,),
    )


POOLED: Final[Registry[Callable[[int], Study]]] = Registry(
    "study",
    ("poison-mnist", _poison_mnist),
    ("poison-cifar10", _poison_cifar10),
    ("adapt", _adapt),
)
"""Studies by name, from their first seed."""
