"""What every verb takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


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
