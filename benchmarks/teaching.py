"""A generator's outer iteration: time against the unrolled reference, and peak memory against T.

The learner, generator and inner optimiser of ``limbeck reproduce gtn-mnist``, one init, 128 images a step:
python benchmarks/teaching.py [--speed] [--memory] [--wider]

``--wider`` trains wider learners than it was learned for on the set in runs/gtn-mnist/generator-0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import torch
from memory import peak_mib
from record import write

from limbeck.config import Config
from limbeck.data import load
from limbeck.distilled import Distilled, initial_weights, network_for
from limbeck.engine import Execution, Generator, Kernels, Learner, RealBatch, RealLoss, Remat, Source, Unroll
from limbeck.evaluate import evaluate
from limbeck.execution import use_compile_cache
from limbeck.memory import tune_allocator
from limbeck.sources import make_source
from limbeck.studies import study

ROUNDS = 5
STEPS = (32, 128, 256)
THREADS = 1


def problem(steps: int) -> tuple[Config, Learner, Source, dict[str, torch.Tensor], RealBatch]:
    """What an outer iteration with T = ``steps`` takes."""
    import dataclasses

    base = study("gtn-mnist").variants[0].config
    config = dataclasses.replace(base, generator=dataclasses.replace(base.generator, inner_steps=steps, warm_start=0))
    data, rng = load("mnist"), torch.Generator().manual_seed(0)
    network = network_for(config, data.image_shape, data.num_classes)
    learner = Learner.of(network, config.inner.make())
    weights = initial_weights(config, network).sample(1, rng)
    return config, learner, make_source(config, data, rng), weights, RealBatch(*data.sample(rng, 512))


def speed() -> None:
    """Ways to differentiate, taking turns."""
    torch.set_num_threads(THREADS)
    tune_allocator(lean=False)
    use_compile_cache()
    _, learner, source, weights, real = problem(32)
    assert isinstance(source, Generator)
    cases = {
        "Unroll (reference)": (Unroll(), Execution(), source),
        "Remat, eager": (Remat(), Execution(chunk=1), source),
        "Remat, compiled": (Remat(), Execution(chunk=1, compiled=True), source.compiled()),
    }
    kernels = {name: Kernels(learner, RealLoss(), execution) for name, (_, execution, _) in cases.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    found: dict[str, torch.Tensor] = {}
    for _ in range(ROUNDS):
        for name, (adjoint, _, taught) in cases.items():
            states = kernels[name].init(weights)
            begun = time.perf_counter()
            grads = adjoint.meta_gradient(kernels[name], taught, taught.parameters(), states, real).grads
            seconds[name].append(time.perf_counter() - begun)
            found[name] = grads["z"]
            print(f"{name}: {1000 * seconds[name][-1]:.0f} ms", file=sys.stderr, flush=True)
    reference = next(iter(cases))
    rows = [
        {
            "configuration": name,
            "ms an iteration": 1000 * min(times),
            "times faster": min(seconds[reference]) / min(times),
            "largest difference": float((found[name] - found[reference]).abs().max() / found[reference].abs().max()),
        }
        for name, times in seconds.items()
    ]
    write(
        "gtn-speed",
        title="One outer iteration of a generator: T = 32, 128 images a step, one init, real batch 512",
        order=32,
        command="python benchmarks/teaching.py --speed",
        columns=list(rows[0]),
        rows=rows,
        threads=THREADS,
        notes=[
            f"Seed 0; the best of {ROUNDS} rounds, configurations taking turns.",
            "Largest difference: of the noise's gradient to the reference, relative to its largest entry, in float32.",
            "The differences of the compiled way are rounding that training amplifies: at T = 2 they are 1e-6, at "
            "T = 32 with step sizes of 0.1 and momentum 0.8 the loss itself differs by 1e-3.",
            "Asked: at least 2 times faster. Missed for one init; the reference needs memory that grows with T.",
            "GPU: not measured.",
        ],
    )


def point(steps: int, lean: bool) -> dict[str, float]:
    """Growth of the peak and what the stored states take, in MiB."""
    torch.set_num_threads(THREADS)
    tune_allocator(lean=lean)
    _, learner, source, weights, real = problem(steps)
    kernels = Kernels(learner, RealLoss(), Execution(chunk=1))
    states = kernels.init(weights)
    size = sum(value.numel() for field in states for value in field.values()) * 4 / 2**20
    learned = sum(value.numel() for value in source.parameters().values()) * 4 / 2**20
    before = peak_mib()
    Remat().meta_gradient(kernels, source, source.parameters(), states, real)
    return {"T": steps, "states": steps * size, "learned": learned, "peak": peak_mib() - before}


def memory() -> None:
    """Peaks, each in a process of its own."""
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        row: dict[str, Any] = {}
        for lean in (False, True):
            words = [sys.executable, __file__, "--point", str(steps), str(int(lean))]
            values = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            peak = values.pop("peak")
            row |= values | {f"peak, {'lean' if lean else 'fast'}": peak}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    write(
        "gtn-memory",
        title="Peak memory against T: a generator, 128 images a step, one init",
        order=33,
        command="python benchmarks/teaching.py --memory",
        columns=list(rows[0]),
        rows=rows,
        threads=THREADS,
        notes=[
            "MiB; peak: growth of the resident peak over the moment before, one process and one iteration a point.",
            "States: the T stored states of the learner. Learned: generator, noise and rates, of which there is one "
            "gradient for each init.",
            "Allocator: the command line's setting (fast), and its --lean.",
            "Asked: flat in T beyond the states at T = 128.",
            "GPU: not measured.",
        ],
    )


def wider() -> None:
    """What the taught set does for learners of the same kind that are wider."""
    torch.set_num_threads(THREADS)
    tune_allocator(lean=False)
    run, names = Distilled.load("runs/gtn-mnist/generator-0"), ("stridednet,width=32", "stridednet,width=96")
    result = evaluate(run, n=20, baselines=(), learners=names)
    rows = [
        {
            "learner": run.config.learner if row.row == "distilled" else row.row,
            "accuracy": f"{row.scores.mean:.2f} ± {row.scores.std:.2f}",
            "worst": f"{row.scores.worst:.2f}",
            "n": row.scores.n,
        }
        for row in result.rows
    ]
    write(
        "gtn-wider",
        title="The generator's set of gtn-mnist on wider learners, 32 inner steps of 128",
        order=20.5,
        command="python benchmarks/teaching.py --wider",
        columns=list(rows[0]),
        rows=rows,
        threads=THREADS,
        notes=[
            "Learned for a stridednet of width 16 with weight normalisation; nothing is learned for the others. Their "
            "widths were chosen on validation data.",
            "GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        print(json.dumps(point(int(sys.argv[2]), sys.argv[3] == "1")))
    else:
        chosen = sys.argv[1:] or ["--speed", "--memory"]
        if "--speed" in chosen:
            speed()
        if "--memory" in chosen:
            memory()
        if "--wider" in chosen:
            wider()
