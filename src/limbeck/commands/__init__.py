"""The verbs of the command line, a function each."""

from limbeck.commands.datasets import data
from limbeck.commands.reproducing import reproduce
from limbeck.commands.runs import distill, evaluate, export, show

__all__ = ["data", "distill", "evaluate", "export", "reproduce", "show"]
