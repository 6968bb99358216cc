"""Studies and verbs that start from trained networks, and the grid of sizes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_pools import network, pool_of_rows, rows_file, tiny_pool_config
from tiny_runs import Faulty, use

from limbeck.artefact.distilled import Distilled
from limbeck.attack.config import AttackSettings, attack_config
from limbeck.cli import main as cli
from limbeck.cli.commands import reproducing
from limbeck.cli.tables import study_table
from limbeck.data import TaskData, load
from limbeck.engine import PixelConfig
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import FINE_TUNING
from limbeck.evaluation.judge import evaluate
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, OuterConfig
from limbeck.models import build, load_pool
from limbeck.outer.loop import distill
from limbeck.pools.adapt import AdaptSettings, adapt_config
from limbeck.studies import PoolPlan, Study, Variant, grid, grid_config, kind_named, kinds, study
from limbeck.studies.figures import draw_figures
from limbeck.studies.run import run_study

QUICK = OuterConfig(iterations=3, inits=2, real_batch=32, validate_every=3, validate_inits=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def pool(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools") / "rows.safetensors"
    pool_of_rows(file, path)
    return path


def inverted(file: Path) -> TaskData:
    return load(f"{file},invert=True", val_size=40)


def adapted(pool: Path, file: Path, **changes: Any) -> Config:
    outer = changes.pop("outer", QUICK)
    return adapt_config(pool, f"{file},invert=True", tiny_settings(**changes), outer=outer)


def tiny_settings(**changes: Any) -> AdaptSettings:
    return AdaptSettings(**({"images": 6, "steps": 2, "epochs": 1, "held_out": 4} | changes))


# --- adaptation ------------------------------------------------------------------------------------------------------


def test_adaptation_starts_from_networks_of_the_pool(pool: Path, file: Path) -> None:
    data = inverted(file)
    run = distill(adapted(pool, file), data)
    states, _ = load_pool(pool)
    net = run.network()
    weight = dict(net.named_parameters())["linear.weight"].detach()
    assert any(torch.equal(weight, row) for row in states["linear.weight"][-4:])  # a held-out one
    result = evaluate(run, data, n=4, baselines=(FINE_TUNING,))
    right = []
    for row in range(len(states["linear.weight"]) - 4, len(states["linear.weight"])):
        model = network(build("linear", shape=data.image_shape, num_classes=3), states, row)
        hits = model(data.preprocessing.apply(data.test_x)).argmax(1) == data.test_y
        right.append(100 * float(hits.double().mean()))
    assert result.distilled.before == pytest.approx(sum(right) / 4)  # of the other data, by networks as they are


def test_one_network_is_a_fixed_initialisation(pool: Path, file: Path) -> None:
    outer = dataclasses.replace(QUICK, inits=1)
    run = distill(adapted(pool, file, network=3, held_out=None, outer=outer), inverted(file))
    states, _ = load_pool(pool)
    assert torch.equal(run.weights["linear.weight"], states["linear.weight"][3])
    assert evaluate(run, inverted(file), baselines=()).info["n"] == 1
    with pytest.raises(LimbeckError, match="networks 0 to 9"):
        distill(adapted(pool, file, network=10, held_out=None, outer=outer), inverted(file))


def test_fine_tuning_is_momentum_on_the_random_images(pool: Path, file: Path) -> None:
    """The judge's row equals plain torch SGD with momentum on the images of the baseline ``random``."""
    from limbeck.common.seeds import generator
    from limbeck.evaluation.baselines import FINE_TUNING_EPOCHS, random_real

    data = inverted(file)
    run = distill(adapted(pool, file), data)
    messages: list[str] = []
    result = evaluate(run, data, n=4, baselines=(FINE_TUNING,), tell=messages.append)
    row = result.rows[1]
    assert row.row == FINE_TUNING and row.step_size is not None
    epochs = next(int(text.split(":")[1].split()[0]) for text in messages if "epochs, scoring" in text)
    assert epochs in FINE_TUNING_EPOCHS
    draws = generator(0, "baseline random")
    sets = [random_real(data, 2, draws) for _ in range(10)]
    weights = run.initial(run.learner(), 4, int(generator(0, "evaluation test").initial_seed()))
    accuracies = []
    for index, x_KnCHW in zip(range(4), sets, strict=False):  # four networks: the first four sets
        model = network(build("linear", shape=data.image_shape, num_classes=3), weights, index)
        optimizer = torch.optim.SGD(model.parameters(), lr=row.step_size, momentum=0.9)
        for _ in range(epochs):
            for step in range(2):
                loss = torch.nn.functional.cross_entropy(model(x_KnCHW[:, step]), torch.arange(3))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        hits = model(data.preprocessing.apply(data.test_x)).argmax(1) == data.test_y
        accuracies.append(100 * float(hits.double().mean()))
    assert row.scores.accuracy_B.tolist() == pytest.approx(accuracies)


