"""Peak memory against T, each point in a process of its own: ConvNet-3, 100 images a step, one init."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import torch
from record import write

from limbeck.engine import Execution, Kernels, Learner, PixelConfig, Pixels, RealBatch, RealLoss, Remat, Unroll
from limbeck.memory import return_freed_memory
from limbeck.models import ConvNet, draw

STEPS = (10, 30, 100, 300)
WIDTH = 64


def peak_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def point(adjoint: str, steps: int, allocator: bool) -> dict[str, float]:
    """Peak above the start, and what the stored states take, in MiB."""
    if allocator:
        return_freed_memory()
    torch.set_num_threads(2)
    module = ConvNet((3, 32, 32), 10, width=WIDTH)
    learner = Learner.of(module)
    generator = torch.Generator().manual_seed(0)
    source = Pixels(PixelConfig(steps=1, epochs=steps, ipc=10), 10, torch.randn(1, 100, 3, 32, 32, generator=generator))
    weights = draw(module, "xavier", 1, generator)
    real = RealBatch(torch.randn(100, 3, 32, 32, generator=generator), torch.arange(100) % 10)
    kernels = Kernels(learner, RealLoss(), Execution(chunk=1))
    parameters = sum(p.numel() for p in module.parameters())
    before = peak_mib()
    how = {"remat": Remat(), "unroll": Unroll()}[adjoint]
    how.meta_gradient(kernels, source, source.parameters(), kernels.init(weights), real)
    return {"peak": peak_mib() - before, "states": steps * parameters * 4 / 2**20}


def run(adjoint: str, steps: int, allocator: bool) -> dict[str, float]:
    """``point`` in a fresh process."""
    words = [sys.executable, __file__, adjoint, str(steps), str(int(allocator))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def main() -> None:
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        plain, tuned = run("remat", steps, False), run("remat", steps, True)
        # Past T = 30 the unrolled graph would not fit the memory of a small machine.
        unroll = run("unroll", steps, False)["peak"] if steps <= 30 else "not run (does not fit)"
        rows.append(
            {
                "T": steps,
                "Unroll, MiB": unroll,
                "Remat, MiB": tuned["peak"],
                "of which states": tuned["states"],
                "Remat beyond its states": tuned["peak"] - tuned["states"],
                "Remat, default allocator": plain["peak"],
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    write(
        "memory",
        title=f"Peak memory against T: ConvNet-3 of width {WIDTH}, 100 images a step, one init",
        order=31,
        command="python benchmarks/memory.py",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            "Growth of the resident peak over the state before the iteration, one process a point, one iteration each.",
            "Asked: flat to within the stored states. The allocator's settings are those that the command line makes.",
            "GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(point(sys.argv[1], int(sys.argv[2]), bool(int(sys.argv[3])))))
    else:
        main()
