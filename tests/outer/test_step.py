"""One outer iteration, and what stands beside it: budget, guard, journal."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_runs import Faulty, Recorder, metrics, tiny_config, tiny_data, use
from torch import Tensor

from limbeck.artefact.run_directory import RunDirectory
from limbeck.common.seeds import generator as stream
from limbeck.engine import Tensors
from limbeck.errors import DivergedError
from limbeck.experiment.parts import OuterConfig
from limbeck.experiment.progress import Progress
from limbeck.outer.guard import PATIENCE, Guard
from limbeck.outer.journal import finite_record
from limbeck.outer.loop import OuterLoop, distill
from limbeck.outer.optimizer import OuterOptimizer
from limbeck.outer.resolve import Assignment
from limbeck.outer.schedule import StepSettings, settings_at
from limbeck.outer.step import StepReport, outer_step

DATA = tiny_data()
NAMES = ("family", "inits", "data", "source", "method")


def loop(folder: Path | None = None, **settings: object) -> OuterLoop:
    place = None if folder is None else RunDirectory(folder)
    config = tiny_config(**settings)  # type: ignore[arg-type]
    return OuterLoop(Assignment(config=config, data=DATA, folder=place, checkpoint=None), "cpu", Recorder())


def streams(seed: int) -> dict[str, torch.Generator]:
    return {name: stream(seed, name) for name in NAMES}


# --- the step --------------------------------------------------------------------------------------------------------


def by_hand(params: Tensors, at: StepSettings, seed: int) -> tuple[Tensor, Tensor, Tensors]:
    """Loss, norms and averaged gradient of the same iteration by plain autograd, an initialisation at a time."""
    run = loop(inner={"lr": 0.1})
    source, rngs = run.source, streams(seed)
    member = run.family.draw(rngs["family"])
    weights = member.sample(3, rngs["inits"])
    x_NCHW, y_N = DATA.sample(rngs["data"], at.real_batch)
    losses, grads = [], []
    for b in range(3):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        theta = {name: value[b].clone().requires_grad_() for name, value in weights.items()}
        for t in range(at.inner_steps):
            batch = source.batch(leaves, t)
            logits = torch.func.functional_call(member.kernels.learner.module, theta, (batch.x_MCHW,))
            loss = -(batch.y_MK * logits.log_softmax(-1)).sum(-1).mean()
            steps = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {n: v - batch.h["lr"] * g for (n, v), g in zip(theta.items(), steps, strict=True)}
        outputs = torch.func.functional_call(member.kernels.learner.module, theta, (x_NCHW,))
        outer = torch.nn.functional.cross_entropy(outputs, y_N)
        losses.append(outer.detach())
        grads.append(dict(zip(leaves, torch.autograd.grad(outer, list(leaves.values())), strict=True)))
    norm_B = torch.stack([torch.stack([g.square().sum() for g in each.values()]).sum().sqrt() for each in grads])
    scale_B = (0.5 / norm_B).clamp_max(1.0)
    mean = {name: torch.stack([s * g[name] for s, g in zip(scale_B, grads, strict=True)]).mean(0) for name in params}
    return torch.stack(losses), norm_B, mean


@pytest.mark.parametrize("steps", [4, 2])
def test_a_step_is_the_clipped_average_of_autograds_gradients(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = loop(inner={"lr": 0.1})
    at = StepSettings(inner_steps=steps, real_batch=16, rate=0.7)
    params = {name: value.clone() for name, value in run.source.parameters().items()}
    loss_B, norm_B, mean = by_hand(params, at, 5)
    seen: list[tuple[Tensors, float]] = []
    take = OuterOptimizer.step

    def step(self: OuterOptimizer, grads: Tensors, factor: float) -> None:
        seen.append((grads, factor))
        take(self, grads, factor)

    monkeypatch.setattr(OuterOptimizer, "step", step)
    report = outer_step(run.setup, at, streams(5))
    torch.testing.assert_close(report.loss, loss_B.mean())
    torch.testing.assert_close(report.norm, norm_B.max())
    torch.testing.assert_close(report.norm_median, norm_B.median())
    ((grads, factor),) = seen
    assert factor == 0.7
    for name, grad in mean.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-6)
        assert not torch.equal(run.source.parameters()[name], params[name])


def test_a_step_hands_its_own_streams_to_whoever_draws() -> None:
    """With another stream for one of them, that one draws otherwise, and nothing else does."""
    at = StepSettings(inner_steps=4, real_batch=16, rate=1.0)
    reports = {}
    for name in ("none", "inits", "data"):
        rngs = streams(1) | ({} if name == "none" else {name: stream(2, name)})
        reports[name] = float(outer_step(loop().setup, at, rngs).loss)
    assert len(set(reports.values())) == 3


def test_bounds_hold_after_a_step() -> None:
    run = loop(pixels={"start": "real", "max_change": 0.01})
    before = run.source.parameters()["images"].clone()
    outer_step(run.setup, StepSettings(inner_steps=4, real_batch=16, rate=50.0), streams(0))
    low, high = DATA.pixel_range
    unit = (high - low) / DATA.preprocessing.std[0]
    change = (run.source.parameters()["images"] - before).abs().max()
    assert 0 < float(change) <= 0.01 * unit * (1 + 1e-5)


def test_schedules_say_what_holds_for_the_next_iteration() -> None:
    config = OuterConfig(iterations=10, warmup=4, schedule="constant", grow=2, real_batch=64, real_batch_end=256)
    progress = Progress(iteration=6, grown_at=5, factor=0.5)
    assert settings_at(config, progress, 0.6, 8) == StepSettings(inner_steps=8, real_batch=128, rate=0.5 * 2 / 5)
    assert settings_at(config, Progress(), 0.0, 8) == StepSettings(inner_steps=2, real_batch=64, rate=1 / 5)


# --- the guard -------------------------------------------------------------------------------------------------------


def test_no_numbers_are_divergence_at_once() -> None:
    guard = Guard(classes=3, max_rollbacks=5)
    for loss, norm in ((math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)):
        assert guard.has_diverged(Progress(), loss, norm)


def test_a_large_loss_is_divergence_if_it_stays() -> None:
    guard, progress = Guard(classes=3, max_rollbacks=5), Progress()
    assert not any(guard.has_diverged(progress, 0.5, 1.0) for _ in range(20))
    far = 3 * 0.5 + 1.5 * math.log(3)
    assert [guard.has_diverged(progress, far, 1.0) for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
    assert progress.smooth_loss == pytest.approx(0.5), "what is far off does not move the running mean"
    progress.bad_in_a_row = PATIENCE - 1
    assert not guard.has_diverged(progress, 0.5, 1.0) and progress.bad_in_a_row == 0


def test_a_loss_up_to_that_of_guessing_is_none() -> None:
    guard, progress = Guard(classes=10, max_rollbacks=5), Progress(smooth_loss=0.01)
    assert not any(guard.has_diverged(progress, 1.49 * math.log(10), 1.0) for _ in range(3 * PATIENCE))


def test_going_back_halves_the_rates_until_it_gives_up() -> None:
    params = {"images": torch.zeros(2)}
    optimizer = OuterOptimizer(OuterConfig(), params, lambda name: "images")
    good = optimizer.tensors()
    guard, progress = Guard(classes=3, max_rollbacks=2), Progress(iteration=7, bad_in_a_row=10)
    for times in (1, 2):
        params["images"].fill_(9.0)
        message = guard.roll_back(progress, 7, 5.0, optimizer, good)
        assert "diverged at iteration 7 (loss 5)" in message and f"{0.5**times:.3g} of their setting" in message
        assert (progress.rollbacks, progress.factor, progress.bad_in_a_row) == (times, 0.5**times, 0)
        assert params["images"].tolist() == [0.0, 0.0]
    with pytest.raises(DivergedError, match="diverged 3 times .loss 5 at iteration 7.*at 0.25 of the learning rates"):
        guard.roll_back(progress, 7, 5.0, optimizer, good)


# --- reading late, as on an accelerator ------------------------------------------------------------------------------


def test_reading_late_changes_nothing_but_when_it_is_told() -> None:
    at_once, late = loop(iterations=7, validate_every=5), loop(iterations=7, validate_every=5)
    late.read_every = 3
    results = [run.run() for run in (at_once, late)]
    assert torch.equal(results[0].images, results[1].images)
    one, other = (run.reporter.records for run in (at_once, late))  # type: ignore[attr-defined]
    assert [{**record, "elapsed": 0} for record in one] == [{**record, "elapsed": 0} for record in other]


def test_divergence_that_is_read_late_goes_back_to_the_good_state(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Faulty(losses={5: math.nan}))
    run = loop(iterations=9, validate_every=3)
    run.read_every = 100
    result = run.run()
    records = run.reporter.records  # type: ignore[attr-defined]
    assert result.info["rollbacks"] == 1
    # Iteration 6 went on from what had run away: its loss says nothing, but the state that followed is validated.
    assert [record["iteration"] for record in records] == list(range(1, 10))
    assert [record["loss"] is None for record in records] == [False] * 4 + [True] * 2 + [False] * 3
    assert [record["iteration"] for record in records if "val_mean" in record] == [3, 6, 9]
    assert result.images.isfinite().all()


def test_no_number_is_read_inside_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator reading a number waits for it: within a step nothing asks a tensor for one."""
    run = loop(learner="mlp,hidden=(4,)")
    at = StepSettings(inner_steps=4, real_batch=16, rate=1.0)
    outer_step(run.setup, at, streams(0))  # what is tried once, such as the mode, is behind it
    asked: list[str] = []
    take, listening = OuterOptimizer.step, [True]

    def step(self: OuterOptimizer, grads: Tensors, factor: float) -> None:
        listening[0] = False  # Adam reads its count of steps, which torch keeps on the processor
        take(self, grads, factor)
        listening[0] = True

    monkeypatch.setattr(OuterOptimizer, "step", step)
    for name in ("item", "tolist", "__float__", "__bool__"):
        method = getattr(Tensor, name)

        def read(self: Tensor, *args: object, name: str = name, method: object = method) -> object:
            asked.extend([name] * listening[0])
            return method(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, read)
    report = outer_step(run.setup, at, streams(1))
    monkeypatch.undo()
    assert asked == []
    assert report.loss.isfinite()


