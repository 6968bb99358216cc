"""The study ``nas-cells``: the question of ``nas-ranking`` in the space of Such et al. 2019, reduced for two cores.

CIFAR-10 with 16 x 16 pixels, networks of a normal and a reduction cell four channels wide, twenty of them, and an
oracle that trains for a few hundred steps: what the paper does with whole images, 128 steps and hours on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from limbeck.experiment.config import Config
from limbeck.nas.proxies.base import Proxy, Task
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost
from limbeck.nas.spaces import space_named
from limbeck.nas.studies.proxy_rows import Rows, rows_of, seconds_on_learned_set
from limbeck.nas.studies.study_sets import learners_for, set_config, task_for
from limbeck.nas.training import Schedule

DATA: Final = "cifar10,size=16"
SPACE: Final = "cells,width=4"
SAMPLE: Final = 20
"""Architectures that are ranked."""
FAMILY: Final = 8
"""Architectures that the set is learned for, none of which is ranked."""


def cells_oracle() -> RealData:
    """Real data for as long as two cores allow: what the proxies are measured by."""
    return RealData(schedule=Schedule(steps=300, batch=32), images=2000, label="oracle")


def cells_config(seed: int) -> Config:
    """The learned set: ten images a step, for eight networks of the space and any initial weights."""
    space = space_named(SPACE, shape=(3, 16, 16), num_classes=10)
    return set_config(DATA, learners_for(space, SAMPLE, FAMILY, seed), seed, iterations=160, real_batch=64)


def cells_task(seed: int = 0, device: str = "cpu", data_dir: Path | None = None) -> Task:
    """The space on reduced CIFAR-10, split as the learned set's data is."""
    return task_for(cells_config(seed), SPACE, device, data_dir)


def cells_proxies(run: Path, steps: int) -> Rows:
    """What is ranked: the set in ``run``, learned for so many steps, real data, and what costs nothing."""
    judging: dict[str, Any] = {"images": 200, "measure": "probability"}

    def real(label: str, **how: Any) -> Proxy:
        return RealData(schedule=Schedule(batch=10, warmup=0, **how), label=label, **judging)

    def same_seconds(tables: Mapping[str, Any]) -> Proxy:
        return real("real, same seconds", steps=None, seconds=seconds_on_learned_set(tables))

    return rows_of(
        SyntheticData(run=run, inits=1, **judging),
        real("real, same steps", steps=steps),
        ("real, same seconds", same_seconds),
        ZeroCost(kind="naswot"),
        ZeroCost(kind="parameters"),
    )
