"""Files that are never half-written: write beside, flush to disk, then rename."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limbeck.errors import LimbeckError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file beside ``path``, then move it into place; whatever was there stays until then.

    Raises:
        LimbeckError: the file cannot be written, as on a full disk; what was there before is untouched.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        flush_to_disk(part)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise LimbeckError(
            f"Could not write {path} ({error.strerror or error}); what was there before is untouched. "
            "Free some disk space or choose another place, then go on with --resume."
        ) from None


def flush_to_disk(path: Path) -> None:
    """Wait until a file is on the disk; raises OSError. Windows does that only for a file that is open for writing."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def relative_path(path: Path, folder: Path) -> str:
    """A path from a folder on, with slashes on every system; the whole path where no way leads there (Windows' drives).

    >>> relative_path(Path("/data/mine.npz"), Path("/runs/one"))
    '../../data/mine.npz'
    """
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def own_cache() -> Path | None:
    """Where Limbeck keeps what it can make again, ``~/.cache/limbeck``; None for a user without a home."""
    try:
        return Path("~/.cache/limbeck").expanduser()
    except RuntimeError:
        return None


def write_bytes(path: Path, blob: bytes) -> None:
    """Write a file in place, as far as the operating system; every write here passes through it.

    It is what a full disk or a kill cuts short, so only files beside the wanted ones go through it: use the others.

    Raises:
        OSError: the file cannot be written, or not all of it.
    """
    with path.open("wb") as file:
        file.write(blob)
        file.flush()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically; raises LimbeckError as ``write_atomically``."""
    write_atomically(path, lambda part: write_bytes(part, text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the given order; raises LimbeckError as ``write_atomically``."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file atomically, with metadata as one JSON string."""
    # clone: the format refuses tensors that share memory, such as two snapshots of one state
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    blob = save(plain, metadata={"limbeck": json.dumps(metadata)})
    write_atomically(path, lambda part: write_bytes(part, blob))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of ``write_tensors``; raises LimbeckError for a missing or damaged file."""
    if not path.is_file():
        raise LimbeckError(f"{path} does not exist; the run directory is incomplete.")
    try:
        tensors, strings = load_tensors(path)
        metadata = json.loads(strings.get("limbeck", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise LimbeckError(f"{path} is damaged and cannot be read ({error}); restore it from a copy.") from None
    return tensors, metadata


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, in torch's own memory on the CPU, and its metadata.

    What the format hands out lies in the mapped file, wherever its header happens to end, and vectorised kernels may
    round otherwise there than at the addresses that torch allocates: a run that was read back would not be the run in
    memory bit for bit. So each tensor is copied.

    Raises:
        SafetensorError: the file is damaged.
        OSError: it cannot be read.
    """
    with safe_open(str(path), framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, file.metadata() or {}


def read_json(path: Path) -> Any:
    """Read JSON; raises LimbeckError for a missing or damaged file."""
    if not path.is_file():
        raise LimbeckError(f"{path} does not exist; the run directory is incomplete.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LimbeckError(f"{path} is damaged and cannot be read ({error}); restore it from a copy.") from None


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON can hold them: None in the place of floats that are infinite or not a number."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
