"""The options of the command line's verbs, a frozen dataclass each."""

from __future__ import annotations

from limbeck.options.common import Common
from limbeck.options.data import DataOptions
from limbeck.options.pools import AdaptOptions, AttackOptions, PooledOptions, PoolOptions
from limbeck.options.runs import DistillOptions, EvaluateOptions, ExportOptions, ShowOptions
from limbeck.options.searches import SearchOptions
from limbeck.options.studies import BoundOptions, ReproduceOptions, SensitivityOptions

__all__ = [
    "AdaptOptions",
    "AttackOptions",
    "BoundOptions",
    "Common",
    "DataOptions",
    "DistillOptions",
    "EvaluateOptions",
    "ExportOptions",
    "PoolOptions",
    "PooledOptions",
    "ReproduceOptions",
    "SearchOptions",
    "SensitivityOptions",
    "ShowOptions",
]
