"""The command line: ``limbeck VERB``; ``run(["show", "runs/mnist"])`` is the same in Python."""

from limbeck.cli.main import run

__all__ = ["run"]
