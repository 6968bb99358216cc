"""Pools of networks of a few weights, and the same training and attacks in plain torch, one network at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data import TaskData, load
from limbeck.engine import Batch, Tensors
from limbeck.models import build
from limbeck.pools.config import PoolConfig
from limbeck.pools.pool import Pool
from limbeck.pools.train import make_pool


def rows_file(folder: Path, seed: int = 0) -> Path:
    """A task of three classes that a linear network can learn: 8 x 8 images of bytes, a bright row each."""
    rng = np.random.default_rng(seed)
    y = np.arange(300) % 3
    x = rng.integers(0, 60, (300, 8, 8), dtype=np.uint8)
    x[np.arange(300), 2 * y] += 150
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.npz"
    np.savez(path, x=x, y=y)
    return path


def tiny_pool_config(**changes: Any) -> PoolConfig:
    """Three linear networks in groups of two and one."""
    values = {"learner": "linear", "n": 3, "steps": 5, "batch": 8, "lr": 0.01, "group": 2, "compile": "off"}
    return PoolConfig(**(values | changes))


def train_pool(config: PoolConfig, data: TaskData, out: Path, **options: Any) -> Pool:
    """The pool that ``make_pool`` trains when nobody stops it."""
    pool = make_pool(config, data, out, **options)
    assert pool is not None
    return pool


def pool_of_rows(file: Path, out: Path, **changes: Any) -> Pool:
    """Ten trained networks for the task of ``rows_file``."""
    config = tiny_pool_config(**({"n": 10, "steps": 80, "group": 10, "lr": 0.01, "val_size": 40} | changes))
    data = load(str(file), val_size=config.val_size, seed=config.seed)
    return train_pool(config, data, out)


def batch_norm_net(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A learner with running statistics."""
    layers = (nn.Conv2d(shape[0], 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(3 * (shape[1] - 2) * (shape[2] - 2), num_classes))


def dropout_net(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A learner that draws random numbers."""
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, num_classes))


def network(module: nn.Module, states: Tensors, index: int) -> nn.Module:
    """``module`` with the weights of one of the networks (n, ...)."""
    module.load_state_dict({name: value[index] for name, value in states.items()}, strict=False)
    return module


def after_steps(learner: str, data: TaskData, states: Tensors, batches: Sequence[Batch]) -> list[nn.Module]:
    """Each network after plain gradient descent on the batches, by autograd."""
    modules = []
    for index in range(len(next(iter(states.values())))):
        module = build(learner, shape=data.image_shape, num_classes=data.num_classes)
        module = network(module, states, index)
        for batch in batches:
            loss = F.cross_entropy(module(batch.x_MCHW), batch.y_MK)
            grads = torch.autograd.grad(loss, list(module.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(module.parameters(), grads, strict=True):
                    parameter -= batch.h["lr"] * gradient
        modules.append(module)
    return modules


def counted(module: nn.Module, x_NCHW: Tensor, y_N: Tensor, classes: int) -> list[list[int]]:
    """How often a network takes class k for class l, image by image."""
    counts = [[0] * classes for _ in range(classes)]
    with torch.no_grad():
        for x_CHW, label in zip(x_NCHW, y_N.tolist(), strict=True):
            counts[label][int(module(x_CHW[None])[0].argmax())] += 1
    return counts
