"""A search on Ray whose workers and whose driver are killed at random, against one that nobody disturbs.

python benchmarks/faults.py [--budget 60] [--seed 0] writes results/nas-faults.json. Needs the extras nas and ray.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from record import write

from limbeck.errors import LimbeckError
from limbeck.nas.searches.ledger import Trial
from limbeck.nas.searches.result import read_search

TOOLS = Path(sys.executable).parent
PROXY = "real,steps=10,batch=10,images=500"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, stormy = Path(folder) / "calm", Path(folder) / "stormy"
        run(command(calm, options.budget, options.seed))
        words = [*command(stormy, options.budget, options.seed), "--ray", "local", "--workers", "2"]
        told = disturbed(words, stormy, rng)
        wanted, found = rows(calm), rows(stormy)
    numbers = [trial.slot for trial in found]
    lost, twice = options.budget - len(set(numbers)), len(numbers) - len(set(numbers))
    table = [
        {
            "trials": options.budget,
            **told,
            "lost": lost,
            "counted twice": twice,
            "as undisturbed": "yes" if scores(found) == scores(wanted) else "no",
        }
    ]
    write(
        "nas-faults",
        title="Architecture search: workers and drivers killed at random",
        order=54,
        command=f"python benchmarks/faults.py --budget {options.budget} --seed {options.seed}",
        columns=list(table[0]),
        rows=table,
        threads=1,
        notes=[
            "A search on a local Ray cluster of two workers (MNIST, narrow ConvNets, ten steps on real data "
            "each); killed at random by SIGKILL and gone on with by --resume. As undisturbed: architectures and scores "
            "of all trials are, to the last bit, those of the same search in one process without Ray.",
            "GPU: not measured.",
        ],
    )
    return 0 if lost == twice == 0 and scores(found) == scores(wanted) else 1


def command(out: Path, budget: int, seed: int) -> list[str]:
    """The command line of the search."""
    words = ["search", "mnist", "--space", "convnets-narrow", "--proxy", PROXY, "--budget", str(budget)]
    return [str(TOOLS / "limbeck"), *words, "--seed", str(seed), "--out", str(out)]


def run(words: Sequence[str]) -> None:
    """To the end."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def disturbed(words: list[str], out: Path, rng: random.Random) -> dict[str, int]:
    """Run it, kill two workers and then the driver, three times, and let it end; how many were killed."""
    workers = drivers = 0
    for _ in range(3):
        process = subprocess.Popen([*words, *(["--resume"] if out.exists() else [])], stdout=subprocess.DEVNULL)
        begun = len(rows(out))
        for _ in range(2):
            begun = wait_for(out, begun + rng.randint(2, 8), process)
            workers += kill_a_worker(rng)
        wait_for(out, begun + rng.randint(1, 6), process)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            drivers += 1
        process.wait()
        subprocess.run([str(TOOLS / "ray"), "stop", "--force"], check=True, capture_output=True)
    run([*words, "--resume"])
    return {"workers killed": workers, "drivers killed": drivers}


def wait_for(out: Path, count: int, process: subprocess.Popen[bytes]) -> int:
    """Until so many trials are over, or the search is; how many are."""
    while len(rows(out)) < count and process.poll() is None:
        time.sleep(0.3)
    return len(rows(out))


def kill_a_worker(rng: random.Random) -> int:
    """One process that Ray scores with, if there is one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    if not found:
        return 0
    os.kill(rng.choice(sorted(found)), signal.SIGKILL)
    return 1


def rows(out: Path) -> tuple[Trial, ...]:
    """The trials that are over, from the study: search.json is written at the end."""
    try:
        return read_search(out).trials
    except LimbeckError:  # nothing is there yet
        return ()


def scores(found: Sequence[Trial]) -> list[tuple[int, str, float | None]]:
    """What may not differ."""
    return sorted((trial.slot, trial.text, trial.score) for trial in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
