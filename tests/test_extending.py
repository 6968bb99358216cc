"""The examples of docs/extending.md do what the page says: each is imported as it stands there, and used."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from doc_examples import PAGE, examples, module_of
from tiny_runs import Recorder, random_set, tiny_config, tiny_data
from torch import nn

import limbeck
from limbeck.artefact import EXPORTERS
from limbeck.data import READERS
from limbeck.engine import Execution, InnerConfig, Kernels, Parametrised, RealBatch, RealLoss, Unroll
from limbeck.errors import LimbeckError
from limbeck.experiment.build import build_source
from limbeck.methods import UnrolledConfig

MOST_LINES = 12


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example of the section that a test is marked with."""
    return module_of(request.param, tmp_path, monkeypatch)


def section(name: str) -> Any:
    return pytest.mark.parametrize("example", [name], indirect=True, ids=[name.replace(" ", "-")])


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_has_an_example_of_every_part() -> None:
    parts = ["source", "adjoint", "method", "learner", "reader", "exporter", "training recipe", "proxy", "space"]
    assert [heading.lower().split(maxsplit=1)[1] for heading in examples()] == parts


@pytest.mark.parametrize("name", examples())
def test_an_example_has_a_dozen_lines_at_most(name: str) -> None:
    """Besides imports, blank lines and docstrings; and it uses public names only."""
    code = examples()[name]
    tree = ast.parse(code)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    texts = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    left_out = {
        line for node in [*imports, *texts] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [line for number, line in enumerate(code.splitlines(), 1) if line.strip() and number not in left_out]
    assert len(lines) <= MOST_LINES, f"{len(lines)} lines"
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = attributes | {alias.name for node in imports for alias in node.names}
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]
    modules = [node.module or "" for node in imports if isinstance(node, ast.ImportFrom)]
    assert all(module.count(".") <= 2 for module in modules if module.startswith("limbeck")), "imports behind a door"


@pytest.mark.parametrize("name", examples())
def test_the_line_that_makes_it_built_in_exists(name: str) -> None:
    """The folder, table and file that the end of a section names."""
    text = re.split(rf"^## {name}$", PAGE.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]
    found = re.search(r"Built in: a file in\s+`(limbeck/[\w/]+)/` and a line in\s+`([A-Z]+)`\s+\(`(\w+\.py)`\)", text)
    assert found is not None
    folder, table, file = found.groups()
    source = (Path(limbeck.__file__).parent.parent / folder / file).read_text()
    assert re.search(rf"^{table}\b.* = ", source, re.MULTILINE), f"{folder}/{file} has no {table}"


# --- what is learned, and how ----------------------------------------------------------------------------------------


@section("A source")
def test_a_source_of_ones_own_is_distilled(example: ModuleType, tmp_path: Path) -> None:
    config = replace(tiny_config(iterations=2), source=example.Mirrored(inner_steps=3))
    run = limbeck.distill(config, tiny_data(), out=tmp_path / "run")
    assert run.images.shape == (3, 3, 1, 8, 8) and len(run.order) == 3
    assert torch.equal(run.images[1], run.images[0].flip(-1)) and torch.equal(run.images[2], run.images[0])
    before = build_source(config, tiny_data(), torch.Generator().manual_seed(0)).parameters()["images"]
    assert not torch.equal(before, run.images[0])
    seen = limbeck.load(tmp_path / "run")
    assert torch.equal(seen.images, run.images) and seen.summary() == json.loads(json.dumps(run.summary()))
    with pytest.raises(LimbeckError, match=f"{example.__name__}:Mirrored.*trust=True"):
        build_source(seen.config, tiny_data(), torch.Generator())
    assert seen.config.trusting(True) == config
    again = limbeck.load(tmp_path / "run", trust=True)
    assert again.config == config and torch.equal(again.images, run.images)
    assert isinstance(again.train(), nn.Module)
    assert "3 steps of learned images" in config.source.description


@section("A source")
def test_a_source_of_ones_own_has_the_right_gradient(example: ModuleType) -> None:
    """Each step is pulled back by itself, unless a source does it otherwise: as autograd has it."""
    config = replace(tiny_config(inner={"learn_lr": "shared"}), source=example.Mirrored(inner_steps=3))
    for name, expected, value in gradients(config, Unroll(), limbeck.Remat(store_every=2)):
        assert value.shape == expected.shape, name
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)


@section("An adjoint")
@pytest.mark.parametrize("loss_every", [None, 2])
def test_an_adjoint_of_ones_own_gives_the_gradient_of_unroll(example: ModuleType, loss_every: int | None) -> None:
    for _, expected, value in gradients(tiny_config(loss_every=loss_every), Unroll(), example.ReverseMode()):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)
    adjoint = example.ReverseMode()
    config = tiny_config(iterations=2, adjoint=adjoint, loss_every=loss_every)
    run = limbeck.distill(config, tiny_data())
    usual = limbeck.distill(tiny_config(iterations=2, loss_every=loss_every), tiny_data())
    torch.testing.assert_close(run.images, usual.images, rtol=1e-3, atol=1e-3)
    assert config.to_json()["method"]["adjoint"] == {"kind": f"{example.__name__}:ReverseMode"}


