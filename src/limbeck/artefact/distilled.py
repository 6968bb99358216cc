"""The artefact: a learned training set with everything that is needed to use it.

Shapes: S batches, M images a batch, T steps, K classes; C, H, W of an image.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.common.files import read_json, read_tensors, write_json, write_tensors
from limbeck.data import Preprocessing, TaskData
from limbeck.engine import Batch, Learner, State, Tensors, soft_cross_entropy, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import Evaluation, evaluate
from limbeck.experiment.build import generator_for, initial_weights, network_for, with_augmentation
from limbeck.experiment.config import Config

SCHEMA = 2


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Distilled:
    """A learned training set.

    Attributes:
        images: (S, M, C, H, W), normalised as ``preprocessing`` says.
        labels: (S, M, K), rows are distributions over the classes (one-hot for hard labels).
        hyperparameters: what the inner optimiser reads at each step, (T,) by name: ``lr``, and ``momentum`` and so on.
        order: (T,) integers, which of the S batches each step uses.
        preprocessing: how real images are brought to what the learned ones look like.
        class_names: K names.
        config: the resolved configuration that made it.
        weights: for a fixed initialisation, θ₀ by parameter name; empty otherwise.
        generator: weights and buffers of the generator that made the images, by name; empty where there was none.
        info: provenance: data hash, versions, scores of the selection, times.
    """

    images: Tensor
    labels: Tensor
    hyperparameters: Tensors
    order: Tensor
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    config: Config
    weights: Tensors
    generator: Tensors = field(default_factory=dict)
    info: dict[str, Any]

    def __repr__(self) -> str:
        batches, images, *shape = self.images.shape
        return (
            f"Distilled({batches} x {images} images of {' x '.join(map(str, shape))} for {self.config.data}, "
            f"{self.config.learner}, {len(self.order)} steps)"
        )

    @property
    def learning_rates(self) -> Tensor:
        """(T,), the step size of each gradient step."""
        return self.hyperparameters["lr"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return tuple(self.images.shape[2:])  # type: ignore[return-value]

    @property
    def kind_of_labels(self) -> str:
        """``hard`` or ``soft`` for learned images, ``balanced``, ``random`` or ``learned`` for a generator's."""
        config = self.config
        return {"pixels": config.pixels.labels, "generator": config.generator.classes}.get(config.source, "real")

    @property
    def num_classes(self) -> int:
        """K."""
        return self.labels.shape[2]

    def batches(self, device: str | torch.device = "cpu", seed: int | None = None) -> Iterator[Batch]:
        """The T batches in order, each with its hyper-parameters.

        They are those that are recorded, or with a ``seed`` drawn anew as far as the set was learned for that: fresh
        images of a generator without a curriculum, made one batch at a time, or learned batches in another order.

        Raises:
            LimbeckError: a seed for a set that leaves nothing to chance, or whose noise is not recorded.
        """
        pairs = ((self.images[index], self.labels[index]) for index in self.order.tolist())
        return self._with_hyperparameters(pairs if seed is None else self._drawn(seed), device)

    def _with_hyperparameters(
        self, pairs: Iterator[tuple[Tensor, Tensor]], device: str | torch.device
    ) -> Iterator[Batch]:
        for step, (x_MCHW, y_MK) in enumerate(pairs):
            h = {name: value[step].to(device) for name, value in self.hyperparameters.items()}
            yield Batch(x_MCHW.to(device), y_MK.to(device), h)

    def _drawn(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step, with what is left to chance drawn from ``seed``."""
        chosen, steps = self.config.generator, len(self.order)
        if self.config.source != "generator" or chosen.curriculum not in ("none", "shuffled-batches"):
            raise LimbeckError(
                "Only a generator without a curriculum, or with shuffled batches, has something to draw anew; leave "
                "out the seed for the batches that are recorded."
            )
        rng = torch.Generator().manual_seed(seed)
        if chosen.curriculum == "shuffled-batches":
            order = torch.randperm(steps, generator=rng).tolist()
            return ((self.images[index], self.labels[index]) for index in order)
        classes_N = torch.arange(steps * chosen.batch) % self.num_classes
        if chosen.classes == "random":
            classes_N = torch.randint(self.num_classes, classes_N.shape, generator=rng)
        return self._fresh(classes_N, rng)

    def _fresh(self, classes_N: Tensor, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of these classes from fresh noise, one at a time: images (M, C, H, W), one-hot labels (M, K)."""
        module = generator_for(self.config, self.shape, self.num_classes)
        for y_M in torch.split(classes_N, self.config.generator.batch):
            z_MZ = torch.randn(len(y_M), self.config.generator.latent, generator=rng)
            y_MK = torch.nn.functional.one_hot(y_M, self.num_classes).float()
            with torch.no_grad():
                yield functional_call(module, self.generator, (z_MZ, y_MK)), y_MK

    def network(self, seed: int = 0) -> nn.Module:
        """A fresh network as the images were learned for: θ₀ itself if it was fixed, else a draw from ``seed``."""
        module = network_for(self.config, self.shape, self.num_classes)
        if self.weights:
            weights = self.weights
        else:
            drawn = initial_weights(self.config, module).held_out(1, seed)
            weights = {name: value[0] for name, value in drawn.items()}
        module.load_state_dict(weights, strict=False)
        return module

    def train(self, model: nn.Module | None = None) -> nn.Module:
        """Train a network on the learned set, in place, and return it.

        One step of the inner optimiser per batch, in the learned order with the learned step sizes (plain gradient
        descent unless the set was learned for another); the model keeps its device and mode. Without a model,
        ``network()`` is trained, and put into evaluation mode. A set learned for a fixed initialisation works from that
        initialisation only, so pass ``run.network()``; another start is trained with a warning.

        Args:
            model: maps (M, C, H, W) to logits (M, K); starts from the weights it has.

        Raises:
            LimbeckError: if the model's output is not (M, K).
        """
        fresh = model is None
        model = self.network() if model is None else model
        trained = with_augmentation(self.config, model)
        parameters = {name: p for name, p in trained.named_parameters() if p.requires_grad}
        device = next(iter(parameters.values())).device
        optimizer = self.config.inner.make()
        state = State({name: p.detach() for name, p in parameters.items()}, {})
        state = State(state.params, optimizer.init(state.params))
        if self.weights and not self._starts_right(trained):
            warnings.warn(
                "this set was learned for one fixed initialisation, which the model does not have: expect little; "
                "run.network() has it",
                stacklevel=2,
            )
        for batch in self.batches(device):
            logits = trained(batch.x_MCHW)
            if logits.shape != batch.y_MK.shape:
                raise LimbeckError(
                    f"The model gives outputs of shape {tuple(logits.shape)}; this set has {self.num_classes} classes, "
                    f"expected {tuple(batch.y_MK.shape)}. Give the model {self.num_classes} outputs."
                )
            loss = soft_cross_entropy(logits, batch.y_MK)
            found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)  # a part may be unused
            with torch.no_grad():
                state = optimizer.update(state, dict(zip(parameters, found, strict=True)), batch.h)
                for name, parameter in parameters.items():
                    parameter.copy_(state.params[name])
        return model.eval() if fresh else model

    def _starts_right(self, model: nn.Module) -> bool:
        """Whether the model's parameters are θ₀."""
        own, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        start = {name: value for name, value in self.weights.items() if name not in buffers}
        return own.keys() == start.keys() and all(
            own[name].shape == value.shape and torch.equal(own[name].detach().cpu(), value)
            for name, value in start.items()
        )

    def generate(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """New images from the generator: (n, C, H, W), normalised, and their class indices (n,), balanced.

        They are made in batches as large as the learner saw, whose statistics the generator's normalisation uses.

        Raises:
            LimbeckError: n < 1, there is no generator, or it was learned with its own noise (a curriculum).
        """
        if n < 1:
            raise LimbeckError(f"n is {n}; at least one image must be asked for.")
        chosen = self.config.generator
        if not self.generator:
            raise LimbeckError("This set was not made by a generator; its images are all in run.images.")
        if chosen.curriculum != "none":
            raise LimbeckError(
                f"The generator was learned with noise of its own (curriculum {chosen.curriculum}), and what it "
                "makes of that is in run.images. Learn one with --curriculum none for images without limit."
            )
        rng = torch.Generator().manual_seed(seed)
        y_N = torch.arange(-(-n // chosen.batch) * chosen.batch) % self.num_classes
        made = [x_MCHW for x_MCHW, _ in self._fresh(y_N, rng)]
        return torch.cat(made)[:n], y_N[:n]

    def preprocess(self, x_NCHW: Tensor) -> Tensor:
        """Real images (N, C, H, W), uint8 or as the data set has them, normalised like the learned ones."""
        return self.preprocessing.apply(x_NCHW)

    def learner(self, name: str | None = None, device: str = "cpu") -> Learner:
        """The learner it was made for, or the same training of another network."""
        network = network_for(self.config, self.shape, self.num_classes, learner=name)
        return Learner.of(network.to(device), self.config.inner.make())

    def initial(self, learner: Learner, n: int, seed: int, *, selection: bool = False) -> Tensors:
        """n held-out initial weights (n, ...) that were never trained on; θ₀ itself if it was fixed.

        A pool keeps others for the evaluation than for ``selection``, on which things are chosen.
        """
        if self.weights:
            return {name: value[None] for name, value in self.weights.items()}
        found = initial_weights(self.config, learner.module)
        return found.validation(n, seed) if selection else found.held_out(n, seed)

    def evaluate(self, data: TaskData | None = None, *, n: int | None = None, seed: int = 0) -> Evaluation:
        """Accuracy on the real test set before and after training on this set; see ``limbeck.evaluate``."""
        return evaluate(self, data, n=n, seed=seed, baselines=())

    def summary(self, folder: Path | None = None) -> dict[str, Any]:
        """What ``limbeck show`` prints: schema, sizes, recipe, step sizes, scores; paths relative to a folder."""
        return {
            "schema": SCHEMA,
            "images": list(self.images.shape),
            "classes": list(self.class_names),
            "hyperparameters": {name: value.tolist() for name, value in self.hyperparameters.items()},
            "order": self.order.tolist(),
            "labels": self.kind_of_labels,
            "preprocessing": self.preprocessing.to_json(),
            "config": self.config.to_json(folder),
            **self.info,
        }

    def save(self, folder: Path) -> None:
        """Write ``distilled.safetensors`` and ``distilled.json`` into a folder, each atomically."""
        tensors = {
            "images": self.images,
            "labels": self.labels,
            "order": self.order,
            **{f"hyperparameters.{name}": value for name, value in self.hyperparameters.items()},
            **{f"weights.{name}": value for name, value in self.weights.items()},
            **{f"generator.{name}": value for name, value in self.generator.items()},
        }
        write_tensors(folder / "distilled.safetensors", tensors, {"schema": SCHEMA})
        write_json(folder / "distilled.json", self.summary(folder))

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool | Collection[str] = False) -> Self:
        """Read a run directory.

        Reading runs no code. A run may name code of its own as its learner or generator, which is imported when a
        network is made (``network``, ``train`` without a model, ``generate``, ``evaluate``): that is refused unless
        you trust it.

        Args:
            folder: of the run.
            trust: whether code that the run names may be imported, or the names that may.

        Raises:
            LimbeckError: not a run directory, damaged, or of a schema version newer than this Limbeck knows.
        """
        folder = Path(folder)
        if not (folder / "distilled.json").is_file():
            raise LimbeckError(f"{folder} holds no finished run (no distilled.json); expected a run directory.")
        summary = read_json(folder / "distilled.json")
        if not isinstance(summary, dict) or not isinstance(summary.get("schema"), int):
            raise LimbeckError(f"{folder / 'distilled.json'} is damaged: it names no schema version.")
        if summary["schema"] > SCHEMA:
            raise LimbeckError(
                f"{folder} has schema version {summary['schema']}; this Limbeck reads up to {SCHEMA}. Upgrade limbeck."
            )
        tensors, _ = read_tensors(folder / "distilled.safetensors")
        try:
            if summary["schema"] == 1:  # plain gradient descent only
                summary["hyperparameters"] = summary.pop("learning_rates")
                tensors["hyperparameters.lr"] = tensors.pop("learning_rates")
            known = {"schema", "images", "classes", "hyperparameters", "order", "labels", "preprocessing", "config"}
            return cls(
                images=tensors["images"],
                labels=tensors["labels"],
                hyperparameters=with_prefix(tensors, "hyperparameters."),
                order=tensors["order"],
                preprocessing=Preprocessing.from_json(summary["preprocessing"]),
                class_names=tuple(summary["classes"]),
                config=Config.from_json(summary["config"], folder, trust=trust),
                weights=with_prefix(tensors, "weights."),
                generator=with_prefix(tensors, "generator."),
                info={key: copy.deepcopy(value) for key, value in summary.items() if key not in known},
            )._checked(folder)
        except KeyError as error:
            raise LimbeckError(f"{folder} is damaged: {error} is missing.") from None
        except TypeError as error:
            raise LimbeckError(f"{folder / 'distilled.json'} is damaged ({error}); restore it from a copy.") from None

    def _checked(self, folder: Path) -> Self:
        batches, images, *_ = self.images.shape if self.images.dim() == 5 else (-1, -1)
        fits = (
            self.labels.shape == (batches, images, len(self.class_names))
            and set(self.hyperparameters) == set(self.config.inner.make().hyperparameters)
            and all(self.order.shape == value.shape for value in self.hyperparameters.values())
            and bool(((self.order >= 0) & (self.order < batches)).all())
        )
        if not fits:
            raise LimbeckError(f"{folder} is damaged: images, labels, step sizes and order do not fit together.")
        return self
