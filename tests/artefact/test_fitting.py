"""Training networks of every kind on a learned set."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import random_set, tiny_config, tiny_data
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler

import limbeck
from limbeck.artefact.distilled import Distilled
from limbeck.errors import LimbeckError
from limbeck.evaluation.training import OrdinaryTraining
from limbeck.models import unwrap
from limbeck.outer.loop import distill

SET = random_set()


def plain(seed: int = 0, inputs: int = 64) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 3))


class Returns(nn.Module):
    """The logits of ``plain`` in something else."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.wrap = plain(), wrap

    def forward(self, x_NCHW: Tensor) -> Any:
        return self.wrap(self.net(x_NCHW))


def test_only_what_wants_colour_is_told_of_it() -> None:
    with pytest.raises(LimbeckError, match="GreyToColour"):
        SET.train(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)))
    with pytest.raises(LimbeckError, match="fails on images") as caught:
        SET.train(nn.Sequential(nn.Flatten(), nn.Linear(7, 3)))
    assert "GreyToColour" not in str(caught.value)
    with pytest.raises(LimbeckError, match="complex parameters"):
        SET.train(nn.Linear(8, 3, dtype=torch.complex64))


def test_training_that_runs_away_is_told_of() -> None:
    model = Returns(lambda logits: logits * torch.inf)
    with pytest.warns(UserWarning, match="training ran away"):
        SET.train(model)


def expected() -> Tensor:
    return SET.train(plain())[1].weight.detach()  # type: ignore[index, union-attr, return-value]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, logits.sum()),
        lambda logits: [logits],
        lambda logits: {"logits": logits, "hidden": logits * 2},
        lambda logits: OrderedDict(out=logits),
        lambda logits: SimpleNamespace(logits=logits, loss=None),
        lambda logits: ({"logits": logits}, 3),
        lambda logits: torch.return_types.max((logits, logits)),  # a named tuple
    ],
)
def test_whatever_holds_the_logits(wrap: Callable[[Tensor], Any]) -> None:
    model = SET.train(Returns(wrap))
    assert torch.equal(model.net[1].weight, expected())  # type: ignore[index, union-attr]


@pytest.mark.parametrize("wrap", [lambda logits: None, lambda logits: {"a": logits, "b": logits}, lambda logits: ()])
def test_no_logits_at_all(wrap: Callable[[Tensor], Any]) -> None:
    with pytest.raises(LimbeckError, match=r"returns \w+; expected logits \(3, 3\), or a tuple"):
        SET.train(Returns(wrap))


def test_lazy_layers() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))
    trained = SET.train(model)
    assert trained is model and model.training and model[1].weight.shape == (5, 64)  # type: ignore[union-attr, index]
    assert int(model[2].num_batches_tracked) == SET.steps  # type: ignore[arg-type, union-attr]  # the batch that gave shapes does not count
    wrapped = nn.DataParallel(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    SET.train(wrapped)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_other_types(dtype: torch.dtype, tolerance: float) -> None:
    model = SET.train(plain().to(dtype))
    weight = model[1].weight  # type: ignore[index]
    assert weight.dtype == dtype and not torch.equal(weight, plain().to(dtype)[1].weight)
    assert torch.allclose(weight.float(), expected(), atol=tolerance)


def test_the_meta_device_is_another_device() -> None:
    """Nothing but the model's own device is asked for: on ``meta`` a tensor left behind would be an error."""
    model = plain().to("meta")
    SET.train(model)
    assert model[1].weight.device.type == "meta"
    SET.train(plain().to("meta"), training=OrdinaryTraining(epochs=1, batch_size=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    model = SET.train(plain().cuda())
    assert torch.allclose(model[1].weight.cpu(), expected(), atol=1e-5)  # type: ignore[index]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        nn.DataParallel,
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    ],
    ids=["compiled", "parallel", "both"],
)
def test_wrapped_networks(wrap: Callable[[nn.Module], nn.Module]) -> None:
    inner = plain()
    model = wrap(inner)
    assert SET.train(model) is model and unwrap(model) is inner
    assert torch.allclose(inner[1].weight, expected(), atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"weight_norm": True}, {"augment_shift": 1}])
