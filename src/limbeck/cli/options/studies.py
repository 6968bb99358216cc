"""The options of the verbs that compare: published experiments, the lower bound, grids of sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.cli.options.common import Common
from limbeck.studies.compare import Comparison


@final
@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Common):
    """Run a published experiment and print the paper's number beside ours.

    Args:
        name: mnist-fixed, mnist-random, cifar10-fixed or cifar10-random (Wang et al. 2018), one run each; bound, the
            lower bound on the size of a set; or a study of several runs with figures: poison-mnist, poison-cifar10,
            adapt, sensitivity (Wang et al. 2018), gtn-mnist, gtn-curriculum, gtn-weight-norm, gtn-learners,
            gtn-cifar10, nas-ranking, nas-cells or nas-search (Such et al. 2019; the last three need the extra nas).
        labels: hard labels as in the paper, or learned soft ones; not for studies.
        iterations: another number of outer iterations, of each run.
        max_time: stop learning, in each run, after this many seconds of work, preparing and compiling included, once
            what has begun is over; they count over all sittings, and the judgement comes after them.
        n: held-out initial weights for the score, or for studies of architecture search architectures; the recipe's by
            default.
        proxies: rows of a study of architecture search: names of its own rows, or proxies as in ``limbeck search``; all
            of its own by default.
        networks: train so many networks in each pool that a study needs, at least 8; its own number by default.
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
    proxies: tuple[str, ...] = ()
    networks: int | None = None
    baselines: tuple[str, ...] = ()
    seed: int = 0
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@final
@dataclass(frozen=True, kw_only=True)
class BoundOptions(Common):
    """How few images can do: the lower bound for linear regression, and what the engine reaches.

    Args:
        problem: random, diabetes (extra: sklearn) or mnist.
        features: of random, 10 by default; of mnist, 784 by default, or averaged 16, 49, 196; without the intercept.
        images: images in each step; a few numbers up to one for each feature by default.
        steps: steps with images of their own.
        epochs: how often the steps are gone through.
        sigma: standard deviation of the initial weights.
        mean: initial weights around the optimum or around zero.
        inits: random initial weights for the check, normally distributed.
        engine: distil with the engine; auto does so up to 200 features.
        iterations: of the optimiser at most, for each row and restart.
        restarts: random starts for each row; the best is kept.
        max_time: stop each row after this many seconds of work, preparing and compiling included, once what has begun
            is over, 25 iterations.
        seed: of everything random.
        out: also write bound.json and a chart (extra: figures) into this folder.
    """

    problem: Annotated[str, tyro.conf.Positional] = "random"
    features: int | None = None
    images: tuple[int, ...] = ()
    steps: tuple[int, ...] = (1,)
    epochs: tuple[int, ...] = (1,)
    sigma: float = 1.0
    mean: Literal["optimum", "zero"] = "optimum"
    inits: int = 1000
    engine: Literal["auto", "on", "off"] = "auto"
    iterations: int = 3000
    restarts: int = 1
    max_time: float | None = None
    seed: int = 0
    out: Path | None = None


@final
@dataclass(frozen=True, kw_only=True)
class SensitivityOptions(Common):
    """Accuracy against the number of steps, epochs and images per class: a run for every combination, and a chart.

    Args:
        data: name of a data set or path of an .npz file.
        learner: as in ``limbeck distill``.
        steps: numbers of batches.
        epochs: how often they are gone through.
        ipc: images per class in each batch.
        iterations: outer iterations of each run.
        max_time: stop learning, in each run, after this many seconds of work, preparing and compiling included, once
            what has begun is over; they count over all sittings, and the judgement comes after them.
        n: held-out initial weights for each score.
        seed: seed of everything random.
        out: folder; runs/sensitivity-DATA by default.
        resume: go on with what is in --out.
        overwrite: replace what is in --out.
    """

    data: Annotated[str, tyro.conf.Positional]
    learner: str = "lenet"
    steps: tuple[int, ...] = (1, 3, 10)
    epochs: tuple[int, ...] = (1, 3)
    ipc: tuple[int, ...] = (1, 3)
    iterations: int = 400
    max_time: float | None = None
    n: int = 50
    seed: int = 0
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@final
@dataclass(frozen=True, kw_only=True)
class CompareOptions(Common):
    """Which method gives the best small set of your data: a table, and charts (extra: figures).

    Args:
        data: name of a data set, a folder of pictures, or a file, as for ``limbeck distill``.
        out: folder; runs/compare-DATA by default.
        resume: go on with what is in --out; methods and numbers of images may be added.
        overwrite: replace what is in --out.
        comparison: what is compared.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    comparison: tyro.conf.OmitArgPrefixes[Comparison] = field(default_factory=Comparison)
