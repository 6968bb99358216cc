"""Clipping, schedules, the outer optimiser's exact state, and the configuration that names them."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import generator, same_tensors, tiny_config
from torch import Tensor

from limbeck.common.idle import IdleOptionError
from limbeck.engine import HYPERPARAMETERS, SOURCES, Group, InnerConfig, PixelConfig, Remat, Tensors, Unroll
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig
from limbeck.methods import METHODS, UnrolledConfig
from limbeck.outer.optimizer import OuterOptimizer, clip_and_average
from limbeck.outer.schedule import rate, real_batch

# --- clipping --------------------------------------------------------------------------------------------------------


def by_hand(grads: Tensors, clip_init: float | None, clip: float | None) -> tuple[Tensors, list[float]]:
    """The same, one init and one number at a time."""
    inits = len(next(iter(grads.values())))
    norms = [math.sqrt(sum(v * v for g in grads.values() for v in g[b].flatten().tolist())) for b in range(inits)]
    mean = {name: torch.zeros(g.shape[1:], dtype=torch.float64) for name, g in grads.items()}
    for b, norm in enumerate(norms):
        scale = 1.0 if clip_init is None or norm <= clip_init else clip_init / norm
        for name, g in grads.items():
            mean[name] += scale * g[b].double() / inits
    total = math.sqrt(sum(v * v for g in mean.values() for v in g.flatten().tolist()))
    if clip is not None and total > clip:
        mean = {name: g * clip / total for name, g in mean.items()}
    return mean, norms


@settings(max_examples=40, deadline=None)
@given(
    inits=st.integers(1, 5),
    spread=st.floats(-6, 6),
    clip_init=st.none() | st.floats(1e-3, 1e3),
    clip=st.none() | st.floats(1e-3, 1e3),
    seed=st.integers(0, 10**6),
)
def test_clip_and_average_equals_a_loop(
    inits: int, spread: float, clip_init: float | None, clip: float | None, seed: int
) -> None:
    draw = generator(seed)
    size_B = torch.logspace(-spread / 2, spread / 2, inits)
    grads = {
        "images": torch.randn(inits, 2, 3, 1, 2, 2, generator=draw) * size_B.view(-1, 1, 1, 1, 1, 1),
        "lr": torch.randn(inits, 4, generator=draw) * size_B[:, None],
    }
    mean, norm_B = clip_and_average(grads, clip_init, clip)
    expected, norms = by_hand(grads, clip_init, clip)
    assert norm_B.tolist() == pytest.approx(norms, rel=1e-5)
    largest = max(float(value.abs().max()) for value in expected.values())
    assert mean.keys() == expected.keys()
    for name, value in expected.items():
        assert mean[name].shape == value.shape
        assert torch.allclose(mean[name].double(), value, rtol=1e-4, atol=1e-5 * largest)


def test_one_outlier_does_not_silence_the_others() -> None:
    grads = {"x": torch.tensor([[1000.0, 0.0], [0.0, 0.1]])}
    each, _ = clip_and_average(grads, 0.1, None)
    assert each["x"].tolist() == pytest.approx([0.05, 0.05])
    average, _ = clip_and_average(grads, None, 0.1)
    assert average["x"][1] < 1e-4


def test_zero_gradients_stay_zero() -> None:
    mean, norm_B = clip_and_average({"x": torch.zeros(3, 2)}, 0.5, 0.5)
    assert mean["x"].tolist() == [0.0, 0.0]
    assert norm_B.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_init_is_not_hidden_by_clipping(value: float) -> None:
    _, norm_B = clip_and_average({"x": torch.tensor([[1.0], [value]])}, 0.5, 0.5)
    assert not math.isfinite(float(norm_B.max()))


# --- schedules -------------------------------------------------------------------------------------------------------


def outer(**changes: Any) -> OuterConfig:
    return OuterConfig(**({"warmup": 0} | changes))


def test_warm_up_is_linear() -> None:
    config = outer(warmup=4, schedule="constant")
    assert [rate(config, i, 0.0) for i in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    assert [rate(outer(schedule="constant"), i, 0.9) for i in (0, 5)] == [1, 1]


def test_cosine_falls_from_one_to_zero() -> None:
    config = outer(schedule="cosine")
    values = [rate(config, 100, k / 20) for k in range(21)]
    assert values[0] == 1
    assert values[10] == pytest.approx(0.5)
    assert values[20] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(values))
    assert rate(config, 100, 1.5) == pytest.approx(0, abs=1e-12)
    # the warm-up multiplies
    assert rate(outer(schedule="cosine", warmup=9), 4, 0.25) == pytest.approx(0.5 * rate(config, 4, 0.25))


def test_steps_decay_every_so_often() -> None:
    config = outer(schedule="step", decay_every=10, decay=0.1)
    assert [rate(config, i, 0.5) for i in (0, 9, 10, 19, 20, 35)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])


@given(start=st.integers(1, 2000), factor=st.floats(1, 40), many=st.integers(40, 400))
def test_the_real_batch_grows_to_its_end(start: int, factor: float, many: int) -> None:
    end = max(start, round(start * factor))
    config = outer(real_batch=start, real_batch_end=end)
    sizes = [real_batch(config, k / many) for k in range(many + 1)]
    assert sizes[0] == start
    assert sizes[-1] == end
    assert sizes == sorted(sizes)
    assert sizes[-2] == end  # also in the last iteration, whose spent part is below 1
    assert len(set(sizes)) <= 2 + math.log2(factor) + 0.5  # a compiled kernel is built for each


def test_the_real_batch_doubles() -> None:
    config = outer(real_batch=64, real_batch_end=512)
    assert [real_batch(config, p) for p in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 1)] == [64, 64, 128, 256, 256, 512, 512]
    assert [real_batch(outer(real_batch=64), p) for p in (0, 0.5, 1)] == [64, 64, 64]


# --- the optimiser ---------------------------------------------------------------------------------------------------


def parameters(seed: int = 0) -> Tensors:
    draw = generator(seed)
    return {
        "images": torch.randn(2, 3, generator=draw),
        "lr": torch.randn(4, generator=draw),
        "labels": torch.randn(2, 2, generator=draw),
    }


def group_of(name: str) -> Group:
    groups: dict[str, Group] = {"z": "noise", "labels": "labels"}
    return groups.get(name) or ("steps" if name in HYPERPARAMETERS else "images")


def gradients(seed: int) -> Tensors:
    return {name: value * 3 for name, value in parameters(100 + seed).items()}


def adam_by_hand(start: Tensor, grads: list[Tensor], rates: list[float], beta1: float, beta2: float) -> Tensor:
    """Kingma and Ba 2015, algorithm 1, in float64."""
    x, m, v = start.double(), torch.zeros_like(start).double(), torch.zeros_like(start).double()
    for t, (g, lr) in enumerate(zip(grads, rates, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g.double()
        v = beta2 * v + (1 - beta2) * g.double() ** 2
        x = x - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + 1e-8)
    return x


def test_it_is_adam_with_a_rate_for_each_kind() -> None:
    params = parameters()
    config = outer(lr_images=0.05, lr_labels=0.2, lr_steps=0.01, beta1=0.6, beta2=0.95)
    optimizer = OuterOptimizer(config, params, group_of)
    factors = [1.0, 0.5, 0.25]
    for i, factor in enumerate(factors):
        optimizer.step(gradients(i), factor)
    for name, lr in (("images", 0.05), ("labels", 0.2), ("lr", 0.01)):
        expected = adam_by_hand(
            parameters()[name], [gradients(i)[name] for i in range(3)], [lr * f for f in factors], 0.6, 0.95
        )
        assert torch.allclose(params[name].double(), expected, rtol=1e-5, atol=1e-6)


def test_every_kind_of_learned_thing_has_its_rate() -> None:
    names = {"images": 0.05, "z": 0.05, "generator.module.fc1.weight": 0.05, "labels": 0.2, "lr": 0.01}
    names |= dict.fromkeys(("momentum", "beta1", "beta2", "weight_decay"), 0.01)
    params = {name: torch.zeros(2) for name in names}
    OuterOptimizer(outer(lr_images=0.05, lr_labels=0.2, lr_steps=0.01), params, group_of).step(
        {name: torch.ones(2) for name in names}, 1.0
    )
    for name, lr in names.items():
        assert params[name].tolist() == pytest.approx([-lr, -lr]), name  # Adam's first step is the rate


@pytest.mark.parametrize("before", [0, 1, 5])
def test_tensors_and_load_are_exact(before: int) -> None:
    params = parameters()
    optimizer = OuterOptimizer(outer(), params, group_of)
    for i in range(before):
        optimizer.step(gradients(i), 1.0)
    saved = optimizer.tensors()
    copied = {name: value.clone() for name, value in saved.items()}
    for i in range(3):
        optimizer.step(gradients(10 + i), 0.7)
    then = optimizer.tensors()
    assert same_tensors(saved, copied)  # a copy, not a view

    optimizer.load(saved)  # going back
    assert same_tensors(optimizer.tensors(), saved)
    for i in range(3):
        optimizer.step(gradients(10 + i), 0.7)
    assert same_tensors(optimizer.tensors(), then)
    assert same_tensors(saved, copied)  # and what was saved can be loaded again

    other = OuterOptimizer(outer(), parameters(9), group_of)  # in another process
    other.load(saved)
    for i in range(3):
        other.step(gradients(10 + i), 0.7)
    assert same_tensors(other.tensors(), then)


def test_load_updates_the_tensors_in_place() -> None:
    params = parameters()
    images = params["images"]
    optimizer = OuterOptimizer(outer(), params, group_of)
    saved = optimizer.tensors()
    optimizer.step(gradients(0), 1.0)
    optimizer.load(saved)
    assert params["images"] is images
    assert torch.equal(images, parameters()["images"])


# --- configuration ---------------------------------------------------------------------------------------------------


def positive(top: float = 1e6) -> st.SearchStrategy[float]:
    return st.floats(1e-6, top)


CONFIGS = st.builds(
    Config,
    data=st.text(max_size=10),
    learner=st.text(max_size=10),
    init=st.builds(
        InitConfig,
        init=st.just("pool:/a b/ü.safetensors"),
        distribution=st.sampled_from(["xavier", "kaiming", "orthogonal"]),
        gain=positive(),
        held_out=st.integers(1, 100),
    ),
    source=st.builds(
        PixelConfig,
        steps=st.integers(1, 50),
        epochs=st.integers(1, 5),
        labels=st.just("soft"),
        label_confidence=st.floats(0.01, 0.99),
        start=st.sampled_from(["noise", "real"]),
    ),
    inner=st.builds(
        InnerConfig,
        optimizer=st.sampled_from(["sgd", "nesterov"]),
        lr=positive(10),
        lr_max=st.none() | st.floats(11, 100),
        momentum=st.floats(0.01, 0.99),
        learn_momentum=st.sampled_from(["fixed", "shared", "per-step"]),
    ),
    outer=st.builds(
        OuterConfig,
        iterations=st.integers(1, 10**6),
        max_time=st.none() | positive(),
        real_batch_end=st.none() | st.integers(256, 1024),
        beta1=st.floats(0, 0.999),
        schedule=st.sampled_from(["cosine", "step", "constant"]),
        clip_init=st.none() | positive(),
        max_rollbacks=st.integers(0, 9),
    ),
    method=st.builds(
        UnrolledConfig,
        adjoint=st.just(Unroll()) | st.builds(Remat, store_every=st.integers(1, 9)),
        loss_every=st.none() | st.integers(1, 9),
    ),
    engine=st.builds(
        EngineConfig,
        compile=st.sampled_from(["auto", "on", "off"]),
        chunk=st.none() | st.integers(1, 64),
    ),
    seed=st.integers(0, 2**40),
)


@settings(max_examples=50, deadline=None)
@given(config=CONFIGS)
def test_a_configuration_survives_json(config: Config) -> None:
    assert Config.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config


def test_missing_fields_get_their_default() -> None:
    assert Config.from_json({"outer": {"iterations": 3}}) == Config(outer=OuterConfig(iterations=3))


@pytest.mark.parametrize(
    "values",
    [
        {"sede": 1},
        {"outer": {"iteration": 1}},
        {"init": {"seed": 1}},
        {"engine": {"threads": 1}},
        {"outer": None},
        {"outer": 3},
    ],
)
def test_unknown_or_unfit_fields_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(LimbeckError, match="does not fit this version"):
        Config.from_json(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"outer": {"iterations": "many"}}, "iterations is 'many'; it must be a whole number"),
        ({"val_size": None}, "val_size is None; it must be a whole number"),
        ({"source": {"kind": "pixels", "steps": "ten"}}, "steps is 'ten'; it must be a whole number"),
        ({"source": {"kind": "pixels", "images": 1}}, "The source 'pixels' has no option 'images'.$"),
        (
            {"source": {"kind": "pixels", "latent": 1}},
            "source 'pixels' has no option 'latent'; that belongs to generator",
        ),
        ({"source": {"kind": "real", "ipc": 1}}, "source 'real' has no option 'ipc'; that belongs to pixels"),
        ({"source": {"kind": "bases"}}, "Unknown source 'bases'. Known: generator, pixels, real"),
        ({"source": {}}, "expected its fields by name, and its kind"),
        ({"source": {"kind": "pixels"}, "method": {"kind": "matched"}}, "Unknown method 'matched'"),
        (
            {"source": {"kind": "pixels"}, "method": {"kind": "unrolled", "adjoint": {"kind": "remt"}}},
            "Unknown adjoint 'remt'; did you mean 'remat'",
        ),
        (
            {
                "source": {"kind": "pixels"},
                "method": {"kind": "unrolled", "adjoint": {"kind": "unroll", "store_every": 2}},
            },
            "adjoint 'unroll' has no option 'store_every'; that belongs to remat",
        ),
    ],
)
def test_a_member_of_a_union_has_its_own_fields(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Config.from_json(values)


def test_members_of_a_union_must_be_what_they_are_trusted_to_be() -> None:
    with pytest.raises(
        LimbeckError, match="'os:system' is no source; it must be a class that derives from SourceConfig"
    ):
        Config.from_json({"source": {"kind": "os:system"}}, trust=True)


def test_a_member_that_is_code_is_kept_as_it_is_recorded() -> None:
    values = {"source": {"kind": "os:system", "command": "true", "sizes": [1, 2]}}
    config = Config.from_json(values)
    assert config.to_json()["source"] == values["source"] and config.untrusted == {"os:system"}
    with pytest.raises(LimbeckError, match="asks for code to be imported and run: 'os:system'"):
        config.require_trust()
    assert (
        Config.from_json({**values, "outer": {"grow": 3, "lr_noise": 0.1}}).outer.grow == 3
    )  # who knows how many steps


@pytest.mark.parametrize("values", [None, [], "config", 3])
def test_a_configuration_must_have_fields(values: Any) -> None:
    with pytest.raises(LimbeckError, match="expected its fields by name"):
        Config.from_json(values)


POSITIVE = {
    InitConfig: ("gain", "held_out"),
    OuterConfig: (
        *("iterations", "max_time", "inits", "real_batch", "real_batch_end", "lr_images", "lr_labels", "lr_steps"),
        *("decay_every", "decay", "clip_init", "clip", "validate_every", "validate_inits"),
    ),
    EngineConfig: ("chunk",),
    UnrolledConfig: ("loss_every",),
    Remat: ("store_every",),
    PixelConfig: ("steps", "epochs", "ipc"),
    InnerConfig: ("lr", "epsilon"),
    Config: ("val_size",),
}


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in POSITIVE.items() for name in names])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_numbers_must_be_positive(owner: type[Any], name: str, value: float) -> None:
    if math.isnan(value) and owner is PixelConfig:
        value = -7  # counts there are integers
    assert name in {field.name for field in fields(owner)}
    with pytest.raises(LimbeckError, match=f"^{name} is"):
        owner(**{name: value})


@pytest.mark.parametrize(
    ("owner", "values", "message"),
    [
        (InitConfig, {"init": "fixd"}, "did you mean 'fixed'"),
        (InitConfig, {"distribution": "xaver"}, "did you mean 'xavier'"),
        (OuterConfig, {"schedule": "cosin"}, "did you mean 'cosine'"),
        (OuterConfig, {"beta1": 1.0}, "beta1 is 1.0"),
        (OuterConfig, {"beta2": -0.1}, "beta2 is -0.1"),
        (OuterConfig, {"beta2": math.nan}, "beta2 is nan"),
        (OuterConfig, {"warmup": -1}, "warmup is -1"),
        (OuterConfig, {"max_rollbacks": -1}, "max_rollbacks is -1"),
        (OuterConfig, {"real_batch": 64, "real_batch_end": 32}, "must be at least 64"),
        (OuterConfig, {"max_time": math.inf}, "max_time is inf"),
        (EngineConfig, {"mode": "reverse"}, "Unknown mode"),
        (EngineConfig, {"compile": "yes"}, "Known: auto, off, on"),
        (EngineConfig, {"bfloat16": "true"}, "Known: auto, off, on"),
        *((InnerConfig, {"lr": 0.1, "lr_max": value}, "lr_max is") for value in (0.1, 0.05, -1.0, math.nan, math.inf)),
        (InnerConfig, {"lr": math.inf}, "lr is inf"),
        (InnerConfig, {"optimizer": "sdg"}, "did you mean 'sgd'"),
        (InnerConfig, {"learn_lr": "per step"}, "did you mean 'per-step'"),
        *(
            (InnerConfig, {name: value}, f"{name} is")
            for name in ("momentum", "inner_beta1", "inner_beta2")
            for value in (-0.1, 1.0)
        ),
        (InnerConfig, {"optimizer": "sgd", "weight_decay": -0.1}, "must not be negative"),
        (InnerConfig, {"weight_decay": 0.1}, "does nothing with the inner optimizer gd; choose another"),
        (InnerConfig, {"optimizer": "sgd", "momentum": 0.0, "learn_momentum": "shared"}, "cannot be learned from"),
        (InnerConfig, {"learn_momentum": "shared"}, "nothing with the inner optimizer gd; choose sgd or nesterov"),
        (
            InnerConfig,
            {"optimizer": "adam", "learn_momentum": "per-step"},
            "the inner optimizer adam; choose sgd",
        ),
        (
            InnerConfig,
            {"optimizer": "sgd", "learn_betas": "shared"},
            "the inner optimizer sgd; choose adam",
        ),
        (InnerConfig, {"optimizer": "adam", "inner_beta2": 0.99999999}, "must lie in"),
        (Config, {"source": "pixels"}, "source is 'pixels'.*such as PixelConfig"),
        (Config, {"method": "unrolled"}, "method is 'unrolled'.*such as UnrolledConfig"),
        (Config, {"data": (torch.zeros(2), torch.zeros(2))}, r"data is a tuple.*load_data\(\(x, y\)\)"),
        (Config, {"learner": torch.nn.Linear}, "learner is a type.*config.with_learner"),
        (Config, {"outer": OuterConfig(lr_noise=0.1)}, "lr_noise is 0.1, which does nothing where no noise"),
        (Config, {"weight_norm": True, "init": InitConfig(gain=2.0)}, "gain is 2.0"),
        (InnerConfig, {"optimizer": "adam", "learn_weight_decay": "per-step"}, "weight_decay is 0, where"),
        (PixelConfig, {"label_confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_other_values_that_make_no_sense(owner: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        owner(**values)


IDLE: list[tuple[dict[str, Any], str]] = [
    ({"init": {"init_seed": 3}}, "init_seed is 3, which does nothing with init random; choose init fixed"),
    ({"init": {"held_out": 3}}, "held_out is 3, which does nothing with init random, which has no pool"),
    ({"outer": {"decay": 0.1}}, "decay is 0.1, which does nothing with schedule cosine; choose schedule step"),
    (
        {"outer": {"decay_every": 5, "schedule": "constant"}},
        "decay_every is 5, which does nothing with schedule constant",
    ),
    ({"outer": {"lr_labels": 0.2}}, "lr_labels is 0.2, which does nothing where no labels are learned; leave it out"),
    ({"outer": {"lr_noise": 0.2}}, "lr_noise is 0.2, which does nothing where no noise"),
    ({"outer": {"lr_images": 0.2}, "source": {"kind": "real"}}, "lr_images is 0.2, .* where no images are learned"),
    ({"outer": {"lr_steps": 0.2}, "inner": {"learn_lr": "fixed"}}, "lr_steps is 0.2, .* where no step sizes or"),
    ({"outer": {"inits": 1, "calibrate_inits": 4}, "init": {"init": "fixed"}}, "calibrate_inits is 4, .* that differ"),
    (
        {
            "attack": {"source": 0, "target": 1},
            "source": {"kind": "pixels"},
            "method": {"kind": "unrolled", "loss_every": 2},
        },
        "loss_every is 2, which does nothing for an attack, which has an objective of its own; leave it out",
    ),
    ({"inner": {"momentum": 0.5}}, "momentum is 0.5, which does nothing with the inner optimizer gd"),
    ({"inner": {"momentum": 0.5, "optimizer": "adam"}}, "momentum is 0.5, .*adam; choose sgd or nesterov"),
    ({"inner": {"inner_beta1": 0.5, "optimizer": "sgd"}}, "inner_beta1 is 0.5, .*sgd; choose adam"),
    ({"inner": {"epsilon": 0.5}}, "epsilon is 0.5, .*gd; choose adam"),
    ({"inner": {"lr_max": 0.5, "learn_lr": "fixed"}}, "lr_max is 0.5, .* where no step size is learned"),
    ({"source": {"kind": "pixels", "label_confidence": 0.5}}, "label_confidence is 0.5, .* with hard labels"),
    ({"source": {"kind": "pixels", "norm": "l2"}}, "norm is l2, .* where nothing is bounded; give max_change"),
    ({"source": {"kind": "generator", "teacher_confidence": 0.5}}, "teacher_confidence is 0.5, .* balanced classes"),
    ({"source": {"kind": "generator", "generator": "my:net", "width": 8}}, "width is 8, .* generator of your own"),
]
"""Options that do nothing beside the others, as a file records them, and what is said of each."""


@pytest.mark.parametrize(("values", "message"), IDLE)
def test_an_option_without_effect_is_refused(values: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {"init": InitConfig, "outer": OuterConfig, "inner": InnerConfig, "attack": AttackConfig}
    members = {"source": SOURCES, "method": METHODS}
    with pytest.raises(IdleOptionError, match=message):
        built: dict[str, Any] = {}
        for name, part in values.items():
            own = {key: value for key, value in part.items() if key != "kind"}
            built[name] = (members[name][part["kind"]] if name in members else parts[name])(**own)
        Config(**built)


@pytest.mark.parametrize(("values", "message"), IDLE)
def test_a_file_with_an_option_without_effect_is_read_without_it(values: dict[str, Any], message: str) -> None:
    option = message.split(" is ")[0]
    config = Config.from_json(values)
    left = {name: {k: v for k, v in part.items() if k != option} for name, part in values.items()}
    assert config == Config.from_json(left)
    assert Config.from_json(config.to_json()) == config


def test_what_is_learned_besides_step_sizes_has_their_rate() -> None:
    inner = InnerConfig(optimizer="sgd", learn_lr="fixed", learn_momentum="shared")
    assert Config(inner=inner, outer=OuterConfig(lr_steps=0.2)).outer.lr_steps == 0.2


def test_a_fixed_initialisation_is_a_single_one() -> None:
    config = tiny_config(init="fixed")
    with pytest.raises(LimbeckError, match="use inits = 1"):
        replace(config, outer=replace(config.outer, inits=2))
