"""The options of the command line's verbs, a frozen dataclass each."""

from __future__ import annotations

from limbeck.cli.options.common import Common
from limbeck.cli.options.data import DataOptions
from limbeck.cli.options.pools import AdaptOptions, AttackOptions, PooledOptions, PoolOptions
from limbeck.cli.options.runs import DistillOptions, EvaluateOptions, ExportOptions, ShowOptions
from limbeck.cli.options.searches import SearchOptions
from limbeck.cli.options.studies import BoundOptions, CompareOptions, ReproduceOptions, SensitivityOptions

__all__ = [
    "AdaptOptions",
    "AttackOptions",
    "BoundOptions",
    "Common",
    "CompareOptions",
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
