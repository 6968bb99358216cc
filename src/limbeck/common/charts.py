"""The figures of a study as PNG and SVG; they need the extra ``figures`` (matplotlib), imported when one is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from limbeck.common.files import write_atomically
from limbeck.errors import LimbeckError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (6.4, 4.0)


@final
@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve with, where there are several runs, the range between the lowest and the highest."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def figures_missing() -> str | None:
    """The message that says how to install what drawing needs, or None where it is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "Figures need matplotlib: pip install 'limbeck[figures]'."
    return None


def line_chart(
    path: Path, lines: Mapping[str, Line], *, title: str, x: str, y: str, log_from: float | None = None
) -> None:
    """Draw curves by name, with a shaded range where there is one; see ``save_figure`` for the files.

    Args:
        path: of the chart; the endings are added.
        lines: the curves, by what the legend calls them.
        title: above the chart.
        x, y: labels of the axes.
        log_from: lower end of a logarithmic scale of y; it is linear by default.
    """
    figure = new_figure(_SIZE)
    axes = figure.add_subplot()
    for name, line in lines.items():
        (curve,) = axes.plot(line.x, line.y, label=name, marker="." if len(line.x) < 30 else None)
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=curve.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel=x, ylabel=y)
    if log_from is not None:
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=log_from)
    set_title(figure, title)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def bar_chart(
    path: Path, groups: Mapping[str, Mapping[str, tuple[float, float | None]]], *, title: str, y: str
) -> None:
    """Draw a bar for each member of each group: a mean in percent, with its standard deviation where there is one."""
    figure = new_figure((max(_SIZE[0], 1.6 * len(groups) + 2.0), _SIZE[1]))
    axes = figure.add_subplot()
    members = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.85 / len(members)
    for index, name in enumerate(members):
        at = [k for k, group in enumerate(groups.values()) if name in group]
        values = [group[name] for group in groups.values() if name in group]
        axes.bar(
            [k + (index - (len(members) - 1) / 2) * width for k in at],
            [mean for mean, _ in values],
            width,
            yerr=[std or 0.0 for _, std in values],
            label=name,
            error_kw={"linewidth": 0.8},
        )
    axes.set(ylabel=y, ylim=(0, 105))
    axes.set_xticks(range(len(groups)), [textwrap.fill(name, 16) for name in groups], fontsize=8)
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside lower center", fontsize=7, ncols=6)
    set_title(figure, title)
    save_figure(figure, path)


def histogram_chart(path: Path, values: Mapping[str, Sequence[float]], *, title: str, x: str) -> None:
    """Draw one histogram under the other, of numbers in percent, all from 0 to 100."""
    figure = new_figure((_SIZE[0], 2.2 * len(values)))
    bins = list(range(0, 101, 5))
    first: Any = None
    for index, (name, numbers) in enumerate(values.items()):
        axes = figure.add_subplot(len(values), 1, index + 1, sharex=first, sharey=first)
        first = first or axes
        axes.hist(numbers, bins=bins)
        axes.set_ylabel("runs")
        axes.set_title(f"{name} (n = {len(numbers)})", fontsize=9)
        axes.grid(alpha=0.3)
    axes.set(xlabel=x)
    set_title(figure, title)
    save_figure(figure, path)


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches; raises LimbeckError without matplotlib."""
    missing = figures_missing()
    if missing is not None:
        raise LimbeckError(missing)
    from matplotlib.figure import Figure  # without pyplot there is no window and no global state

    return Figure(figsize=size, layout="constrained")


def set_title(figure: Figure, title: str) -> None:
    """Set the title, in lines that are no wider than the figure."""
    figure.suptitle(textwrap.fill(title, round(11 * figure.get_size_inches()[0])), fontsize=10)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``path`` with the endings .png (150 dots an inch) and .svg; the same numbers give the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "limbeck", "svg.fonttype": "none"}):
        write_atomically(path.with_suffix(".png"), lambda part: figure.savefig(part, format="png", dpi=150))
        write_atomically(
            path.with_suffix(".svg"), lambda part: figure.savefig(part, format="svg", metadata={"Date": None})
        )
