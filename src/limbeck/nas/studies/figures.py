"""Figures of architecture search as PNG and SVG, from any tables of scores; they need the extra ``figures``.

Each function writes ``path`` with the endings .png and .svg, and returns ``path``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from limbeck.common.charts import new_figure, save_figure, set_title
from limbeck.errors import LimbeckError
from limbeck.nas.spaces.base import Graph
from limbeck.nas.studies.rank import Estimate

_COLUMNS: Final = 4
_MARKS: Final = "osD^v<>Phd*X"
"""Marks of points, so that two of the same colour can be told apart."""
_SHORTEST: Final = 0.001
"""Seconds that are drawn where a cost is less, on a logarithmic scale."""


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a proxy costs, in seconds: what is done once, and scoring all architectures."""

    prepare: float
    score: float

    @property
    def total(self) -> float:
        """Seconds of both."""
        return self.prepare + self.score


def scatter_chart(
    path: Path, oracle: Mapping[str, float], proxies: Mapping[str, Mapping[str, float]], *, title: str, y: str
) -> Path:
    """Each proxy's scores against the oracle's values, a panel each; what failed is a cross at the left margin."""
    _refuse_nothing(proxies, "proxy")
    columns = min(_COLUMNS, len(proxies))
    rows = math.ceil(len(proxies) / columns)
    figure = new_figure((2.6 * columns + 0.6, 2.4 * rows + 0.6))
    for index, (name, scores) in enumerate(proxies.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        texts = [text for text in oracle if math.isfinite(oracle[text]) and text in scores]
        good = [text for text in texts if math.isfinite(scores[text])]
        axes.scatter([scores[text] for text in good], [oracle[text] for text in good], s=12, alpha=0.7)
        failed = [oracle[text] for text in texts if text not in good]
        axes.scatter(
            [0.02] * len(failed), failed, s=16, marker="x", color="tab:red", transform=axes.get_yaxis_transform()
        )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        if index % columns == 0:
            axes.set_ylabel(y, fontsize=8)
    set_title(figure, title)
    save_figure(figure, path)
    return path


def cost_chart(path: Path, points: Mapping[str, tuple[Cost, Estimate]], *, title: str, y: str) -> Path:
    """A statistic of each proxy with its bootstrap interval, against what the proxy costs, logarithmic.

    The filled mark is scoring alone, the empty one adds what is done once.
    """
    _refuse_nothing(points, "proxy")
    figure = new_figure((8.4, 4.4))
    axes = figure.add_subplot()
    for index, (name, (cost, estimate)) in enumerate(points.items()):
        scoring, total = max(cost.score, _SHORTEST), max(cost.total, _SHORTEST)
        error = [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
        mark = _MARKS[index % len(_MARKS)]
        container = axes.errorbar(
            [scoring], [estimate.value], yerr=error, fmt=mark, capsize=3, markersize=5, linewidth=1, label=name
        )
        axes.plot(
            [scoring, total],
            [estimate.value] * 2,
            color=container[0].get_color(),
            marker=mark,
            markevery=[1],
            markersize=5,
            markerfacecolor="white",
            linewidth=0.8,
            linestyle=":",
            zorder=1,
        )
    axes.set_xscale("log")
    axes.set(xlabel="seconds: scoring all architectures (filled), with what is done once (empty)", ylabel=y)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.grid(alpha=0.3)
    set_title(figure, title)
    save_figure(figure, path)
    return path


def frontier_chart(
    path: Path, parameters: Mapping[str, int], accuracy: Mapping[str, float], *, title: str, y: str
) -> Path:
    """Accuracy against parameters, logarithmic, and the frontier: those that no smaller one beats."""
    points = {text: (count, accuracy[text]) for text, count in parameters.items() if math.isfinite(accuracy[text])}
    _refuse_nothing(points, "architecture")
    figure = new_figure((6.8, 4.2))
    axes = figure.add_subplot()
    axes.scatter([x for x, _ in points.values()], [value for _, value in points.values()], s=12, alpha=0.5)
    best = frontier(points)
    xs, ys = [points[text][0] for text in best], [points[text][1] for text in best]
    axes.step(xs, ys, where="post", color="tab:red", linewidth=1, marker=".")
    for index, text in enumerate(best):
        axes.annotate(text, (xs[index], ys[index]), xytext=(3, -7), textcoords="offset points", fontsize=5)
    axes.set_xscale("log")
    axes.set(xlabel="parameters", ylabel=y)
    axes.grid(alpha=0.3)
    set_title(figure, title)
    save_figure(figure, path)
    return path


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, value) that no point of at most their cost beats or equals, from the cheapest on.

    >>> frontier({"a": (1, 5.0), "b": (2, 4.0), "c": (2, 6.0), "d": (3, 6.0)})
    ['a', 'c']
    """
    best, names = -math.inf, []
    for name, (_, value) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if value > best:
            best = value
            names.append(name)
    return names


def cost_bars(path: Path, costs: Mapping[str, Cost], *, title: str) -> Path:
    """What is done once and what scoring takes, a pair of bars for each proxy; seconds, logarithmic."""
    _refuse_nothing(costs, "proxy")
    figure = new_figure((6.8, 0.36 * len(costs) + 1.4))
    axes = figure.add_subplot()
    at = range(len(costs))
    for shift, name, seconds in (
        (-0.2, "done once", [cost.prepare for cost in costs.values()]),
        (0.2, "scoring all architectures", [cost.score for cost in costs.values()]),
    ):
        axes.barh([k + shift for k in at], [max(s, _SHORTEST) for s in seconds], 0.38, label=name, left=0)
    axes.set_xscale("log")
    axes.set_xlim(left=_SHORTEST)
    axes.set_yticks(at, list(costs), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=7)
    set_title(figure, title)
    save_figure(figure, path)
    return path


def graph_chart(path: Path, graphs: Mapping[str, Graph], *, title: str) -> Path:
    """Networks as graphs, side by side, data flowing downwards; nodes of equal depth share a line."""
    _refuse_nothing(graphs, "network")
    columns = min(_COLUMNS, len(graphs))
    rows = math.ceil(len(graphs) / columns)
    deepest = max(max(depths(graph), default=0) for graph in graphs.values())
    figure = new_figure((2.6 * columns, (0.34 * deepest + 1.2) * rows))
    for index, (name, graph) in enumerate(graphs.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.axis("off")
        axes.set_title(name, fontsize=7)
        places = layout(graph)
        for low, high in graph.edges:
            (x_low, y_low), (x_high, y_high) = places[low], places[high]
            hidden = x_low == x_high and y_low - y_high > 1  # it would run through the nodes in between
            arrow = {"arrowstyle": "->", "shrinkA": 6, "shrinkB": 6, "linewidth": 0.7, "color": "0.4"}
            arrow |= {"connectionstyle": f"arc3,rad={0.35 if hidden else 0}"}
            axes.annotate("", places[high], places[low], arrowprops=arrow)
        for node, (x, y) in zip(graph.nodes, places, strict=True):
            box = {"boxstyle": "round", "facecolor": "white" if node.module is None else "lightblue", "linewidth": 0.5}
            axes.text(x, y, node.op, ha="center", va="center", fontsize=5.5, bbox=box)
        widest = max((abs(x) for x, _ in places), default=0.0)
        axes.set(xlim=(-widest - 1, widest + 1), ylim=(min((y for _, y in places), default=0.0) - 0.7, 0.7))
    set_title(figure, title)
    save_figure(figure, path)
    return path


def depths(graph: Graph) -> list[int]:
    """For each node how many edges the longest way to it has.

    Raises:
        LimbeckError: an edge does not lead from a lower to a higher node.
    """
    depth_of = [0] * len(graph.nodes)
    for low, high in sorted(graph.edges):
        if not 0 <= low < high < len(graph.nodes):
            raise LimbeckError(
                f"An edge leads from node {low} to {high} of {len(graph.nodes)}; edges lead from lower nodes to higher."
            )
    for low, high in sorted(graph.edges, key=lambda edge: edge[1]):
        depth_of[high] = max(depth_of[high], depth_of[low] + 1)
    return depth_of


def layout(graph: Graph) -> list[tuple[float, float]]:
    """A place (x, y) for each node: y is minus its depth; nodes of one depth are spread evenly around x = 0."""
    depth_of = depths(graph)
    members: dict[int, list[int]] = {}
    for node, depth in enumerate(depth_of):
        members.setdefault(depth, []).append(node)
    return [
        (2.0 * (members[depth].index(node) - (len(members[depth]) - 1) / 2), -float(depth))
        for node, depth in enumerate(depth_of)
    ]


def estimate_of(row: Mapping[str, Any]) -> Estimate:
    """Spearman's ρ in a row of the study ``nas-ranking``."""
    return Estimate(value=row["mean"], std=row["std"], low=row["low"], high=row["high"])


def cost_of(row: Mapping[str, Any]) -> Cost:
    """The cost in a row of the study ``nas-ranking``."""
    return Cost(prepare=row["prepare_seconds"], score=row["seconds"])


def _refuse_nothing(values: Mapping[str, Any] | Sequence[Any], what: str) -> None:
    if not values:
        raise LimbeckError(f"There is no {what} to draw; give at least one.")
