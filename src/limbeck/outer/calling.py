"""``limbeck.distill`` as Python has it: with data and a network, or with a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, overload

import torch

from limbeck.artefact.distilled import Distilled
from limbeck.common.typed import fit_value
from limbeck.data import TaskData, load
from limbeck.data.sources import Source
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.console import reporter_for
from limbeck.experiment.progress import InPython, Reporter
from limbeck.experiment.settings import config_of
from limbeck.models import LearnerLike
from limbeck.outer.defaults import SIZES
from limbeck.outer.loop import distill as run_distill


@overload
def distill(
    data: TaskData | Source,
    learner: LearnerLike,
    *,
    images_per_class: int | None = ...,
    steps: int | None = ...,
    epochs: int | None = ...,
    iterations: int | None = ...,
    max_time: float | None = ...,
    init: str | None = ...,
    seed: int = ...,
    out: str | Path | None = ...,
    device: str = ...,
    data_dir: str | Path | None = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    trust: bool = ...,
    verdict: bool = ...,
    progress: bool | None = ...,
    reporter: Reporter | None = ...,
    **settings: Any,
) -> Distilled: ...


@overload
def distill(
    config: Config,
    data: TaskData | Source | None = ...,
    *,
    out: str | Path | None = ...,
    device: str = ...,
    data_dir: str | Path | None = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    trust: bool = ...,
    verdict: bool = ...,
    progress: bool | None = ...,
    reporter: Reporter | None = ...,
    iterations: int | None = ...,
    max_time: float | None = ...,
) -> Distilled: ...


def distill(first: Any = None, second: Any = None, /, **options: Any) -> Distilled:
    """Learn a tiny training set: ``distill(data, learner, steps=10, ...)`` or ``distill(config, data)``.

    Args:
        first: ``data``: whatever ``load_data`` takes, or what it gives; images (N, H, W), (N, C, H, W) or (N, H, W, C).
            Or ``config``, a ``Config``.
        second: ``learner``, the network to learn for: its class or a function, which is called with those of ``shape``
            (C, H, W), ``num_classes``, ``in_channels`` and ``image_size`` that it takes; a ``functools.partial``; a
            network, which is copied and never changed; or a name. After a ``Config``: ``data``, by default what it
            names.
        options: ``images_per_class``, ``steps``, ``epochs``, ``iterations``, ``max_time``, ``init``, ``seed`` and any
            other field of ``Config`` and its parts by its own name, such as ``lr``, ``labels`` or ``real_batch``; a
            ``Config`` has them itself. And for both:

            - ``out``: run directory; nothing is written without one.
            - ``device``: where to compute, ``cpu`` by default.
            - ``data_dir``: where data sets are looked for first.
            - ``resume``: go on from the checkpoint in ``out``; the settings recorded there count, but for
              ``iterations`` and ``max_time``, over all sittings, where they are given.
            - ``overwrite``: replace a run that ``out`` already holds.
            - ``trust``: with ``resume``, import code that the run in ``out`` names.
            - ``verdict``: at the end, compare learned images with as many random real ones and k-means, on validation
              data, in about a tenth of the run's time; True by default, ``run.verdict`` has it.
            - ``progress``: show it or not; by default in a notebook, and where stderr is a terminal.
            - ``reporter``: told about progress in place of that.

    Returns:
        The learned set, with what was given in Python at hand.

    Raises:
        LimbeckError: wrong input, an unknown setting, an ``out`` that holds another run, or a run that diverges again
            and again.
    """
    named: dict[str, Any] = {name: options.pop(name) for name in ("config", "data", "learner") if name in options}
    config = first if isinstance(first, Config) else named.pop("config", None)
    given = [each for each in (first, second) if each is not None and each is not config]
    wanted = [name for name in (("data",) if config is not None else ("data", "learner")) if name not in named]
    if len(given) > len(wanted) or set(named) - {"data", "learner"} or (config is not None and "learner" in named):
        raise LimbeckError(
            "distill takes data and a learner, as in distill(data, MyNet, steps=10), or a Config, and data if it is "
            "not what that names, as in distill(config, data)."
        )
    named |= dict(zip(wanted, given, strict=False))
    place = {name: fit_value(name, options.pop(name), kind) for name, kind in _PLACE.items() if name in options}
    progress = place.pop("progress", None)
    place.setdefault("verdict", True)
    if place.get("resume"):
        place |= {name: options.pop(name) for name in _BUDGETS if name in options}
    out, own = place.get("out"), place.get("reporter")
    folder = None if out is None else Path(out)
    place["reporter"] = reporter_for(progress, folder=folder) if own is None else InPython(own)
    if config is not None:
        if options:
            raise LimbeckError(
                f"distill(config, data) has its settings in the config; leave out {', '.join(options)}, or change "
                "them there."
            )
        data = named.get("data")
        data = None if data is None else _loaded(data, config)
        return _told(run_distill(config, data, free=frozenset(), **place), place, data)
    if named.get("learner") is None or named.get("data") is None:
        missing = "learner" if named.get("data") is not None else "data"
        raise LimbeckError(
            f"distill is given no {missing}: call it as distill(data, MyNet), where MyNet is a network, its class, a "
            "function that makes it, or a name such as 'lenet'; or as distill(config, data)."
        )
    return _distill_data(named["data"], named["learner"], options, place)


_PLACE: Final = MappingProxyType({
    "out": str | os.PathLike | None,
    "device": str | torch.device,
    "data_dir": str | os.PathLike | None,
    "resume": bool,
    "overwrite": bool,
    "trust": bool,
    "verdict": bool,
    "progress": bool | None,
    "reporter": Reporter | None,
})  # fmt: skip
_BUDGETS = ("iterations", "max_time")


def _distill_data(source: Any, learner: LearnerLike, settings: dict[str, Any], place: dict[str, Any]) -> Distilled:
    """Distil with the configuration that settings make."""
    named = {name for name, value in settings.items() if value is not None}
    if not isinstance(settings.get("source", ""), str):  # a config, which names its sizes
        named |= {"steps", "epochs"}
    place["free"] = SIZES - named
    if isinstance(source, str | os.PathLike):
        config = config_of(settings, learner=learner, data=os.fspath(source))
        return _told(run_distill(config, **place), place)
    config = config_of(settings, learner=learner)
    data = _loaded(source, config)
    return _told(run_distill(config, data, **place), place, data)


def _loaded(source: TaskData | Source, config: Config) -> TaskData:
    """What a source holds, split as the configuration says; data that is loaded stays as it is split."""
    return source if isinstance(source, TaskData) else load(source, val_size=config.val_size, seed=config.split)


def _told(result: Distilled, place: dict[str, Any], data: TaskData | None = None) -> Distilled:
    """The result with the data that was given, after its verdict was told."""
    if result.verdict is not None:
        place["reporter"].message(str(result.verdict))
    return result.remembering(data)