def test_growing_reads_what_waits_so_that_no_runaway_state_is_kept_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Faulty(grads={5: math.nan}))
    run = loop(iterations=16, validate_every=16, grow=1)  # four steps from the iteration after the eighth on
    run.read_every = 10
    result = run.run()
    assert result.info["rollbacks"] == 1 and result.images.isfinite().all()


# --- the journal -----------------------------------------------------------------------------------------------------


def test_a_run_that_ends_before_its_first_validation_leaves_its_last_iteration(tmp_path: Path) -> None:
    recorder = Recorder(2)
    distill(tiny_config(), DATA, out=tmp_path, reporter=recorder)
    (line,) = metrics(tmp_path)
    assert line["iteration"] == 2 and line["loss"] == recorder.records[-1]["loss"] and "val_mean" not in line
    distill(tiny_config(), DATA, out=tmp_path, resume=True)
    assert [line["iteration"] for line in metrics(tmp_path)] == [3, 6, 7], "going on replaces that line"


def test_a_time_budget_that_ends_between_validations_is_recorded(tmp_path: Path) -> None:
    result = distill(tiny_config(iterations=10**6, max_time=0.3, validate_every=10**5), DATA, out=tmp_path)
    (line,) = metrics(tmp_path)
    assert line["iteration"] == result.info["iterations"] and line["val_mean"] == result.info["validation"]["accuracy"]


def test_a_run_that_gives_up_before_its_first_validation_leaves_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faulty(losses={2: math.nan}))
    with pytest.raises(DivergedError):
        distill(tiny_config(max_rollbacks=0), DATA, out=tmp_path)
    (line,) = metrics(tmp_path)
    assert (line["iteration"], line["loss"]) == (2, None)


def test_records_of_runaway_iterations_are_json() -> None:
    fine = {"iteration": 1, "loss": 0.5, "norm": 1.0, "norm_median": 0.7}
    assert finite_record(fine) == fine
    nothing = {"norm": None, "norm_median": None}
    assert finite_record(fine | {"loss": math.nan}) == fine | nothing | {"loss": None}
    assert finite_record(fine | {"norm": math.inf}) == fine | nothing
    assert finite_record(fine | {"diverged": True}) == fine | nothing


def test_reports_are_scalars() -> None:
    report = outer_step(loop().setup, StepSettings(inner_steps=4, real_batch=16, rate=1.0), streams(0))
    assert isinstance(report, StepReport) and all(value.shape == () for value in report)
