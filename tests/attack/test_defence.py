"""Defences and the batch's differences from honest ones against plain torch, one network and one example at a time."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable

import pytest
import tiny_pools
import torch
import torch.nn.functional as F
from tiny_runs import generator, same_tensors, tiny_data
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.attack.defences import (
    DEFENCES,
    Calibration,
    Defence,
    GradientClipping,
    HeldOutCheck,
    Noise,
    Undefended,
    UpdateBound,
)
from limbeck.attack.difference import compare_with_honest
from limbeck.attack.honest import HONEST_BATCHES
from limbeck.attack.trial import COST_BATCHES, DefenceResult, take_steps, try_defences
from limbeck.engine import Adam, Batch, Execution, Kernels, Learner, RealLoss, State, Tensors
from limbeck.evaluation.train_and_score import confusion, train
from limbeck.models import BatchNorm, build, draw, with_carried_state

DATA = tiny_data()
INITS = 3
LR = 0.2


def module_of(name: str) -> nn.Module:
    if name == "batch-norm":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), BatchNorm(4), nn.Tanh(), nn.Linear(4, 3))
    return build(name, shape=(1, 8, 8), num_classes=3)


NAMES = ["linear", "mlp,hidden=(5,)", "batch-norm"]


def kernels(name: str = "linear", chunk: int = 2) -> Kernels:
    return Kernels(Learner.of(module_of(name)), RealLoss(), Execution(chunk=chunk))


def weights(name: str = "linear", inits: int = INITS, gain: float = 1.0) -> Tensors:
    module = module_of(name)
    params = draw(module, "xavier", inits, generator(4), gain=gain)
    return {key: value for key, value in params.items() if key in dict(module.named_parameters())}


def batch(images: int = 6, seed: int = 1, lr: float = LR) -> Batch:
    """Random images with some of every label."""
    x_MCHW = torch.randn(images, 1, 8, 8, generator=generator(seed))
    return Batch(x_MCHW, torch.eye(3)[torch.arange(images) % 3], {"lr": torch.tensor(lr)})


@functools.cache
def trained() -> Tensors:
    """Linear networks that know the task."""
    real = Batch(DATA.preprocessing.apply(DATA.train_x), F.one_hot(DATA.train_y, 3).float(), {"lr": torch.tensor(0.1)})
    return train(kernels(), [real] * 40, weights())


def row(tensors: Tensors, b: int) -> Tensors:
    return {name: value[b] for name, value in tensors.items()}


def gradient(name: str, params: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> tuple[float, Tensors]:
    """Loss and gradient of one network by autograd, in training."""
    own = {key: value.clone().requires_grad_() for key, value in params.items()}
    loss = F.cross_entropy(functional_call(module_of(name).train(), own, (x_MCHW,)), y_MK)
    return loss.item(), dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))


def length(tensors: Tensors) -> float:
    return math.sqrt(sum(value.double().square().sum().item() for value in tensors.values()))


def states_of(name: str = "linear", params: Tensors | None = None) -> tuple[Learner, State]:
    held = kernels(name)
    return held.learner, held.init(weights(name) if params is None else params)


def gradients_of(defence: Defence, name: str, given: Batch, seed: int = 0) -> Tensors:
    learner, states = states_of(name)
    return defence.gradients(learner, states, given, generator(seed))


def assert_close(actual: Tensors, expected: Tensors) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-6, msg=name)


# --- each defence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_undefended_is_the_gradient(name: str) -> None:
    grads = gradients_of(Undefended(), name, batch())
    for b in range(INITS):
        assert_close(row(grads, b), gradient(name, row(weights(name), b), batch().x_MCHW, batch().y_MK)[1])
    before, after = states_of(name)[1], states_of(name)[1]
    assert Undefended().accept(before, after) is after


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", [0.1, 0.9])
def test_clipped_gradients_are_as_long_as_the_bound(part: float, name: str) -> None:
    plain = gradients_of(Undefended(), name, batch())
    lengths = [length(row(plain, b)) for b in range(INITS)]
    bound = part * min(lengths)
    clipped = gradients_of(GradientClipping(bound), name, batch())
    for b in range(INITS):
        assert length(row(clipped, b)) == pytest.approx(bound, rel=1e-5)
        assert_close(row(clipped, b), {key: bound / lengths[b] * value for key, value in row(plain, b).items()})


def test_clipping_is_for_each_network_and_leaves_short_gradients_alone() -> None:
    plain = gradients_of(Undefended(), "linear", batch())
    lengths = sorted(length(row(plain, b)) for b in range(INITS))
    bound = (lengths[0] + lengths[1]) / 2
    clipped = gradients_of(GradientClipping(bound), "linear", batch())
    for b in range(INITS):
        own = length(row(plain, b))
        assert length(row(clipped, b)) == pytest.approx(min(own, bound), rel=1e-5)
        assert torch.equal(clipped["linear.bias"][b], plain["linear.bias"][b]) == (own < bound)


@pytest.mark.parametrize("bound", [1e-3, 0.05, 1e3])
def test_updates_are_no_longer_than_the_bound(bound: float) -> None:
    learner, before = states_of()
    grads = Undefended().gradients(learner, before, batch(), generator())
    after = State({n: v - LR * grads[n] for n, v in before.params.items()}, {})
    bounded = UpdateBound(bound).accept(before, after).params
    for b in range(INITS):
        full = length({n: LR * v for n, v in row(grads, b).items()})
        scale = min(1.0, bound / full)
        assert length({n: v[b] - before.params[n][b] for n, v in bounded.items()}) == pytest.approx(
            min(full, bound), rel=1e-3
        )
        assert_close(row(bounded, b), {n: v[b] - scale * LR * grads[n][b] for n, v in before.params.items()})


def test_no_gradient_and_no_update_stay_none() -> None:
    learner, states = states_of()
    zeros = {name: torch.zeros_like(value) for name, value in states.params.items()}
    assert same_tensors(UpdateBound(1.0).accept(states, states).params, states.params)

    flat = batch()._replace(x_MCHW=torch.zeros(3, 1, 8, 8), y_MK=torch.full((3, 3), 1 / 3))
    still = states._replace(params=zeros)
    for defence in (GradientClipping(1.0), Noise(1.0, 0.0)):
        grads = defence.gradients(learner, still, flat, generator())
        assert all(value.abs().max() < 1e-6 for value in grads.values())


@pytest.mark.parametrize("optimizer", ["descent", "adam"])
def test_the_check_refuses_harmful_steps_and_takes_harmless_ones_network_by_network(optimizer: str) -> None:
    module = module_of("linear")
    learner = Learner.of(module) if optimizer == "descent" else Learner.of(module, Adam())
    held = Kernels(learner, RealLoss(), Execution(chunk=2))
    x_NCHW, y_N = DATA.preprocessing.apply(DATA.val_x), DATA.val_y
    check = HeldOutCheck(held, x_NCHW, y_N, 3, tolerance=2.0)
    before = held.init(trained())
    forgetful = {name: value.clone() for name, value in before.params.items()}
    forgetful["linear.bias"][1, 2] = -1e3  # the second network no longer knows class 2
    forgetful["linear.bias"][[0, 2]] += 0.5  # which changes nothing
    opt = {name: value + 1 for name, value in before.opt.items()}
    after = State(forgetful, opt, before.buffers)
    taken = check.accept(before, after)
    for left, old, new in zip(taken, before, after, strict=True):
        for name, value in left.items():
            assert torch.equal(value[[0, 2]], new[name][[0, 2]])
            assert torch.equal(value[1], old[name][1])
    lenient = HeldOutCheck(held, x_NCHW, y_N, 3, tolerance=100.0)
    assert same_tensors(lenient.accept(before, after).params, forgetful)


def test_the_check_looks_at_each_class_and_at_losses_only() -> None:
    """Recall by hand: a class that loses as much as others gain is a loss, one that gains is none."""
    held = kernels()
    x_NCHW, y_N = DATA.preprocessing.apply(DATA.val_x), DATA.val_y
    check = HeldOutCheck(held, x_NCHW, y_N, 3, tolerance=2.0)
    rng = generator(11)
    params = {n: v[:1].expand(40, *v.shape[1:]).clone() for n, v in weights().items()}
    moved = {n: v + 0.05 * torch.randn(v.shape, generator=rng) for n, v in params.items()}
    before, after = held.init(params), held.init(moved)
    taken = check.accept(before, after).params["linear.weight"]

    def recall(networks: Tensors) -> list[list[float]]:
        recalls = []
        for b in range(40):
            right = functional_call(module_of("linear"), row(networks, b), (x_NCHW,)).argmax(1) == y_N
            recalls.append([100 * right[y_N == k].double().mean().item() for k in range(3)])
        return recalls

    decided = []
    for b, (old, new) in enumerate(zip(recall(params), recall(moved), strict=True)):
        fine = all(was - now <= 2.0 for was, now in zip(old, new, strict=True))
        expected = moved if fine else params
        assert torch.equal(taken[b], expected["linear.weight"][b])
        decided.append(fine)
    assert {*decided} == {True, False}


@pytest.mark.parametrize("name", ["linear", "mlp,hidden=(5,)"])
@pytest.mark.parametrize("bound", [0.3, 1e6])
def test_each_examples_gradient_is_clipped(bound: float, name: str) -> None:
    given = batch()
    grads = gradients_of(Noise(bound, 0.0), name, given)
    cut = 0
    for b in range(INITS):
        params = row(weights(name), b)
        total = {key: torch.zeros_like(value) for key, value in params.items()}
        for x_CHW, y_K in zip(given.x_MCHW, given.y_MK, strict=True):
            _, own = gradient(name, params, x_CHW[None], y_K[None])
            scale = min(1.0, bound / length(own))
            cut += scale < 1
            total = {key: value + scale * own[key] / len(given.x_MCHW) for key, value in total.items()}
        assert_close(row(grads, b), total)
    assert (cut == 0) == (bound > 1e3)


@pytest.mark.parametrize("name", ["linear", "mlp,hidden=(5,)"])
def test_without_noise_and_with_a_huge_bound_it_is_plain_descent(name: str) -> None:
    assert_close(gradients_of(Noise(1e6, 0.0), name, batch()), gradients_of(Undefended(), name, batch()))


def test_noise_has_the_size_that_is_asked_for() -> None:
    bound, multiplier, given = 0.5, 3.0, batch()
    clean = gradients_of(Noise(bound, 0.0), "mlp", given)
    noisy = gradients_of(Noise(bound, multiplier), "mlp", given, seed=7)
    noise = torch.cat([(noisy[name] - value).flatten() for name, value in clean.items()])
    assert len(noise) > 10_000
    assert noise.std().item() == pytest.approx(multiplier * bound / len(given.x_MCHW), rel=0.03)
    assert abs(noise.mean().item()) < 0.02 * noise.std().item()
    assert same_tensors(noisy, gradients_of(Noise(bound, multiplier), "mlp", given, seed=7))
    other = gradients_of(Noise(bound, multiplier), "mlp", given, seed=8)
    assert not torch.equal(other["layers.0.weight"], noisy["layers.0.weight"])
    first, second = (noisy["layers.0.weight"][b] - clean["layers.0.weight"][b] for b in (0, 1))
    assert (first - second).abs().max() > 0.1  # each network has noise of its own


# --- the table of defences -------------------------------------------------------------------------------------------


@functools.cache
def calibration(norm: float) -> Calibration:
    x_NCHW = DATA.preprocessing.apply(DATA.val_x)
    return Calibration(
        gradient_norm=norm, update_norm=norm, kernels=kernels(), x_NCHW=x_NCHW, y_N=DATA.val_y, classes=3
    )


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_gives_gradients_and_states_of_the_networks(name: str) -> None:
    """The contract of every defence: its own kind and name, tensors as they were, arguments that it leaves alone."""
    kind = DEFENCES[name]
    assert kind.name == name
    defence = kind.calibrate(calibration(0.5))
    assert type(defence) is kind
    assert defence.row
    assert kind.calibrate(calibration(0.5)).row == defence.row
    learner, before = states_of(params=trained())
    copies = {key: value.clone() for key, value in before.params.items()}
    (attack,) = harmful()
    grads = defence.gradients(learner, before, attack, generator(1))
    assert same_tensors(grads, defence.gradients(learner, before, attack, generator(1)))
    assert {key: value.shape for key, value in grads.items()} == {key: value.shape for key, value in copies.items()}
    after = before._replace(params={key: value - 3.0 * grads[key] for key, value in before.params.items()})
    stepped = {key: value.clone() for key, value in after.params.items()}
    accepted = defence.accept(before, after)
    for old, new in zip(before, accepted, strict=True):
        assert {key: (v.shape, v.dtype) for key, v in new.items()} == {
            key: (v.shape, v.dtype) for key, v in old.items()
        }
    assert same_tensors(before.params, copies)
    assert same_tensors(after.params, stepped)
    for b in range(INITS):  # somewhere between staying and the whole step
        moved, full = (
            length({key: value[b] - copies[key][b] for key, value in params.items()})
            for params in (accepted.params, stepped)
        )
        assert moved <= full * (1 + 1e-4)


@pytest.mark.parametrize("name", DEFENCES)
def test_no_step_stays_none_behind_a_defence(name: str) -> None:
    before = states_of(params=trained())[1]
    assert same_tensors(DEFENCES[name].calibrate(calibration(0.5)).accept(before, before).params, before.params)


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "none"])
def test_a_defence_changes_a_harmful_step(name: str) -> None:
    defence = DEFENCES[name].calibrate(calibration(0.05))
    free, after = (
        take_steps(kernels().learner, each, trained(), harmful(), generator(1), 2) for each in (Undefended(), defence)
    )
    for b in range(INITS):
        assert not all(torch.equal(after[key][b], value[b]) for key, value in free.items())


def test_defences_go_by_their_own_names() -> None:
    assert all(name == kind.name for name, kind in DEFENCES.items())


# --- all of them -----------------------------------------------------------------------------------------------------


def rate_of(networks: Tensors) -> Tensor:
    counts_BKK = confusion(kernels(), networks, DATA.split_batches("test", 1000), 3)
    return 100 * counts_BKK[:, 0, 2] / counts_BKK[:, 0].sum(1)


def harmful(steps: int = 1) -> list[Batch]:
    """Real images of class 0 under the name of class 2, at a large step."""
    x_MCHW = DATA.preprocessing.apply(DATA.train_x[DATA.train_y == 0][:6])
    return [Batch(x_MCHW, torch.eye(3)[[2] * 6], {"lr": torch.tensor(3.0)}) for _ in range(steps)]


@functools.cache
def defended() -> tuple[DefenceResult, ...]:
    return tuple(try_defences(kernels(), trained(), harmful(), DATA, generator(3), rate_of))


def honest_steps(count: int = HONEST_BATCHES, seed: int = 3) -> list[tuple[Tensor, Tensor]]:
    """What the defender draws: real images with their own labels, as many as the attack has, from the same stream."""
    rng = generator(seed)
    examples = [DATA.sample(rng, 6) for _ in range(count)]
    return [(x_MCHW, F.one_hot(y_M, 3).float()) for x_MCHW, y_M in examples]


def held_out_after(count: int, seed: int = 3) -> Tensor:
    """The order in which the defender takes what is held out, after so many honest batches."""
    rng = generator(seed)
    for _ in range(count):
        DATA.sample(rng, 6)
    return torch.randperm(len(DATA.val_y), generator=rng)


def honest_norms() -> list[float]:
    return [length(gradient("linear", row(trained(), b), *given)[1]) for given in honest_steps() for b in range(INITS)]


def quantile(values: list[float]) -> float:
    """95 % of them are smaller, with linear interpolation."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def test_the_rows_of_the_defences() -> None:
    rows = defended()
    assert [row.row.split()[0] for row in rows] == ["none", "gradient", "update", "held-out", "examples"]
    assert json.loads(json.dumps(rows[0].to_json(), allow_nan=False)) == vars(rows[0])


