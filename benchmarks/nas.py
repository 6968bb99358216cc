"""Architecture search, measured:  python benchmarks/nas.py oracle|merge|throughput|nas-ranking|nas-cells|nas-search

``oracle --part I N --out FILE`` trains the architectures of the study nas-ranking on real data to the end; that takes
hours, and what is done is kept. ``merge --out FILE`` makes one table of the parts. ``throughput`` compares training
networks together and one at a time. The names of the studies record what ``limbeck reproduce`` has left in ``--out``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor, nn
from turns import one_at_a_time, taking_turns

from limbeck.cli.allocator import tune_allocator
from limbeck.common.files import read_json
from limbeck.engine import Execution, Kernels, RealLoss
from limbeck.experiment.progress import interruptible
from limbeck.models import build
from limbeck.nas.proxies.base import Task
from limbeck.nas.studies.ranking import KNOWN_ORACLE, SAMPLE, oracle, study_task
from limbeck.nas.studies.study_sets import draw_sample
from limbeck.nas.table import fill, merge, parts_of
from limbeck.nas.training import Schedule, initial_weights, train_steps
from limbeck.pools.adam import adam_learner

NETWORKS, STEPS, ROUNDS = 16, 20, 3
BATCHES = (10, 64)
"""Images a step: of the learned set, and of real data."""
LEARNERS = (
    "mlp",
    "stridednet",
    "lenet",
    "convnet3,width=4,depth=1,norm=none,pooling=avg,activation=relu",
    "convnet3,width=4,depth=4,norm=instance,pooling=max,activation=relu",
    "convnet3,width=8,depth=2,norm=none,pooling=max,activation=relu",
    "convnet3,width=16,depth=3,norm=group,pooling=avg,activation=leaky-relu",
)
TITLES = {
    "nas-ranking": "how well proxies rank",
    "nas-cells": "how well proxies rank networks of cells, reduced",
    "nas-search": "what each search finds",
}
NOTES = {
    "nas-ranking": [
        "Spearman's ρ with the oracle, ± its bootstrap standard error over architectures (1000 draws), and the 95 % "
        "interval; better half: on the architectures that the oracle does not place below its median.",
        "Regret: the oracle's best accuracy minus that of the proxy's best. Seconds: scoring all architectures; once: "
        "what is done before, learning the set included; share: both, of the oracle's seconds.",
        "Paper: Such et al. 2019, arXiv 1912.07768. GPU: not measured.",
    ],
    "nas-cells": [
        "Reduced: CIFAR-10 with 16 x 16 pixels, networks four channels wide, an oracle of 300 steps of 32 images; the "
        "paper (Such et al. 2019, arXiv 1912.07768) reports 0.56 on the better half for whole images and 128 steps.",
        "Spearman's ρ with the oracle, ± its bootstrap standard error over architectures (1000 draws), and the 95 % "
        "interval. Seconds: scoring all architectures; once: what is done before, learning the set included; share: "
        "both, of the oracle's seconds. GPU: not measured.",
    ],
    "nas-search": [
        "Test error in percent, mean ± sample standard deviation over n initial weights; each network was tried on the "
        "test set once. Search: seconds of scoring all architectures; once: what is done before, learning the set "
        'included. Of "synthetic, then real": real data chooses among the three best of the learned set.',
        "Paper: Such et al. 2019, arXiv 1912.07768, on CIFAR-10 with the cells of NASNet. GPU: not measured.",
    ],
}


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    tune_allocator()
    if options.what == "throughput":
        throughput(study_task(options.seed))
    elif options.what in NOTES:
        record(options.what, options.out or Path("runs") / options.what)
    elif options.what == "merge":
        path = options.out or KNOWN_ORACLE
        table = merge(parts_of(path))
        table.save(path)
        say(f"{path}: {len(table.scores)} architectures, {table.seconds:.0f} s")
    else:
        task = study_task(options.seed)
        archs = draw_sample(task.space, options.n, options.seed)
        with interruptible() as stop:
            fill(options.out or KNOWN_ORACLE, task, oracle(), archs, part=tuple(options.part), tell=say, stop=stop)
            return 130 if stop.requested else 0
    return 0


def say(text: str) -> None:
    """To stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def throughput(task: Task) -> None:
    """Write results/nas-throughput.json: networks of one architecture trained together, and one at a time."""
    rows: list[dict[str, Any]] = []
    for learner in LEARNERS:
        make = partial(build, learner, shape=task.space.shape, num_classes=task.space.num_classes)
        for batch in BATCHES:
            schedule = Schedule(steps=STEPS, batch=batch, inits=NETWORKS, warmup=0)
            fused = together(make(), task, dataclasses.replace(schedule, compiled=True))
            begun = time.perf_counter()
            fused()
            compiling = time.perf_counter() - begun
            ways = {
                "alone": one_at_a_time(task.data, make, networks=NETWORKS, steps=STEPS, batch=batch),
                "together": together(make(), task, schedule),
                "compiled": fused,
            }
            alone, vmapped, compiled = (row["ms an iteration"] / STEPS for row in taking_turns(ways, ROUNDS))
            saved = alone - compiled
            rows.append(
                {
                    "network": learner.removeprefix("convnet3,"),
                    "images": batch,
                    "one at a time, ms": f"{alone / NETWORKS:.2f}",
                    "together, ms": f"{vmapped / NETWORKS:.2f}",
                    "compiled, ms": f"{compiled / NETWORKS:.2f}",
                    "times faster": f"{alone / vmapped:.2f}",
                    "compiled, times faster": f"{alone / compiled:.2f}",
                    "compiling, s": f"{compiling:.0f}",
                    "pays after steps": f"{1000 * compiling / saved:,.0f}" if saved > 0 else "never",
                }
            )
    write(
        "nas-throughput",
        title=f"Architecture search: {NETWORKS} networks of one architecture trained together",
        order=53,
        command="python benchmarks/nas.py throughput",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            f"Milliseconds a training step of one network, Adam, Fashion-MNIST; {STEPS} steps by turns, {ROUNDS} "
            "rounds, the smallest time of each; one at a time: an ordinary loop with torch.optim.Adam; data is drawn "
            "and normalised in all. Compiling: the first call; a few seconds mean that the compiler's cache knew the "
            "network from before, anew it takes 5 to 33. Pays after steps: of all networks, until that is earned back.",
            "GPU: not measured.",
        ],
    )