def test_networks_that_do_not_fit(pool: Path, file: Path) -> None:
    size = load("mnist,size=8", val_size=40)
    with pytest.raises(LimbeckError, match=r"know 3 classes; mnist,size=8 has 10"):
        distill(adapted(pool, file), size)
    with pytest.raises(LimbeckError, match=r"take images of 1 x 8 x 8, but those of mnist are 1 x 28 x 28; .*size="):
        distill(adapted(pool, file), load("mnist", val_size=40))
    with pytest.raises(LimbeckError, match="multiple of 6"):
        adapted(pool, file, images=7)


def test_adapt_on_the_command_line(pool: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--images", "3", "--steps", "1", "--epochs", "1", "--iterations", "2", "--inits", "2"]
    small += ["--validate-inits", "2", "--held-out", "3", "--real-batch", "16", "--baselines", FINE_TUNING, "--json"]
    out = ["--out", str(tmp_path / "run")]
    assert cli.run(["adapt", str(pool), "--to", f"{file},invert=True", *small, *out]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in values["rows"]] == ["distilled", FINE_TUNING]
    assert all(row["n"] == 3 for row in values["rows"])
    assert json.loads((tmp_path / "run" / "score.json").read_text()) == values
    words = ["adapt", str(pool), "--to", f"{file},invert=True", *small, *out]
    assert cli.run(words) == 2
    assert "already holds a run" in capsys.readouterr().err
    run = Distilled.load(tmp_path / "run")
    assert run.config.data == f"{file},invert=True"
    assert run.evaluate(n=3).distilled.scores.mean == pytest.approx(values["rows"][0]["mean"])  # by its name
    assert cli.run([*words, "--resume", "--epochs", "3"]) == 2
    assert "began with source epochs 1, not 3" in capsys.readouterr().err
    assert cli.run([*words, "--resume", "--seed", "4"]) == 2
    assert "began with seed 0, not 4" in capsys.readouterr().err
    assert cli.run([*words, "--resume", "--n", "0"]) == 2
    assert "--n is 0" in capsys.readouterr().err
    assert cli.run([*words[:3], str(file), *words[4:], "--resume"]) == 2
    assert "was made from other data" in capsys.readouterr().err
    assert cli.run([*words, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["mean"] == values["rows"][0]["mean"]


# --- studies ---------------------------------------------------------------------------------------------------------


def pooled_study(file: Path, kind: str) -> Study:
    plan = PoolPlan(name="rows", data=str(file), config=tiny_pool_config(n=10, steps=80, group=10, val_size=40))
    card = plan.card | {"classes": ["0", "1", "2"]}
    if kind == "attack":
        attack = AttackConfig(source=0, target=1, keep=1.0)
        config = attack_config(plan.path, attack, AttackSettings(images=3, held_out=4), outer=QUICK, card=card)
    else:
        config = adapt_config(plan.path, f"{file},invert=True", tiny_settings(), outer=QUICK, card=card)
    baselines = ("average",) if kind == "attack" else (FINE_TUNING,)
    return Study(
        name="pooled",
        title="Networks of a pool",
        paper={},
        source="nobody 2026",
        variants=(Variant(group="a->b", seed=0, config=config, baselines=baselines),),
        n=4,
        kind=kind_named(kind),
        pools=(plan,),
    )


def test_an_attack_study_trains_its_pool_and_has_a_row_for_each_number(file: Path, tmp_path: Path) -> None:
    toy = pooled_study(file, "attack")
    scores = run_study(toy, tmp_path)
    assert scores is not None
    assert (tmp_path / "pools" / "rows.safetensors").is_file()
    rows = {row["row"]: row for row in toy.kind.rows(toy, scores)}
    for batch in ("", ", average, same step size", ", average, own step size"):
        for what in ("K->T rate", "other classes", "all classes"):
            assert rows[f"a->b{batch}: {what}"]["n"] == 4
    learned = scores[0]["attack"]["rows"][0]
    assert rows["a->b: K->T rate"]["mean"] == learned["rate"]["mean"] == scores[0]["mean"]
    assert sum("behind" in name for name in rows) == len(scores[0]["attack"]["defences"]) == 5
    again = run_study(toy, tmp_path)  # nothing is done twice
    assert again == scores
    assert any(path.name == "compared" for path in draw_figures(toy, tmp_path, scores))


@pytest.mark.parametrize("kind", ["attack", "baselines"])
def test_a_study_goes_on_after_a_run_that_diverged(
    kind: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = pooled_study(file, kind)
    first = toy.variants[0]
    lost = dataclasses.replace(first.config, outer=dataclasses.replace(QUICK, max_rollbacks=0))
    first = dataclasses.replace(first, baselines=("average",))
    variants = (dataclasses.replace(first, group="lost", config=lost), first)
    toy = dataclasses.replace(toy, variants=variants)
    use(monkeypatch, Faulty(losses={1: float("nan")}))
    scores = run_study(toy, tmp_path)
    assert scores is not None
    assert [score["diverged"] for score in scores] == [True, False]
    rows = toy.kind.rows(toy, scores)
    assert (rows[0]["row"].split(":")[0], rows[0]["mean"], rows[0]["n"], rows[0]["diverged"]) == ("lost", 0.0, 0, 1)
    assert len(rows) > 2
    study_table(toy, rows)
    draw_figures(toy, tmp_path, scores)
    assert (tmp_path / "figures" / "compared.svg").is_file()
    assert run_study(toy, tmp_path) == scores


@pytest.mark.parametrize("seed", [0, 5])
def test_an_attack_study_of_any_seed_selects_on_what_no_network_saw(
    seed: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = pooled_study(file, "attack")
    config = dataclasses.replace(toy.variants[0].config, seed=seed)
    variant = dataclasses.replace(toy.variants[0], seed=seed, config=config, baselines=())
    tasks: list[TaskData] = []
    monkeypatch.setattr(kinds, "attack_report", lambda run, data, **rest: tasks.append(data) or _nothing())
    assert run_study(dataclasses.replace(toy, variants=(variant,)), tmp_path) is not None
    assert torch.equal(tasks[0].val_x, load(str(file), val_size=40).val_x)
    assert Distilled.load(tmp_path / variant.label).config.split == 0


def _nothing() -> Any:
    rate = {"mean": 0.0, "std": None, "worst": 0.0}
    return SimpleNamespace(to_json=lambda: {"rows": [{"rate": rate}], "defences": []})


def test_an_adaptation_study_has_its_baselines(file: Path, tmp_path: Path) -> None:
    toy = pooled_study(file, "baselines")
    scores = run_study(toy, tmp_path)
    assert scores is not None
    assert [row["row"] for row in toy.kind.rows(toy, scores)] == ["a->b", f"a->b: {FINE_TUNING}"]
    draw_figures(toy, tmp_path, scores)
    assert (tmp_path / "figures" / "compared.svg").is_file()


def test_a_study_with_smaller_pools(file: Path, tmp_path: Path) -> None:
    scores = run_study(pooled_study(file, "attack"), tmp_path, networks=8)
    states, _ = load_pool(tmp_path / "pools" / "rows.safetensors")
    assert len(states["linear.weight"]) == 8
    assert scores is not None and scores[0]["n"] == 2


def test_pooled_studies_name_pools_that_they_make() -> None:
    for name in ("poison-mnist", "poison-cifar10", "adapt"):
        published = study(name)
        files = {f"pool:{plan.path}" for plan in published.pools}
        assert {variant.config.init.init for variant in published.variants} <= files
        assert set(published.transfer) <= {plan.name for plan in published.pools}
    assert {
        (v.config.attack.source, v.config.attack.target) for v in study("poison-mnist").variants if v.config.attack
    } == {
        (7, 1),
        (0, 1),
        (3, 8),
        (4, 9),
    }


# --- the grid --------------------------------------------------------------------------------------------------------


def test_a_grid_has_every_combination() -> None:
    toy = grid(grid_config(), steps=(3, 1), epochs=(1, 2), ipc=(1,), n=5)
    sources = [variant.config.source for variant in toy.variants]
    assert [(s.steps, s.epochs, s.ipc) for s in sources if isinstance(s, PixelConfig)] == [
        (1, 1, 1),
        (3, 1, 1),
        (1, 2, 1),
        (3, 2, 1),
    ]
    with pytest.raises(LimbeckError, match="at least one value"):
        grid(grid_config(), steps=(0,), epochs=(1,), ipc=(1,), n=5)


def test_sensitivity_on_the_command_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid"
    words = ["sensitivity", str(file), "--learner", "linear", "--steps", "1", "2", "--epochs", "1", "--ipc", "1"]
    words += ["--iterations", "2", "--n", "2", "--out", str(out), "--json"]
    assert cli.run(words) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["row"] for row in rows] == ["steps 1, epochs 1, ipc 1", "steps 2, epochs 1, ipc 1"]
    assert (out / "figures" / "accuracy.png").is_file()
    assert cli.run(words) == 2
    assert "already holds a study" in capsys.readouterr().err
    assert cli.run([*words, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert cli.run([*words[:5], "3", *words[6:], "--resume"]) == 2  # another grid
    assert "was begun otherwise" in capsys.readouterr().err


def test_reproduce_refuses_networks_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["reproduce", "sensitivity", "--networks", "8"]) == 2
    assert "needs no trained networks" in capsys.readouterr().err
    assert cli.run(["reproduce", "poison-mnist", "--networks", "3"]) == 2
    assert "at least 8" in capsys.readouterr().err
    assert cli.run(["distill", "--recipe", "adapt"]) == 2
    assert "starts from trained networks" in capsys.readouterr().err


def test_reproduce_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from limbeck.cli.commands import bounding
    from limbeck.theory.bound import BoundConfig

    monkeypatch.setattr(bounding, "RUNS", (("random", 3, BoundConfig(images=(2, 3))),))
    monkeypatch.setattr(bounding, "figures_missing", lambda: "no charts")  # they have a test of their own
    assert "bound" in reproducing.recipe_names()
    words = ["reproduce", "bound", "--n", "20", "--out", str(tmp_path / "b"), "--json"]
    assert cli.run(words) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["row"] for row in rows] == ["random, D = 3: M = 2", "random, D = 3: M = 3"]
    assert rows[0]["mean"] == pytest.approx(rows[0]["paper"], rel=0.01)
    assert rows[1]["worst"] < 1e-10
    assert cli.run(words) == 2
    assert "holds a result already" in capsys.readouterr().err
    calls: list[str] = []
    again = bounding.run_bound
    monkeypatch.setattr(bounding, "run_bound", lambda *a, **k: calls.append("called") or again(*a, **k))
    assert cli.run([*words, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert calls == []
    assert cli.run([*words, "--resume", "--seed", "1"]) == 2
    assert "made otherwise (inits 20, iterations 3000" in capsys.readouterr().err
    (tmp_path / "b" / "bound.json").unlink()
    (tmp_path / "b" / "random-3.json").unlink()  # what was not finished
    assert cli.run([*words, "--resume"]) == 0
    assert calls == ["called"]
    capsys.readouterr()
    assert cli.run([*words, "--overwrite", "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["seed"] == 1
    for name in ("n", "iterations"):
        assert cli.run(["reproduce", "bound", f"--{name}", "0", "--out", str(tmp_path / "c")]) == 2
        assert f"--{name} is 0" in capsys.readouterr().err
