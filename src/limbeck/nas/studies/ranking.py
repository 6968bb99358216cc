"""The study ``nas-ranking``: how well each proxy orders the architectures of a space, and what it costs.

The question is that of Such et al. 2019 (arXiv 1912.07768): does training on a learned set tell good architectures from
bad ones, as fast as nothing else does? Here on Fashion-MNIST, among convolutional networks that two processor cores can
train to the end, which is what the oracle does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import CHECKPOINT
from limbeck.common.devices import Device
from limbeck.data import TaskData
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter, Stop
from limbeck.nas.proxies.base import Proxy, Task, Tell
from limbeck.nas.proxies.ghn import GraphHyperNetwork
from limbeck.nas.proxies.predictor import CurvePredictor, EncodingPredictor
from limbeck.nas.proxies.sharing import WeightSharing
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost
from limbeck.nas.spaces import space_named
from limbeck.nas.spaces.base import Arch
from limbeck.nas.studies.figures import Cost, cost_bars, cost_chart, cost_of, estimate_of, frontier_chart, scatter_chart
from limbeck.nas.studies.proxy_rows import LEARNED, Rows, choose, rows_of, seconds_on_learned_set
from limbeck.nas.studies.rank import DRAWS, Estimate, compare, scipy_missing
from limbeck.nas.studies.study_sets import draw_sample_for, learners_for, set_config, task_for
from limbeck.nas.table import ScoreTable, describe, fill
from limbeck.nas.training import Schedule
from limbeck.outer.loop import distill

DATA: Final = "fashion-mnist"
SPACE: Final = "convnets-narrow"
SAMPLE: Final = 72
"""Architectures that are ranked."""
KNOWN_ORACLE: Final = Path("benchmarks/results/tables/nas-oracle.json")
"""The oracle's scores as measured before, in a checkout of the project: they take hours."""
FAMILY: Final = 32
"""Architectures that the set is learned for."""
INITS: Final = 2
"""Initial weights that proxies which train average over."""
IMAGES: Final = 500
"""Validation images that proxies score on."""

PAPER: Final = MappingProxyType({"synthetic": "0.56 on the better half (CIFAR-10 cells)"})
"""Such et al. 2019, Spearman's ρ, by row."""


def oracle() -> RealData:
    """Real data to the end: what every proxy is measured by."""
    return RealData(schedule=Schedule(steps=1000, batch=32), label="oracle")


def synthetic_config(seed: int) -> Config:
    """The learned set: ten images a step, for 32 networks of the space and any initial weights."""
    space = space_named(SPACE, shape=(1, 28, 28), num_classes=10)
    return set_config(DATA, learners_for(space, SAMPLE, FAMILY, seed), seed, iterations=384, real_batch=128)


def ranking_proxies(run: Path, steps: int) -> Rows:
    """What is ranked: the set in ``run``, learned for so many steps, and everything that it has to compete with.

    All that validate do so by the probability of the right class. Real data is taken for as many steps, of 64 images
    and of as many as the learned set has, and for as many seconds.
    """
    real = Schedule(steps=steps, batch=64, inits=INITS, warmup=0)
    few = dataclasses.replace(real, batch=10)
    examples, supernet = Schedule(steps=300, batch=32), Schedule(steps=1000, batch=32)
    judging: dict[str, Any] = {"images": IMAGES, "measure": "probability"}

    def same_seconds(tables: Mapping[str, ScoreTable]) -> Proxy:
        schedule = dataclasses.replace(few, steps=None, seconds=seconds_on_learned_set(tables))
        return RealData(schedule=schedule, label="real, same seconds", **judging)

    return rows_of(
        SyntheticData(run=run, inits=INITS, **judging),
        RealData(schedule=real, label="real, same steps", **judging),
        RealData(schedule=few, label="real, same steps and images", **judging),
        ("real, same seconds", same_seconds),
        WeightSharing(schedule=supernet, **judging),
        GraphHyperNetwork(schedule=dataclasses.replace(supernet, lr=0.001), **judging),
        EncodingPredictor(examples=12, schedule=examples, images=IMAGES),
        CurvePredictor(examples=12, schedule=examples, images=IMAGES),
        ZeroCost(kind="synflow"),
        ZeroCost(kind="jacob_cov"),
        ZeroCost(kind="naswot"),
        ZeroCost(kind="parameters"),
    )


