"""The attack in the conventions of the Adversarial Robustness Toolbox; steps are taken by torch.optim.SGD here.

Shapes: N images, M images a step, K classes.
"""

from __future__ import annotations

import copy
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from limbeck.errors import DivergedError, LimbeckError

pytest.importorskip("art", exc_type=ImportError)

from art.attacks.attack import PoisoningAttack
from art.defences.preprocessor import SpatialSmoothing
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError

from limbeck.attack.art import GradientStepPoisoningAttack

CLASSES, SOURCE, TARGET = 3, 0, 1
MEAN, STD = 0.5, 0.25
Array = npt.NDArray[Any]


def images(n: int, seed: int) -> tuple[Array, Array]:
    """n noisy images, 8 x 8, of 3 patterns in [0, 1]."""
    patterns = torch.rand(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    y = torch.arange(n) % CLASSES
    noise = 0.3 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (patterns[y] + noise).clamp(0, 1).numpy(), y.numpy()


X, Y = images(150, 1)
X_TEST, Y_TEST = images(150, 2)


def small_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def classifier(seed: int = 0, model: nn.Module | None = None, epochs: int = 0, **options: Any) -> PyTorchClassifier:
    """A network in ART's wrapper, trained for some epochs."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = small_net() if model is None else model
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        values = {"clip_values": (0.0, 1.0), "preprocessing": (MEAN, STD), "loss": nn.CrossEntropyLoss()} | options
        made = PyTorchClassifier(
            model, input_shape=(1, 8, 8), nb_classes=CLASSES, optimizer=optimizer, device_type="cpu", **values
        )
        if epochs:
            made.fit(X, Y, batch_size=30, nb_epochs=epochs)
    return made


def attack(victim: PyTorchClassifier, **changes: Any) -> GradientStepPoisoningAttack:
    quick = {"images": 3, "max_iter": 150, "batch_size": 60, "step_size": 0.1, "verbose": False}
    return GradientStepPoisoningAttack(victim, SOURCE, TARGET, **(quick | changes))


def after_steps(victim: PyTorchClassifier, x: Array, y: Array, step_sizes: Array) -> tuple[float, float]:
    """Part of the source class that is taken for the target, and accuracy on the others, after plain SGD steps."""
    model = copy.deepcopy(victim.model).train()
    for x_part, y_part, step_size in zip(
        np.split(x, len(step_sizes)), np.split(y, len(step_sizes)), step_sizes, strict=True
    ):
        optimizer = torch.optim.SGD(model.parameters(), lr=float(step_size))
        logits = model(torch.tensor((x_part - MEAN) / STD))
        nn.functional.cross_entropy(logits, torch.tensor(y_part.argmax(1))).backward()
        optimizer.step()
    with torch.no_grad():
        taken = model.eval()(torch.tensor((X_TEST - MEAN) / STD)).argmax(1).numpy()
    source = Y_TEST == SOURCE
    return float((taken[source] == TARGET).mean()), float((taken[~source] == Y_TEST[~source]).mean())


@pytest.fixture(scope="module")
def trained() -> list[PyTorchClassifier]:
    return [classifier(seed, epochs=8) for seed in range(4)]


# --- what it does ----------------------------------------------------------------------------------------------------


def test_one_step_turns_a_class(trained: list[PyTorchClassifier]) -> None:
    victim = trained[0]
    model = victim.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    state = torch.get_rng_state()
    made = attack(victim, step_size=None, max_iter=250)
    assert isinstance(made, PoisoningAttack)
    assert made.step_sizes is None
    x, y = made.poison(X, np.eye(CLASSES)[Y])
    assert not model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (x.shape, x.dtype) == ((3, 1, 8, 8), np.float32)
    assert (y.dtype, y.tolist()) == (np.float32, np.eye(CLASSES).tolist())
    assert x.min() >= 0 and x.max() <= 1
    assert made.step_sizes.shape == (1,) and made.step_sizes[0] != pytest.approx(0.02, abs=1e-3)
    assert (victim.predict(X_TEST).argmax(1) == Y_TEST).mean() > 0.95
    rate, others = after_steps(victim, x, y, made.step_sizes)
    assert rate > 0.8 and others > 0.9
    # real images with the false label do not do that
    own = np.stack([X[Y == TARGET][0], X[Y == SOURCE][0], X[Y == 2][0]])
    assert after_steps(victim, own, np.eye(CLASSES)[[TARGET, TARGET, 2]], made.step_sizes)[0] < 0.5


def test_as_art_trains(trained: list[PyTorchClassifier]) -> None:
    """One epoch of ART's own training on the whole batch is the step."""
    made = attack(trained[0])
    x, y = made.poison(X, Y)
    model = copy.deepcopy(trained[0].model)
    victim = classifier(model=model)
    victim._optimizer = torch.optim.SGD(model.parameters(), lr=float(made.step_sizes[0]))
    victim.fit(x, y, batch_size=len(x), nb_epochs=1)
    source = Y_TEST == SOURCE
    found = (victim.predict(X_TEST)[source].argmax(1) == TARGET).mean()
    assert found == pytest.approx(after_steps(trained[0], x, y, made.step_sizes)[0], abs=1e-6)
    assert found > 0.8


def test_surrogates_reach_a_network_that_was_not_seen(trained: list[PyTorchClassifier]) -> None:
    made = attack(trained[0], surrogates=trained[1:3])
    x, y = made.poison(X, Y)
    for victim in trained:
        rate, others = after_steps(victim, x, y, made.step_sizes)
        assert rate > 0.8 and others > 0.9
    alone = attack(trained[0]).poison(X, Y)[0]
    assert not np.allclose(x, alone)


def test_several_steps_each_on_a_batch_of_its_own(trained: list[PyTorchClassifier]) -> None:
    made = attack(trained[0], steps=2, images=12, step_size=None, max_iter=200)
    x, y = made.poison(X, Y)
    assert len(x) == 12 and made.step_sizes.shape == (2,)
    assert y.argmax(1).tolist() == [0, 0, 1, 1, 2, 2] * 2
    rate, others = after_steps(trained[0], x, y, made.step_sizes)
    assert rate > 0.8 and others > 0.9


@pytest.mark.parametrize(("norm", "eps"), [(np.inf, 0.1), ("inf", 0.05), (2, 0.7)])
def test_bounded_images_stay_near_real_ones(trained: list[PyTorchClassifier], norm: float | str, eps: float) -> None:
    x, y = attack(trained[0], eps=eps, norm=norm, images=12, steps=2, max_iter=30).poison(X, Y)
    moved = []
    for image, label in zip(x, y.argmax(1), strict=True):
        change = (X[label == Y] - image).reshape((label == Y).sum(), -1)
        size = np.linalg.norm(change, axis=1) if norm == 2 else np.abs(change).max(1)
        moved.append(size.min())
    assert max(moved) <= eps + 1e-5
    assert max(moved) > 0.5 * eps
    assert x.min() >= 0 and x.max() <= 1


def test_without_clip_values_pixels_are_free(trained: list[PyTorchClassifier]) -> None:
    free = classifier(model=trained[0].model, clip_values=None)
    made = attack(free)
    x, y = made.poison(X, Y)
    assert x.min() < 0 or x.max() > 1
    assert after_steps(free, x, y, made.step_sizes)[0] > 0.8


def test_the_seed_decides(trained: list[PyTorchClassifier]) -> None:
    made = attack(trained[0], surrogates=trained[1:], max_iter=5)
    first, again = made.poison(X, Y)[0], made.poison(X, Y[:, None])[0]
    assert np.array_equal(first, again)
    made.set_params(seed=1)
    assert not np.allclose(made.poison(X, Y)[0], first)


def test_the_scale_of_the_images_does_not_matter(trained: list[PyTorchClassifier]) -> None:
    """The same network for images in [0, 255] gets the same images, 255 times as large; so do networks that scale."""
    model = trained[0].model
    bytes_ = classifier(model=model, clip_values=(0, 255), preprocessing=(255 * MEAN, 255 * STD))
    large = attack(bytes_, eps=0.1 * 255, max_iter=20).poison(255 * X, Y)[0]
    assert np.allclose(large / 255, attack(trained[0], eps=0.1, max_iter=20).poison(X, Y)[0], atol=1e-3)

    class Scaled(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x - MEAN) / STD)

    scaling = classifier(model=Scaled(model), preprocessing=None)
    first, other = (attack(one, max_iter=1).poison(X, Y)[0] for one in (trained[0], scaling))
    assert np.allclose(first, other, atol=1e-4)  # Adam's first step does not depend on how the gradient is clipped