def together(module: nn.Module, task: Task, schedule: Schedule) -> Callable[[], Tensor]:
    """All of them take each step at once, as proxies train them."""
    at_once = Execution(chunk=schedule.inits, compiled=schedule.compiled)  # also where proxies know better
    kernels = Kernels(adam_learner(module), RealLoss(), at_once)
    initial = initial_weights(module, schedule, seed=0, stream="throughput")

    def way() -> Tensor:
        deque(train_steps(kernels, initial, task.data, schedule, seed=0, stream="throughput"), maxlen=1)
        return torch.ones(1)

    return way


def record(name: str, out: Path) -> Path:
    """Write results/NAME.json from the rows of a study's folder."""
    mark = read_json(out / "study.json")
    words = [f"--{key.replace('_', '-')} {mark[key]:g}" for key in ("iterations", "max_time", "n") if mark.get(key)]
    words += [f"--seed {mark['seed']}"] if mark["seed"] else []
    rows = [
        search_row(row) if name == "nas-search" else ranking_row(row) for row in read_json(out / "rows.json")["rows"]
    ]
    machine = read_json(out / "tables" / "synthetic.json")["meta"]["machine"]
    return write(
        name,
        title=f"Architecture search: {TITLES[name]}",
        order=50 + list(NOTES).index(name),
        command=" ".join(["limbeck reproduce", name, *words]),
        columns=list(rows[0]),
        rows=rows,
        threads=machine["threads"],
        notes=NOTES[name],
    )


def ranking_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of nas-ranking as it is shown."""
    return {
        "row": row["row"],
        "paper": row["paper"],
        "Spearman": f"{row['mean']:.2f} ± {row['std']:.2f}",
        "95 %": f"{row['low']:.2f} – {row['high']:.2f}",
        "Kendall": f"{row['kendall']:.2f} ± {row['kendall_std']:.2f}",
        "better half": f"{row['better_half']:.2f} ± {row['better_half_std']:.2f}",
        "regret": f"{row['regret']:.2f}",
        f"top {row['k']}": f"{row['overlap']:.0%}",
        "n": row["n"],
        "failed": row["failed"],
        "seconds": f"{row['seconds']:.1f}",
        "once, s": f"{row['prepare_seconds']:.1f}",
        "share": "–" if row["share"] is None else f"{row['share']:.2%}",
    }


def search_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of nas-search as it is shown."""
    return {
        "row": row["row"],
        "paper": row["paper"],
        "error": f"{row['mean']:.2f}" + ("" if row["std"] is None else f" ± {row['std']:.2f}"),
        "n": row["n"],
        "parameters": f"{row['parameters']:,}",
        "search, s": f"{row['seconds']:.0f}",
        "once, s": f"{row['prepare_seconds']:.0f}",
        "training, s": f"{row['training_seconds']:.0f}",
        "architecture": row["arch"].removeprefix("convnet3,"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("oracle", "merge", "throughput", *NOTES))
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="part I of N, from 0")
    parser.add_argument("--out", type=Path, help="the table, parts of which lie beside it, or the study's folder")
    parser.add_argument("--n", type=int, default=SAMPLE, help="architectures of the oracle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
