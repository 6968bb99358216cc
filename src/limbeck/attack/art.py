"""The attack of ``limbeck attack`` for users of the Adversarial Robustness Toolbox (ART), in ART's conventions.

Needs the extra ``art``; nothing else in the package imports this module. Shapes: B networks, T steps, M images a step,
N real images, K classes; C, H, W of an image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from limbeck.attack.config import attack_outer
from limbeck.common.seeds import generator
from limbeck.data import Preprocessing, TaskData
from limbeck.engine import (
    GradientDescent,
    InnerConfig,
    Learner,
    Limits,
    PixelConfig,
    Pixels,
    Remat,
    Tensors,
)
from limbeck.errors import DivergedError, LimbeckError
from limbeck.experiment.parts import AttackConfig
from limbeck.experiment.planner import Work, plan_work
from limbeck.methods import Unrolled
from limbeck.models import check, refuse_unsupported, with_carried_state
from limbeck.outer.optimizer import OuterOptimizer
from limbeck.outer.schedule import StepSettings, rate
from limbeck.outer.step import Setup, outer_step

try:
    from art.attacks.attack import PoisoningAttackWhiteBox
    from art.estimators.classification import PyTorchClassifier
    from tqdm.auto import trange

    from limbeck.attack.classifiers import Classifiers, describe_architecture, read_preprocessing, tensors_of
except ImportError as error:
    raise LimbeckError(
        f"limbeck.attack.art needs the Adversarial Robustness Toolbox ({error}): pip install 'limbeck[art]'."
    ) from error

Floats = npt.NDArray[np.float32]

NETWORKS = 8
"""Networks that one iteration averages over, drawn anew each time where there are more."""


@final
class GradientStepPoisoningAttack(PoisoningAttackWhiteBox):  # type: ignore[misc]  # art has no types
    """Learned images such that gradient steps on them make trained networks take one class for another.

    Wang et al. 2018 (arXiv 1811.10959, data poisoning), a robustness test of whoever trains on data from others. The
    victim takes ``steps`` plain SGD steps in training mode, without momentum or weight decay, as
    ``PyTorchClassifier.fit`` does: step t at the step size ``step_sizes[t]``, on a batch of its own, the rows
    t·M to (t + 1)·M of what ``poison`` returns, M = images / steps.

    The classifiers are only read: their weights, statistics and modes stay as they are.
    """

    attack_params: ClassVar[list[str]] = [
        *PoisoningAttackWhiteBox.attack_params,
        "source_class",
        "target_class",
        "images",
        "steps",
        "step_size",
        "keep",
        "eps",
        "norm",
        "max_iter",
        "batch_size",
        "learning_rate",
        "surrogates",
        "seed",
        "verbose",
    ]
    _estimator_requirements = (PyTorchClassifier,)

    def __init__(
        self,
        classifier: PyTorchClassifier,
        source_class: int,
        target_class: int,
        images: int = 10,
        steps: int = 1,
        step_size: float | None = None,
        keep: float | None = 1.0,
        eps: float | None = None,
        norm: float | str = np.inf,
        max_iter: int = 1500,
        batch_size: int = 512,
        learning_rate: float = 0.05,
        surrogates: Sequence[PyTorchClassifier] | None = None,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        """Set the attack up.

        Args:
            classifier: a trained network that the attack is learned on; its model maps images (M, C, H, W) to logits,
                its loss is the plain cross-entropy, and its only preprocessing a mean and a standard deviation.
            source_class: index of the class that is to be misclassified.
            target_class: index of the class that it is to be taken for.
            images: in all, a multiple of steps x classes: as many of each class in each step.
            steps: SGD steps that the victim takes.
            step_size: the victim's, if it is known; learned by default, see ``step_sizes``.
            keep: weight of the other classes in the objective; None counts every example the same.
            eps: real images that change no further than this, in the units of ``x``, and keep their own labels;
                unbounded images that start from noise by default.
            norm: of that change: ``np.inf`` of each pixel, 2 Euclidean of the whole image.
            max_iter: iterations of the outer loop.
            batch_size: real images that an iteration looks at.
            learning_rate: Adam's rate on the images at its highest, in standard deviations of the pixels of ``x``.
            surrogates: more trained classifiers of the same architecture and preprocessing to learn the attack on, so
                that it works on networks that it has not seen.
            seed: of everything random.
            verbose: show a progress bar.

        Raises:
            ValueError: parameters or classifiers that do not fit.
        """
        super().__init__(classifier)
        self.source_class, self.target_class = source_class, target_class
        self.images, self.steps, self.step_size = images, steps, step_size
        self.keep, self.eps, self.norm = keep, eps, norm
        self.max_iter, self.batch_size, self.learning_rate = max_iter, batch_size, learning_rate
        self.surrogates = surrogates
        self.seed, self.verbose = seed, verbose
        self.step_sizes: Floats | None = None
        """(T,), of each step; None until ``poison`` has learned them."""
        self._check_params()

    def poison(self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None = None, **kwargs: Any) -> tuple[Floats, Floats]:
        """Learn the images; the same arguments and seed give the same ones on the same machine.

        Args:
            x: clean training images (N, C, H, W), within the classifier's clip values if it has any.
            y: their labels, one-hot (N, K) or class indices (N,).
            kwargs: there are none; ``set_params`` changes parameters.

        Returns:
            Images (steps · M, C, H, W), as ``x`` and within the clip values, and one-hot labels (steps · M, K).

        Raises:
            ValueError: images or labels that do not fit.
            LimbeckError: a model with layers that cannot be unrolled, or learning that diverges.
        """
        if kwargs:
            raise ValueError(f"poison takes no {', '.join(kwargs)}; parameters are changed with set_params.")
        data = self._data(x, y)
        rng = generator(self.seed, "art")
        learner, networks = self._networks(data)
        objective = AttackConfig(source=self.source_class, target=self.target_class, keep=self.keep).objective
        method = Unrolled(adjoint=Remat(), objective=objective)
        work = Work(
            learner=learner,
            image_shape=data.image_shape,
            networks=NETWORKS,
            images=self.images // self.steps,
            differentiated=True,
        )
        execution = plan_work(work, compile="off").execution
        pixels = Preprocessing.measure(data.train_x)
        source = self._source(data, pixels, rng)
        spread = sum(own / unit for own, unit in zip(pixels.std, data.preprocessing.std, strict=True)) / len(pixels.std)
        outer = attack_outer(iterations=self.max_iter, inits=NETWORKS, lr_images=self.learning_rate * spread)
        setup = Setup(
            learners=Classifiers(kernels=method.kernels(learner, execution), networks=networks),
            method=method,
            source=source,
            optimizer=OuterOptimizer(outer, source.parameters(), source.group_of),
            data=data,
            config=outer,
        )
        rngs = dict.fromkeys(("family", "inits", "data", "source", "method"), rng)
        batch = min(self.batch_size, len(data.train_y))
        for iteration in trange(self.max_iter, desc="Gradient-step poisoning", disable=not self.verbose):
            factor = rate(outer, iteration, iteration / self.max_iter)
            at = StepSettings(inner_steps=source.steps, real_batch=batch, rate=factor)
            if not outer_step(setup, at, rngs).norm.isfinite():
                raise DivergedError(
                    f"The attack diverged in iteration {iteration + 1}; lower learning_rate, or give a step_size."
                )
        params = source.parameters()
        lessons = source.materialise(params)
        self.step_sizes = lessons.hyperparameters["lr"].cpu().numpy().copy()
        x_poison = data.preprocessing.invert(lessons.images.flatten(0, 1)).cpu().numpy()
        if self.estimator.clip_values is not None:  # exactly, in spite of rounding
            x_poison = x_poison.clip(*self.estimator.clip_values)
        return x_poison.astype(np.float32), lessons.labels.flatten(0, 1).cpu().numpy().astype(np.float32)

    def _data(self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None) -> TaskData:
        """The clean images as a task with the classifier's preprocessing; nothing is held out."""
        shape, classes = tuple(self.estimator.input_shape), self.estimator.nb_classes
        if y is None:
            raise ValueError("y is None; the attack needs the labels of x.")
        x_NCHW, labels = np.asarray(x), np.asarray(y)
        if x_NCHW.ndim != 4 or x_NCHW.shape[1:] != shape or not len(x_NCHW):
            raise ValueError(f"x has shape {x_NCHW.shape}; the classifier takes images of shape (N, *{shape}).")
        if x_NCHW.dtype.kind not in "fiu" or not np.isfinite(x_NCHW).all():
            raise ValueError("x must hold finite real numbers.")
        x_NCHW = x_NCHW.astype(np.float32)
        clip = self.estimator.clip_values
        if clip is not None and ((x_NCHW < clip[0]).any() or (x_NCHW > clip[1]).any()):
            raise ValueError("x has pixels outside the classifier's clip_values; scale it as the classifier takes it.")
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 1 and not np.isin(labels, np.arange(classes)).all():
            raise ValueError(f"y must hold class indices from 0 to {classes - 1}.")
        if labels.ndim != 1 and labels.shape[1:] != (classes,):
            raise ValueError(
                f"y has shape {labels.shape}; one-hot labels of {classes} classes have shape (N, {classes})."
            )
        y_N = labels if labels.ndim == 1 else labels.argmax(1)
        if len(y_N) != len(x_NCHW):
            raise ValueError(f"There are {len(x_NCHW)} images but {len(y_N)} labels; each image needs one.")
        missing = sorted(set(range(classes)) - set(y_N.tolist()))
        if missing:
            raise ValueError(f"y has no example of class {missing[0]}; the attack needs all classes.")
        device = self.estimator.device
        train_x, train_y = torch.tensor(x_NCHW, device=device), torch.tensor(y_N, dtype=torch.long, device=device)
        none_x, none_y = train_x[:0], train_y[:0]
        return TaskData(
            name="arrays",
            train_x=train_x,
            train_y=train_y,
            val_x=none_x,
            val_y=none_y,
            test_x=none_x,
            test_y=none_y,
            class_names=tuple(map(str, range(classes))),
            preprocessing=read_preprocessing(self.estimator),
            sha256="",
        )

    def _networks(self, data: TaskData) -> tuple[Learner, Tensors]:
        """The model as a learner, and parameters and statistics (B, ...) of the classifier and its surrogates."""
        module = with_carried_state(copy.deepcopy(self.estimator.model).train())
        refuse_unsupported(module)
        check(module, data.image_shape, data.num_classes)
        names = {name for name, value in tensors_of(module).items() if value.is_floating_point()}
        states = [tensors_of(classifier.model) for classifier in self._classifiers()]
        device = data.train_y.device
        frozen = frozenset(name for name, p in self.estimator.model.named_parameters() if not p.requires_grad)
        return Learner(module=module, optimizer=GradientDescent(), frozen=frozen), {
            name: torch.stack([state[name].detach().to(device) for state in states])
            for name in states[0]
            if name in names
        }

    def _source(self, data: TaskData, pixels: Preprocessing, rng: torch.Generator) -> Pixels:
        """What is learned: images from noise, or real ones that are bounded, and step sizes."""
        classes, per_class = data.num_classes, self.images // (self.steps * data.num_classes)
        config = PixelConfig(
            steps=self.steps,
            epochs=1,
            ipc=per_class,
            start="noise" if self.eps is None else "real",
            max_change=self.eps,
            norm="l2" if self.norm == 2 and self.eps is not None else "linf",
        )
        if self.eps is None:
            noise = torch.randn(self.steps, per_class * classes, *data.image_shape, generator=rng, dtype=torch.float32)
            start = data.preprocessing.apply(pixels.invert(noise.to(data.train_x.device)))
        else:
            start = config.arrange(data.per_class(rng, self.steps * per_class))
        inner = InnerConfig(lr=self.step_size or 0.02, learn_lr="per-step" if self.step_size is None else "fixed")
        limits = None
        if self.estimator.clip_values is not None:
            low, high = (
                data.preprocessing.apply(
                    torch.tensor(value, device=start.device, dtype=torch.float32).expand(data.image_shape)
                )
                for value in np.asarray(self.estimator.clip_values, np.float32)
            )
            limits = Limits(
                low_C11=low,
                high_C11=high,
                unit_C11=1
                / torch.tensor(data.preprocessing.std, device=start.device, dtype=torch.float32)[:, None, None],
                centre_SMCHW=None if self.eps is None else start.clone(),
                epsilon=self.eps or 0.0,
                norm=config.norm,
            )
        return Pixels(config, classes, start, inner, limits)

    def _classifiers(self) -> list[PyTorchClassifier]:
        return [self.estimator, *(self.surrogates or ())]

    def _check_params(self) -> None:
        classes = self.estimator.nb_classes
        for name in ("source_class", "target_class"):
            value = getattr(self, name)
            if not _whole(value) or not 0 <= value < classes:
                raise ValueError(f"{name} is {value!r}; it must be the index of a class, from 0 to {classes - 1}.")
        if self.source_class == self.target_class:
            raise ValueError(
                f"source_class and target_class are both {self.source_class}; an attack needs two classes."
            )
        for name in ("images", "steps", "max_iter", "batch_size"):
            if not _whole(getattr(self, name)) or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a whole number, at least 1.")
        if self.images % (self.steps * classes):
            raise ValueError(
                f"images is {self.images}; each of the {self.steps} step(s) has as many of each of the {classes} "
                f"classes, so it must be a multiple of {self.steps * classes}."
            )
        for name in ("step_size", "eps", "learning_rate"):
            value = getattr(self, name)
            if value is None and name != "learning_rate":
                continue
            if not _real(value) or not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; it must be a positive number.")
        if self.keep is not None and not (_real(self.keep) and 0 <= self.keep < math.inf):
            raise ValueError(f"keep is {self.keep!r}; it must be a number that is not negative, or None.")
        if self.norm not in (np.inf, "inf", 2):
            raise ValueError(f"norm is {self.norm!r}; it must be np.inf or 2.")
        if self.eps is not None and self.estimator.clip_values is None:
            raise ValueError("eps bounds the change of valid images, so the classifier needs clip_values.")
        if not _whole(self.seed) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; it must be a whole number that is not negative.")
        if not isinstance(self.verbose, bool):
            raise ValueError(f"verbose is {self.verbose!r}; it must be True or False.")
        self._check_classifiers()

    def _check_classifiers(self) -> None:
        for index, classifier in enumerate(self._classifiers()):
            who = "The classifier" if index == 0 else f"Surrogate {index - 1}"
            if not isinstance(classifier, PyTorchClassifier):
                raise ValueError(f"{who} is a {type(classifier).__name__}; it must be a PyTorchClassifier.")
            loss = classifier.loss
            if not isinstance(loss, nn.CrossEntropyLoss) or (
                loss.weight is not None or loss.label_smoothing or loss.reduction != "mean"
            ):
                raise ValueError(f"{who}'s loss is {loss}; it must be CrossEntropyLoss() on logits, without options.")
            if len(classifier.input_shape) != 3 or not classifier.channels_first:
                raise ValueError(
                    f"{who} takes {classifier.input_shape}; it must take images (C, H, W), channels first."
                )
            preprocessing = read_preprocessing(classifier)
            if index and preprocessing != read_preprocessing(self.estimator):
                raise ValueError(f"{who} has another preprocessing than the classifier; all must have the same.")
            if index and describe_architecture(classifier) != describe_architecture(self.estimator):
                raise ValueError(f"{who} is another network than the classifier; all must have one architecture.")


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _real(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
