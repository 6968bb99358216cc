"""A generator's outer iteration: time against the unrolled reference, and peak memory against T.

The learner, generator and inner optimiser of ``limbeck reproduce gtn-mnist``, one init, 128 images a step:
python benchmarks/teaching.py [--speed] [--memory] [--wider]

``--wider`` trains wider learners than it was learned for on the set in runs/gtn-mnist/generator-0.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from memory import peak_mib
from record import write
from torch import Tensor
from turns import taking_turns

from limbeck.artefact.distilled import Distilled
from limbeck.cli.allocator import tune_allocator
from limbeck.data import load
from limbeck.engine import (
    Adjoint,
    Execution,
    GeneratorConfig,
    Kernels,
    Learner,
    RealBatch,
    RealLoss,
    Remat,
    Source,
    Tensors,
    Unroll,
)
from limbeck.evaluation.judge import evaluate
from limbeck.experiment.build import build_source, initial_weights, network_for
from limbeck.experiment.compilers import use_compile_cache
from limbeck.studies import study

ROUNDS = 5
STEPS = (32, 128, 256)
THREADS = 1


def problem(steps: int) -> tuple[Learner, Source, Tensors, RealBatch]:
    """What an outer iteration with T = ``steps`` takes."""
    base = study("gtn-mnist").variants[0].config
    config = dataclasses.replace(
        base, source=GeneratorConfig(**{**vars(base.source), "inner_steps": steps, "warm_start": 0})
    )
    data, rng = load("mnist"), torch.Generator().manual_seed(0)
    network = network_for(config, data.image_shape, data.num_classes)
    learner = Learner.of(network, config.inner.make())
    weights = initial_weights(config, network).sample(1, rng)
    return learner, build_source(config, data, rng), weights, RealBatch(*data.sample(rng, 512))


def speed() -> None:
    """Ways to differentiate, taking turns."""
    torch.set_num_threads(THREADS)
    tune_allocator(lean=False)
    use_compile_cache()
    learner, source, weights, real = problem(32)

    def way(adjoint: Adjoint, execution: Execution) -> Callable[[], Tensor]:
        kernels = Kernels(learner, RealLoss(), execution)
        taught = source.compile() if execution.compiled else source
        params = taught.parameters()
        return lambda: adjoint.meta_gradient(kernels, taught, params, kernels.init(weights), real).grads["z"]

    ways = {
        "Unroll (reference)": way(Unroll(), Execution()),
        "Remat, eager": way(Remat(), Execution(chunk=1)),
        "Remat, compiled": way(Remat(), Execution(chunk=1, compiled=True)),
    }
    rows = taking_turns(ways, ROUNDS)
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
    learner, source, weights, real = problem(steps)
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
