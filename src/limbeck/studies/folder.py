"""Folders of several runs, each marked by a file that says what was begun there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from limbeck.common.files import read_json
from limbeck.errors import LimbeckError


def claim_folder(mark: Path, noun: str, *, resume: bool, overwrite: bool) -> Any:
    """What a folder's mark says where work goes on there; None where it begins anew. Overwriting empties the folder.

    Args:
        mark: the file that marks the folder it lies in.
        noun: what such a folder holds, such as "study".
        resume: go on with what is there.
        overwrite: replace what is there.

    Raises:
        LimbeckError: it holds such a thing already and neither is set, or something else.
    """
    folder = mark.parent
    if mark.is_file() and not (resume or overwrite):
        raise LimbeckError(
            f"{folder} already holds a {noun}; go on with --resume, replace it with --overwrite, or choose another "
            "--out."
        )
    if not mark.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LimbeckError(f"{folder} is not empty and holds no {noun}; choose another --out.")
    if mark.is_file() and overwrite:
        shutil.rmtree(folder)
    return read_json(mark) if mark.is_file() else None