def test_thresholds_come_from_honest_batches() -> None:
    norms = honest_norms()
    clipping, update, check, noise = defended()[1:]
    assert clipping.row == f"gradient clipped to norm {quantile(norms):.3g}"
    assert update.row == f"update bounded to norm {3.0 * quantile(norms):.3g}"
    assert check.row == f"held-out check of {len(DATA.val_y) // 2}, 2 points"  # the other half judges
    assert noise.row == f"examples clipped to {quantile(norms):.3g}, noise 1"


def test_an_attack_behind_each_defence_by_hand() -> None:
    (attack,) = harmful()
    bound = quantile(honest_norms())

    def rates(scale_of: Callable[[float], float]) -> list[float]:
        values = []
        for b in range(INITS):
            params = row(trained(), b)
            _, grads = gradient("linear", params, attack.x_MCHW, attack.y_MK)
            scale = scale_of(length(grads))
            after = {name: value - 3.0 * scale * grads[name] for name, value in params.items()}
            x_NCHW = DATA.preprocessing.apply(DATA.test_x[DATA.test_y == 0])
            taken = functional_call(module_of("linear"), after, (x_NCHW,)).argmax(1) == 2
            values.append(100 * taken.double().mean().item())
        return values

    free, clipped = rates(lambda own: 1.0), rates(lambda own: min(1.0, bound / own))
    none, clipping, update, check = defended()[:4]
    assert none.rate == pytest.approx(sum(free) / INITS, rel=1e-5)
    assert none.rate > 90
    assert none.rate_std == pytest.approx(torch.tensor(free).std().item(), abs=1e-4)
    for row_ in (clipping, update):  # plain descent: a bound on the gradient is one on the update
        assert row_.rate == pytest.approx(sum(clipped) / INITS, abs=1e-4)
        assert row_.accepted == 100
    assert check.accepted == 0
    assert check.rate == pytest.approx(float(rate_of(trained()).mean()))


