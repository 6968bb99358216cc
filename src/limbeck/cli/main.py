"""The command line: ``limbeck VERB``.

Logs go to stderr, results to stdout; wrong input is one sentence and exit code 2.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from limbeck.errors import LimbeckError, unknown

HELP = """\
usage: limbeck VERB ...

Limbeck learns tiny training sets.

  distill    learn a training set             limbeck distill mnist --recipe mnist-fixed --out runs/mnist
  evaluate   score it on the real test set    limbeck evaluate runs/mnist
  show       what a run holds                 limbeck show runs/mnist
  export     its images for other tools       limbeck export runs/mnist --out mnist.npz
  data       list and fetch data sets         limbeck data list
  reproduce  a published result beside ours   limbeck reproduce mnist-fixed
  pool       train many networks at once      limbeck pool make mnist --n 50
  adapt      move them to other data          limbeck adapt runs/pools/mnist-lenet.safetensors --to fashion-mnist
  attack     what one bad batch can do        limbeck attack runs/pools/mnist-lenet.safetensors --from 7 --to 1
  compare    which method is the best one     limbeck compare mnist --ipc 1 10 --max-time 60
  sensitivity  a grid of sizes                limbeck sensitivity mnist --steps 1 3 10 --epochs 1 3
  bound      how few images can do            limbeck bound random --features 10
  search     find a good architecture         limbeck search mnist --proxy runs/teacher --budget 200

limbeck VERB --help tells the options of each. --version prints the version.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 2 for wrong input, 130 if interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot print ± or × shows a question mark for it
            stream.reconfigure(errors="replace")
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        from importlib.metadata import version

        print(version("limbeck"))
        return 0
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        return _verb(argv[0])(argv[1:])
    except LimbeckError as error:
        print(f"limbeck: {error.with_flags}", file=sys.stderr)
        return 2
    except SystemExit as end:  # the parser printed what it was asked for
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("limbeck: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 0
    finally:
        warnings.showwarning = shown


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line for whoever typed the command, without the place in the code that it comes from."""
    print(f"limbeck: note: {message}", file=file or sys.stderr)


def _verb(name: str) -> Callable[[list[str]], int]:
    from limbeck.cli import commands  # imports torch, which --help does not need

    verbs: dict[str, Any] = {
        "pool": commands.pool,
        "adapt": commands.adapt,
        "attack": commands.attack,
        "compare": commands.compare,
        "sensitivity": commands.sensitivity,
        "distill": commands.distill,
        "evaluate": commands.evaluate,
        "show": commands.show,
        "export": commands.export,
        "data": commands.data,
        "reproduce": commands.reproduce,
        "bound": commands.bound,
        "search": commands.search,
    }
    if name not in verbs:
        raise unknown("verb", name, verbs)
    verb: Callable[[list[str]], int] = verbs[name]
    return verb


if __name__ == "__main__":
    main()
