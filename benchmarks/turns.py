"""Ways to compute the same thing, timed by turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


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
