"""Peak memory against T, each point in a process of its own: ConvNet-3, 100 images a step, one init.

python benchmarks/memory.py [T ...]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from record import write

from limbeck.cli.allocator import tune_allocator
from limbeck.engine import Execution, Kernels, Learner, PixelConfig, Pixels, RealBatch, RealLoss, Remat, Unroll
from limbeck.models import ConvNet, draw

STEPS = (10, 30, 100, 300)
WIDTH = 64
THREADS = 1
ALLOCATORS = ("default", "fast", "lean")


def peak_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def point(adjoint: str, steps: int, allocator: str) -> dict[str, float]:
    """Peak above the start and what the stored states take, in MiB, and seconds."""
    if allocator != "default":
        tune_allocator(lean=allocator == "lean")
    torch.set_num_threads(THREADS)
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
    begun = time.perf_counter()
    how.meta_gradient(kernels, source, source.parameters(), kernels.init(weights), real)
    seconds = time.perf_counter() - begun
    return {"peak": peak_mib() - before, "states": steps * parameters * 4 / 2**20, "seconds": seconds}


def run(adjoint: str, steps: int, allocator: str) -> dict[str, float]:
    """``point`` in a fresh process."""
    words = [sys.executable, __file__, "--point", adjoint, str(steps), allocator]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def main(lengths: Sequence[int]) -> None:
    rows: list[dict[str, Any]] = []
    for steps in lengths:
        # Past T = 30 glibc's own setting tells nothing new, and the unrolled graph would not fit a small machine.
        allocators = ALLOCATORS if steps <= 30 else ("fast", "lean")
        points = {allocator: run("remat", steps, allocator) for allocator in allocators}
        unroll = run("unroll", steps, "default")["peak"] if steps <= 30 else "not run"
        row: dict[str, Any] = {"T": steps, "states": points["lean"]["states"], "Unroll": unroll}
        for kind, key in (("Remat", "peak"), ("seconds", "seconds")):
            row |= {f"{kind}, {name}": points[name][key] if name in points else "not run" for name in ALLOCATORS}
        rows.append(row)
        print(rows[-1], file=sys.stderr, flush=True)
        record(rows)  # the longest come last and take many minutes


def record(rows: list[dict[str, Any]]) -> None:
    """The results file with the rows so far."""
    write(
        "memory",
        title=f"Peak memory against T: ConvNet-3 of width {WIDTH}, 100 images a step, one init",
        order=31,
        command=f"python benchmarks/memory.py {' '.join(str(row['T']) for row in rows)}",
        columns=list(rows[0]),
        rows=rows,
        threads=THREADS,
        notes=[
            "MiB of growth of the resident peak over the moment before; one process and one iteration a point.",
            "Allocator: glibc's default, the command line's setting (fast), and its --lean.",
            "Asked: Remat flat in T to within the stored states.",
            "GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        print(json.dumps(point(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    else:
        main([int(word) for word in sys.argv[1:]] or STEPS)
