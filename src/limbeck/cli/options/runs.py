"""The options of the verbs about a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.cli.options.common import Common
from limbeck.evaluation.training import OrdinaryTraining
from limbeck.experiment.config import Config


@final
@dataclass(frozen=True, kw_only=True)
class DistillOptions(Common):
    """Learn a tiny training set.

    Args:
        data: name of a data set (mnist, fashion-mnist, cifar10, digits) or path of an .npz file, with options that
            change it, as in mnist,rotate=45.
        recipe: start from a published experiment's settings (mnist-fixed, mnist-random, cifar10-fixed, cifar10-random,
            or the first run of a study such as gtn-mnist); other options change them.
        source: what is learned: pixels, a generator of images, or, over real images, hyper-parameters only; each has
            options of its own, which --source NAME --help shows. Pixels by default.
        method: how it is learned: unrolled differentiates through training; dm (distribution matching), dc and dsa
            (gradient matching, plain and with Siamese augmentation) compare images with real ones, for ordinary
            training, without steps.
        adjoint: how unrolled training is differentiated: remat, or unroll, the slow reference.
        out: run directory to write; runs/DATA-INIT by default.
        resume: go on with the run in this directory, exactly where it stopped.
        overwrite: replace the run that --out holds.
        trust: with --resume, import the code that the run names as its learner or generator; only for runs whose origin
            you know.
        tensorboard: write TensorBoard events into the run directory (extra: tensorboard).
        verdict: at the end, compare learned images with as many random real ones and k-means, on validation data, in
            about a tenth of the run's time; --no-verdict leaves that out.
        config: what to learn and how.
    """

    data: Annotated[str | None, tyro.conf.Positional] = None
    recipe: str | None = None
    source: str | None = None
    method: str | None = None
    adjoint: str | None = None
    out: Path | None = None
    resume: Path | None = None
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    verdict: bool = True
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
        learner: the network that the set was learned for, as package.module:function, where the run has no name for it.
        learners: also train these other learners on the set, such as ``mlp`` or ``convnet3,width=32,norm=running``.
        every_step: also follow the accuracy from inner step to inner step, on validation data.
        protocol: ``learned`` trains in the steps that were learned with the set, ``ordinary`` as people train, with
            step size, epochs and augmentation tuned on validation data for the set and for each baseline; ``both`` by
            default where steps were learned.
        out: also write the JSON to this file.
        trust: import the code that the run names as its learner or generator; only for runs whose origin you know.
        training: where tuning of ordinary training starts.
    """

    run: Annotated[Path, tyro.conf.Positional]
    data: str | None = None
    n: int | None = None
    seed: int = 0
    baselines: tuple[str, ...] | None = None
    learner: str | None = None
    learners: tuple[str, ...] = ()
    every_step: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    protocol: Literal["learned", "ordinary", "both"] | None = None
    out: Path | None = None
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    training: tyro.conf.OmitArgPrefixes[OrdinaryTraining] = field(default_factory=OrdinaryTraining)


@final
@dataclass(frozen=True, kw_only=True)
class ShowOptions(Common):
    """Show what a run holds: its images, step sizes, recipe and scores.

    Args:
        run: run directory.
        out: write the picture of the learned images to this PNG file.
        trust: import code that the run names as its source, method or recipe; only for runs whose origin you know.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@final
@dataclass(frozen=True, kw_only=True)
class ExportOptions(Common):
    """Write the learned images, labels and step sizes in other tools' formats.

    Args:
        run: run directory.
        out: file or folder to write, its ending tells the format: .npz is one file of arrays, anything else a folder of
            PNG pictures; images.npz in the run directory by default.
        format: name of the format, such as npz or png, whatever the ending of --out.
        overwrite: replace what is there.
        seed: nothing here is random; accepted for uniformity.
        trust: import code that the run names as its source, method or recipe; only for runs whose origin you know.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    format: str | None = None
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    seed: int = 0
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
