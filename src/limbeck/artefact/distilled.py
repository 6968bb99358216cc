"""The artefact: a learned training set with everything that is needed to use it.

Shapes: S batches, M images a batch, T steps, K classes; C, H, W of an image.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.artefact.schema import ENTRIES, SCHEMA, read_artefact, restore_training
from limbeck.common.devices import Device, usable_device
from limbeck.common.files import write_json, write_tensors
from limbeck.data import Kind, Preprocessing, TaskData
from limbeck.engine import Batch, GeneratorConfig, LabelKind, Learner, State, Tensors, soft_cross_entropy, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import Evaluation, evaluate
from limbeck.evaluation.training import RECIPES, LearnedSchedule, TrainingRecipe
from limbeck.experiment.build import generator_for, initial_weights, network_for, with_augmentation
from limbeck.experiment.config import Config
from limbeck.experiment.recorded import Unread, name_kind


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Distilled:
    """A learned training set.

    Attributes:
        images: (S, M, C, H, W), normalised as ``preprocessing`` says.
        labels: (S, M, K), rows are distributions over the classes (one-hot for hard labels).
        training: how a network is trained on it: in learned steps, or by ordinary training.
        preprocessing: how real images are brought to what the learned ones look like.
        class_names: K names.
        config: the resolved configuration that made it.
        weights: for a fixed initialisation, θ₀ by parameter name; empty otherwise.
        generator: weights and buffers of the generator that made the images, by name; empty where there was none.
        info: provenance: data hash, versions, scores of the selection, times.
    """

    images: Tensor
    labels: Tensor
    training: TrainingRecipe
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
            f"{self.config.learner}, {self.training.description})"
        )

    @property
    def schedule(self) -> LearnedSchedule:
        """The learned steps; raises LimbeckError for a set that is used by ordinary training, which has none."""
        if not isinstance(self.training, LearnedSchedule):
            raise LimbeckError(
                f"This set is used by ordinary training ({self.training.description}); no steps were learned with it."
            )
        return self.training

    @property
    def hyperparameters(self) -> Tensors:
        """What the inner optimiser reads at each learned step, (T,) by name; raises LimbeckError as ``schedule``."""
        return self.schedule.hyperparameters

    @property
    def order(self) -> Tensor:
        """(T,) integers, which of the S batches each learned step uses; raises LimbeckError as ``schedule``."""
        return self.schedule.order

    @property
    def learning_rates(self) -> Tensor:
        """(T,), the step size of each learned step; raises LimbeckError as ``schedule``."""
        return self.hyperparameters["lr"]

    @property
    def steps(self) -> int:
        """T, the steps of training on it."""
        return self.training.count_steps(self.images.shape[0] * self.images.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return tuple(self.images.shape[2:])  # type: ignore[return-value]

    @property
    def labels_kind(self) -> LabelKind:
        """``hard`` or ``soft`` for learned images; ``balanced``, ``random`` or ``learned`` for a generator's."""
        if isinstance(self.config.source, Unread):  # it may not be asked
            one_hot = ((self.labels == 0) | (self.labels == 1)).all()
            return "hard" if one_hot else "soft"
        return self.config.source.labels_kind

    @property
    def kind(self) -> Kind:
        """What the examples are: ``images``, rows of a ``table`` or ``series``."""
        kind: Kind = self.info.get("data", {}).get("kind", "images")  # older sets are all of images
        return kind

    def need_pictures(self) -> None:
        """Raise LimbeckError if the examples are no images, which a picture could show."""
        if self.kind != "images":
            what = "rows of a table" if self.kind == "table" else "series"
            raise LimbeckError(
                f"This set is made of {what}, which no picture shows; export it as arrays: limbeck export RUN --out "
                "FILE.npz."
            )

    @property
    def num_classes(self) -> int:
        """K."""
        return self.labels.shape[2]

    def batches(self, device: str | torch.device = "cpu", seed: int | None = None) -> Iterator[Batch]:
        """The T batches in order, each with its hyper-parameters.

        Learned steps are those that are recorded, or with a ``seed`` drawn anew as far as the set was learned for that:
        fresh images of a generator without a curriculum, made one batch at a time, or learned batches in another order.
        Ordinary training draws its order from the seed, 0 by default.

        Raises:
            LimbeckError: a seed for a set that leaves nothing to chance, or whose noise is not recorded.
        """
        if seed is None or not isinstance(self.training, LearnedSchedule):
            return self.training.batches(self.images, self.labels, device=device, seed=seed or 0)
        return self.training.pair(self._draw(seed), device)

    def _draw(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step, with what is left to chance drawn from ``seed``."""
        source, steps = self.config.source, len(self.order)
        if not isinstance(source, GeneratorConfig) or source.curriculum not in ("none", "shuffled-batches"):
            raise LimbeckError(
                "Only a generator without a curriculum, or with shuffled batches, has something to draw anew; leave "
                "out the seed for the batches that are recorded."
            )
        rng = torch.Generator().manual_seed(seed)
        if source.curriculum == "shuffled-batches":
            order = torch.randperm(steps, generator=rng).tolist()
            return ((self.images[index], self.labels[index]) for index in order)
        classes_N = torch.arange(steps * source.batch) % self.num_classes
        if source.classes == "random":
            classes_N = torch.randint(self.num_classes, classes_N.shape, generator=rng)
        return self._generate(source, classes_N, rng)

    def _generate(
        self, source: GeneratorConfig, classes_N: Tensor, rng: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of these classes from fresh noise, one at a time: images (M, C, H, W), one-hot labels (M, K)."""
        self.config.importable(source.generator)
        module = generator_for(source, self.shape, self.num_classes)
        for y_M in torch.split(classes_N, source.batch):
            z_MZ = torch.randn(len(y_M), source.latent, generator=rng, dtype=torch.float32)
            y_MK = torch.nn.functional.one_hot(y_M, self.num_classes).float()
            with torch.no_grad():
                yield functional_call(module, self.generator, (z_MZ, y_MK)), y_MK

    def network(self, seed: int = 0) -> nn.Module:
        """A new network as the images were learned for: with θ₀ if that was fixed, else with weights from ``seed``."""
        module = network_for(self.config, self.shape, self.num_classes)
        if self.weights:
            weights = self.weights
        else:
            draws = initial_weights(self.config, module).held_out(1, seed)
            weights = {name: value[0] for name, value in draws.items()}
        module.load_state_dict(weights, strict=False)
        return module

    def train(
        self, model: nn.Module | None = None, *, training: TrainingRecipe | None = None, seed: int = 0
    ) -> nn.Module:
        """Train a network on the learned set, in place, and return it.

        As ``training`` says: one step of the inner optimiser per batch, in the learned order with the learned step
        sizes, or ordinary training. The model keeps its device and mode. Without a model, ``network()`` is trained, and
        put into evaluation mode. A set learned for a fixed initialisation works from that initialisation only, so pass
        ``run.network()``; another start is trained with a warning.

        Args:
            model: maps (M, C, H, W) to logits (M, K); starts from the weights it has.
            training: another recipe than that of the set, such as ``OrdinaryTraining(epochs=30)``.
            seed: of what the recipe leaves to chance.

        Raises:
            LimbeckError: if the model's output is not (M, K).
        """
        recipe = training or self.training
        fresh = model is None
        model = self.network() if model is None else model
        learner = with_augmentation(self.config, model)
        parameters = {name: p for name, p in learner.named_parameters() if p.requires_grad}
        like = next(iter(parameters.values()))
        optimizer = recipe.make_optimizer()
        state = State({name: p.detach() for name, p in parameters.items()}, {})
        state = State(state.params, optimizer.init(state.params))
        if self.weights and not self._starts_right(learner):
            warnings.warn(
                "this set was learned for one fixed initialisation, which the model does not have: expect little; "
                "run.network() has it",
                stacklevel=2,
            )
        for batch in recipe.batches(self.images, self.labels, device=like.device, seed=seed):
            x_MCHW, y_MK = batch.x_MCHW.to(like.dtype), batch.y_MK.to(like.dtype)
            with torch.enable_grad():
                logits = learner(x_MCHW)
                loss = self._loss(logits, y_MK)
            grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)  # a part may be unused
            with torch.no_grad():
                state = optimizer.update(state, dict(zip(parameters, grads, strict=True)), batch.h)
                for name, parameter in parameters.items():
                    parameter.copy_(state.params[name])
        return model.eval() if fresh else model

    def _loss(self, logits_MK: Tensor, y_MK: Tensor) -> Tensor:
        """The loss of a step; raises LimbeckError for a model whose output is not (M, K)."""
        if logits_MK.shape != y_MK.shape:
            raise LimbeckError(
                f"The model gives outputs of shape {tuple(logits_MK.shape)}; this set has {self.num_classes} classes, "
                f"expected {tuple(y_MK.shape)}. Give the model {self.num_classes} outputs."
            )
        return soft_cross_entropy(logits_MK, y_MK)

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
        source = self.config.source
        if not self.generator or not isinstance(source, GeneratorConfig):
            raise LimbeckError("This set was not made by a generator; its images are all in run.images.")
        if source.curriculum != "none":
            raise LimbeckError(
                f"The generator was learned with noise of its own (curriculum {source.curriculum}), and what it "
                "makes of that is in run.images. Learn one with --curriculum none for images without limit."
            )
        rng = torch.Generator().manual_seed(seed)
        y_N = torch.arange(-(-n // source.batch) * source.batch) % self.num_classes
        images = [x_MCHW for x_MCHW, _ in self._generate(source, y_N, rng)]
        return torch.cat(images)[:n], y_N[:n]

    def preprocess(self, x_NCHW: Tensor) -> Tensor:
        """Real images (N, C, H, W), uint8 or as the data set has them, normalised like the learned ones."""
        return self.preprocessing.apply(x_NCHW)

    def learner(
        self, name: str | None = None, device: Device = "cpu", training: TrainingRecipe | None = None
    ) -> Learner:
        """The learner of this set.

        Args:
            name: of another network than that of the configuration.
            device: where its module lies.
            training: another recipe than that of the set, whose optimiser takes the steps.

        Raises:
            LimbeckError: an unknown network, or one that does not fit the images and classes.
        """
        device = usable_device(device)
        network = network_for(self.config, self.shape, self.num_classes, learner=name)
        return Learner.of(network.to(device), (training or self.training).make_optimizer())

    def initial(self, learner: Learner, n: int, seed: int, *, selection: bool = False) -> Tensors:
        """Initial weights (n, ...) by name that nothing was learned on; a fixed θ₀ is (1, ...), whatever n is.

        Args:
            learner: whose weights they are.
            n: how many; a pool raises LimbeckError for more than it holds out.
            seed: draws them.
            selection: of a pool, those to make choices with, in the place of those to report.
        """
        if self.weights:
            return {name: value[None] for name, value in self.weights.items()}
        initial = initial_weights(self.config, learner.module)
        return initial.validation(n, seed) if selection else initial.held_out(n, seed)

    def evaluate(
        self,
        data: TaskData | None = None,
        *,
        n: int | None = None,
        seed: int = 0,
        baselines: Sequence[str] | None = (),
        training: TrainingRecipe | None = None,
    ) -> Evaluation:
        """Accuracy on the real test set before and after training on this set; see ``limbeck.evaluate``.

        Without baselines, unless some are named; None stands for all.
        """
        return evaluate(self, data, n=n, seed=seed, baselines=baselines, training=training)

    def summary(self, folder: Path | None = None) -> dict[str, Any]:
        """What ``limbeck show`` prints: schema, sizes, recipe, step sizes, scores; paths relative to a folder."""
        return {
            "schema": SCHEMA,
            "images": list(self.images.shape),
            "classes": list(self.class_names),
            "training": {
                "kind": name_kind(self.training, RECIPES),
                **self.training.to_json(),
                **{name: value.tolist() for name, value in self.training.tensors().items()},
            },
            "labels": self.labels_kind,
            "preprocessing": self.preprocessing.to_json(),
            "config": self.config.to_json(folder),
            **self.info,
        }

    def save(self, folder: Path) -> None:
        """Write ``distilled.safetensors`` and ``distilled.json`` into a folder, each atomically."""
        tensors = {
            "images": self.images,
            "labels": self.labels,
            **{f"training.{name}": value for name, value in self.training.tensors().items()},
            **{f"weights.{name}": value for name, value in self.weights.items()},
            **{f"generator.{name}": value for name, value in self.generator.items()},
        }
        write_tensors(folder / "distilled.safetensors", tensors, {"schema": SCHEMA})
        write_json(folder / "distilled.json", self.summary(folder))

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool | Collection[str] = False) -> Self:
        """Read a run directory.

        A run may name code of its own, which is refused where it is needed, unless you trust it: that of its learner or
        generator when a network is made (``network``, ``train`` without a model, ``generate``, ``evaluate``), that of
        its kind of source, method or adjoint when learning goes on, that of its training recipe here.

        Args:
            folder: of the run.
            trust: whether code that the run names may be imported, or the names that may.

        Raises:
            LimbeckError: not a run directory, damaged, or of a schema version newer than this Limbeck knows.
        """
        folder = Path(folder)
        summary, tensors = read_artefact(folder)
        try:
            run = cls(
                images=tensors["images"],
                labels=tensors["labels"],
                training=restore_training(summary["training"], with_prefix(tensors, "training."), trust),
                preprocessing=Preprocessing.from_json(summary["preprocessing"]),
                class_names=tuple(summary["classes"]),
                config=Config.from_json(summary["config"], folder, trust=trust),
                weights=with_prefix(tensors, "weights."),
                generator=with_prefix(tensors, "generator."),
                info={key: copy.deepcopy(value) for key, value in summary.items() if key not in ENTRIES},
            )
        except KeyError as error:
            raise LimbeckError(f"{folder} is damaged: {error} is missing.") from None
        except TypeError as error:
            raise LimbeckError(f"{folder / 'distilled.json'} is damaged ({error}); restore it from a copy.") from None
        if not run.fits_together():
            raise LimbeckError(f"{folder} is damaged: images, labels, step sizes and order do not fit together.")
        return run

    def fits_together(self) -> bool:
        """Whether images, labels and training are of sizes that belong together."""
        batches, images, *_ = self.images.shape if self.images.dim() == 5 else (-1, -1)
        return self.labels.shape == (batches, images, len(self.class_names)) and self.training.fits(batches)
