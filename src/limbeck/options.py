"""The options of the command line's verbs, a frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.config import Config
from limbeck.nas.strategies import SearchConfig
from limbeck.pools import PoolConfig


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
        baselines: which baselines (random, best-random, kmeans, average), or ``none``; all of these by default. There
            is ``fine-tuning``, too, for networks of a pool.
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
        name: mnist-fixed, mnist-random, cifar10-fixed or cifar10-random (Wang et al. 2018), one run each; bound, the
            lower bound on the size of a set; or a study of several runs with figures: poison-mnist, poison-cifar10,
            adapt, sensitivity (Wang et al. 2018), gtn-mnist, gtn-curriculum, gtn-weight-norm, gtn-learners,
            gtn-cifar10, nas-ranking or nas-search (Such et al. 2019; the last two need the extra nas).
        labels: hard labels as in the paper, or learned soft ones; not for studies.
        iterations: another number of outer iterations, of each run.
        max_time: stop learning after this many seconds, in each run.
        n: held-out initial weights for the score, or for nas-ranking and nas-search architectures; the recipe's by
            default.
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
        max_time: seconds for each row, checked every 25 iterations.
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
class PoolOptions(Common):
    """Train many networks at once and keep them as a pool, or show a pool's card.

    Args:
        action: ``make`` or ``show``.
        data: to make one, the name of a data set or the path of an .npz file; to show one, its file.
        out: file to write, ending in .safetensors; runs/pools/DATA-LEARNER.safetensors by default.
        resume: go on with a pool that was stopped, with the same options.
        overwrite: replace the pool that --out names, or its unfinished parts.
        config: how many networks, and how they are trained; only to make one.
    """

    action: Annotated[Literal["make", "show"], tyro.conf.Positional]
    data: Annotated[str, tyro.conf.Positional]
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    config: tyro.conf.OmitArgPrefixes[PoolConfig] = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class PooledOptions(Common):
    """Options of the verbs that learn images for the networks of a pool.

    Args:
        pool: file of trained networks, from ``limbeck pool make``.
        images: in all, as many of each class in each step; one by default.
        iterations: outer iterations; the verb's own number by default.
        max_time: stop learning after this many seconds.
        inits: networks an outer iteration averages over; the verb's own number by default.
        real_batch: real images an outer iteration looks at; the verb's own number by default.
        validate_inits: networks of the pool that are kept for selection; an eighth by default, at most 20.
        held_out: networks of the pool that are kept for the judgement; a quarter by default, at most 50.
        n: of those, how many are judged; all by default.
        baselines: real images to compare with (random, best-random, kmeans, average, and for adapt fine-tuning, which
            is ordinary training on as many real images), or ``none``; all by default.
        seed: seed of everything random, except which images are set aside where the data is the pool's.
        out: run directory; runs/attack-POOL-K-to-T or runs/POOL-to-DATA by default.
        resume: go on with the run in --out, with the same options, or only judge it if it is finished.
        overwrite: replace the run in --out.
    """

    pool: Annotated[Path, tyro.conf.Positional]
    images: int | None = None
    iterations: int | None = None
    max_time: float | None = None
    inits: int | None = None
    real_batch: int | None = None
    validate_inits: int | None = None
    held_out: int | None = None
    n: int | None = None
    baselines: tuple[str, ...] | None = None
    seed: int = 0
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@final
@dataclass(frozen=True, kw_only=True)
class AttackOptions(PooledOptions):
    """Learn a batch that makes trained networks take one class for another after a gradient step on it, and report what
    it does to networks that it was not learned on, beside relabelled real images, and what defences do about it.

    A robustness test for pipelines that train on what others submit. The report is also written to attack.json.

    Args:
        data: the data that the pool was trained on, as when its file has moved; what the pool names by default.
        source: the class that is to be misclassified, by name or number.
        target: the class that it is to be taken for.
        steps: gradient steps that the victim takes, each on images of its own.
        epochs: how often the victim goes through them.
        objective: ``keep`` has a term of its own for the other classes; ``paper`` has every example count the same.
        keep: weight of that term; 1 by default.
        step_size: the victim's, if it is given; learned by default.
        start: images start from ``noise`` or from ``real`` ones; noise by default, with --max-change real ones.
        max_change: bound on the change of real images, with their own labels; in pixels whose range is 1 (8/255 =
            0.0314). The images are free by default.
        norm: of that change: of each pixel (``linf``) or of the image (``l2``).
        valid_pixels: keep free images within the range of real pixels.
        transfer: pools of other architectures that take the same steps.
    """

    source: Annotated[str, tyro.conf.arg(name="from")]
    target: Annotated[str, tyro.conf.arg(name="to")]
    data: str | None = None
    steps: int = 1
    epochs: int = 1
    objective: Literal["keep", "paper"] = "keep"
    keep: float | None = None
    step_size: float | None = None
    start: Literal["noise", "real"] | None = None
    max_change: float | None = None
    norm: Literal["linf", "l2"] = "linf"
    valid_pixels: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    transfer: tuple[Path, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class AdaptOptions(PooledOptions):
    """Learn images that move networks trained on one data set to another in a few steps, and score them.

    Args:
        to: the data set that they are to be good at, such as fashion-mnist or mnist,invert=True.
        steps: batches of images, a gradient step each.
        epochs: how often they are gone through.
        start: images start from ``noise`` or from ``real`` ones.
        labels: ``hard`` ones, or ``soft`` ones that are learned.
        network: number of one network of the pool, for which alone the images are learned; for any of them by default.
    """

    to: str
    steps: int = 10
    epochs: int = 3
    start: Literal["noise", "real"] = "real"
    labels: Literal["hard", "soft"] = "soft"
    network: int | None = None


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
        max_time: stop each run after this many seconds.
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
class SearchOptions(Common):
    """Search for the architecture that a proxy scores highest on data, or show a search: ``limbeck search show OUT``.

    Args:
        data: name of a data set or path of an .npz file; or the word ``show``.
        shown: to show one, the folder of a search, or the storage of its study.
        space: which networks there are: convnets, convnets-narrow, cells, nasbench201, or package.module:function.
        proxy: what scores them: the run directory of a learned set (``runs/gtn,steps=16``), real data for a while
            (``real,steps=128``), or ``naswot``, ``sharing`` and others.
        val_size: images on which architectures are compared, at most a fifth of the training images.
        seed: of everything random.
        out: folder to write; runs/search-DATA-STRATEGY by default.
        resume: go on with the search in --out, or in --storage; its budget may be raised.
        overwrite: replace the search that --out holds.
        storage: where the Optuna study is kept instead of --out: a URL such as sqlite:///studies.db, or a journal file.
        study: name of the study; that of --out by default.
        workers: processes that score, a thread each; the results are the same with any number.
        ray: score on a Ray cluster: HOST:PORT of its head, ``auto``, or ``local`` to start one here (extra: ray).
        gpus_per_worker: of Ray's workers, with --device cuda; 0.25 lets four share a GPU.
        max_time: stop after this many seconds, once what has begun is over.
        top: how many of the best are shown.
        config: how the space is searched.
    """

    data: Annotated[str, tyro.conf.Positional]
    shown: Annotated[str | None, tyro.conf.Positional] = None
    space: str = "convnets-narrow"
    proxy: str | None = None
    val_size: int = 5000
    seed: int = 0
    out: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    storage: str | None = None
    study: str | None = None
    workers: int = 1
    ray: str | None = None
    gpus_per_worker: float = 0.0
    max_time: float | None = None
    top: int = 5
    config: tyro.conf.OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
