"""Real data in, normalised, resident on the device."""

from __future__ import annotations

from limbeck.data.dataset import TaskData, load
from limbeck.data.download import get
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.registry import available, known_names

__all__ = ["Preprocessing", "TaskData", "available", "get", "known_names", "load"]
