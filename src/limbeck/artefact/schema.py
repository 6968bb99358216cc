"""The files of an artefact, of every schema that was ever written, in the form of the newest.

Schema 1 knew plain gradient descent only; schema 2 recorded every hyper-parameter of the inner optimiser; schema 3 has
the training recipe as an object, and a configuration whose source and method are members of a union.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from limbeck.common.files import read_json, read_tensors
from limbeck.engine import InnerConfig, Tensors, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.training import RECIPES, LearnedSchedule, TrainingRecipe
from limbeck.experiment.recorded import encode, find_member, upgrade

SCHEMA: Final = 3

ENTRIES: Final = frozenset({"schema", "images", "classes", "training", "labels", "preprocessing", "config"})
"""What ``distilled.json`` says of the set itself; all else is provenance."""


def read_artefact(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """``distilled.json`` and the tensors of a run directory, as the newest schema has them.

    Raises:
        LimbeckError: not a run directory, damaged, or of a schema version newer than this Limbeck knows.
    """
    path = folder / "distilled.json"
    if not path.is_file():
        raise LimbeckError(f"{folder} holds no finished run (no distilled.json); expected a run directory.")
    summary = read_json(path)
    if not (isinstance(summary, dict) and type(schema := summary.get("schema")) is int and schema >= 1):
        raise LimbeckError(f"{path} is damaged: it names no schema version.")
    if summary["schema"] > SCHEMA:
        raise LimbeckError(
            f"{folder} has schema version {summary['schema']}; this Limbeck reads up to {SCHEMA}. Upgrade limbeck."
        )
    tensors, _ = read_tensors(folder / "distilled.safetensors")
    try:
        if summary["schema"] == 1:
            summary, tensors = _from_1_to_2(summary, tensors)
        if summary["schema"] == 2:
            summary, tensors = _from_2_to_3(summary, tensors)
    except KeyError as error:
        raise LimbeckError(f"{folder} is damaged: {error} is missing.") from None
    except (TypeError, AttributeError) as error:
        raise LimbeckError(f"{path} is damaged ({error}); restore it from a copy.") from None
    return summary, tensors


def restore_training(values: Any, tensors: Tensors, trust: bool | Collection[str] = False) -> TrainingRecipe:
    """The training recipe of an artefact.

    Raises:
        LimbeckError: an unknown kind, one that is damaged, or one that is code and not trusted.
    """
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise LimbeckError(f"The recorded training is {values!r}; expected its fields by name, and its kind.")
    own = {name: value for name, value in values.items() if name != "kind" and name not in tensors}
    recipe: type[TrainingRecipe] = find_member(values["kind"], RECIPES, TrainingRecipe, trust)
    return recipe.restore(own, tensors)


def _from_1_to_2(summary: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    rates = {"hyperparameters": summary["learning_rates"]}
    rest = {name: value for name, value in summary.items() if name != "learning_rates"}
    moved = {"hyperparameters.lr" if name == "learning_rates" else name: value for name, value in tensors.items()}
    return rest | rates | {"schema": 2}, moved


def _from_2_to_3(summary: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    if not isinstance(summary["config"], dict):
        raise LimbeckError(f"The recorded configuration is {summary['config']!r}; expected its fields by name.")
    config = upgrade(summary["config"])
    training = {"kind": LearnedSchedule.kind, "inner": encode(InnerConfig()) | config.get("inner", {})}
    rest = {name: value for name, value in summary.items() if name not in ("hyperparameters", "order")}
    used = {"order": tensors["order"]} | {
        f"hyperparameters.{name}": value for name, value in with_prefix(tensors, "hyperparameters.").items()
    }
    others = {name: value for name, value in tensors.items() if name not in used}
    newest = others | {f"training.{name}": value for name, value in used.items()}
    return rest | {"schema": 3, "config": config, "training": training}, newest
