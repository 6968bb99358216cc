"""Milliseconds of one outer iteration, every way of differentiating it, in one run.

LeNet, 8 random inits, T = 30 inner steps of 10 images, a real batch of 128. Configurations take turns; the smallest of
the times counts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from record import write
from torch import Tensor
from turns import taking_turns

from limbeck.data import load
from limbeck.engine import Adjoint, Execution, Kernels, Learner, PixelConfig, Pixels, RealBatch, RealLoss, Remat, Unroll
from limbeck.experiment.compilers import use_compile_cache
from limbeck.models import LeNet, draw

INITS, REAL, ROUNDS = 8, 128, 7

CASES: dict[str, tuple[Adjoint, Execution]] = {
    "Unroll, one init at a time (reference)": (Unroll(), Execution()),
    "Remat, one init at a time, eager": (Remat(), Execution(chunk=1)),
    "Remat, 8 inits at once, eager": (Remat(), Execution()),
    "Remat, 8 at once, compiled, reverse-over-reverse": (
        Remat(),
        Execution(compiled=True, mode="reverse-over-reverse"),
    ),
    "Remat, 8 at once, compiled, forward-over-reverse": (
        Remat(),
        Execution(compiled=True, mode="forward-over-reverse"),
    ),
    "Remat, 8 at once, compiled, reverse-over-forward (default)": (Remat(), Execution(compiled=True)),
    "the same, bfloat16 real batch": (Remat(), Execution(compiled=True, bfloat16=True, channels_last=True)),
    "the same, every 5th state stored": (Remat(store_every=5), Execution(compiled=True)),
}


def main() -> None:
    use_compile_cache()
    data = load("mnist")
    learner = Learner.of(LeNet())
    generator = torch.Generator().manual_seed(0)
    source = Pixels(PixelConfig(steps=10, epochs=3), 10, torch.randn(10, 10, 1, 28, 28, generator=generator))
    weights = draw(learner.module, "xavier", INITS, generator)
    real = RealBatch(*data.sample(generator, REAL))

    def way(adjoint: Adjoint, execution: Execution) -> Callable[[], Tensor]:
        kernels, params = Kernels(learner, RealLoss(), execution), source.parameters()
        return lambda: adjoint.meta_gradient(kernels, source, params, kernels.init(weights), real).grads["images"]

    rows = taking_turns({name: way(*case) for name, case in CASES.items()}, ROUNDS)
    write(
        "speed",
        title="One outer iteration: LeNet, 8 random inits, T = 30, 10 images a step, real batch 128",
        order=30,
        command="python benchmarks/speed.py",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            f"Seed 0; the best of {ROUNDS} rounds, configurations taking turns; the first one, which compiles, is "
            "among them and never the best.",
            "Largest difference: of the images' gradient to the reference, relative to its largest entry, in float32.",
            "Asked: at least 4 times faster than the reference.",
            "GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    main()
