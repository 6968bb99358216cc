"""The verbs of the command line, a function each."""

from limbeck.cli.commands.adapting import adapt
from limbeck.cli.commands.attacking import attack
from limbeck.cli.commands.bounding import bound
from limbeck.cli.commands.comparing import compare
from limbeck.cli.commands.datasets import data
from limbeck.cli.commands.pooling import pool
from limbeck.cli.commands.reproducing import reproduce, sensitivity
from limbeck.cli.commands.runs import distill, evaluate, export, show
from limbeck.cli.commands.searching import search

__all__ = [
    "adapt",
    "attack",
    "bound",
    "compare",
    "data",
    "distill",
    "evaluate",
    "export",
    "pool",
    "reproduce",
    "search",
    "sensitivity",
    "show",
]
