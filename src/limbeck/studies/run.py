"""Run a study: learn and score every variant, put the published number beside ours, draw the figures.

What is finished is kept in the study's folder, a folder for each run, so that it can be stopped and gone on with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import ARTEFACT, CHECKPOINT
from limbeck.common.devices import Device, usable_device
from limbeck.common.files import read_json, write_json
from limbeck.data import load
from limbeck.errors import DivergedError, LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter
from limbeck.outer.loop import distill
from limbeck.pools.parts import can_resume
from limbeck.pools.train import Watch, make_pool
from limbeck.studies.folder import claim_folder
from limbeck.studies.study import Judging, Score, Study, Variant

SCORE = "score.json"
MARK = "study.json"
RECIPES = "recipes"
"""The entry of ``study.json`` with the digest of each run's recipe."""


@final
class StudyDirectory:
    """The folder of a study's runs, marked by ``study.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, study: Study, *, resume: bool, overwrite: bool, **settings: Any) -> None:
        """Make the folder, or refuse one that holds something else; ``settings`` must be the same when it goes on.

        So must the recipe of each run, whose digest ``study.json`` holds. Folders from before it did go on without.

        Raises:
            LimbeckError: it holds a study and neither ``resume`` nor ``overwrite`` is set, another study, the same with
                other recipes, or no study.
        """
        mark, wanted = self.path / MARK, {"study": study.name, "seed": study.variants[0].seed, **settings}
        recipes = {variant.label: recipe_digest(study, variant) for variant in study.variants}
        before = claim_folder(mark, "study", resume=resume, overwrite=overwrite)
        if before is not None:
            recorded = before.pop(RECIPES, None)
            if before != wanted:
                text = ", ".join(f"{key} {value}" for key, value in before.items())
                raise LimbeckError(
                    f"{self.path} was begun otherwise ({text}); go on with the same, or replace it with --overwrite."
                )
            if recorded is None:  # what its runs were is not known, and is not claimed now
                return
            changed = [label for label, digest in recipes.items() if recorded.get(label) != digest]
            if changed:
                raise LimbeckError(
                    f"{self.path} was begun with another recipe of {_few(changed)}; finish it with the version of "
                    "Limbeck that began it, replace it with --overwrite, or choose another --out."
                )
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(mark, {**wanted, RECIPES: recipes})


def recipe_digest(study: Study, variant: Variant) -> str:
    """SHA-256 of everything that a run and its score are made from, besides the study's settings, in hex."""
    values = {
        "config": variant.config.to_json(),
        "baselines": variant.baselines,
        "learners": study.learners,
        "pools": [plan.card for plan in study.pools],
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _few(labels: list[str], most: int = 3) -> str:
    """The first labels, and how many there are besides."""
    more = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {more} other runs" if more > 0 else "")


def run_study(
    study: Study,
    out: Path,
    *,
    iterations: int | None = None,
    max_time: float | None = None,
    n: int | None = None,
    device: Device = "cpu",
    networks: int | None = None,
    data_dir: Path | None = None,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda text: None,
    watch: Watch = lambda progress: None,
) -> list[Score] | None:
    """Learn and score what is not finished yet.

    Args:
        study: which runs.
        out: folder of the study.
        iterations: another number of outer iterations for every run.
        max_time: another number of seconds of work after which each run stops learning.
        n: held-out initial weights for each score, the study's own by default.
        device: where to compute.
        networks: another number of networks in each pool; a quarter is held out then, an eighth kept for validation.
        data_dir: where data sets are looked for first.
        reporter: told about each run's progress.
        tell: told which run is next.
        watch: told about the progress of pools.

    Returns:
        The score of each variant; None if someone stopped it.
    """
    device = usable_device(device)
    pools = {}
    for plan in study.pools:
        path = pools[plan.name] = out / "pools" / plan.path.name
        pool_config = plan.config if networks is None else dataclasses.replace(plan.config, n=networks)
        if not path.is_file():
            tell(f"{study.name}: training {pool_config.n} networks {pool_config.learner} on {plan.data}")
        task = load(plan.data, data_dir=data_dir, val_size=pool_config.val_size, seed=pool_config.seed)
        resume = can_resume(path)
        if make_pool(pool_config, task, path, device=device, resume=resume, watch=watch, tell=tell) is None:
            return None
    transfer = tuple(pools[name] for name in study.transfer)
    judging = Judging(n=n, device=device, data_dir=data_dir, transfer=transfer, tell=tell)
    scores = []
    for index, variant in enumerate(study.variants):
        folder = out / variant.label
        config = _placed(variant.config, out / "pools", networks)
        outer = dataclasses.replace(
            config.outer,
            iterations=config.outer.iterations if iterations is None else iterations,
            max_time=config.outer.max_time if max_time is None else max_time,
        )
        config = dataclasses.replace(config, outer=outer)
        variant = dataclasses.replace(variant, config=config)
        if (folder / SCORE).is_file():
            scores.append(read_json(folder / SCORE))
            continue
        tell(f"{study.name}: run {index + 1} of {len(study.variants)}, {variant.label}")
        going_on = (folder / CHECKPOINT).is_file()
        diverged = False
        run: Distilled | None
        try:
            run = distill(
                config, out=folder, device=device, data_dir=data_dir, resume=going_on, overwrite=True, reporter=reporter
            )
        except DivergedError as error:
            tell(f"{variant.label}: {error.with_flags}")
            diverged = True
            run = Distilled.load(folder, trust=config.trusted) if (folder / ARTEFACT).is_file() else None
        if run is not None and not run.info["finished"] and not diverged:
            return None
        score: Score = {"group": variant.group, "seed": variant.seed, "diverged": diverged, "rows": []}
        score |= study.kind.score(study, variant, run, judging)
        write_json(folder / SCORE, score)
        scores.append(score)
    return scores


def _placed(config: Config, folder: Path, networks: int | None) -> Config:
    """The configuration with its pool where it lies, and the parts of a smaller pool."""
    if not config.init.pooled:
        return config
    config = config.with_pool(folder / config.init.pool.name)
    init, outer = config.init, config.outer
    if networks is not None:
        init = dataclasses.replace(init, held_out=max(1, networks // 4))
        outer = dataclasses.replace(
            outer, validate_inits=max(1, networks // 8), inits=max(1, min(outer.inits, networks // 2))
        )
    return dataclasses.replace(config, init=init, outer=outer)