def gradients(config: limbeck.Config, *adjoints: Any) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Losses and gradients by name, of the first adjoint and of the second, over two random initial weights."""
    data, method = tiny_data(), config.method
    assert isinstance(method, UnrolledConfig)
    source = build_source(config, data, torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3))
    kernels = Kernels(limbeck.Learner.of(module), RealLoss(every=method.loss_every), Execution())
    draw = torch.Generator().manual_seed(1)
    weights = {name: 0.3 * torch.randn(2, *p.shape, generator=draw) for name, p in module.named_parameters()}
    real = RealBatch(*data.sample(draw, 16))
    one, other = (a.meta_gradient(kernels, source, source.parameters(), kernels.init(weights), real) for a in adjoints)
    assert one.grads.keys() == other.grads.keys()
    return [("loss", one.loss_B, other.loss_B), *((k, one.grads[k], other.grads[k]) for k in one.grads)]


@section("A method")
def test_a_method_of_ones_own_learns(example: ModuleType, tmp_path: Path) -> None:
    outer: dict[str, Any] = {"iterations": 200, "validate_every": 200, "lr_images": 0.1, "real_batch": 60}
    config = tiny_config(
        pixels={"steps": 1, "epochs": 3, "start": "noise"}, inner={"learn_lr": "fixed", "lr": 0.3}, **outer
    )
    config, recorder = replace(config, method=example.MatchMeans()), Recorder()
    run = limbeck.distill(config, tiny_data(), out=tmp_path / "run", reporter=recorder)
    assert recorder.records[-1]["loss"] < 0.05 * recorder.records[0]["loss"]
    assert run.evaluate(tiny_data(), n=10).distilled.scores.mean > 80, "chance is 33"
    assert limbeck.load(tmp_path / "run", trust=True).config == config


# --- what is trained, on what, and how -------------------------------------------------------------------------------


@section("A learner")
def test_a_learner_of_ones_own_is_trained(example: ModuleType) -> None:
    run = limbeck.distill(tiny_config(iterations=2, learner=f"{example.__name__}:small,hidden=4"), tiny_data())
    net = run.train()
    assert [p.shape for p in net.parameters()] == [(4, 64), (4,), (3, 4), (3,)]


@section("A reader")
def test_a_reader_of_ones_own_loads(example: ModuleType) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 3, 3)), np.arange(40) % 2
    np.savetxt("scans.pixels", np.column_stack([labels, images.reshape(40, 9)]), fmt="%d", delimiter=",")
    data = limbeck.load_data("scans.pixels", val_size=8, readers=(example.PixelRowsReader(), *READERS))
    expected = limbeck.load_data((images.astype(np.uint8), labels), val_size=8)
    assert (data.name, data.image_shape, data.num_classes) == ("scans", (1, 3, 3), 2)
    assert torch.equal(data.train_x, expected.train_x) and torch.equal(data.test_y, expected.test_y)
    with pytest.raises(LimbeckError, match="^The reader 'pixel-rows' is registered twice"):
        limbeck.load_data("scans.pixels", readers=(example.PixelRowsReader(), example.PixelRowsReader()))


@section("An exporter")
def test_an_exporter_of_ones_own_writes(example: ModuleType, tmp_path: Path) -> None:
    run = random_set()
    assert limbeck.export(run, tmp_path / "set.pt", exporters=(example.TorchExporter(), *EXPORTERS)) == 6
    images, labels = torch.load(tmp_path / "set.pt", weights_only=False).tensors
    assert torch.equal(images, run.images.flatten(0, 1)) and torch.equal(labels, run.labels.flatten(0, 1))


@section("A training recipe")
def test_a_recipe_of_ones_own_trains(example: ModuleType, tmp_path: Path) -> None:
    run, recipe = random_set(), example.OnePass(lr=0.1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    steps = [p.detach().clone().requires_grad_() for p in net.parameters()]
    run.train(net, training=recipe)
    for x_CHW, y_K in zip(run.images.flatten(0, 1), run.labels.flatten(0, 1), strict=True):
        logits_K = steps[0] @ x_CHW.flatten() + steps[1]
        grads = torch.autograd.grad(-(y_K * logits_K.log_softmax(0)).sum(), steps)
        steps = [(p - 0.1 * g).detach().requires_grad_() for p, g in zip(steps, grads, strict=True)]
    for parameter, expected in zip(net.parameters(), steps, strict=True):
        torch.testing.assert_close(parameter.detach(), expected.detach())
    run = replace(run, info={**run.info, "data": {"name": "arrays", "sha256": tiny_data().sha256}})
    rows = limbeck.evaluate(run, tiny_data(), n=4, baselines=["average"], training=recipe).rows
    assert rows[1].step_size is not None, "the baseline's step size is tuned"
    assert example.OnePass.restore(recipe.to_json(), {}) == recipe and recipe.fits(2)
    replace(run, training=recipe).save(tmp_path)
    with pytest.raises(LimbeckError, match="asks for code to be imported and run: '.*:OnePass'"):
        limbeck.load(tmp_path)
    assert limbeck.load(tmp_path, trust=True).training == recipe


def test_a_parametrisation_refuses_what_cannot_be_learned() -> None:
    def decode(learned: Any, step: int) -> Any:
        return learned["lr"], learned["lr"]

    with pytest.raises(LimbeckError, match="^A learned tensor is called lr, as a hyper-parameter is"):
        Parametrised({"lr": torch.zeros(1)}, decode, 1, InnerConfig())
    with pytest.raises(LimbeckError, match="^A parametrisation needs at least one tensor"):
        Parametrised({}, decode, 1, InnerConfig())
