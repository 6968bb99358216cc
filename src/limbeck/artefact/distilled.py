"""The artefact: a learned training set with everything that is needed to use it.

Shapes: S batches, M images a batch, T steps, K classes; C, H, W of an image.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from limbeck.artefact.drawing import draw_batches, generate, make_network
from limbeck.artefact.fitting import (
    fit,
    gradients,
    materialise,
    place_of,
    trainable,
    warn_of_another_start,
)
from limbeck.artefact.incoming import normalise, open_pictures
from limbeck.artefact.ordinary import Pair, loader_of, pairs_of
from limbeck.artefact.schema import ENTRIES, SCHEMA, read_artefact, restore_training
from limbeck.artefact.soundness import check_sound, check_start, class_names
from limbeck.common.devices import Device, usable_device
from limbeck.common.files import write_json, write_tensors
from limbeck.common.typed import fit_value
from limbeck.data import Kind, Preprocessing, TaskData
from limbeck.data.sources import Source
from limbeck.engine import Batch, LabelKind, Learner, Tensors, with_prefix
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import evaluate
from limbeck.evaluation.result import Evaluation
from limbeck.evaluation.training import RECIPES, LearnedSchedule, TrainingRecipe, chosen_recipe
from limbeck.evaluation.verdict import Verdict
from limbeck.experiment.build import initial_weights, network_for, with_augmentation
from limbeck.experiment.config import Config
from limbeck.experiment.recorded import Unread, name_kind
from limbeck.models import Augmented, LearnerLike, unwrap


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
        folder: the run directory that holds it, where its scores are kept, too; None for a set that is kept nowhere, as
            one that ``dataclasses.replace`` has changed.
        data: what it was learned from, where that was given in Python just now; never written, so None for a set that
            was loaded, copied by ``pickle`` or ``copy``, or changed by ``dataclasses.replace``.
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
    folder: Path | None = field(default=None, init=False)
    data: TaskData | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"data": None}

    def __repr__(self) -> str:
        batches, images, *shape = self.images.shape
        return (
            f"Distilled({batches} x {images} images of {' x '.join(map(str, shape))} for {self.config.data}, "
            f"{self.config.learner}, {self.training.description})"
        )

    def __str__(self) -> str:
        """A line, and the verdict where there is one."""
        return repr(self) if self.verdict is None else f"{self!r}\n{self.verdict}"

    @property
    def verdict(self) -> Verdict | None:
        """The set beside real images on validation data, as the end of its run told; None for one without."""
        return None if self.info.get("verdict") is None else Verdict.from_json(self.info["verdict"])

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
        device, seed = usable_device(device), fit_value("seed", seed, int | None)
        if seed is None or not isinstance(self.training, LearnedSchedule):
            return self.training.batches(self.images, self.labels, device=device, seed=seed or 0)
        return self.training.pair(draw_batches(self, seed), device)

    def network(self, seed: int = 0) -> nn.Module:
        """A new network as the images were learned for: with θ₀ if that was fixed, else with weights from ``seed``."""
        return make_network(self, seed)

    def train(
        self, model: nn.Module | None = None, *, training: TrainingRecipe | None = None, seed: int = 0
    ) -> nn.Module:
        """Train a network on the learned set, in place, and return it.

        As ``training`` says: one step of the inner optimiser per batch, in the learned order with the learned step
        sizes, or ordinary training. The model keeps its device and mode. Without a model, ``network()`` is trained, and
        put into evaluation mode. A set learned for a fixed initialisation works from that initialisation only, so pass
        ``run.network()``; another start is trained with a warning.

        Args:
            model: maps (M, C, H, W), in its own type and on its own device, to logits (M, K), or to a tuple, dictionary
                or object that has them; may be wrapped (``DataParallel``, ``torch.compile``) or have lazy layers, and
                starts from the weights it has.
            training: another recipe than that of the set, such as ``OrdinaryTraining(epochs=30)``.
            seed: of what the recipe leaves to chance.

        Raises:
            LimbeckError: a model with nothing to train, that fails on the images, or whose logits are not (M, K);
                without a model, one that is not at hand (see ``passing``).
        """
        recipe, fresh = chosen_recipe(training, self.training), model is None
        seed = fit_value("seed", seed, int)
        with gradients():
            model = self.network() if model is None else model
            if not isinstance(model, nn.Module):
                raise LimbeckError(f"train takes a network, not {model!r:.60}; make one, as in run.train(MyNet()).")
            core = unwrap(model)
            device, dtype = place_of(core)
            materialise(core, self.images[0].to(device, dtype, copy=True))
            trainable(core)
            if self.weights:
                warn_of_another_start(with_augmentation(self.config, core), self.weights, stacklevel=2)
            learner = model if isinstance(core, Augmented) else with_augmentation(self.config, model)
            fit(learner, recipe.batches(self.images, self.labels, device=device, seed=seed), recipe.make_optimizer())
        return model.eval() if fresh else model

    def generate(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """New images from the generator: (n, C, H, W), normalised, and their class indices (n,), balanced.

        They are made in batches as large as the learner saw, whose statistics the generator's normalisation uses.

        Raises:
            LimbeckError: n < 1, there is no generator, or it was learned with its own noise (a curriculum).
        """
        return generate(self, n, seed)

    def preprocess(self, images: Any) -> Tensor:
        """Real images normalised like the learned ones, float32 (N, C, H, W).

        For a set learned on bytes uint8 is taken as bytes, and floats within 0 to 1 as such pixels; where the values
        leave doubt, a warning says what they are taken for.

        Args:
            images: a tensor, an array or lists: (N, C, H, W), (N, H, W, C), (N, H, W) where C is 1, or a single image
                (C, H, W), (H, W, C) or (H, W). Or PIL pictures or paths of such, one or a list, which are scaled, cut
                and changed as those of the data were.

        Raises:
            LimbeckError: not such images, of another number of channels, or a picture that cannot be read.
        """
        opened = open_pictures(images, self.config.data, self.info.get("data", {}), self.preprocessing, self.shape)
        return normalise(opened, self.preprocessing, self.shape)

    def dataset(self) -> TensorDataset:
        """The set for training of your own: pairs of an image (C, H, W), normalised, and its label, all copies.

        Labels are class indices, int64 (), where every label is of one class, else distributions (K,); cross-entropy
        takes both. The learned steps are not in it: see ``batches`` for those.
        """
        return pairs_of(self.images, self.labels)

    def loader(self, batch_size: int = 32, *, shuffle: bool | None = None, **options: Any) -> DataLoader[Pair]:
        """``dataset()`` in an ordinary ``DataLoader``, with others of its ``options``: images (M, C, H, W), labels.

        Shuffled, unless ``shuffle`` or a sampler says otherwise; raises LimbeckError for options that it refuses.
        """
        return loader_of(self.dataset(), batch_size, shuffle, options)

    def passing(self, learner: LearnerLike | Sequence[LearnerLike]) -> Self:
        """The same set with its learner at hand, where it was given in Python; raises LimbeckError for what is none."""
        own = dataclasses.replace(self, config=self.config.passing(learner))
        return own.kept_in(self.folder).remembering(self.data)

    def kept_in(self, folder: Path | None) -> Self:
        """The same, known to lie in a run directory; nothing is written."""
        return self._with(folder, self.data)

    def remembering(self, data: TaskData | None) -> Self:
        """The same with the data that it was learned from at hand, which ``evaluate`` then goes by."""
        return self._with(self.folder, data)

    def _with(self, folder: Path | None, data: TaskData | None) -> Self:
        run = copy.copy(self)
        object.__setattr__(run, "folder", folder)
        object.__setattr__(run, "data", data)
        return run

    def learner(
        self, name: LearnerLike | None = None, device: Device = "cpu", training: TrainingRecipe | None = None
    ) -> Learner:
        """The learner of this set.

        Args:
            name: of another network than that of the configuration, or that network, its class or what makes it.
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
            check_start(learner.module, self.weights, self.config.learner)
            return {name: value[None] for name, value in self.weights.items()}
        initial = initial_weights(self.config, learner.module)
        return initial.validation(n, seed) if selection else initial.held_out(n, seed)

    def evaluate(
        self,
        data: TaskData | Source | None = None,
        *,
        n: int | None = None,
        seed: int = 0,
        baselines: str | Sequence[str] | None = (),
        training: TrainingRecipe | None = None,
        learner: LearnerLike | None = None,
        device: Device = "cpu",
        progress: bool | None = None,
    ) -> Evaluation:
        """Accuracy on the real test set before and after training on this set; see ``limbeck.evaluate``.

        Without data, on that which a run just made was given, or which its name leads to. Without baselines, unless
        some are named; None stands for all.
        """
        named: dict[str, Any] = {"training": training, "learner": learner, "device": device, "progress": progress}
        return evaluate(self, data, n=n, seed=seed, baselines=baselines, **named)

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
    def load(
        cls,
        folder: str | Path,
        *,
        trust: bool | Collection[str] = False,
        learner: LearnerLike | Sequence[LearnerLike] | None = None,
    ) -> Self:
        """Read a run directory; it may name code of its own, which is refused where it is needed, unless you trust it.

        That of its learner or generator is when a network is made (``network``, ``train`` without one, ``generate``,
        ``evaluate``), that of its kind of source, method or adjoint when learning goes on, of its training recipe here.

        Args:
            folder: of the run.
            trust: whether code that the run names may be imported, or the names that may.
            learner: what its learner is, where that was given in Python: a class, a function, a network or a name; for
                a family several.

        Raises:
            LimbeckError: not a run directory, damaged, or of a schema version newer than this Limbeck knows.
        """
        folder = Path(fit_value("path", folder, str | os.PathLike))
        summary, tensors = read_artefact(folder)
        try:
            run = cls(
                images=tensors["images"],
                labels=tensors["labels"],
                training=restore_training(summary["training"], with_prefix(tensors, "training."), trust),
                preprocessing=Preprocessing.from_json(summary["preprocessing"]),
                class_names=class_names(summary["classes"]),
                config=Config.from_json(summary["config"], folder, trust=trust),
                weights=with_prefix(tensors, "weights."),
                generator=with_prefix(tensors, "generator."),
                info={key: copy.deepcopy(value) for key, value in summary.items() if key not in ENTRIES},
            )
        except KeyError as error:
            raise LimbeckError(f"{folder} is damaged: {error} is missing.") from None
        except TypeError as error:
            raise LimbeckError(f"{folder / 'distilled.json'} is damaged ({error}); restore it from a copy.") from None
        check_sound(run, folder)
        return (run if learner is None else run.passing(learner)).kept_in(folder)