def test_a_wrapped_network_with_the_right_start_brings_no_warning(options: dict[str, Any]) -> None:
    run = distill(replace(tiny_config(init="fixed", iterations=1), **options), tiny_data())
    wrappers: list[Callable[[nn.Module], nn.Module]] = [
        lambda model: model, nn.DataParallel, lambda model: torch.compile(model, backend="eager"),
        lambda model: model.double(), lambda model: model.bfloat16(),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for wrap in wrappers:
            run.train(wrap(run.network()))
    other = run.network()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for wrap in wrappers:
        with pytest.warns(UserWarning, match="one fixed initialisation") as told:
            run.train(wrap(copy.deepcopy(other)))
        assert told[0].filename == __file__


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_within_contexts_that_need_no_gradients(surrounding: Callable[[], Any]) -> None:
    model = plain()
    with surrounding():
        SET.train(model)
        fresh = SET.train()
        copied = replace(SET, images=SET.images.clone(), labels=SET.labels.clone())  # inference tensors
        also = copied.train(model=None)
    assert torch.equal(model[1].weight, expected())
    assert all(torch.equal(p, q) for p, q in zip(fresh.parameters(), SET.train().parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(fresh.parameters(), also.parameters(), strict=True))
    fresh(SET.images[0]).sum().backward()


def test_a_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = plain()
    with pytest.raises(LimbeckError, match="made in torch.inference_mode"):
        SET.train(model)


@pytest.mark.parametrize("model", [nn.Flatten(), plain().requires_grad_(False)])
def test_nothing_to_train(model: nn.Module) -> None:
    with pytest.raises(LimbeckError, match="nothing to train"):
        SET.train(model)


def test_a_model_without_gradients_inside() -> None:
    model = Returns(lambda logits: logits.detach())
    with pytest.raises(LimbeckError, match="does not depend on its parameters"):
        SET.train(model)


@pytest.mark.parametrize("model", [nn.Linear, "lenet", None.__class__])
def test_what_is_no_network(model: Any) -> None:
    with pytest.raises(LimbeckError, match=r"train takes a network.*run.train\(MyNet\(\)\)"):
        SET.train(model)


def test_three_channels_for_grey_images() -> None:
    colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(
        LimbeckError, match=r"images of shape \(1, 8, 8\).*nn.Sequential\(limbeck.GreyToColour\(\), model"
    ):
        SET.train(colour)
    model = SET.train(nn.Sequential(limbeck.GreyToColour(), colour))
    assert model(SET.preprocess(torch.rand(5, 1, 8, 8))).shape == (5, 3)
    with pytest.raises(LimbeckError, match="leave it out"):
        random_set(shape=(3, 8, 8)).train(nn.Sequential(limbeck.GreyToColour(), colour))
    with pytest.raises(LimbeckError, match="must be at least 1"):
        limbeck.GreyToColour(0)


def test_a_failing_model_of_coloured_images_says_why_alone() -> None:
    with pytest.raises(LimbeckError, match=r"fails on images of shape \(3, 8, 8\).*RuntimeError") as error:
        random_set(shape=(3, 8, 8)).train(plain(inputs=64))
    assert "GreyToColour" not in str(error.value)


def test_a_network_that_works_in_place() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def forward(self, x_NCHW: Tensor) -> Tensor:
            logits: Tensor = self.net(x_NCHW.mul_(0).add_(1))
            return logits

    run = random_set()
    before = run.images.clone(), run.labels.clone()
    run.train(InPlace())
    run.train(InPlace(), training=OrdinaryTraining(epochs=1))
    for x, y in run.loader(2):
        x.zero_(), y.zero_()
    x, y = run.dataset()[0]
    x.zero_(), y.zero_()
    assert torch.equal(run.images, before[0]) and torch.equal(run.labels, before[1])


# --- ordinary loaders ------------------------------------------------------------------------------------------------


def test_the_dataset_and_its_loader() -> None:
    x, y = SET.dataset()[4]
    assert len(SET.dataset()) == 6 and torch.equal(x, SET.images[1, 1])
    assert y.dtype == torch.int64 and y.shape == () and int(y) == int(SET.labels[1, 1].argmax())
    batches = list(SET.loader(4, shuffle=False))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 1, 8, 8), (2, 1, 8, 8)]
    assert torch.equal(torch.cat([y for _, y in batches]), SET.labels.flatten(0, 1).argmax(-1))
    drawn = [torch.cat([y for _, y in SET.loader(4, generator=torch.Generator().manual_seed(s))]) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    sampler = SequentialSampler(SET.dataset())
    assert torch.equal(next(iter(SET.loader(6, sampler=sampler)))[0], SET.images.flatten(0, 1))
    by_batches = SET.loader(batch_sampler=BatchSampler(sampler, 4, drop_last=True))
    assert [len(x) for x, _ in by_batches] == [4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SET.loader(0), "A DataLoader cannot be made with these options: batch_size should be a positive"),
        (lambda: SET.loader(shuffle=True, batch_sampler=[[0]]), "batch_sampler option is mutually exclusive"),
        (lambda: SET.loader(4, sizes=3), "unexpected keyword argument 'sizes'"),
        (lambda: SET.train(plain(), training="sgd"), "training is 'sgd'; give a recipe, such as"),
        (lambda: SET.evaluate(tiny_data(), training=3), "training is 3; give a recipe, such as"),
    ],
)
def test_wrong_options_are_one_sentence(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        wrong()


def test_soft_labels_stay_distributions() -> None:
    run: Distilled = random_set(tiny_config(labels="soft"))
    x, y = next(iter(run.loader(6, shuffle=False)))
    assert torch.equal(y, run.labels.flatten(0, 1))
    assert nn.functional.cross_entropy(plain()(x), y).isfinite()
