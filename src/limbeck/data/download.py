"""Known data sets from their official source: resumable, checked, never half-written."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias

from limbeck.data.known import Download, KnownSet, find_file, known_set
from limbeck.data.registry import data_roots
from limbeck.errors import LimbeckError

Progress: TypeAlias = Callable[[str, int, int | None], None]

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 16
_AGAIN = "run the same command again to resume"
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError)


def get(
    name: str, *, data_dir: Path | None = None, url_base: str | None = None, progress: Progress | None = None
) -> Path:
    """Download a known data set, unless it is there already, and check it.

    Each file grows beside its place with ``.part`` at the end of its name, is checked by SHA-256, and is renamed into
    place last. What an earlier attempt left is taken up where it ended.

    Args:
        name: "mnist", "fashion-mnist" or "cifar10".
        data_dir: where it goes; the variable LIMBECK_DATA or ``~/.cache/limbeck`` if not given.
        url_base: a mirror with the same files, instead of the official source; its files are checked the same way.
        progress: called with the file's name, the bytes so far and all of them, None if the server does not say.

    Returns:
        The folder that holds the set.

    Raises:
        LimbeckError: unknown name, or a set that comes with a Python package; no connection, or one that broke off
            (running it again resumes); a file that is not the official one; a folder that cannot be written.
    """
    known = known_set(name)
    if known.module is not None:
        raise LimbeckError(
            f"There is nothing to fetch for {known.name}: it comes with {known.package}, `{known.install}`."
        )
    root = next(iter(data_roots(data_dir)), None)
    if root is None:
        raise LimbeckError(
            f"There is no home directory to put {known.name} into; name a folder as --data-dir or in LIMBECK_DATA."
        )
    return fetch(known, root, url_base=url_base, progress=progress)


def fetch(known: KnownSet, root: Path, *, url_base: str | None = None, progress: Progress | None = None) -> Path:
    """As :func:`get`, for a set that need not be one of the registry, into ``root``."""
    base = (url_base or known.url).rstrip("/") + "/"
    if not base.startswith(("http://", "https://")):
        raise LimbeckError(f"Cannot download from {base}; give an address that starts with http:// or https://.")
    folder = root / known.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for download in known.downloads:
            if not all(_is_there(known, folder, name) for name in download.members or (download.name,)):
                _fetch_file(known, download, folder, base + download.name, progress)
    except OSError as error:
        raise LimbeckError(f"Cannot write to {folder} ({_reason(error)}); make room or give another place.") from error
    return folder


def _fetch_file(known: KnownSet, download: Download, folder: Path, url: str, progress: Progress | None) -> None:
    part = folder / f"{download.name}.part"
    if not _is_official(known, download, part):
        _download(url, part, download.name, progress)
        if not _is_official(known, download, part):
            part.unlink()
            raise LimbeckError(
                f"{url} is not the official file (its SHA-256 differs), so it was deleted; "
                "run the same command again, and check the network if it stays so."
            )
    if download.members:
        _extract(known, download, part, folder)
        part.unlink()
    else:
        part.replace(folder / download.name)


def _download(url: str, part: Path, name: str, progress: Progress | None) -> None:
    """Append to ``part`` what it lacks of ``url``, or all of it if the server cannot do that."""
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, have)
        if response is None:  # what we have is no beginning of this file
            part.unlink()
            have, response = 0, _open(url, 0)
        if response is None:
            raise LimbeckError(f"{url} refuses to be downloaded (416); try again later or use a mirror.")
    except urllib.error.HTTPError as error:
        error.close()
        raise LimbeckError(
            f"{url} answered {error.code} {error.reason}; try later, use a mirror, or put the file into {part.parent}."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LimbeckError(f"{url} cannot be reached ({_reason(error)}); check the network and {_AGAIN}.") from error
    with response:
        resumed = response.status == 206 and _starts_at(response, have)
        done = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := _receive(response, url, done, total):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(name, done, total)
            _flush(file)
    if total is not None and done < total:
        raise _broken_off(url, done, total, "connection closed")


def _open(url: str, start: int) -> http.client.HTTPResponse | None:
    """The response from byte ``start`` on; None if the server says there is no such range."""
    headers = {"User-Agent": "limbeck", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()
        return None
    return response


def _starts_at(response: http.client.HTTPResponse, start: int) -> bool:
    """Some servers answer 206 with another range than asked for; appending that would spoil the file."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _receive(response: http.client.HTTPResponse, url: str, done: int, total: int | None) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken_off(url, done, total, _reason(error)) from error


def _broken_off(url: str, done: int, total: int | None, reason: str) -> LimbeckError:
    size = f"{done} bytes" if total is None else f"{done} of {total} bytes"
    return LimbeckError(f"The download of {url} broke off after {size} ({reason}); {_AGAIN}.")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # a URLError wraps what went wrong
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _extract(known: KnownSet, download: Download, archive: Path, folder: Path) -> None:
    """Take the expected members, and nothing else, out of a verified tar archive."""
    missing = {f"{known.folder}/{member}": member for member in download.members}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for info in tar:
                member = missing.get(info.name)
                stream = tar.extractfile(info) if member is not None and info.isfile() else None
                if member is None or stream is None:
                    continue
                part = folder / f"{member}.part"
                with stream, part.open("wb") as file:
                    shutil.copyfileobj(stream, file)
                    _flush(file)
                if not _content_is(known, member, part):
                    part.unlink()
                    raise LimbeckError(f"{member} in {archive} is not the official file (its SHA-256 differs).")
                part.replace(folder / member)
                del missing[info.name]
    except _DAMAGED as error:
        raise LimbeckError(f"{archive} is a damaged archive ({error}); delete it and get it again.") from error
    if missing:
        raise LimbeckError(f"{archive} lacks {', '.join(sorted(missing))}; delete it and get it again.")


def _is_there(known: KnownSet, folder: Path, name: str) -> bool:
    path = find_file(folder, name)
    return path is not None and _content_is(known, name, path)


def _is_official(known: KnownSet, download: Download, path: Path) -> bool:
    """The official file, or (a mirror may have compressed it again) one with the official contents."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        official = hashlib.file_digest(file, "sha256").hexdigest() == download.sha256
    return official or (not download.members and _content_is(known, download.name, path))


def _content_is(known: KnownSet, name: str, path: Path) -> bool:
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        digest = hashlib.sha256()
        with gzip.open(path) if gzipped else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except (OSError, EOFError, zlib.error):  # unreadable or corrupt, so not the official contents
        return False
    return digest.hexdigest() == known.files[name]


def _flush(file: IO[bytes]) -> None:
    """On the disk before it is renamed, so that a power cut cannot leave the name without the bytes."""
    file.flush()
    os.fsync(file.fileno())