def study_task(seed: int = 0, device: str = "cpu", data_dir: Path | None = None) -> Task:
    """The space on Fashion-MNIST, split as the learned set's data is."""
    return task_for(synthetic_config(seed), SPACE, device, data_dir)


@final
@dataclass(frozen=True, kw_only=True)
class Scores:
    """Tables on the same architectures by the proxy's name.

    ``learned_seconds`` is what learning the set that a proxy trains on took, by the proxy's name.
    """

    tables: dict[str, ScoreTable]
    learned_seconds: dict[str, float]

    def prepare_seconds(self, name: str) -> float:
        """What is done once for a proxy, a learned set included."""
        return self.tables[name].prepare_seconds + self.learned_seconds.get(name, 0.0)


def score_all(
    task: Task,
    archs: Sequence[Arch],
    proxies: Rows,
    out: Path,
    *,
    tell: Tell = lambda text: None,
    stop: Stop | None = None,
) -> Scores | None:
    """Score every architecture with every proxy; what is finished is kept in ``out``/tables.

    Returns:
        None if someone stopped it.

    Raises:
        LimbeckError: the folder holds scores of something else, or a proxy does not fit the task.
    """
    tables: dict[str, ScoreTable] = {}
    learning: dict[str, float] = {}
    for make in proxies.values():
        proxy = make(tables)
        table = fill(table_path(out, proxy.name), task, proxy, archs, tell=tell, stop=stop)
        if stop is not None and stop.requested:
            return None
        tables[proxy.name] = table.of(map(task.space.text, archs))
        if isinstance(proxy, SyntheticData):
            learning[proxy.name] = float(Distilled.load(proxy.run).info["seconds"])
    return Scores(tables=tables, learned_seconds=learning)


def oracle_table(
    task: Task,
    archs: Sequence[Arch],
    out: Path,
    *,
    proxy: Proxy | None = None,
    known: Path | None = KNOWN_ORACLE,
    tell: Tell = lambda text: None,
    stop: Stop | None = None,
) -> ScoreTable | None:
    """The oracle's scores: those of ``known`` where it answers the same question, else as ``score_all`` does."""
    proxy = proxy or oracle()
    texts = [task.space.text(arch) for arch in archs]
    if known is not None and known.is_file():
        table = ScoreTable.load(known)
        if table.same_question(describe(task, proxy)) and set(texts) <= table.scores.keys():
            tell(f"{proxy.name}: the scores in {known} are taken")
            return table.of(texts)
    scores = score_all(task, archs, rows_of(proxy), out, tell=tell, stop=stop)
    return None if scores is None else scores.tables[proxy.name]


def table_path(out: Path, name: str) -> Path:
    """The file of a proxy's table in a study's folder.

    >>> table_path(Path("runs"), "real, same seconds").as_posix()
    'runs/tables/real-same-seconds.json'
    """
    return out / "tables" / f"{slug(name)}.json"


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub("[^A-Za-z0-9.=]+", "-", name)


def learn_set(
    config: Config,
    out: Path,
    *,
    device: Device = "cpu",
    data: TaskData | None = None,
    reporter: Reporter | None = None,
) -> bool:
    """Learn a set in the folder ``out`` unless it is finished there; whether it is now, or someone stopped it."""
    begun = (out / CHECKPOINT).is_file()
    run = distill(config, data, out=out, device=device, resume=begun, overwrite=True, reporter=reporter)
    return bool(run.info["finished"])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RankingResult:
    """What the study found: its rows, the tables behind them, and the architectures."""

    rows: list[dict[str, Any]]
    oracle: ScoreTable
    scores: Scores
    archs: tuple[Arch, ...]


