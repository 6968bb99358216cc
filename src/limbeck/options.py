"""The options of the command line's verbs, a frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.config import Config


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb.

    Args:
        device: where to compute, ``cpu`` or ``cuda``.
        threads: CPU threads; torch's choice by default.
        json: print exactly one JSON object on stdout and nothing else.
        lean: keep resident memory low by returning every large block at once; small networks take twice as long.
        data_dir: look for data sets here first, then in LIMBECK_DATA, then in ~/.cache/limbeck.
    """

    device: str = "cpu"
    threads: int | None = None
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    lean: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    data_dir: Path | None = None


@final
@dataclass(frozen=True, kw_only=True)
class DistillOptions(Common):
    """Learn a tiny training set.

    Args:
        data: name of a data set (mnist, fashion-mnist, cifar10, digits) or path of an .npz file, with options that
            change it, as in mnist,rotate=45.
        recipe: start from a published experiment's settings (mnist-fixed, mnist-random, cifar10-fixed, cifar10-random,
            or the first run of a study such as gtn-mnist); other options change them.
        out: run directory to write; runs/DATA-INIT by default.
        resume: go on with the run in this directory, exactly where it stopped.
        overwrite: replace the run that --out holds.
        tensorboard: write TensorBoard events into the run directory (extra: tensorboard).
        config: what to learn and how.
    """

    data: Annotated[str | None, tyro.conf.Positional] = None
    recipe: str | None = None
    out: Path | None = None
    resume: Path | None = None
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    config: tyro.conf.OmitArgPrefixes[Config] = field(default_factory=Config)


@final
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Common):
    """Score a run and the baselines on the real test set, under the same recipe.

    Args:
        run: run directory.
        n: held-out initial weights; 200 by default for small networks, 40 for large ones.
        data: score on this data instead of what the run names, as when its file has moved.
        seed: of the held-out weights and of the baselines' draws.
        baselines: which baselines (random, best-random, kmeans, average), or ``none``; all by default.
        learners: also train these other learners on the set, such as ``mlp`` or ``convnet3,width=32,norm=running``.
        every_step: also follow the accuracy from inner step to inner step, on validation data.
        out: also write the JSON to this file.
    """

    run: Annotated[Path, tyro.conf.Positional]
    data: str | None = None
    n: int | None = None
    seed: int = 0
    baselines: tuple[str, ...] | None = None
    learners: tuple[str, ...] = ()
    every_step: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    out: Path | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ShowOptions(Common):
    """Show what a run holds: its images, step sizes, recipe and scores.

    Args:
        run: run directory.
        seed: nothing here is random; accepted for uniformity.
        out: write the picture of the learned images to this PNG file.
    """

    run: Annotated[Path, tyro.conf.Positional]
    seed: int = 0
    out: Path | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ExportOptions(Common):
    """Write the learned images, labels and step sizes in other tools' formats.

    Args:
        run: run directory.
        out: a file that ends in .npz, or a folder of PNG pictures.
        overwrite: replace what is there.
        seed: nothing here is random; accepted for uniformity.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    seed: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class DataOptions(Common):
    """List the known data sets, or fetch one from its official source.

    Where data is named, options may follow that change its images: invert=True, rotate=DEGREES, resample=PIXELS,
    background=colour, channels=3, size=PIXELS, as in mnist,resample=16,invert=True.

    Args:
        action: ``list`` or ``get``.
        name: the data set to get.
        seed: nothing here is random; accepted for uniformity.
        out: folder to put it into instead of --data-dir or ~/.cache/limbeck.
        url: fetch from this address instead of the official one.
    """

    action: Annotated[Literal["list", "get"], tyro.conf.Positional]
    name: Annotated[str | None, tyro.conf.Positional] = None
    seed: int = 0
    out: Path | None = None
    url: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Common):
    """Run a published experiment and print the paper's number beside ours.

    Args:
        name: mnist-fixed, mnist-random, cifar10-fixed or cifar10-random (Wang et al. 2018), one run each; gtn-mnist,
            gtn-curriculum, gtn-weight-norm, gtn-learners or gtn-cifar10 (Such et al. 2019), studies of several runs
            with figures.
        labels: hard labels as in the paper, or learned soft ones; not for studies.
        iterations: another number of outer iterations, of each run.
        max_time: stop learning after this many seconds, in each run.
        n: held-out initial weights for the score; the recipe's by default.
        baselines: also score these baselines (random, best-random, kmeans, average), or ``none``; not for studies.
        seed: seed of everything random; a study of several seeds counts from it.
        out: run directory, or the folder of a study's runs; runs/NAME by default.
        resume: go on with what is in --out, or only score it if it is finished.
        overwrite: replace what is in --out.
    """

    name: Annotated[str, tyro.conf.Positional]
    labels: Literal["hard", "soft"] = "hard"
    iterations: int | None = None
    max_time: float | None = None
    n: int | None = None
    baselines: tuple[str, ...] = ()
    seed: int = 0
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