def test_what_defences_cost_on_honest_batches() -> None:
    none, clipping, update, _, noise = defended()
    assert (none.honest_kept, none.honest_accepted, none.accepted) == (pytest.approx(1), 100, 100)
    accuracy, lengths, full = [], [], []
    norms = honest_norms()
    judged = held_out_after(HONEST_BATCHES + COST_BATCHES)[len(DATA.val_y) // 2 :]
    for given in honest_steps(HONEST_BATCHES + COST_BATCHES)[HONEST_BATCHES:]:  # none that a threshold is from
        for b in range(INITS):
            params = row(trained(), b)
            _, grads = gradient("linear", params, *given)
            own = length(grads)
            full.append(own)
            lengths.append(min(own, quantile(norms)))
            after = {name: value - 3.0 * grads[name] for name, value in params.items()}
            logits = functional_call(module_of("linear"), after, (DATA.preprocessing.apply(DATA.val_x[judged]),))
            accuracy.append(100 * (logits.argmax(1) == DATA.val_y[judged]).double().mean().item())
    assert none.honest_accuracy == pytest.approx(sum(accuracy) / len(accuracy), abs=1e-3)
    for result in (clipping, update):
        assert result.honest_kept == pytest.approx(sum(lengths) / sum(full), rel=1e-3)
    assert noise.honest_kept > none.honest_kept


@pytest.mark.parametrize("chunk", [1, 2, 8])
@pytest.mark.parametrize("name", [*NAMES, "dropout"])
def test_undefended_steps_are_the_usual_ones(name: str, chunk: int) -> None:
    module = with_carried_state(tiny_pools.dropout_net((1, 8, 8), 3)) if name == "dropout" else module_of(name)
    held = Kernels(Learner.of(module), RealLoss(), Execution(chunk=chunk))
    params = draw(module, "xavier", INITS, generator(4))
    steps = [batch(), batch(seed=2, lr=0.1)]
    networks = take_steps(held.learner, Undefended(), params, steps, generator(), chunk)
    assert_close(networks, train(held, steps, params))


def test_running_statistics_and_keys_are_no_part_of_an_update() -> None:
    module = with_carried_state(tiny_pools.dropout_net((1, 8, 8), 3))
    held = Kernels(Learner.of(module), RealLoss(), Execution(chunk=2))
    params = draw(module, "xavier", INITS, generator(4))

    def none(networks: Tensors) -> Tensor:
        return torch.zeros(INITS)

    rows = list(try_defences(held, params, [batch()], DATA, generator(3), none))
    bound = float(rows[2].row.split()[-1])
    assert 0 < bound < 10  # a key is an integer up to 2^24
    assert rows[2].honest_kept == pytest.approx(1, abs=0.2)


def test_several_steps_are_each_defended() -> None:
    steps = harmful(3)
    bound = 0.01

    class Tiny(Defence):
        name = row = "tiny"

        @classmethod
        def calibrate(cls, calibration: Calibration) -> Tiny:
            return cls()

        def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
            return GradientClipping(bound).gradients(learner, states, batch, rng)

    after = take_steps(kernels().learner, Tiny(), trained(), steps, generator(), 2)
    for b in range(INITS):
        moved = length({name: value[b] - trained()[name][b] for name, value in after.items()})
        assert moved <= 3 * 3.0 * bound * (1 + 1e-3)
        assert moved > 2 * 3.0 * bound


def test_what_is_measured_does_not_depend_on_the_chunk() -> None:
    one, other = (
        [each.to_json() for each in try_defences(kernels(chunk=n), trained(), harmful(), DATA, generator(3), rate_of)]
        for n in (1, 8)
    )
    for left, right in zip(one[:4], other[:4], strict=True):  # noise is drawn anew for each chunk
        assert left.pop("row") == right.pop("row")
        assert left == pytest.approx(right, rel=1e-4)


def test_the_check_decides_on_other_images_than_it_is_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watched(kernels: Kernels, networks: Tensors, examples: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
        pairs = list(examples)
        seen.append(pairs[0][0])
        return confusion(kernels, networks, pairs, classes)

    for module in ("defences", "trial"):
        monkeypatch.setattr(f"limbeck.attack.{module}.confusion", watched)
    list(try_defences(kernels(), trained(), harmful(), DATA, generator(3), rate_of))
    decides, judges = {frozenset(tuple(row) for row in x.flatten(1).tolist()) for x in seen}
    assert len(decides) + len(judges) == len(decides | judges) == len(DATA.val_y)


def test_steps_that_run_away_count_as_taken_and_are_plain_json() -> None:
    """An attack at a step size at which also honest batches end in no numbers."""
    (attack,) = harmful()
    huge = attack._replace(h={"lr": torch.tensor(1e38)})
    rows = list(try_defences(kernels(), trained(), [huge, huge, huge], DATA, generator(3), rate_of))
    assert not math.isfinite(rows[0].honest_kept)
    assert (rows[0].accepted, rows[0].honest_accepted) == (100, 100)
    plain = json.loads(json.dumps([each.to_json() for each in rows], allow_nan=False))
    assert plain[0]["honest_kept"] is None
    difference = compare_with_honest(
        kernels(), {name: 1e38 * value for name, value in trained().items()}, [huge], DATA, generator(3)
    )
    assert json.loads(json.dumps(difference.to_json(), allow_nan=False))["loss"] is None


def test_the_same_stream_gives_the_same_rows() -> None:
    assert tuple(try_defences(kernels(), trained(), harmful(), DATA, generator(3), rate_of)) == defended()


# --- differences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_losses_against_honest_ones(name: str) -> None:
    params = weights(name)
    (attack,) = harmful()
    difference = compare_with_honest(kernels(name), params, [attack], DATA, generator(3))
    own = [gradient(name, row(params, b), attack.x_MCHW, attack.y_MK) for b in range(INITS)]
    honest = [gradient(name, row(params, b), *given) for given in honest_steps() for b in range(INITS)]
    assert difference.gradient_norm == pytest.approx(sum(length(g) for _, g in own) / INITS, rel=1e-4)
    assert difference.honest_gradient_norm == pytest.approx(sum(length(g) for _, g in honest) / len(honest), rel=1e-4)
    bound = quantile([length(g) for _, g in honest])
    assert difference.above == pytest.approx(100 * sum(length(g) > bound for _, g in own) / INITS)
    assert difference.loss == pytest.approx(sum(loss for loss, _ in own) / INITS, rel=1e-4)
    assert difference.honest_loss == pytest.approx(sum(loss for loss, _ in honest) / len(honest), rel=1e-4)


def test_neighbours_and_pixels_by_hand() -> None:
    x_MCHW = 2 * torch.randn(6, 1, 8, 8, generator=generator(9))
    x_MCHW[0] = DATA.preprocessing.apply(DATA.train_x[:1])[0] + 0.01  # nearly a training image, of class 0
    given = Batch(x_MCHW, torch.eye(3)[[1, 1, 2, 0, 1, 2]], {"lr": torch.tensor(0.1)})
    difference = compare_with_honest(kernels(), weights(), [given], DATA, generator(3))
    std, mean = DATA.preprocessing.std[0], DATA.preprocessing.mean[0]
    known = DATA.train_x.double()

    def nearest(pixels_CHW: Tensor) -> tuple[float, int]:
        distances = [(pixels_CHW - other).square().sum().sqrt().item() for other in known]
        return min(distances), DATA.train_y[distances.index(min(distances))].item()  # type: ignore[return-value]

    pixels = x_MCHW.double() * std + mean
    near = [nearest(image) for image in pixels]
    assert difference.neighbour == pytest.approx(
        sorted(d for d, _ in near)[2], rel=1e-3
    )  # torch's median is the lower one
    labels = given.y_MK.argmax(1).tolist()
    wrong = sum(kind != label for (_, kind), label in zip(near, labels, strict=True))
    assert difference.wrong_neighbours == pytest.approx(100 * wrong / 6)
    real = [nearest(image) for image in DATA.val_x.double()]
    assert difference.honest_neighbour == pytest.approx(sorted(d for d, _ in real)[(len(real) - 1) // 2], rel=1e-3)
    wrong = sum(kind != label for (_, kind), label in zip(real, DATA.val_y.tolist(), strict=True))
    assert difference.honest_wrong_neighbours == pytest.approx(100 * wrong / len(real))
    low, high = DATA.train_x.min(), DATA.train_x.max()
    outside = ((pixels < low - 1e-4) | (pixels > high + 1e-4)).double().mean().item()
    assert difference.out_of_range == pytest.approx(100 * outside)
    assert 0 < outside < 1
    assert json.loads(json.dumps(difference.to_json(), allow_nan=False)) == vars(difference)


def test_real_images_do_not_differ() -> None:
    given = Batch(DATA.preprocessing.apply(DATA.train_x[:6]), torch.eye(3)[DATA.train_y[:6]], {"lr": torch.tensor(0.1)})
    difference = compare_with_honest(kernels(), trained(), [given], DATA, generator(3))
    assert difference.neighbour < 0.02
    assert (difference.wrong_neighbours, difference.out_of_range) == (0, 0)
    assert difference.gradient_norm < 3 * difference.honest_gradient_norm
