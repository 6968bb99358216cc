"""The command line: ``limbeck VERB``; ``run(["show", "runs/mnist"])`` is the same in Python."""


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    from limbeck.cli import main  # not before: `python -m limbeck.cli.main` would find itself imported already

    return main.run(argv)


__all__ = ["run"]
