"""The options of the verbs about trained networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.cli.options.common import Common
from limbeck.pools.config import PoolConfig


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
        max_time: stop learning after this many seconds of work, preparing and compiling included, once what has begun
            is over; they count over all sittings, and the judgement comes after them.
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
        trust: import the code that a pool or a run names as its learner; only for files whose origin you know.
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
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


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
        steps: gradient steps that a network takes, each on images of its own.
        epochs: how often it goes through them.
        objective: ``keep`` has a term of its own for the other classes; ``paper`` has every example count the same.
        keep: weight of that term; 1 by default.
        step_size: of those steps, if it is known; learned by default.
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
