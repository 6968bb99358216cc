"""Ways to compute the same thing, timed by turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data import TaskData


def taking_turns(ways: Mapping[str, Callable[[], Tensor]], rounds: int) -> list[dict[str, Any]]:
    """A row for each way, compared with the first: the smallest time of all rounds, and how far its result is off."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Tensor] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - begun)
            print(f"{name}: {1000 * seconds[name][-1]:.0f} ms", file=sys.stderr, flush=True)
    first = next(iter(ways))
    reference, slowest = found[first], min(seconds[first])
    return [
        {
            "configuration": name,
            "ms an iteration": 1000 * min(times),
            "times faster": slowest / min(times),
            "largest difference": float((found[name] - reference).abs().max() / reference.abs().max()),
        }
        for name, times in seconds.items()
    ]


def one_at_a_time(
    data: TaskData, make: Callable[[], nn.Module], *, networks: int, steps: int, batch: int
) -> Callable[[], Tensor]:
    """Networks trained one after the other, by an ordinary loop with torch.optim.Adam."""

    def way() -> Tensor:
        rng = torch.Generator().manual_seed(0)
        for _ in range(networks):
            module = make()
            optimizer = torch.optim.Adam(module.parameters(), lr=0.003)
            for _ in range(steps):
                chosen = torch.randint(len(data.train_y), (batch,), generator=rng)
                loss = F.cross_entropy(module(data.preprocessing.apply(data.train_x[chosen])), data.train_y[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return torch.ones(1)

    return way
