"""Tables of members by name, and proxies and spaces of a user's own, as the documentation shows them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from doc_examples import examples
from tiny_search import toy_task

from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError
from limbeck.nas import SearchConfig, search
from limbeck.nas.proxies import PROXIES, proxy_named
from limbeck.nas.searches.strategies import STRATEGIES
from limbeck.nas.spaces import SPACES, space_named


@pytest.mark.parametrize("members", [PROXIES, SPACES, STRATEGIES], ids=["proxies", "spaces", "strategies"])
def test_tables_cannot_be_changed(members: Registry[object]) -> None:
    with pytest.raises(TypeError):
        members["mine"] = None  # type: ignore[index]
    assert all(name == name.lower() and not set(name) & set(" ,:=/") for name in members)


@pytest.mark.parametrize("name", STRATEGIES)
def test_settings_of_strategies_are_options_of_a_search(name: str) -> None:
    chosen = SearchConfig(strategy=name)
    assert set(STRATEGIES[name].settings) <= {field.name for field in dataclasses.fields(SearchConfig)}
    assert chosen.settings.keys() == set(STRATEGIES[name].settings)
    assert (len(chosen.fractions) > 1) == STRATEGIES[name].in_rungs


def test_a_proxy_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limbeck_test_proxies.py").write_text(examples()["A proxy"])
    monkeypatch.chdir(tmp_path)
    proxy = proxy_named("limbeck_test_proxies:Small")
    task = toy_task()
    pytest.importorskip("optuna")
    result = search(task, proxy, SearchConfig(budget=24))
    assert result.best is not None
    assert result.best.parameters == min(trial.parameters or 0 for trial in result.trials)
    assert result.settings["proxy"] == "small"
    assert pickle.loads(pickle.dumps(proxy)).score(task, result.best.arch) == result.best.score
    for text, said in (
        ("limbeck_test_proxies:Smal", "did you mean 'Small'"),
        ("limbeck_test_proxies:Small,by=3", "failed when called with by=3: TypeError"),
    ):
        with pytest.raises(LimbeckError, match=said):
            proxy_named(text)


def test_a_space_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "limbeck_test_perceptrons.py").write_text(examples()["A space"])
    monkeypatch.chdir(tmp_path)
    task = toy_task()
    space = space_named("limbeck_test_perceptrons:Perceptrons", shape=task.space.shape, num_classes=3)
    assert space.size == 6
    proxies = [
        proxy_named(text) for text in ("naswot,batch=8", "sharing,steps=2,batch=4", "ghn,steps=2,batch=4,hidden=4")
    ]
    for proxy in proxies:
        result = search(dataclasses.replace(task, space=space), proxy, SearchConfig(budget=6))
        assert not result.failed
        assert {space.read(trial.text) for trial in result.trials} == {trial.arch for trial in result.trials}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_called_what_it_is_registered_as(name: str) -> None:
    assert space_named(name, shape=(1, 16, 16), num_classes=3).name == name
