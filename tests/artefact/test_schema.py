"""Artefacts of every schema that was written, stored as they were written then, and what is no artefact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import random_set, same_tensors, tiny_data
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.schema import SCHEMA
from limbeck.common.files import read_json, write_json
from limbeck.engine import (
    Batch,
    GeneratorConfig,
    GradientDescent,
    InnerOptimizer,
    PixelConfig,
    RealConfig,
    Remat,
    SourceConfig,
)
from limbeck.errors import LimbeckError
from limbeck.evaluation.training import RECIPES, LearnedSchedule, OrdinaryTraining, TrainingRecipe
from limbeck.methods import UnrolledConfig

EXAMPLES = Path(__file__).parent / "examples"
"""Run directories as earlier versions wrote them; ``expected.json`` is what those versions made of them."""

SOURCES: dict[str, SourceConfig] = {
    "schema-1": PixelConfig(steps=2, epochs=2, labels="soft", start="noise"),
    "schema-2": PixelConfig(steps=2, epochs=2, labels="soft", start="noise"),
    "schema-2-generator": GeneratorConfig(inner_steps=3, batch=6, hidden=8, width=4, latent=4),
    "schema-2-real": RealConfig(inner_steps=3, batch=6),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_stored_artefact_is_read_and_trains_as_it_did(name: str) -> None:
    run, expected = Distilled.load(EXAMPLES / name), read_json(EXAMPLES / name / "expected.json")
    assert run.config.source == SOURCES[name]
    assert run.config.method == UnrolledConfig(adjoint=Remat(), loss_every=2 if "generator" in name else None)
    assert isinstance(run.training, LearnedSchedule)
    assert run.training.inner == run.config.inner
    assert float(run.images.double().sum()) == pytest.approx(expected["images"], rel=1e-12)
    assert run.learning_rates.tolist() == expected["learning_rates"]
    with torch.no_grad():
        logits_NK = run.train()(run.preprocess(tiny_data().test_x))
    torch.testing.assert_close(logits_NK.double().sum(0).tolist(), expected["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SOURCES)
def test_what_was_read_is_written_in_the_newest_schema(name: str, tmp_path: Path) -> None:
    run = Distilled.load(EXAMPLES / name)
    run.save(tmp_path)
    assert read_json(tmp_path / "distilled.json")["schema"] == SCHEMA
    again = Distilled.load(tmp_path)
    assert (again.config, again.info, again.class_names) == (run.config, run.info, run.class_names)
    assert same_tensors(again.training.tensors(), run.training.tensors())
    assert same_tensors(again.weights | again.generator, run.weights | run.generator)


def test_every_schema_has_an_example() -> None:
    stored = {read_json(path)["schema"] for path in EXAMPLES.glob("*/distilled.json")}
    assert stored == set(range(1, SCHEMA))


@pytest.mark.parametrize("name", SOURCES)
def test_a_later_schema_is_refused(name: str, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / name, tmp_path / "run")
    change(tmp_path / "run", "schema", SCHEMA + 1)
    with pytest.raises(LimbeckError, match=f"has schema version {SCHEMA + 1}; this Limbeck reads up to {SCHEMA}"):
        Distilled.load(tmp_path / "run")


def change(folder: Path, key: str, value: Any) -> None:
    write_json(folder / "distilled.json", read_json(folder / "distilled.json") | {key: value})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"kind": "ordinry"}, "Unknown training recipe 'ordinry'; did you mean 'ordinary'"),
        ({"kind": "ordinary", "epoch": 3}, "does not fit this version of Limbeck"),
        ({"kind": "ordinary", "epochs": 0}, "epochs is 0"),
        ({"kind": "learned-schedule"}, "damaged: 'inner' is missing"),
        ({"kind": "learned-schedule", "inner": {}, "epochs": 3}, "learned-schedule.*has no 'epochs'"),
        ({"epochs": 3}, "expected its fields by name, and its kind"),
        (None, "expected its fields by name, and its kind"),
    ],
)
def test_a_recipe_that_is_no_such(training: Any, message: str, tmp_path: Path) -> None:
    random_set().save(tmp_path)
    change(tmp_path, "training", training)
    with pytest.raises(LimbeckError, match=message):
        Distilled.load(tmp_path)


# --- every recipe ----------------------------------------------------------------------------------------------------


def example(name: str) -> TrainingRecipe:
    """A recipe of each kind, with no setting left at its default where there is a choice."""
    examples: dict[str, TrainingRecipe] = {
        "learned-schedule": random_set().training,
        "ordinary": OrdinaryTraining(optimizer="sgd", lr=0.1, epochs=3, batch_size=4, momentum=0.5, flip=True),
    }
    assert name in examples, f"the training recipe '{name}' needs an example here"
    return examples[name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_kept_in_the_artefact(name: str, tmp_path: Path) -> None:
    run = Distilled(**{**vars(random_set()), "training": example(name)})
    run.save(tmp_path)
    again = Distilled.load(tmp_path)
    assert again.training.kind == name == RECIPES.name_of(type(again.training))
    assert again.training.to_json() == run.training.to_json()
    assert same_tensors(again.training.tensors(), run.training.tensors())
    assert json.loads(json.dumps(run.summary()["training"]))["kind"] == name


def test_the_optimizer_of_ordinary_training_under_its_old_name(tmp_path: Path) -> None:
    run = Distilled(**{**vars(random_set()), "training": example("ordinary")})
    run.save(tmp_path)
    path = tmp_path / "distilled.json"
    assert '"optimizer": "sgd"' in path.read_text()
    path.write_text(path.read_text().replace('"optimizer": "sgd"', '"optimizer_name": "sgd"'))
    assert Distilled.load(tmp_path).training == run.training


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_as_many_batches_as_it_says(name: str) -> None:
    run, recipe = random_set(), example(name)
    batches = list(recipe.batches(run.images, run.labels))
    assert len(batches) == recipe.count_steps(6)
    for batch in batches:
        assert batch.x_MCHW.shape[1:] == (1, 8, 8) and batch.y_MK.shape == (len(batch.x_MCHW), 3)
        assert set(batch.h) == set(recipe.make_optimizer().hyperparameters)
    again = list(recipe.batches(run.images, run.labels))
    assert all(torch.equal(one.x_MCHW, other.x_MCHW) for one, other in zip(batches, again, strict=True))
    for batch in recipe.at_step_size(0.25).batches(run.images, run.labels):
        assert float(batch.h["lr"]) == 0.25
    assert recipe.description and recipe.fits(2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_is_trained_by_any_recipe(name: str) -> None:
    run, recipe = random_set(), example(name)
    before = [p.detach().clone() for p in run.network().parameters()]
    after = list(run.train(training=recipe).parameters())
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert run.evaluate(tiny_data(), n=2, training=recipe).info["training"] == recipe.description


@dataclass(frozen=True, kw_only=True)
class Once(TrainingRecipe):
    """A recipe of one's own: each batch once, by gradient descent."""

    lr: float = 0.05
    kind = "once"
    description = "each batch once"

    def make_optimizer(self) -> InnerOptimizer:
        return GradientDescent()

    def count_steps(self, images: int) -> int:
        return 2

    def batches(self, images_SMCHW: Tensor, labels_SMK: Tensor, **settings: Any) -> Iterator[Batch]:
        for x_MCHW, y_MK in zip(images_SMCHW, labels_SMK, strict=True):
            yield Batch(x_MCHW, y_MK, {"lr": torch.tensor(self.lr)})


def test_a_recipe_of_ones_own_is_code_that_is_trusted_or_not_imported(tmp_path: Path) -> None:
    replace(random_set(), training=Once(lr=0.25)).save(tmp_path)
    kind = f"{__name__}:Once"
    assert read_json(tmp_path / "distilled.json")["training"] == {"kind": kind, "lr": 0.25}
    with pytest.raises(LimbeckError, match=f"asks for code to be imported and run: '{kind}'"):
        Distilled.load(tmp_path)
    for trust in (True, [kind]):
        assert Distilled.load(tmp_path, trust=trust).training == Once(lr=0.25)
    change(tmp_path, "training", {"kind": "os:system"})
    with pytest.raises(LimbeckError, match="'os:system' is no training recipe; it must be a class that derives from"):
        Distilled.load(tmp_path, trust=True)
