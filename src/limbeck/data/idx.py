"""IDX files, the format of MNIST.

Shapes: N images, H × W pixels.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from types import MappingProxyType

import numpy as np

from limbeck.data.arrays import Array, Pair
from limbeck.data.binary import DOWNLOAD_AGAIN, read_bytes
from limbeck.errors import LimbeckError

_IDX_TYPES = MappingProxyType({0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"})


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, the format of MNIST; gzipped or not, told apart by its first bytes.

    Format: two zero bytes, one for the dtype, one for the rank, then the sizes as big-endian uint32, then the values,
    big-endian, last axis fastest (http://yann.lecun.com/exdb/mnist/).

    Returns:
        A fresh array in native byte order, of the file's dtype (uint8, int8, int16, int32, float32 or float64).

    Raises:
        LimbeckError: missing, corrupt gzip, wrong magic number, truncated, or bytes left over. Names the file.
    """
    path = Path(path)
    raw = _decompress(path, read_bytes(path))
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES:
        raise LimbeckError(
            f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}, expected 00 00, "
            f"a type from 08 to 0e, and the number of axes; {DOWNLOAD_AGAIN}."
        )
    dtype, rank = np.dtype(_IDX_TYPES[raw[2]]), raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise LimbeckError(f"{path} is truncated in its header of {start} bytes; {DOWNLOAD_AGAIN}.")
    shape = struct.unpack(f">{rank}I", raw[4:start])
    expected = start + math.prod(shape) * dtype.itemsize  # Python integers: a lying header cannot overflow
    if len(raw) != expected:
        wrong = "is truncated" if len(raw) < expected else "has bytes left over"
        raise LimbeckError(
            f"{path} {wrong}: its header says {shape} {dtype.name}, which is {expected} bytes, "
            f"but it has {len(raw)}; {DOWNLOAD_AGAIN}."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_pair(images: Path, labels: Path) -> Pair:
    """Images (N, 1, H, W) uint8 and labels (N,) uint8 from two IDX files.

    Raises:
        LimbeckError: as :func:`read_idx`, or if they are not bytes of rank 3 and 1.
    """
    x, y = read_idx(images), read_idx(labels)
    for path, array, rank in ((images, x, 3), (labels, y, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise LimbeckError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected uint8, {rank} axes; {DOWNLOAD_AGAIN}."
            )
    return x[:, None], y


def _decompress(path: Path, raw: bytes) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise LimbeckError(f"{path} is a corrupt or truncated gzip file ({error}); {DOWNLOAD_AGAIN}.") from error