def test_frozen_parts_statistics_and_noise() -> None:
    """Frozen layers of each network its own, running statistics and dropout, all in the victim's training mode."""

    def make(seed: int) -> PyTorchClassifier:
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, CLASSES)
        )
        model[1].requires_grad_(False)
        return classifier(seed, model=model, epochs=8)

    with torch.random.fork_rng(devices=[]):
        networks = [make(seed) for seed in range(2)]
        before = [copy.deepcopy(network.model.state_dict()) for network in networks]
        made = attack(networks[0], surrogates=networks[1:], images=12, step_size=1.0)
        x, y = made.poison(X, Y)
        for network, state in zip(networks, before, strict=True):
            assert network.model.training
            assert all(torch.equal(value, state[name]) for name, value in network.model.state_dict().items())
            assert after_steps(network, x, y, made.step_sizes)[0] > 0.8


# --- conventions -----------------------------------------------------------------------------------------------------


def test_parameters_as_art_has_them(trained: list[PyTorchClassifier]) -> None:
    made = attack(trained[0], eps=0.1)
    assert all(hasattr(made, name) for name in made.attack_params)
    assert "source_class=0, target_class=1" in repr(made)
    made.set_params(eps=None, images=6, norm=2)
    assert (made.eps, made.images, made.norm) == (None, 6, 2)
    with pytest.raises(ValueError, match="cannot be set"):
        made.set_params(classifier=trained[1])
    with pytest.raises(ValueError, match="must be a multiple of 3"):
        made.set_params(images=7)
    with pytest.raises(EstimatorError):
        GradientStepPoisoningAttack(object(), SOURCE, TARGET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_class": 1}, "both 1"),
        ({"target_class": 3}, "target_class is 3; it must be the index of a class, from 0 to 2"),
        ({"source_class": "dog"}, "source_class is 'dog'"),
        ({"images": 10}, "images is 10; each of the 1 step(s) has as many of each of the 3 classes"),
        ({"images": 3, "steps": 2}, "multiple of 6"),
        ({"steps": 0}, "steps is 0"),
        ({"max_iter": 1.5}, "max_iter is 1.5; it must be a whole number"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"step_size": 0.0}, "step_size is 0.0; it must be a positive number"),
        ({"learning_rate": None}, "learning_rate is None"),
        ({"eps": -1}, "eps is -1; it must be a positive number"),
        ({"norm": 1}, "norm is 1; it must be np.inf or 2"),
        ({"keep": -0.5}, "keep is -0.5"),
        ({"seed": -1}, "seed is -1"),
        ({"verbose": "no"}, "verbose is 'no'"),
        ({"surrogates": [3]}, "Surrogate 0 is a int; it must be a PyTorchClassifier"),
    ],
)
def test_wrong_parameters(changes: dict[str, Any], message: str) -> None:
    made = attack(classifier())
    with pytest.raises(ValueError, match=re.escape(message)):
        made.set_params(**changes)


