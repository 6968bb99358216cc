"""The options of ``limbeck data``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from limbeck.cli.options.common import Common


@final
@dataclass(frozen=True, kw_only=True)
class DataOptions(Common):
    """List the known data sets, or fetch one from its official source.

    Where data is named, options may follow that change its images: invert=True, rotate=DEGREES, resample=PIXELS,
    background=colour, channels=3, size=PIXELS, as in mnist,resample=16,invert=True. Others say how it is read:
    channels=first or last, kind=images, table or series, image=COLUMN, label=COLUMN, limit=N.

    Args:
        action: ``list`` or ``get``.
        name: the data set to get.
        out: to get one, the folder to put it into instead of --data-dir or ~/.cache/limbeck; to list them, a file to
            write the JSON to as well.
        url: fetch from this address instead of the official one.
    """

    action: Annotated[Literal["list", "get"], tyro.conf.Positional]
    name: Annotated[str | None, tyro.conf.Positional] = None
    out: Path | None = None
    url: str | None = None
