"""Readers of real data, one for each kind of source. A new one is a file in this folder and a line in ``READERS``."""

from __future__ import annotations

from limbeck.data.readers.arrays import ArrayPairsReader, ArraysReader
from limbeck.data.readers.base import Reader
from limbeck.data.readers.map_style import DatasetPairReader, DatasetReader
from limbeck.data.readers.named import NamedSetReader
from limbeck.data.readers.npz import NpzReader

__all__ = ["READERS", "Reader"]

READERS: tuple[Reader, ...] = (  # asked in this order
    NamedSetReader(),
    NpzReader(),
    DatasetReader(),
    DatasetPairReader(),
    ArrayPairsReader(),
    ArraysReader(),
)
