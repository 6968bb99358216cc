"""Exporting a learned set: which format a path stands for, and a place that never holds half a set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.exporters import EXPORTERS, Exporter
from limbeck.artefact.run_directory import OWN, RunDirectory
from limbeck.common.files import flush_to_disk, write_atomically
from limbeck.common.registry import Registry
from limbeck.common.typed import fit_value
from limbeck.errors import LimbeckError


def export(
    run: Distilled,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    overwrite: bool = False,
    exporters: Sequence[Exporter] = EXPORTERS,
) -> int:
    """Write a set to ``path`` and return the number of images.

    The set is written beside ``path`` and moved there when it is complete. Files of a folder that was there before are
    replaced one by one; those that are left of another export of this kind are removed, and others are left alone.

    Args:
        run: the set.
        path: of a file or folder; its ending tells the format: ``.npz`` is one file of arrays, anything else a folder
            of PNG pictures.
        format: name of the exporter, whatever the path.
        overwrite: replace what is at ``path``.
        exporters: asked in order whether the path is theirs; ``(MyExporter(), *EXPORTERS)`` adds one.

    Raises:
        LimbeckError: there is something at ``path`` already, it belongs to a run, it cannot be written, an unknown
            format, or two exporters of one name.
    """
    path = Path(fit_value("path", path, str | os.PathLike))
    _refuse_run(path)
    exporter = exporter_of(path, exporters) if format is None else exporter_named(format, exporters)
    if path.exists() and not overwrite:
        raise LimbeckError(f"{path} exists; choose another place, or replace it with --overwrite.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            new = Path(folder) / f"set{exporter.suffix}"
            exporter.write(run, new)
            if path.exists() and path.is_dir() != new.is_dir():
                raise LimbeckError(
                    f"{path} is a {'folder' if path.is_dir() else 'file'}, but the format {exporter.name} writes "
                    f"{exporter.writes}; choose another place."
                )
            _move(new, path)
            _remove_stale(new, path, exporter)
    except OSError as error:
        raise LimbeckError(
            f"Could not write {path} ({error.strerror or error}); free some disk space or choose another place."
        ) from None
    return run.images.shape[0] * run.images.shape[1]


def exporter_of(path: Path, exporters: Sequence[Exporter] = EXPORTERS) -> Exporter:
    """The first exporter whose ending the path has.

    Raises:
        LimbeckError: none has it, or two exporters have one name.
    """
    exporters = Registry.of("export format", exporters).values()
    exporter = next((each for each in exporters if path.name.lower().endswith(each.suffix)), None)
    if exporter is None:
        formats = ", ".join(f"{each.name} ({each.writes})" for each in exporters)
        raise LimbeckError(f"The ending of {path} stands for no format; name one with --format: {formats}.")
    return exporter


def exporter_named(name: str, exporters: Sequence[Exporter] = EXPORTERS) -> Exporter:
    """An exporter by name.

    Raises:
        LimbeckError: an unknown name, or two exporters have one name.
    """
    return Registry.of("export format", exporters)[name]


def _move(new: Path, path: Path) -> None:
    """Put a complete file or folder into its place, on the disk before it has its name."""
    files = sorted(file for file in new.rglob("*") if file.is_file()) if new.is_dir() else [new]
    if new.is_dir() and not path.exists():
        for file in files:
            flush_to_disk(file)
        new.replace(path)
        return
    for file in files:
        write_atomically(path / file.relative_to(new), partial(_copy, file))


def _refuse_run(path: Path) -> None:
    """Raise LimbeckError for a run directory, and for what a run keeps in it."""
    if RunDirectory(path).holds_run:
        raise LimbeckError(f"{path} is a run directory; choose a folder of its own, such as {path / 'images'}.")
    place = path.resolve()
    if place.name in OWN and RunDirectory(place.parent).holds_run:
        raise LimbeckError(f"{path} belongs to the run in {place.parent}; choose another place.")


def _remove_stale(new: Path, path: Path, exporter: Exporter) -> None:
    """Remove files of an older export of this kind that the new one does not have, and folders that this empties."""
    for file in sorted(path.rglob("*")) if path.is_dir() and new.is_dir() else ():
        name = file.relative_to(path)
        if file.is_file() and not (new / name).exists() and exporter.is_own(name.as_posix()):
            file.unlink()
            if file.parent != path and not any(file.parent.iterdir()):
                file.parent.rmdir()


def _copy(file: Path, part: Path) -> None:
    shutil.copyfile(file, part)
