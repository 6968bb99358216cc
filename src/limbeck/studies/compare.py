"""Which method gives the best small set: every one under every protocol, on the learner and on others.

Each set is learned or chosen in a folder of its own and judged as ``limbeck evaluate`` judges it, so a comparison can
be stopped and gone on with. Shapes: K classes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import ARTEFACT, CHECKPOINT, RunDirectory
from limbeck.common.charts import Line, line_chart
from limbeck.common.devices import Device, usable_device
from limbeck.common.files import read_json, write_json
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.common.typed import check_types
from limbeck.data import TaskData, load
from limbeck.data.sources import Source
from limbeck.engine import PixelConfig
from limbeck.errors import DivergedError, LimbeckError, unknown
from limbeck.evaluation.baselines import Layout, make_baseline
from limbeck.evaluation.judge import evaluate
from limbeck.evaluation.selections import SELECTIONS
from limbeck.evaluation.training import LearnedSchedule, OrdinaryTraining
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter
from limbeck.experiment.recorded import encode
from limbeck.experiment.settings import config_of
from limbeck.methods import METHODS
from limbeck.models import LearnerLike, name_learner
from limbeck.outer.defaults import SIZES
from limbeck.outer.loop import distill
from limbeck.studies.folder import claim_folder

SELECTED: Final = (*SELECTIONS.names, "kmeans", "average")
"""What is chosen or averaged instead of learned."""

DEFAULT_METHODS: Final = ("random", "kmeans", "kmeans-nearest", "herding", "k-center", *METHODS.names)

ROWS, MARK, TABLE = "rows.json", "compare.json", "comparison.json"


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared.

    Args:
        ipc: images per class.
        methods: which methods (unrolled, dm, dc, dsa) and real images in their place (random, kmeans, kmeans-nearest,
            herding, k-center, average); all but the last by default.
        learner: sets are learned for it.
        learners: networks that are trained on every set, too: what carries over.
        max_time: seconds for learning each set; judging comes after them.
        iterations: outer iterations of each at most; by default as the time allows.
        n: held-out initial weights for each score.
        epochs: of ordinary training, where its tuning starts; by default some hundred steps.
        seed: of everything random.
        val_size: training examples set aside for all selection.
    """

    ipc: tuple[int, ...] = (1, 10)
    methods: tuple[str, ...] = DEFAULT_METHODS
    learner: str = "lenet"
    learners: tuple[str, ...] = ()
    max_time: float | None = 120.0
    iterations: int | None = None
    n: int = 10
    epochs: int | None = None
    seed: int = 0
    val_size: int = 5000

    def __post_init__(self) -> None:
        check_types(self)
        for name in self.methods:
            if name not in (*METHODS.names, *SELECTED):
                raise unknown("method", name, (*METHODS.names, *SELECTED))
        if not self.methods or not self.ipc:
            raise LimbeckError("Nothing is compared: name methods and numbers of images per class.")
        if min(self.ipc) < 1 or self.n < 1:
            raise LimbeckError(f"ipc is {self.ipc} and n is {self.n}; both must be at least 1.")
        if self.max_time is not None and not self.max_time > 0:
            raise LimbeckError(f"max_time is {self.max_time}; it must be a positive number of seconds.")


