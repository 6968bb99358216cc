"""Real data in, normalised, resident on the device."""

from __future__ import annotations

from limbeck.data.dataset import TaskData
from limbeck.data.download import get
from limbeck.data.kmeans import find_centres, kmeans_per_class
from limbeck.data.known import known_names
from limbeck.data.loading import load, read_base_sha256
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.raw import Raw
from limbeck.data.readers import READERS, Reader
from limbeck.data.reading import Kind, Reading
from limbeck.data.registry import available
from limbeck.data.sources import canonical_name, is_named, same_source

__all__ = [
    "READERS",
    "Kind",
    "Preprocessing",
    "Raw",
    "Reader",
    "Reading",
    "TaskData",
    "available",
    "canonical_name",
    "find_centres",
    "get",
    "is_named",
    "kmeans_per_class",
    "known_names",
    "load",
    "read_base_sha256",
    "same_source",
]
