"""Readers of real data, one for each kind of source. A new one is a file in this folder and a line in ``READERS``."""

from __future__ import annotations

from limbeck.data.readers.arrays import ArrayPairsReader, ArraysReader
from limbeck.data.readers.base import Reader
from limbeck.data.readers.columns import CsvReader, ParquetReader
from limbeck.data.readers.folder import FolderReader
from limbeck.data.readers.hugging_face import HuggingFaceReader, SavedHuggingFaceReader
from limbeck.data.readers.map_style import DatasetPairReader, DatasetReader
from limbeck.data.readers.named import NamedSetReader
from limbeck.data.readers.npz import NpzReader

__all__ = ["READERS", "Reader"]

READERS: tuple[Reader, ...] = (  # asked in this order
    NamedSetReader(),
    NpzReader(),
    CsvReader(),
    ParquetReader(),
    SavedHuggingFaceReader(),
    FolderReader(),
    HuggingFaceReader(),
    DatasetReader(),
    DatasetPairReader(),
    ArrayPairsReader(),
    ArraysReader(),
)