def compare(
    source: TaskData | Source,
    comparison: Comparison,
    out: str | Path,
    *,
    learner: LearnerLike | None = None,
    device: Device = "cpu",
    data_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Make every set that is not there yet, judge it, and write table and chart.

    Args:
        source: the task, or what ``load_data`` takes.
        comparison: what is compared.
        out: folder, with one for each set in it.
        learner: a class, function or network for ``comparison.learner``, where that is given in Python.
        device: where to compute.
        data_dir: where data sets are looked for first.
        resume: go on with what is in ``out``.
        overwrite: replace it.
        reporter: told about each run's progress.
        tell: told which set is next.

    Returns:
        A row for each set, protocol and learner: ``method``, ``protocol``, ``learner``, ``ipc``, ``mean``, ``std`` and
        ``n`` of the test accuracy in percent, ``seconds`` of making the set, ``training``; or ``error``.

    Raises:
        LimbeckError: wrong input, or a folder that holds something else.
    """
    device, out = usable_device(device), Path(out)
    data = (
        source
        if isinstance(source, TaskData)
        else load(source, data_dir=data_dir, val_size=comparison.val_size, seed=comparison.seed)
    )
    _prepare(out, comparison, data, resume=resume, overwrite=overwrite)
    rows: list[dict[str, Any]] = []
    todo = [(ipc, method) for ipc in comparison.ipc for method in comparison.methods]
    for index, (ipc, method) in enumerate(todo):
        folder = out / f"{method}-{ipc}"
        if not (folder / ROWS).is_file():
            tell(f"{index + 1} of {len(todo)}: {method}, {ipc} per class")
            found = _one(data, comparison, method, ipc, folder, learner, str(device), reporter, tell)
            if found is None:  # someone stopped it
                break
            write_json(folder / ROWS, {"rows": found})
        rows += read_json(folder / ROWS)["rows"]
        write_json(out / TABLE, {"rows": rows, "versions": versions(str(device)), "settings": encode(comparison)})
    return rows


def draw_comparison(rows: Sequence[dict[str, Any]], path: Path, *, ipc: int, learner: str) -> None:
    """The chart of one number of images per class under ordinary training: accuracy against seconds of making the set.

    What is chosen in no time is a horizontal line. It needs matplotlib; see ``line_chart`` for the files.
    """
    chosen = [
        row for row in rows
        if row["ipc"] == ipc and row["learner"] == learner and row["protocol"] == "ordinary" and "mean" in row
    ]  # fmt: skip
    most = max([row["seconds"] for row in chosen] + [1.0])
    lines = {}
    for row in chosen:
        level, spread = row["mean"], row["std"] or 0.0
        selected = row["method"] in SELECTED
        x, y = ([0.0, most], [level, level]) if selected else ([row["seconds"]], [level])
        lines[row["method"]] = Line(x=x, y=y, low=[v - spread for v in y], high=[v + spread for v in y])
    title = f"{ipc} images per class, {learner}, ordinary training"
    line_chart(path, lines, title=title, x="seconds of making the set", y="test accuracy, %")


def _prepare(out: Path, comparison: Comparison, data: TaskData, *, resume: bool, overwrite: bool) -> None:
    """Make the folder, or refuse one that holds something else; more methods and sizes may come when it goes on."""
    wanted = {name: value for name, value in encode(comparison).items() if name not in ("ipc", "methods")}
    wanted["data"] = data.sha256
    before = claim_folder(out / MARK, "comparison", resume=resume, overwrite=overwrite)
    changed = [] if before is None else [name for name in wanted if before.get(name) != wanted[name]]
    if changed:
        raise LimbeckError(
            f"{out} was begun with another {', '.join(changed)}; go on with the same, or replace it with --overwrite."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARK, wanted)


def _one(
    data: TaskData,
    comparison: Comparison,
    method: str,
    ipc: int,
    folder: Path,
    learner: LearnerLike | None,
    device: str,
    reporter: Reporter | None,
    tell: Callable[[str], None],
) -> list[dict[str, Any]] | None:
    """Make one set and judge it; None if someone stopped its run."""
    named = {"method": method, "ipc": ipc, "learner": comparison.learner}
    network = comparison.learner if learner is None else learner
    begun = time.monotonic()
    try:
        if method in METHODS.names:
            run = _learn(data, comparison, method, ipc, folder, network, device, reporter)
            if not run.info["finished"]:
                return None
            seconds = float(run.info["seconds"])
        else:
            run = _choose(data, comparison, method, ipc, folder, network)
            seconds = time.monotonic() - begun
        scheduled = isinstance(run.training, LearnedSchedule)
        start = OrdinaryTraining.for_images(run.images.shape[0] * run.images.shape[1])
        if comparison.epochs is not None:
            start = dataclasses.replace(start, epochs=comparison.epochs)
        result = evaluate(
            run,
            data,
            n=comparison.n,
            seed=comparison.seed,
            baselines=(),
            learners=comparison.learners,
            training=start,
            protocol="both" if scheduled else "ordinary",
            device=device,
            tell=tell,
        )
    except DivergedError as error:
        return [named | {"protocol": "ordinary", "error": str(error)}]
    rows = []
    for row in result.rows:
        other = comparison.learner if row.row == "distilled" else row.row
        scores = row.scores.to_json()
        rows.append(
            named
            | {"protocol": row.protocol, "learner": other, "seconds": round(seconds, 1), "training": row.training}
            | {key: scores[key] for key in ("mean", "std", "n", "worst")}
        )
    return rows


def _learn(
    data: TaskData,
    comparison: Comparison,
    method: str,
    ipc: int,
    folder: Path,
    learner: LearnerLike,
    device: str,
    reporter: Reporter | None,
) -> Distilled:
    """A set that a method learns; goes on with a run that was stopped."""
    settings = {"ipc": ipc, "method": method, "seed": comparison.seed, "val_size": comparison.val_size}
    endless = None if comparison.max_time is None else 10**6
    settings |= {"max_time": comparison.max_time, "iterations": comparison.iterations or endless}
    config = config_of({k: v for k, v in settings.items() if v is not None}, learner=learner, data=data.name)
    return distill(
        config,
        data,
        out=folder,
        device=device,
        resume=(folder / CHECKPOINT).is_file(),
        overwrite=not (folder / CHECKPOINT).is_file(),
        free=SIZES,
        reporter=reporter,
    )


def _choose(
    data: TaskData, comparison: Comparison, method: str, ipc: int, folder: Path, learner: LearnerLike
) -> Distilled:
    """A set that is chosen or averaged, as an artefact like any other."""
    if (folder / ARTEFACT).is_file():
        return Distilled.load(folder, learner=learner)
    x_KnCHW = make_baseline(method)(data, ipc, generator(comparison.seed, f"compare {method} {ipc}"))
    images, labels = Layout(batches=1, ipc=ipc).split(x_KnCHW)
    config = Config(
        data=data.source or data.name,
        learner=name_learner(learner),
        source=PixelConfig(steps=1, epochs=1, ipc=ipc, start="kmeans" if method == "kmeans" else "real"),
        val_size=len(data.val_y),
        seed=comparison.seed,
    ).passing({name_learner(learner): learner})
    run = Distilled(
        images=images.contiguous().cpu(),
        labels=labels.contiguous().cpu(),
        training=OrdinaryTraining.for_images(images.shape[0] * images.shape[1]),
        preprocessing=data.preprocessing,
        class_names=data.class_names,
        config=config.settled(),
        weights={},
        info={
            "data": data.provenance,
            "selected": method,
            "validation": {"accuracy": 0.0, "iteration": -1},
            "finished": True,
            "iterations": 0,
            "seconds": 0.0,
            "versions": versions("cpu"),
            **config.needs,
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    RunDirectory(folder).finish(run)
    return run.kept_in(folder)
