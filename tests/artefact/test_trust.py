"""What the user types is trusted, what a file says is not: nothing that only an artefact names is imported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_pools import pool_of_rows, rows_file
from tiny_runs import tiny_config, tiny_data

from limbeck.artefact.distilled import Distilled
from limbeck.attack.config import AttackSettings, attack_config, attack_outer
from limbeck.attack.report import attack_report
from limbeck.cli.main import run as cli
from limbeck.common.files import read_tensors, write_tensors
from limbeck.data import load
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig
from limbeck.models import load_pool, save_pool
from limbeck.outer.loop import distill
from limbeck.pools.adapt import adapt_config

CODE = """
from pathlib import Path
from torch import nn

Path("imported").touch()

def net(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))

class Maker(nn.Module):
    def __init__(self, shape, num_classes, latent):
        super().__init__()
        self.linear, self.shape = nn.Linear(latent + num_classes, shape[0] * shape[1] * shape[2]), shape

    def forward(self, z, y):
        import torch
        return self.linear(torch.cat([z, y], 1)).view(-1, *self.shape)
"""
REFUSED = "asks for code to be imported and run: '{}'.*trust=True"


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with code of a name that no other test has imported; importing it leaves a file."""
    monkeypatch.chdir(tmp_path)
    module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def module(tmp_path: Path) -> str:
    name = f"stranger_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    return name


def edit(path: Path, *keys: str, value: Any) -> None:
    whole = json.loads(path.read_text())
    part = whole
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(whole))


def edit_checkpoint(folder: Path, learner: str) -> None:
    path = folder / "checkpoint" / "state.safetensors"
    tensors, metadata = read_tensors(path)
    metadata["config"]["learner"] = learner
    write_tensors(path, tensors, metadata)


def run_of_a_stranger(tmp_path: Path, learner: str) -> Path:
    """A run directory whose artefact and checkpoint name this learner; the user made it with another."""
    folder = tmp_path / "run"
    distill(tiny_config(iterations=2), tiny_data(), out=folder)
    edit(folder / "distilled.json", "config", "learner", value=learner)
    edit_checkpoint(folder, learner)
    return folder


def refuses(name: str, work: Any) -> None:
    with pytest.raises(LimbeckError, match=REFUSED.format(name)):
        work()
    assert not Path("imported").exists() and not Path("touched").exists()


