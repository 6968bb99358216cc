"""Breaks the library one line at a time, and tells whether the tests notice.

``python tools/mutate.py`` tries all mutations, ``python tools/mutate.py outer judge`` those whose file or text holds
one of the words. Each is applied to a copy of the files that git knows, where the tests of its room run until one
fails. Exits with 1 if a mutation survives, if its line is no longer there, or if the tests fail without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SECONDS = 900
"""How long the tests of a mutation may take; one that makes them hang is caught."""


class Mutation(NamedTuple):
    """``old``, which stands once in a file of ``src/limbeck``, becomes ``new``; ``tests`` are folders or files."""

    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    # Inner optimisers, their schedule
    Mutation("engine/optim.py", 'decayed + h["momentum"] * velocity if', "decayed + velocity if", "engine"),
    Mutation("engine/optim.py", 'h["lr"] * first / (1 - rest1) / root', 'h["lr"] * first / root', "engine"),
    Mutation("engine/optim.py", "* decayed * decayed", "* decayed * grads[name]", "engine"),
    Mutation("engine/schedule.py", "return _BELOW_ONE * torch.sigmoid(raw)", "return torch.sigmoid(raw)", "engine"),
    # The adjoint and the pull-back
    Mutation("engine/adjoint/remat.py", "if t + 1 in observed:", "if t + 1 == steps:", "engine"),
    Mutation("engine/adjoint/remat.py", "loss_B[rows] += value_B", "loss_B[rows] = value_B", "engine"),
    Mutation("engine/adjoint/remat.py", "store.at(start // every, rows)", "store.at(0, rows)", "engine"),
    Mutation(
        "engine/adjoint/remat.py",
        "add(cotangents[c].buffers, buffers_cot)",
        "cotangents[c].buffers",
        "engine models/test_models_stateful.py",
    ),
    Mutation("engine/learner.py", "x_cot = x_cot + through_x", "x_cot = x_cot + 0 * through_x", "engine"),
    Mutation("engine/source/cyclic.py", "index = step % self._batches", "index = step // self._batches", "engine"),
    Mutation("engine/source/limits.py", "self.epsilon * self.unit_C11", "self.epsilon + 0 * self.unit_C11", "engine"),
    Mutation("engine/objective.py", "+ self.keep * _mean", "+ _mean", "engine"),
    Mutation(
        "methods/unrolled.py", "loss_B / len(self.objective.reading_steps(source.steps))", "loss_B", "methods outer"
    ),
    # Layers and initial weights
    Mutation("models/stateful.py", "var_C * (count / max(1, count - 1))", "var_C * 1", "models"),
    Mutation("models/init.py", '"big") | 1 << 31', '"big")', "models"),
    # The outer loop
    Mutation(
        "outer/optimizer.py", "(clip_init / norm_B.clamp_min(1e-30)).clamp_max(1.0)", "clip_init / norm_B", "outer"
    ),
    Mutation("outer/optimizer.py", "value.detach().clone() for name", "value.detach() for name", "outer"),
    Mutation("outer/optimizer.py", 'saved[f"adam.{key}.{name}"].clone()', 'saved[f"adam.{key}.{name}"]', "outer"),
    Mutation("outer/step.py", "optimizer.project(source)", "pass", "outer"),
    Mutation("outer/step.py", 'sample(config.inits, rngs["inits"])', 'sample(config.inits, rngs["data"])', "outer"),
    Mutation("outer/schedule.py", "(iteration + 1) / (config.warmup + 1)", "iteration / config.warmup", "outer"),
    Mutation("outer/guard.py", "progress.factor *= 0.5", "progress.factor *= 1.0", "outer"),
    Mutation("outer/guard.py", "if far_off else 0", "if far_off else progress.bad_in_a_row", "outer"),
    Mutation("outer/budget.py", "spent = max(spent,", "spent = min(spent,", "outer"),
    Mutation("outer/loop.py", "if scores.mean > progress.best:", "if scores.mean >= progress.best:", "outer"),
    Mutation("outer/loop.py", "self.config.seed + stream", "self.config.seed + 1", "outer"),
    Mutation("outer/loop.py", "self.rngs[name].set_state(state)", "pass", "outer"),
    Mutation(
        "outer/loop.py",
        "return self.before + time.monotonic() - self.begun",
        "return time.monotonic() - self.begun",
        "outer",
    ),
    # The judge and training
    Mutation("evaluation/judge.py", 'self._weights(self.n, "test")', 'self._weights(self.n, "tuning")', "evaluation"),
    Mutation("evaluation/judge.py", "lr: self._validate(arrange", "lr: self._on_training_data(arrange", "evaluation"),
    Mutation(
        "evaluation/judge.py",
        "self._on_training_data(arrange(x, step_size))",
        "self._test([arrange(x, step_size)]).mean",
        "evaluation",
    ),
    Mutation(
        "evaluation/judge.py",
        'torch.randperm(len(y_N), generator=generator(self.seed, "evaluation images"))',
        "torch.arange(len(y_N))",
        "evaluation",
    ),
    Mutation(
        "evaluation/train_and_score.py",
        "float(self.accuracy_B.std()) if",
        "float(self.accuracy_B.std(unbiased=False)) if",
        "evaluation",
    ),
    Mutation(
        "evaluation/training/ordinary.py",
        "torch.randperm(len(x_NCHW), generator=rng)",
        "torch.arange(len(x_NCHW))",
        "evaluation",
    ),
    Mutation(
        "evaluation/training/learned_schedule.py",
        "value[step].to(device)",
        "value[0].to(device)",
        "evaluation artefact",
    ),
    # Artefacts, files, seeds, data
    Mutation("artefact/distilled.py", "held_out(1, seed)", "validation(1, seed)", "artefact"),
    Mutation("artefact/distilled.py", "return model.eval() if fresh else model", "return model", "artefact"),
    Mutation("artefact/run_directory.py", '["iteration"] <= iteration', '["iteration"] < iteration', "artefact outer"),
    Mutation("common/files.py", "file.get_tensor(name).clone()", "file.get_tensor(name)", "common"),
    Mutation("common/seeds.py", 'f"{seed}:{stream}"', 'f"{seed}"', "common evaluation outer"),
    Mutation(
        "data/splits.py", "torch.randperm(len(members), generator=generator)", "torch.arange(len(members))", "data"
    ),
]


def main(words: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not words or any(word in f"{m.file} {m.old}" for word in words)]
    if not chosen:
        print(f"No mutation of {' or '.join(words)}.")
        return 1
    if stale := [m for m in chosen if (ROOT / "src" / "limbeck" / m.file).read_text().count(m.old) != 1]:
        for mutation in stale:
            print(f"stale     {mutation.file}: {mutation.old}")
        return 1
    with tempfile.TemporaryDirectory(prefix="limbeck-mutate-") as folder:
        tree = copy_tree(Path(folder))
        every = sorted({place for mutation in chosen for place in mutation.tests.split()})
        if not pass_tests(tree, every):
            print(f"The tests of {', '.join(every)} fail as it is: mend that first.")
            return 1
        survivors = [mutation for mutation in chosen if survives(tree, mutation)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    return int(bool(survivors))


def copy_tree(folder: Path) -> Path:
    """A copy of what git knows, and of what is new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def survives(tree: Path, mutation: Mutation) -> bool:
    """Whether the tests pass with the mutation; the file is put back."""
    path, begun = tree / "src" / "limbeck" / mutation.file, time.monotonic()
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        passed = pass_tests(tree, mutation.tests.split())
    finally:
        path.write_text(text)
    print(f"{'SURVIVED' if passed else 'caught  '}  {time.monotonic() - begun:4.0f} s  {mutation.file}: {mutation.old}")
    return passed


def pass_tests(tree: Path, places: Iterable[str]) -> bool:
    """Whether the tests of these places pass in the copy; all run on its sources."""
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command = [sys.executable, "-B", "-m", "pytest", *options, *(f"tests/{place}" for place in places)]
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    if result.returncode > 2:  # neither passed, nor failed, nor could not be imported: no tests there, say
        sys.exit(f"pytest could not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.returncode == 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
