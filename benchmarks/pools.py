"""Training 200 LeNets for a pool, and what training them together is worth:  python benchmarks/pools.py [POOL]

The pool is made first unless there is one (``limbeck pool make mnist --n 200 --out POOL``). Then a group of 25 networks
takes turns with networks that are trained one at a time by an ordinary loop, all at the pool's batch size. The group's
step is compiled, as a pool's is; the ordinary loop is not, as an ordinary loop is not: the row compares both at once.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor
from turns import one_at_a_time, taking_turns

from limbeck.cli.allocator import tune_allocator
from limbeck.data import TaskData, load
from limbeck.engine import Execution, Kernels, RealLoss
from limbeck.experiment.compilers import use_compile_cache
from limbeck.models import build, draw
from limbeck.pools.adam import adam_batch, adam_learner
from limbeck.pools.config import PoolConfig
from limbeck.pools.parts import can_resume
from limbeck.pools.train import make_pool

GROUP, ALONE, STEPS, ROUNDS = 25, 3, 60, 5
POOL = Path("runs/pools/mnist-lenet.safetensors")


def main(argv: list[str]) -> None:
    tune_allocator()
    use_compile_cache()
    path = Path(argv[0]) if argv else POOL
    data = load("mnist")
    config = PoolConfig(n=200)
    pool = make_pool(config, data, path, resume=can_resume(path), tell=lambda text: print(text, file=sys.stderr))
    assert pool is not None
    accuracy = pool.card["test_accuracy"]
    make = partial(build, "lenet", shape=data.image_shape, num_classes=data.num_classes)
    one = one_at_a_time(data, make, networks=ALONE, steps=STEPS, batch=32)
    times = taking_turns({"one at a time, torch.optim.Adam": one, "25 together": train_together(data)}, ROUNDS)
    per_step = [row["ms an iteration"] / STEPS / count for row, count in zip(times, (ALONE, GROUP), strict=True)]
    rows: list[dict[str, Any]] = [
        {
            "row": "pool of 200 LeNets, MNIST",
            "asked": "≤ 900 s on two cores, each ≥ 98 %",
            "measured": f"{pool.card['seconds']:.0f} s on {pool.card['versions']['threads']} core(s); "
            f"{statistics.fmean(accuracy):.2f} ± {statistics.stdev(accuracy):.2f} %, worst {min(accuracy):.2f}, "
            f"n = {len(accuracy)}",
        },
        {
            "row": "ms a training step of one network, one at a time (eager) / 25 together (compiled)",
            "asked": "≥ 3 times faster",
            "measured": f"{per_step[0]:.2f} / {per_step[1]:.2f}: {per_step[0] / per_step[1]:.1f} times",
        },
    ]
    write(
        "pools",
        title="Pools of trained networks",
        order=40,
        command="python benchmarks/pools.py",
        columns=["row", "asked", "measured"],
        rows=rows,
        notes=[
            f"{config.steps} steps of {config.batch} images each, Adam at {config.lr}. The pool was trained while "
            "other work ran on the other core.",
            f"Speed: {STEPS} steps by turns, {ROUNDS} rounds, the smallest time of each; {ALONE} networks one after "
            "the other, an eager forward and backward pass each, against a compiled step of the group: the factor is "
            "that of both, training together and compiling. Data is drawn and normalised in both.",
            "GPU: not measured.",
        ],
    )


def train_together(data: TaskData) -> Any:
    """A group of networks, each on batches of its own, as a pool trains them."""
    module = build("lenet", shape=data.image_shape, num_classes=data.num_classes)
    kernels = Kernels(adam_learner(module), RealLoss(), Execution(chunk=GROUP, compiled=True))

    @torch.no_grad()
    def train() -> Tensor:
        rng = torch.Generator().manual_seed(0)
        states = kernels.init(draw(module, "xavier", GROUP, rng))
        for _ in range(STEPS):
            index_GM = torch.randint(len(data.train_y), (GROUP, 32), generator=rng)
            states = kernels.step_each(states, adam_batch(data, index_GM, 0.003, 0.0))
        return torch.ones(1)

    return train


if __name__ == "__main__":
    main(sys.argv[1:])