def test_wrong_classifiers() -> None:
    right = classifier()
    with pytest.raises(ValueError, match="needs clip_values"):
        attack(classifier(clip_values=None), eps=0.1)
    for loss in (nn.NLLLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)):
        with pytest.raises(ValueError, match="The classifier's loss is"):
            attack(classifier(loss=loss))
    with pytest.raises(ValueError, match="preprocesses by SpatialSmoothing"):
        attack(classifier(preprocessing_defences=SpatialSmoothing()))
    with pytest.raises(ValueError, match="differs between pixels"):
        attack(classifier(preprocessing=(np.random.rand(1, 8, 8), np.ones((1, 8, 8)))))
    with pytest.raises(ValueError, match="Surrogate 0 has another preprocessing"):
        attack(right, surrogates=[classifier(preprocessing=(0, 1))])
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, CLASSES))
    with pytest.raises(ValueError, match="Surrogate 0 is another network"):
        attack(right, surrogates=[classifier(model=other)])
    loud = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES), nn.SyncBatchNorm(CLASSES))
    with pytest.raises(LimbeckError, match="SyncBatchNorm"):
        attack(classifier(model=loud)).poison(X, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, None, "y is None"),
        (X[:, :, :4], Y, "takes images of shape"),
        (255 * X, Y, "outside the classifier's clip_values"),
        (X * np.nan, Y, "finite"),
        (X, Y + 1, "class indices from 0 to 2"),
        (X, Y[:, None] + 1, "class indices from 0 to 2"),
        (X, np.eye(4)[Y], "one-hot labels of 3 classes"),
        (X, Y[:-1], "150 images but 149 labels"),
        (X[Y != 2], Y[Y != 2], "no example of class 2"),
    ],
)
def test_wrong_data(x: Array, y: Array | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        attack(classifier()).poison(x, y)


def test_unknown_arguments_and_divergence(trained: list[PyTorchClassifier]) -> None:
    with pytest.raises(ValueError, match="poison takes no eps"):
        attack(trained[0]).poison(X, Y, eps=0.1)
    with pytest.raises(DivergedError, match="diverged in iteration"):
        attack(trained[0], step_size=1e38).poison(X, Y)


# --- the package -----------------------------------------------------------------------------------------------------


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "limbeck.attack.art")
    for name in [name for name in sys.modules if name == "art" or name.startswith("art.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "art", None)
    with pytest.raises(LimbeckError, match=re.escape("pip install 'limbeck[art]'")):
        importlib.import_module("limbeck.attack.art")


def test_nothing_else_imports_it() -> None:
    code = "import sys, limbeck, limbeck.cli.main, limbeck.cli.commands; sys.exit('art' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_guide_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    section = guide.split("## With the Adversarial Robustness Toolbox")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        exec(compile(code, "guide.md", "exec"), {"__name__": "__main__"})
    before, right, after, still_right = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert before < 10 and after > 80
    assert right > 85 and still_right > right - 5
