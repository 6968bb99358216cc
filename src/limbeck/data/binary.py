"""Files as bytes, and what to say of those that are not what they should be."""

from __future__ import annotations

from pathlib import Path

from limbeck.errors import LimbeckError

DOWNLOAD_AGAIN = "it is damaged or not the right file; delete it and get it again"


def read_bytes(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        LimbeckError: it is not there or cannot be read. Names it.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LimbeckError(f"There is no file {path}.") from error
    except OSError as error:
        raise LimbeckError(f"{path} cannot be read: {error.strerror}.") from error