def test_reading_and_training_a_network_of_ones_own_run_nothing(tmp_path: Path) -> None:
    run = Distilled.load(run_of_a_stranger(tmp_path, f"{module(tmp_path)}:net"))
    run.train(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    assert run.summary()["config"]["learner"] == f"{module(tmp_path)}:net"
    assert not Path("imported").exists()


@pytest.mark.parametrize("learner", ["{module}:net", "os:system,command='touch touched'"])
def test_no_verb_of_a_run_imports_what_its_files_name(learner: str, tmp_path: Path) -> None:
    name = learner.format(module=module(tmp_path))
    folder = run_of_a_stranger(tmp_path, name)
    run = Distilled.load(folder)
    for work in (run.network, run.train, run.learner, lambda: run.evaluate(tiny_data(), n=2)):
        refuses(name, work)
    refuses(name, lambda: distill(tiny_config(), tiny_data(), out=folder, resume=True).network())


def test_the_refusal_on_the_command_line_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rows_file(tmp_path / "data")
    data = load(str(file), val_size=40)
    config = Config(**{**vars(tiny_config(iterations=2)), "data": str(file), "val_size": 40})
    distill(config, data, out=tmp_path / "run")
    name = f"{module(tmp_path)}:net"
    edit(tmp_path / "run" / "distilled.json", "config", "learner", value=name)
    assert cli(["evaluate", "run", "--n", "2", "--baselines", "none", "--protocol", "learned"]) == 2
    assert name in capsys.readouterr().err and not Path("imported").exists()
    assert cli(["show", "run"]) == 0 and cli(["export", "run"]) == 0
    assert not Path("imported").exists()
    assert cli(["evaluate", "run", "--n", "2", "--baselines", "none", "--protocol", "learned", "--trust"]) == 0
    assert Path("imported").exists()


def test_what_the_user_names_is_imported(tmp_path: Path) -> None:
    name = f"{module(tmp_path)}:net"
    run = distill(tiny_config(iterations=2, learner=name), tiny_data(), out=tmp_path / "run")
    assert Path("imported").exists()
    run.network()
    with pytest.raises(LimbeckError, match="trust=True"):
        Distilled.load(tmp_path / "run").network()
    Distilled.load(tmp_path / "run", trust=True).train()
    Distilled.load(tmp_path / "run", trust=[name]).train()
    Distilled.load(tmp_path / "run").learner(name)  # named again
    resumed = distill(tiny_config(iterations=2, learner=name), tiny_data(), out=tmp_path / "run", resume=True)
    resumed.network()
    assert run.config == Distilled.load(tmp_path / "run").config


def test_an_interrupted_run_goes_on_only_with_trust(tmp_path: Path) -> None:
    folder = run_of_a_stranger(tmp_path, f"{module(tmp_path)}:net")
    (folder / "distilled.json").unlink()
    before = (folder / "checkpoint" / "state.safetensors").read_bytes()
    refuses(f"{module(tmp_path)}:net", lambda: distill(tiny_config(), tiny_data(), out=folder, resume=True))
    assert (folder / "checkpoint" / "state.safetensors").read_bytes() == before, "a refusal changes nothing"
    with pytest.raises(LimbeckError, match="network is another"):  # trusted, it is imported
        distill(tiny_config(), tiny_data(), out=folder, resume=True, trust=True)
    assert Path("imported").exists()


def test_a_generator_of_a_stranger(tmp_path: Path) -> None:
    name = f"{module(tmp_path)}:Maker"
    config = tiny_config(
        source="generator", iterations=2, generator={"generator": name, "curriculum": "none", "inner_steps": 3}
    )
    distill(config, tiny_data(), out=tmp_path / "run").generate(3)
    Path("imported").unlink()
    run = Distilled.load(tmp_path / "run")
    refuses(name, lambda: run.generate(3))
    refuses(name, lambda: list(run.batches(seed=1)))
    assert len(Distilled.load(tmp_path / "run", trust=True).generate(3)[0]) == 3


def run_with_parts(tmp_path: Path, **parts: Any) -> Path:
    """A run directory whose artefact and checkpoint name these recorded parts; the user made it with others."""
    folder = tmp_path / "run"
    distill(tiny_config(iterations=2), tiny_data(), out=folder)
    for name, value in parts.items():
        edit(folder / "distilled.json", "config", name, value=value)
    path = folder / "checkpoint" / "state.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "config": metadata["config"] | parts})
    return folder


PARTS: dict[str, dict[str, Any]] = {
    "source": {"source": {"kind": "{}:Drawn", "steps": 4, "sizes": [1, 2], "nested": {"kind": "other:Thing"}}},
    "method": {"method": {"kind": "{}:Matching", "adjoint": {"kind": "other:Thing"}}},
    "adjoint": {"method": {"kind": "unrolled", "adjoint": {"kind": "{}:Backwards", "every": 2}, "loss_every": None}},
}


def named(part: Any, module: str) -> Any:
    """Recorded values with the name of a module in its place."""
    return json.loads(json.dumps(part).replace("{}:", f"{module}:"))


def recorded(parts: dict[str, Any]) -> Config:
    """A configuration with these parts, as it is read from a file."""
    return Config.from_json({**tiny_config().to_json(), **parts})


@pytest.mark.parametrize("part", PARTS)
def test_a_set_of_ones_own_kind_is_looked_at_without_its_code(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = named(PARTS[part], module(tmp_path))
    folder = run_with_parts(tmp_path, **parts)
    run = Distilled.load(folder)
    assert run.summary(folder) == json.loads((folder / "distilled.json").read_text())
    assert run.labels_kind == "hard" and run.config == Distilled.load(folder).config and hash(run.config)
    run.train(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    assert isinstance(run.network(), torch.nn.Module)  # a built-in learner
    assert cli(["show", "run"]) == 0 and cli(["show", "run", "--json"]) == 0 and cli(["export", "run"]) == 0
    assert "hard" in capsys.readouterr().out
    run.save(tmp_path / "again")
    assert Distilled.load(tmp_path / "again").config == run.config
    assert not Path("imported").exists()


@pytest.mark.parametrize("part", PARTS)
def test_what_needs_a_kind_of_ones_own_refuses(part: str, tmp_path: Path) -> None:
    parts = named(PARTS[part], module(tmp_path))
    folder = run_with_parts(tmp_path, **parts)
    (folder / "distilled.json").unlink()
    before = (folder / "checkpoint" / "state.safetensors").read_bytes()
    kind = next(iter(sorted(recorded(parts).code - {"other:Thing"})))
    with pytest.raises(LimbeckError, match=f"asks for code to be imported and run.*'{kind}'.*trust=True"):
        distill(tiny_config(), tiny_data(), out=folder, resume=True)
    assert not Path("imported").exists()
    assert (folder / "checkpoint" / "state.safetensors").read_bytes() == before, "a refusal changes nothing"
    with pytest.raises(LimbeckError, match="did you mean|Unknown function"):  # trusted, it is looked for: there is none
        recorded(parts).trusting([kind])
    assert Path("imported").exists()


def test_an_unread_part_refuses_by_itself_with_all_that_it_names(tmp_path: Path) -> None:
    name = module(tmp_path)
    source = recorded(named(PARTS["source"], name)).source
    method = recorded(named(PARTS["method"], name)).method
    unrolled = recorded(named(PARTS["adjoint"], name)).method
    for work, whose in (
        (lambda: source.inner_steps, f"{name}:Drawn', 'other:Thing"),
        (lambda: source.description, f"{name}:Drawn', 'other:Thing"),
        (lambda: source.batch_size(3), f"{name}:Drawn', 'other:Thing"),
        (lambda: method.build(), f"{name}:Matching', 'other:Thing"),
        (lambda: unrolled.stored_states(4), f"{name}:Backwards"),
    ):
        refuses(whose, work)


def test_soft_labels_of_a_source_that_is_not_asked(tmp_path: Path) -> None:
    folder = run_with_parts(tmp_path, **named(PARTS["source"], module(tmp_path)))
    run = Distilled.load(folder)
    assert dataclasses.replace(run, labels=torch.full_like(run.labels, 1 / 3)).labels_kind == "soft"


def test_the_card_of_a_pool(tmp_path: Path) -> None:
    file = rows_file(tmp_path / "data")
    pool_of_rows(file, tmp_path / "pool.safetensors")
    states, card = load_pool(tmp_path / "pool.safetensors")
    name = f"{module(tmp_path)}:net"
    card["config"]["learner"] = name
    bad = tmp_path / "bad.safetensors"
    save_pool(bad, states, card)
    with safe_open(str(bad), framework="pt") as stored:
        assert name in stored.metadata()["card"]
    attack = AttackConfig(source=0, target=1)
    data = load(str(file), val_size=40)
    for config in (attack_config(bad, attack), adapt_config(bad, str(file))):
        refuses(name, lambda config=config: distill(config, data))
        refuses(name, lambda config=config: distill(config, data, trust=True))  # trust is for the run in out
    for trusted in (attack_config(bad, attack, trust=True), adapt_config(bad, str(file), trust=True)):
        assert trusted.importable(name) == name
    outer = attack_outer(iterations=2, inits=2, validate_inits=1)
    config = attack_config(tmp_path / "pool.safetensors", attack, AttackSettings(images=3), outer=outer)
    run = distill(config, data)
    refuses(name, lambda: attack_report(run, data, n=2, baselines=(), transfer=[bad], defended=False))
