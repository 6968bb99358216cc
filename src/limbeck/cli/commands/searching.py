"""``limbeck search``: find a good architecture, and show what a search found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from limbeck.cli.commands.shared import log_console, output, parse, prepare, progress_bar, result_console
from limbeck.cli.options import SearchOptions
from limbeck.data import canonical_name, load
from limbeck.errors import LimbeckError
from limbeck.nas.proxies import proxy_named
from limbeck.nas.proxies.base import Task
from limbeck.nas.searches.crew import SearchWorkers
from limbeck.nas.searches.place import SearchPlace
from limbeck.nas.searches.result import SearchResult, read_searches
from limbeck.nas.searches.run import SearchProgress, Watch
from limbeck.nas.searches.run import search as run_search
from limbeck.nas.spaces.named import space_named


def search(argv: list[str]) -> int:
    """``limbeck search``."""
    options = parse(SearchOptions, argv)
    if options.data == "show":
        return _show(options)
    if options.shown is not None:
        raise LimbeckError(f"'{options.shown}' is one word too many; to see a search: limbeck search show OUT.")
    if options.proxy is None:
        raise LimbeckError("--proxy says what scores architectures: a run directory, or a name such as real or naswot.")
    workers = SearchWorkers(number=options.workers, ray=options.ray, gpus_per_worker=options.gpus_per_worker)
    console = log_console()
    prepare(options)
    data = load(
        options.data,
        data_dir=options.data_dir,
        device=options.device,
        val_size=options.val_size,
        seed=options.seed,
    )
    space = space_named(options.space, data.image_shape, data.num_classes)
    out = options.out or Path("runs") / f"search-{canonical_name(options.data)}-{options.config.strategy}"
    place = SearchPlace(
        out=out, storage=options.storage, study=options.study, resume=options.resume, overwrite=options.overwrite
    )
    console.print(f"[dim]{options.config.budget} of {space.size:,} architectures, in {out}[/dim]", soft_wrap=True)
    with progress_watch(console) as watch:
        result = run_search(
            Task(space=space, data=data, seed=options.seed, device=options.device),
            proxy_named(options.proxy),
            options.config,
            place=place,
            workers=workers,
            max_time=options.max_time,
            watch=watch,
            tell=lambda text: console.print(text, style="dim", soft_wrap=True, markup=False),
        )
    output({"out": str(out), **result.to_json()}, options.json, None, lambda: _print({out.name: result}, options.top))
    if result.finished:
        return 0
    console.print(_reason(result), soft_wrap=True)
    return 130 if result.interrupted else 0


def _reason(result: SearchResult) -> str:
    """Why a search is not finished, and how it goes on."""
    if result.spent_preparing and not result.interrupted:
        return (
            "preparing what scores architectures took all of --max-time, so that nothing was scored; go on with a "
            "longer one and --resume"
        )
    why = "stopped" if result.interrupted else "time is up"
    return (
        f"{why} after {len(result.trials)} of {result.budget} trials; they are kept, go on with the same command and "
        "--resume"
    )


@contextmanager
def progress_watch(console: Console) -> Iterator[Watch]:
    """A progress bar on a terminal while architectures are scored, a line for every tenth elsewhere."""
    tenths: list[int] = [0]

    def best(progress: SearchProgress) -> str:
        return "" if progress.best is None else f"best {progress.best.score:.4g}  {progress.best.text}"

    def say(progress: SearchProgress) -> None:
        tenth = 10 * progress.done // progress.total
        if tenth > tenths[0]:
            tenths[0] = tenth
            line = f"{progress.done} of {progress.total} trials  {best(progress)}"
            console.print(line, style="dim", markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield say
        return
    bar = progress_bar(console)
    task = bar.add_task("scoring", total=None)

    def move(progress: SearchProgress) -> None:
        # What was there already took no time now: the estimate is over the rest.
        done, total = progress.done - progress.begun_at, progress.total - progress.begun_at
        bar.update(task, completed=done, total=total, description=best(progress))

    with bar:
        yield move


def _show(options: SearchOptions) -> int:
    source = options.shown or options.storage
    if source is None:
        raise LimbeckError("'limbeck search show' needs the folder of a search, or the storage of its study.")
    results = read_searches(source, options.study)
    values = {"studies": [{"study": name, **result.to_json()} for name, result in results.items()]}
    output(values, options.json, None, lambda: _print(results, options.top))
    return 0


def _print(results: Mapping[str, SearchResult], top: int) -> None:
    """The best trials of a search that is alone, and what each search cost."""
    console = result_console()
    for name, result in results.items():
        if len(results) == 1:
            console.print(_best_table(name, result, top))
    console.print(_cost_table(results))


def _best_table(name: str, result: SearchResult, top: int) -> Table:
    table = Table(title=f"{escape(name)}: the best of {len(result.trials)} trials", title_justify="left")
    if result.chance is not None:
        table.caption, table.caption_justify = f"networks that guess: {result.chance:.3g} %", "left"
    for column in ("trial", "architecture", result.scale.unit, "parameters", "FLOPs", "seconds"):
        table.add_column(column, justify="left" if column == "architecture" else "right", overflow="fold")
    for trial in result.top(top):
        cells = (f"{trial.score:.4g}", f"{trial.parameters or 0:,}", f"{trial.flops or 0:,}", f"{trial.seconds:.2f}")
        table.add_row(str(trial.slot), escape(trial.text), *cells)
    return table


def _cost_table(results: Mapping[str, SearchResult]) -> Table:
    table = Table(title="cost, in seconds of all workers", title_justify="left")
    for column in ("search", "strategy", "proxy", "trials", "failed", "best", "unit", "preparing", "scoring"):
        table.add_column(column, justify="left" if column in ("search", "strategy", "proxy", "unit") else "right")
    for name, result in results.items():
        settings, best = result.settings, result.best
        table.add_row(
            escape(name),
            str(settings.get("strategy")),
            escape(str(settings.get("proxy"))),
            f"{len(result.trials)} of {result.budget}",
            str(len(result.failed)),
            "–" if best is None else f"{best.score:.4g}",
            result.scale.unit,
            f"{result.prepare_seconds:.1f}",
            f"{result.scoring_seconds:.1f}",
        )
    return table
