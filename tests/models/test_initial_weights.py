"""The contract of initial weights, over every kind there is: a new kind without a case here fails by its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from limbeck.engine import carried_names
from limbeck.errors import LimbeckError
from limbeck.models import (
    FixedInit,
    InitialWeights,
    PoolInit,
    RandomInit,
    SavedInit,
    build,
    check_pool,
    distribution_names,
    draw,
)

MODULE = build("tiny_pools:batch_norm_net", shape=(1, 4, 4), num_classes=2)
POOL, HELD_OUT, VALIDATION = 14, 4, 3
SEEDS = range(6)
Sampler = Callable[[InitialWeights, int, int], dict[str, Tensor]]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CASES: dict[str, InitialWeights] = {
    **{f"random {name}": RandomInit(module=MODULE, distribution=name) for name in distribution_names()},
    **{f"fixed {name}": FixedInit(module=MODULE, distribution=name, seed=5) for name in ("xavier", "reset")},
    "pool": PoolInit(
        states={name: value.requires_grad_() for name, value in draw(MODULE, "xavier", POOL, seeded(1)).items()},
        held_out_count=HELD_OUT,
        validation_count=VALIDATION,
    ),
    "saved": SavedInit(state={name: value[0] for name, value in draw(MODULE, "xavier", 1, seeded(2)).items()}),
}
SAMPLERS: dict[str, Sampler] = {
    "sample": lambda weights, n, seed: weights.sample(n, seeded(seed)),
    "validation": lambda weights, n, seed: weights.validation(n, seed),
    "held_out": lambda weights, n, seed: weights.held_out(n, seed),
}
RESAMPLED = [name for name, weights in CASES.items() if weights.resampled]
SINGLE = [name for name, weights in CASES.items() if not weights.resampled]
every_case = pytest.mark.parametrize("case", CASES)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def sizes(case: str) -> tuple[int, ...]:
    """How many networks every sampler of a case can give."""
    return (1, VALIDATION) if CASES[case].resampled else (1,)


def networks(states: dict[str, Tensor]) -> set[tuple[float, ...]]:
    """The networks as tuples of all their numbers."""
    return set(map(tuple, torch.cat([value.flatten(1) for _, value in sorted(states.items())], 1).tolist()))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_kind_has_a_case() -> None:
    assert {type(weights) for weights in CASES.values()} == set(InitialWeights.__subclasses__())
    assert set(SAMPLERS) == InitialWeights.__abstractmethods__ - {"resampled"} | {"validation"}


@every_case
@every_sampler
def test_networks_fit_the_learner(case: str, sampler: str) -> None:
    names = {name for name, _ in MODULE.named_parameters()} | set(carried_names(MODULE))
    for n in sizes(case):
        states = SAMPLERS[sampler](CASES[case], n, 0)
        assert states.keys() == names
        check_pool(states, MODULE)
        assert {len(value) for value in states.values()} == {n}
        assert {value.dtype for value in states.values()} == {torch.float32}
        assert not any(value.requires_grad for value in states.values())
        assert len(networks(states)) == n  # all different


@every_case
@every_sampler
def test_the_same_seed_gives_the_same_networks(case: str, sampler: str) -> None:
    weights, ask = CASES[case], SAMPLERS[sampler]
    before = torch.get_rng_state()
    for n in sizes(case):
        assert same(ask(weights, n, 7), ask(weights, n, 7))
        other = {frozenset(networks(ask(weights, 1, seed))) for seed in SEEDS}
        assert (len(other) > 1) == weights.resampled
    assert torch.equal(torch.get_rng_state(), before)


@every_case
def test_training_moves_on(case: str) -> None:
    weights, generator = CASES[case], seeded(0)
    before = generator.get_state()
    first, second = weights.sample(1, generator), weights.sample(1, generator)
    assert torch.equal(generator.get_state(), before) != weights.resampled
    later = [weights.sample(1, generator) for _ in SEEDS]
    assert all(same(first, each) for each in (second, *later)) != weights.resampled


@every_case
def test_training_changes_nothing_for_selection_and_score(case: str) -> None:
    weights, n = CASES[case], sizes(case)[-1]
    before = weights.validation(n, 0), weights.held_out(n, 0)
    for seed in SEEDS:
        weights.sample(n, seeded(seed))
    assert same(weights.validation(n, 0), before[0])
    assert same(weights.held_out(n, 0), before[1])


@every_case
@every_sampler
def test_networks_can_be_overwritten(case: str, sampler: str) -> None:
    weights, ask = CASES[case], SAMPLERS[sampler]
    states = ask(weights, 1, 0)
    before = {name: value.clone() for name, value in states.items()}
    for value in states.values():
        value.add_(1)
    assert same(ask(weights, 1, 0), before)


@pytest.mark.parametrize("case", RESAMPLED)
def test_training_selection_and_score_share_no_network(case: str) -> None:
    """Even if training has the seeds of the others; those of selection and score differ, as their callers' do."""
    weights = CASES[case]
    others = range(100, 106)
    training = set().union(*(networks(weights.sample(POOL, seeded(seed))) for seed in (*SEEDS, *others)))
    selection = set().union(*(networks(weights.validation(VALIDATION, seed)) for seed in SEEDS))
    held_out = set().union(*(networks(weights.held_out(HELD_OUT, seed)) for seed in others))
    assert training and selection and held_out
    assert training.isdisjoint(selection)
    assert training.isdisjoint(held_out)
    assert selection.isdisjoint(held_out)
    if case == "pool":  # where networks are few, whatever the seeds are
        assert selection.isdisjoint(networks(weights.held_out(HELD_OUT, 0)))
        assert (len(training), len(selection), len(held_out)) == (POOL - HELD_OUT - VALIDATION, VALIDATION, HELD_OUT)


@pytest.mark.parametrize("case", SINGLE)
def test_a_single_one_is_that_of_training_and_score(case: str) -> None:
    weights = CASES[case]
    assert same(weights.sample(1, seeded(0)), weights.held_out(1, 3))
    assert same(weights.sample(1, seeded(0)), weights.validation(1, 4))


@every_case
@every_sampler
def test_as_many_as_cannot_be_is_one_sentence(case: str, sampler: str) -> None:
    too_many = [0, -1] if CASES[case].resampled else [0, -1, 2]
    if case == "pool" and sampler != "sample":
        too_many.append({"validation": VALIDATION, "held_out": HELD_OUT}[sampler] + 1)
    for n in too_many:
        with pytest.raises(LimbeckError, match=rf"not {n}\b"):
            SAMPLERS[sampler](CASES[case], n, 0)


class Symmetric(nn.Module):
    """A parametrisation of torch's tutorial, which cannot be turned round."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).T


def test_a_weight_that_cannot_be_taken_apart_keeps_its_parts() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    parametrize.register_parametrization(module[0], "weight", Symmetric())
    drawn = draw(module, "reset", 2, seeded(0))
    name = "0.parametrizations.weight.original"
    assert torch.equal(drawn[name], module.get_parameter(name).expand(2, 3, 3))
    assert not torch.equal(drawn["1.weight"][0], drawn["1.weight"][1])


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1, None])
def test_norms_of_weight_norm_are_drawn_with_their_weights(dim: int | None) -> None:
    module = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3), dim=dim))  # type: ignore[arg-type]
    with torch.no_grad():
        module[0].weight_g.mul_(100)  # as training may have left it
    drawn = draw(module, "reset", 2, seeded(0))
    for g, v in zip(drawn["0.weight_g"], drawn["0.weight_v"], strict=True):
        torch.testing.assert_close(g, torch.norm_except_dim(v, 2, -1 if dim is None else dim))
