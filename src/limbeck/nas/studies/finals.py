"""The study ``nas-search``: random search with each proxy, and how good the networks are that it finds.

The best architecture by each proxy is trained to the end from several initial weights and tried on the test set once,
as in Table 2 of Such et al. 2019 (arXiv 1912.07768), here on Fashion-MNIST and at a size for two processor cores.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

import numpy as np
from torch import nn

from limbeck.common.files import read_json, write_json
from limbeck.common.naming import split_words
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter, Stop
from limbeck.models import build
from limbeck.nas.proxies.base import Task, Tell
from limbeck.nas.proxies.ghn import GraphHyperNetwork
from limbeck.nas.proxies.sharing import WeightSharing
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost
from limbeck.nas.spaces.base import Arch
from limbeck.nas.studies.figures import Cost, cost_bars, frontier_chart, graph_chart
from limbeck.nas.studies.proxy_rows import LEARNED, Rows, choose, rows_of
from limbeck.nas.studies.rank import fill_worst
from limbeck.nas.studies.ranking import IMAGES, INITS, Scores, learn_set, score_all, slug
from limbeck.nas.studies.study_sets import draw_sample
from limbeck.nas.table import ScoreTable
from limbeck.nas.training import Schedule, score_on, train_real

BUDGET: Final = 60
"""Architectures that each search looks at, the same ones."""
RANDOM: Final = "random pick"
"""The row of the search that looks at nothing: the first architecture that was drawn."""
REAL: Final = "real"
"""The row of real data, ``REAL_STEPS`` of it: as many for every network, however long they take."""
REAL_STEPS: Final = 300
SHORTLIST: Final = 3
"""Architectures that the learned set leaves to real data in the search that takes both."""
SHORTLISTED: Final = f"{LEARNED}, then {REAL}"
"""The row of that search."""
PAPER: Final = MappingProxyType(
    {
        "ghn": "4.3 ± 0.1 %, 5.1 M, 0.42 GPU days",
        "sharing": "3.92 %, 3.9 M, 0.25 GPU days",
        REAL: "3.88 ± 0.08 %, 12.4 M, 10 GPU days",
        "synthetic": "3.84 ± 0.06 %, 8.2 M, 0.67 GPU days",
        f"{REAL}, cutout": "3.02 ± 0.03 %",
        "synthetic, cutout": "2.92 ± 0.06 %",
        f"{REAL}, cutout, wider": "2.51 ± 0.13 % (F = 128)",
        "synthetic, cutout, wider": "2.42 ± 0.03 % (F = 128)",
    }
)
"""Such et al. 2019: test error on CIFAR-10, parameters and cost of random search with each proxy."""

Widen: TypeAlias = Callable[[Task, Arch, int], nn.Module]
"""Builds an architecture so many times as wide."""


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """How winners are trained to the end.

    Args:
        name: what rows call it; empty for the plain one.
        schedule: with ``inits``, the initial weights that the error is averaged over.
        wider: factor on the width.
    """

    name: str
    schedule: Schedule
    wider: int = 1


def final_settings() -> tuple[Setting, ...]:
    """The settings in which winners are trained: plain, with cutout, and with cutout at twice the width."""
    plain = Schedule(steps=500, batch=32, inits=3)
    cut = dataclasses.replace(plain, cutout=8)
    return (
        Setting(name="", schedule=plain),
        Setting(name="cutout", schedule=cut),
        Setting(name="cutout, wider", schedule=dataclasses.replace(cut, inits=2), wider=2),
    )


def search_proxies(run: Path) -> Rows:
    """The proxies that are searched with; ``run`` holds the learned set."""
    real = Schedule(steps=REAL_STEPS, batch=32)
    return rows_of(
        SyntheticData(run=run, inits=INITS, images=IMAGES),
        RealData(schedule=real, images=IMAGES, label=REAL),
        WeightSharing(images=IMAGES, measure="probability"),
        GraphHyperNetwork(images=IMAGES, measure="probability"),
        ZeroCost(kind="naswot"),
    )


def best(table: ScoreTable, k: int) -> list[str]:
    """The ``k`` architectures with the best scores, the first of equals; raises LimbeckError for an empty table."""
    if not table.scores:
        raise LimbeckError(f"The table of {table.name} is empty, so that nothing has won.")
    values_N = fill_worst(np.array(list(table.values.values())))
    return [list(table.scores)[i] for i in np.argsort(-values_N, kind="stable")[:k]]


@final
@dataclass(frozen=True, kw_only=True)
class Winner:
    """What a search chose, and its cost."""

    winner: str
    cost: Cost


def choose_winners(scores: Scores) -> dict[str, Winner]:
    """The search with each proxy, and the one in which real data chooses among the best of the learned set."""
    winners = {
        name: Winner(winner=best(table, 1)[0], cost=Cost(prepare=scores.prepare_seconds(name), score=table.seconds))
        for name, table in scores.tables.items()
    }
    if LEARNED in winners and REAL in winners:
        shortlist = scores.tables[REAL].of(best(scores.tables[LEARNED], SHORTLIST))
        cost = winners[LEARNED].cost
        winners[SHORTLISTED] = Winner(
            winner=best(shortlist, 1)[0],
            cost=Cost(prepare=cost.prepare + scores.prepare_seconds(REAL), score=cost.score + shortlist.seconds),
        )
    return winners


def build_wider(task: Task, arch: Arch, factor: int) -> nn.Module:
    """A network of a space whose texts are names of learners, so many times as wide.

    Raises:
        LimbeckError: the architecture has no width.
    """
    if factor == 1:
        return task.space.build(arch)
    words = split_words(task.space.text(arch))
    if not any(word.startswith("width=") for word in words):
        raise LimbeckError(f"{task.space.text(arch)} names no width=..., so that it cannot be made wider.")
    wide = [f"width={factor * int(word[6:])}" if word.startswith("width=") else word for word in words]
    return build(",".join(wide), shape=task.space.shape, num_classes=task.space.num_classes)


def train_final(task: Task, arch: Arch, setting: Setting, path: Path, *, widen: Widen = build_wider) -> dict[str, Any]:
    """Train a winner to the end and try it on the test set, unless that is done: what ``path`` holds, or will.

    Returns:
        ``arch``, ``setting``, ``mean`` and ``std`` of the error in percent over ``n`` initial weights, ``parameters``
        and ``seconds``.

    Raises:
        LimbeckError: the file holds the result of something else.
    """
    text = task.space.text(arch)
    about = {"arch": text, "setting": dataclasses.asdict(setting), "data": task.data.sha256, "seed": task.seed}
    if path.is_file():
        result: dict[str, Any] = read_json(path)
        if {name: result.get(name) for name in about} != about:
            raise LimbeckError(f"{path} holds the result of another network or training; choose another folder.")
        return result
    begun = time.perf_counter()
    module = widen(task, arch, setting.wider).to(task.device)
    stream = f"final {setting.name} {text}"
    kernels, networks = train_real(module, task.data, setting.schedule, seed=task.seed, stream=stream)
    accuracies = score_on(kernels, networks, task.data, split="test")
    result = about | {
        "mean": 100 - accuracies.mean,
        "std": accuracies.std,
        "n": accuracies.n,
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "seconds": time.perf_counter() - begun,
    }
    write_json(path, result)
    return result


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FinalsResult:
    """What the study found: its rows, the searches behind them, and the winner of each and of none."""

    rows: list[dict[str, Any]]
    searches: dict[str, Winner]
    winners: dict[str, str]


def run_finals(
    task: Task,
    config: Config,
    out: Path,
    *,
    n: int = BUDGET,
    proxies: Callable[[Path], Rows] = search_proxies,
    names: Sequence[str] = (),
    settings: Sequence[Setting] | None = None,
    widen: Widen = build_wider,
    reporter: Reporter | None = None,
    tell: Tell = lambda text: None,
    stop: Stop | None = None,
) -> FinalsResult | None:
    """Learn the set, search with every proxy among the same architectures, train every winner in every setting.

    Args:
        task: the space and the data.
        config: of the learned set.
        out: the study's folder; what is finished there is not done again.
        n: architectures that each search looks at.
        proxies: from the run directory of the learned set.
        names: which of them, or other proxies, see ``choose``; all by default. The set is learned if it is one of them.
        settings: how winners are trained; ``final_settings()`` by default.
        widen: builds them wider.
        reporter: told about learning the set.
        tell: told of everything else.
        stop: looked at after each architecture and each training.

    Returns:
        None if someone stopped it.

    Raises:
        LimbeckError: the space is smaller than ``n``, or ``out`` holds something else.
    """
    archs = draw_sample(task.space, n, task.seed, "search")
    settings = final_settings() if settings is None else settings
    run = out / LEARNED
    chosen = choose(proxies(run), names, dataclasses.replace(settings[0].schedule, inits=1))
    if LEARNED in chosen and not learn_set(config, run, device=task.device, data=task.data, reporter=reporter):
        return None
    scores = score_all(task, archs, chosen, out, tell=tell, stop=stop)
    if scores is None:
        return None
    searches = choose_winners(scores)
    winners = {name: search.winner for name, search in searches.items()} | {RANDOM: task.space.text(archs[0])}
    results: dict[tuple[str, str], dict[str, Any]] = {}
    for setting in settings:
        for text in dict.fromkeys(winners.values()):
            if stop is not None and stop.requested:
                return None
            path = out / "finals" / f"{slug(f'{text} {setting.name}'.strip())}.json"
            result = train_final(task, task.space.read(text), setting, path, widen=widen)
            results[setting.name, text] = result
            tell(f"{text} {setting.name}: test error {result['mean']:.2f} % in {result['seconds']:.0f} s")
    rows = final_rows(winners, results, [setting.name for setting in settings], searches)
    return FinalsResult(rows=rows, searches=searches, winners=winners)


def draw_finals(task: Task, result: FinalsResult, folder: Path) -> list[Path]:
    """The study's figures; needs the extra ``figures``. Returns their paths without endings."""
    names_of: dict[str, list[str]] = {}
    for name, text in result.winners.items():
        names_of.setdefault(text, []).append(name)
    graphs = {", ".join(names): task.space.graph(task.space.read(text)) for text, names in names_of.items()}
    about = f"{task.space.name}, {task.data.name}"
    costs = {name: search.cost for name, search in result.searches.items()}
    accuracy = {row["row"]: 100 - row["mean"] for row in result.rows}
    parameters = {row["row"]: row["parameters"] for row in result.rows}
    return [
        graph_chart(folder / "winners", graphs, title=f"Networks that each search found: {about}"),
        frontier_chart(
            folder / "frontier", parameters, accuracy, title=f"Networks that were found: {about}", y="test accuracy, %"
        ),
        cost_bars(folder / "seconds", costs, title=f"What searching costs: {about}"),
    ]


def final_rows(
    winners: Mapping[str, str],
    results: Mapping[tuple[str, str], Mapping[str, Any]],
    settings: Sequence[str],
    searches: Mapping[str, Winner],
) -> list[dict[str, Any]]:
    """A row for each setting and search, from the winners by search and the results by setting and architecture.

    JSON as it is. ``mean`` and ``std`` are of the test error in percent over ``n`` initial weights, ``seconds`` what
    scoring took, ``prepare_seconds`` what is done once before, learning a set included, ``training_seconds`` what
    training the winner took.
    """
    rows = []
    for setting in settings:
        for name, text in winners.items():
            result = results[setting, text]
            row = f"{name}, {setting}" if setting else name
            cost = searches[name].cost if name in searches else Cost(prepare=0.0, score=0.0)
            rows.append(
                {
                    "row": row,
                    "paper": PAPER.get(row),
                    "mean": result["mean"],
                    "std": result["std"],
                    "n": result["n"],
                    "parameters": result["parameters"],
                    "seconds": cost.score,
                    "prepare_seconds": cost.prepare,
                    "training_seconds": result["seconds"],
                    "arch": text,
                }
            )
    return rows
