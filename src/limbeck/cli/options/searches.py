"""The options of ``limbeck search``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, final

import tyro

from limbeck.cli.options.common import Common
from limbeck.nas.searches.strategies import SearchConfig


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
        max_time: stop after this many seconds of work, preparing and compiling included, once what has begun is over;
            each sitting has its own.
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