def run_ranking(
    task: Task,
    config: Config,
    out: Path,
    *,
    n: int = SAMPLE,
    proxies: Callable[[Path, int], Rows] = ranking_proxies,
    names: Sequence[str] = (),
    truth: Proxy | None = None,
    known: Path | None = KNOWN_ORACLE,
    reporter: Reporter | None = None,
    tell: Tell = lambda text: None,
    stop: Stop | None = None,
) -> RankingResult | None:
    """Learn the set, score a sample of the space with every proxy and with the oracle, and compare.

    Args:
        task: the space and the data.
        config: of the learned set.
        out: the study's folder; what is finished there is not done again.
        n: architectures.
        proxies: from the run directory of the learned set and its number of steps.
        names: which of them, or other proxies, see ``choose``; all by default. The set is learned if it is one of them.
        truth: the oracle; ``oracle()`` by default.
        known: a table of the oracle that may be there.
        reporter: told about learning the set.
        tell: told of everything else.
        stop: looked at after each architecture.

    Returns:
        None if someone stopped it.

    Raises:
        LimbeckError: scipy is missing, the space is smaller than ``n``, or ``out`` holds something else.
    """
    missing = scipy_missing()
    if missing is not None:
        raise LimbeckError(missing)
    archs = draw_sample_for(task, config, n)
    run, truth = out / LEARNED, truth or oracle()
    chosen = choose(proxies(run, config.inner_steps), names, getattr(truth, "schedule", None))
    if LEARNED in chosen and not learn_set(config, run, device=task.device, data=task.data, reporter=reporter):
        return None
    scores = score_all(task, archs, chosen, out, tell=tell, stop=stop)
    if scores is None:
        return None
    table = oracle_table(task, archs, out, proxy=truth, known=known, tell=tell, stop=stop)
    if table is None:
        return None
    return RankingResult(rows=ranking_rows(table, scores, seed=task.seed), oracle=table, scores=scores, archs=archs)


def draw_ranking(task: Task, result: RankingResult, folder: Path) -> list[Path]:
    """The study's figures; needs the extra ``figures``. Returns their paths without endings."""
    space, y = task.space, "validation accuracy, %"
    costs = {row["row"]: cost_of(row) for row in result.rows}
    points = {row["row"]: (costs[row["row"]], estimate_of(row)) for row in result.rows}
    parameters = {space.text(arch): space.parameters(arch) for arch in result.archs}
    about = f"{len(result.archs)} architectures of {space.name}, {task.data.name}"
    tables = {name: table.values for name, table in result.scores.tables.items()}
    bars = {"oracle": Cost(prepare=result.oracle.prepare_seconds, score=result.oracle.seconds), **costs}
    truth = result.oracle.values
    return [
        scatter_chart(folder / "scatter", truth, tables, title=f"Scores against the oracle: {about}", y=y),
        cost_chart(folder / "cost", points, title=f"Rank correlation against cost: {about}", y="Spearman's ρ"),
        cost_bars(folder / "seconds", bars, title=f"What scoring costs: {about}"),
        frontier_chart(folder / "frontier", parameters, truth, title=f"The oracle: {about}", y=y),
    ]


def ranking_rows(
    oracle: ScoreTable, scores: Scores, *, seed: int = 0, k: int = 10, draws: int = DRAWS
) -> list[dict[str, Any]]:
    """A row for each proxy, JSON as it is.

    ``mean``, ``std``, ``low`` and ``high`` are Spearman's ρ, its bootstrap standard error and 95 % interval; then the
    same of ``kendall``'s τ, of ρ on the ``better_half`` and of the ``regret`` in the oracle's units; ``overlap`` of the
    ``k`` best. ``seconds`` is scoring all, ``prepare_seconds`` what is done once, a learned set included, and ``share``
    both as a part of the oracle's.
    """
    rows = []
    for name, table in scores.tables.items():
        comparison = compare(oracle.values, table.values, k=k, seed=seed, draws=draws)
        prepare = scores.prepare_seconds(name)
        rows.append(
            {
                "row": name,
                "paper": PAPER.get(name),
                **_columns(comparison.spearman),
                **_columns(comparison.kendall, "kendall"),
                **_columns(comparison.better_spearman, "better_half"),
                **_columns(comparison.better_kendall, "better_half_kendall"),
                **_columns(comparison.regret, "regret"),
                "overlap": comparison.overlap,
                "k": comparison.k,
                "n": comparison.n,
                "failed": comparison.failed,
                "seconds": table.seconds,
                "prepare_seconds": prepare,
                "share": (table.seconds + prepare) / oracle.seconds if oracle.seconds else None,
            }
        )
    return rows


def _columns(estimate: Estimate, name: str = "") -> dict[str, float]:
    """An estimate as columns of a row; without a name those of the row's main statistic."""
    values = dataclasses.asdict(estimate)
    if not name:
        return {"mean": values.pop("value"), **values}
    return {name: values.pop("value"), **{f"{name}_{key}": value for key, value in values.items()}}
