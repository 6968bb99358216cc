"""The verbs of the command line, a function each."""

from limbeck.commands.adapting import adapt
from limbeck.commands.attacking import attack
from limbeck.commands.bounding import bound
from limbeck.commands.datasets import data
from limbeck.commands.pooling import pool
from limbeck.commands.reproducing import reproduce, sensitivity
from limbeck.commands.runs import distill, evaluate, export, show
from limbeck.commands.searching import search

__all__ = [
    "adapt",
    "attack",
    "bound",
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
