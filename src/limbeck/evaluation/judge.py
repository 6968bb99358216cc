"""The judge: accuracy on the real test set over held-out initial weights, and the baselines under the same recipe.

The test set is read here and nowhere else. Everything that is chosen (a step size, the best of several random sets) is
chosen on validation or training data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from limbeck.common.devices import Device, usable_device
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.common.typed import fit_value
from limbeck.data import TaskData, is_named, load
from limbeck.data.sources import Source
from limbeck.engine import Batch, Kernels, Learner, Momentum, RealLoss, State, Tensors
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import (
    FINE_TUNING,
    FINE_TUNING_EPOCHS,
    RANDOM_SETS,
    STEP_SIZES,
    Layout,
    baseline_names,
    check_baselines,
    make_baseline,
    random_real,
)
from limbeck.evaluation.kept import keep_scores
from limbeck.evaluation.learned_set import LearnedSet
from limbeck.evaluation.result import Evaluation, Row
from limbeck.evaluation.train_and_score import Scores, chunks, concatenate, score, train, train_each
from limbeck.evaluation.training import OrdinaryTraining, TrainingRecipe
from limbeck.evaluation.tuning import tune_recipe
from limbeck.evaluation.usage import Protocol, Use, uses_of
from limbeck.experiment.console import reporter_for
from limbeck.experiment.planner import Work, plan_judging
from limbeck.experiment.progress import once
from limbeck.experiment.task import task_of
from limbeck.models import LearnerLike, RandomInit, name_learner

MANY_STEPS_INITS = 20
"""Initial weights by default where training is ordinary, of some hundred or thousand steps."""

CURVE_INITS = 10
"""Initial weights over which the accuracy is followed from step to step."""


def evaluate(
    run: LearnedSet,
    data: TaskData | Source | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    baselines: str | Sequence[str] | None = None,
    learner: LearnerLike | None = None,
    learners: Sequence[LearnerLike] = (),
    every_step: bool = False,
    training: TrainingRecipe | None = None,
    protocol: Protocol | None = None,
    device: Device = "cpu",
    data_dir: Path | None = None,
    tell: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """Score a learned set and the baselines on the real test set; a run directory keeps the scores.

    Args:
        run: the learned set.
        data: the task, or what ``load_data`` takes; by default what a run just made was given, or the one that it
            names.
        n: held-out initial weights; by default 200 for small networks and 40 for large ones, 20 where ordinary training
            is tuned. A fixed init has one.
        seed: of the held-out weights and the baselines' draws.
        baselines: which to run, all by default; a name or several.
        learner: the network that the set was learned for, its class or what makes it, where that was given in Python
            and is not at hand.
        learners: other learners to train on the set, a row for each: what carries over to networks that it was not
            learned for.
        every_step: also follow the accuracy from inner step to inner step, on the validation split.
        training: another recipe than that of the set, for the set and for the baselines, such as
            ``OrdinaryTraining(epochs=30, shift=3)``. Its step size is tuned on validation data for each of them: as it
            is, or one of the grid on which those of the baselines are tuned.
        protocol: ``learned`` trains in the steps that were learned with the set, ``ordinary`` as people train:
            step size, epochs and augmentation are tuned on validation data for each set, from ``training`` on if that
            is given; ``both``, one after the other. By default as the set says, and an ordinary one's baselines are
            tuned so, too.
        device: where to compute.
        data_dir: where data sets are looked for first.
        tell: told what is going on.
        progress: without ``tell``, whether to show that; by default in a notebook, and where stderr is a terminal.

    Raises:
        LimbeckError: an unknown baseline, a network that is not at hand, or data of other shape, classes or content
            than the run was made from.
    """
    device = usable_device(device)
    n, seed = fit_value("n", n, int | None), fit_value("seed", seed, int)
    baselines = (
        (baselines,) if isinstance(baselines, str) else fit_value("baselines", baselines, tuple[str, ...] | None)
    )
    names = check_baselines(baseline_names() if baselines is None else baselines)
    if n is not None and n < 1:
        raise LimbeckError(f"n is {n}; at least one initial weight is needed.")
    data = run.data if data is None else data
    if data is None:
        name = run.config.data
        if not is_named(name):
            raise LimbeckError(
                f"The run was learned from '{name}', which is not there any more, or was given in Python; give "
                "the data again, as --data."
            )
        data = task_of(run.config, data_dir=data_dir, device=device)
    elif not isinstance(data, TaskData):
        data = load(data, data_dir=data_dir, val_size=run.config.val_size, seed=run.config.split)
    if tell is None:
        tell = reporter_for(progress).message
    _check_same_task(run, data, tell)
    tell, data = once(tell), data.to(device)
    uses = uses_of(run, training, protocol)
    # All at once, so that wrong names show before anything is scored.
    judges = [_Judge(run, use, data, device, n, seed, tell, network=learner) for use in uses]
    others = [
        [_Judge(run, use, data, device, n, seed, tell, name_learner(other), other) for other in learners]
        for use in uses
    ]
    rows = []
    for judge, carried in zip(judges, others, strict=True):
        rows.append(judge.score_set("distilled", every_step))
        rows += [judge.fine_tuned() if name == FINE_TUNING else judge.baseline(name) for name in names]
        rows += [other.score_set(str(other.other), every_step) for other in carried]
    result = Evaluation(
        rows=tuple(rows),
        class_names=data.class_names,
        device=str(versions(device)["device"]),
        info={
            "n": judges[0].n,
            "training": " and ".join(use.description for use in uses),
            "seed": seed,
            "data": {"name": data.name, "sha256": data.sha256},
        },
    )
    if run.folder is not None:
        keep_scores(run.folder, result, tell)
    return result


@final
class _Judge:
    """Scores sets of batches for one run's learner, initial weights and task."""

    def __init__(
        self,
        run: LearnedSet,
        use: Use,
        data: TaskData,
        device: str,
        n: int | None,
        seed: int,
        tell: Callable[[str], None],
        other: str | None = None,
        network: LearnerLike | None = None,
    ) -> None:
        self.run, self.data, self.device, self.seed, self.tell, self.other = run, data, device, seed, tell, other
        self.use, self.recipe = use, use.recipe
        recipe = use.recipe
        learner = run.learner(network, device=device, training=recipe)
        self.learner: Learner = learner
        first = next(self._batches(run.images, run.labels))  # as large as the recipe makes it
        images, count = len(first.x_MCHW), run.images.shape[0] * run.images.shape[1]
        small = Work(learner=learner, image_shape=data.image_shape, networks=1, images=images).small
        init = run.config.init
        pool = init.pooled and other is None
        most = init.held_out if pool else 200  # a pool holds out only so many
        few = run.config.outer.validate_inits if pool else 200
        fixed = bool(run.weights) and other is None
        self.n = 1 if fixed else (n or min(most, MANY_STEPS_INITS if use.tuned else 200 if small else 40))
        plan = plan_judging(learner, data, self.n, images=images, steps=recipe.count_steps(count), tell=tell)
        self.kernels = Kernels(learner, RealLoss(), plan.execution)
        self.initial = self._weights(self.n, "test")
        self.tuning_inits = self._weights(1 if fixed else min(few, 8 if small else 3), "tuning")
        self.tuning_images = 2000 if small else 1000
        self._before: Scores | None = None

    def score_set(self, row: str, every_step: bool) -> Row:
        """The learned set's row, with its step size tuned where it is not trained as it was learned."""
        start = time.monotonic()
        on = "" if self.other is None else f" on {self.other}"
        images, labels = self.run.images, self.run.labels
        recipe = self.recipe
        if not self.use.own or (self.use.tuned and self.other is not None):
            self.tell(f"tuning how the learned set is used{on} on validation data")
            recipe = self._tune(images, labels)
        self.tell(f"scoring the learned set{on} on the test set over {self.n} initial weights")
        scores = self._test([self._batches(images, labels, recipe)])
        return self._row(row, scores, recipe, start, tuple(self._curve(recipe)) if every_step else ())

    def _row(
        self, row: str, scores: Scores, recipe: TrainingRecipe, start: float, curve: tuple[float, ...] = ()
    ) -> Row:
        """What is said of a set that was trained so."""
        return Row(
            row=row,
            before=self.before,
            scores=scores,
            step_size=recipe.step_size,
            seconds=time.monotonic() - start,
            curve=curve,
            protocol=self.use.protocol,
            training=recipe.description,
        )

    def _tune(self, images_SMCHW: Tensor, labels_SMK: Tensor) -> TrainingRecipe:
        """The recipe as validation likes it best for a set: all of ordinary training, or the step size."""

        def validate(recipe: TrainingRecipe) -> float:
            return self._validate(self._batches(images_SMCHW, labels_SMK, recipe))

        if self.use.tuned and isinstance(self.recipe, OrdinaryTraining):
            moved = self.data.kind == "images"
            return tune_recipe(self.recipe, validate, shape=self.data.image_shape, moved=moved)
        sizes = [self.recipe.at_step_size(lr) for lr in STEP_SIZES]
        return max([self.recipe, *sizes] if not self.use.own else sizes, key=validate)

    def _curve(self, recipe: TrainingRecipe) -> Iterator[float]:
        """Accuracy of a few inits on the validation split, before training and after each step."""
        self.tell("following the accuracy from step to step on validation data")
        few = {name: value[:CURVE_INITS] for name, value in self.initial.items()}
        states = [self.kernels.init(part) for part in chunks(few, self.kernels.execution.chunk)]
        with torch.no_grad():
            yield self._follow(states)
            for batch in self._batches(self.run.images, self.run.labels, recipe):
                states = [self.kernels.step(state, batch) for state in states]
                yield self._follow(states)

    def _follow(self, states: Sequence[State]) -> float:
        """Accuracy of chunks of networks on the validation split."""
        network = concatenate([state.network for state in states])
        return self._score(network, self.data.split_batches("val", 1000)).mean

    def _batches(
        self, images_SMCHW: Tensor, labels_SMK: Tensor, recipe: TrainingRecipe | None = None
    ) -> Iterator[Batch]:
        """The batches of training on a set; each is made when it is its turn."""
        return (recipe or self.recipe).batches(images_SMCHW, labels_SMK, device=self.device, seed=self.seed)

    def baseline(self, name: str) -> Row:
        """A baseline's row: draw its images, tune how they are used, score them."""
        start = time.monotonic()
        self.tell(f"baseline {name}: tuning its {'training' if self.use.tuned else 'step size'} on validation data")
        layout = Layout(
            batches=self.run.images.shape[0],
            ipc=max(1, self.run.images.shape[1] // self.run.num_classes),
        )
        count = RANDOM_SETS if name in ("random", "best-random") else 1
        draws = generator(self.seed, f"baseline {name}")
        make = make_baseline(name)
        sets = [layout.split(make(self.data, layout.per_class, draws)) for _ in range(count)]
        recipe = self._tune(*sets[0])
        if name == "best-random":
            sets = [max(sets, key=lambda pair: self._on_training_data(self._batches(pair[0], pair[1], recipe)))]
        self.tell(f"baseline {name}: scoring on the test set")
        scores = self._test([self._batches(images, labels, recipe) for images, labels in sets])
        return self._row(name, scores, recipe, start)

    def fine_tuned(self) -> Row:
        """Ordinary training on random real images, as many as the learned set has: SGD with momentum 0.9, its step size
        and its epochs tuned on validation data."""
        start = time.monotonic()
        self.tell("baseline fine-tuning: tuning its step size and epochs on validation data")
        kernels = Kernels(Learner.of(self.learner.module, Momentum()), RealLoss(), self.kernels.execution)
        batches, ipc = self.run.images.shape[0], max(1, self.run.images.shape[1] // self.run.num_classes)
        constants = {"momentum": 0.9, "weight_decay": 0.0}

        def arrange(x_KnCHW: Tensor, lr: float, epochs: int) -> list[Batch]:
            layout = Layout(batches=batches, ipc=ipc, order=tuple(range(batches)) * epochs)
            others = {
                name: torch.full((batches * epochs,), v, device=self.device, dtype=torch.float32)
                for name, v in constants.items()
            }
            return layout.arrange(x_KnCHW, lr, others)

        draws = generator(self.seed, "baseline random")  # the images of the baseline random
        sets = [random_real(self.data, batches * ipc, draws) for _ in range(RANDOM_SETS)]
        accuracy = {}
        for lr in (size for size in STEP_SIZES if size <= 0.1):
            for epochs in FINE_TUNING_EPOCHS:
                trained = train(kernels, arrange(sets[0], lr, epochs), self.tuning_inits)
                some = self._some(self.data.val_x, self.data.val_y)
                accuracy[lr, epochs] = score(kernels, trained, some, self.data.num_classes).mean
        lr, epochs = max(accuracy, key=lambda choice: accuracy[choice])
        self.tell(f"baseline fine-tuning: {epochs} epochs, scoring on the test set")
        scores = self._test([arrange(x, lr, epochs) for x in sets], kernels)
        return Row(
            row=FINE_TUNING,
            before=self.before,
            scores=scores,
            step_size=lr,
            seconds=time.monotonic() - start,
            protocol=self.use.protocol,
            training=f"{epochs} epochs of SGD with momentum {lr:g}",
        )

    @property
    def before(self) -> float:
        """Mean test accuracy of the initial weights."""
        if self._before is None:
            self._before = self._score(self.initial, self.data.split_batches("test", 1000))
        return self._before.mean

    def _weights(self, n: int, purpose: str) -> Tensors:
        stream = int(generator(self.seed, f"evaluation {purpose}").initial_seed())
        if self.other is not None:
            config = self.run.config.init
            init = RandomInit(module=self.learner.module, distribution=config.distribution, gain=config.gain)
            return init.held_out(n, stream)
        weights = self.run.initial(self.learner, n, stream, selection=purpose != "test")
        return {k: v.to(self.device) for k, v in weights.items()}

    def _test(self, sets: Sequence[Iterable[Batch]], kernels: Kernels | None = None) -> Scores:
        """Test accuracy after training on a set, or on each of several by its share of the initial weights."""
        trained = train_each(kernels or self.kernels, sets, self.initial)
        return self._score(trained, self.data.split_batches("test", 1000))

    def _validate(self, batches: Iterable[Batch]) -> float:
        trained = train(self.kernels, batches, self.tuning_inits)
        return self._score(trained, self._some(self.data.val_x, self.data.val_y)).mean

    def _on_training_data(self, batches: Iterable[Batch]) -> float:
        trained = train(self.kernels, batches, self.tuning_inits)
        return self._score(trained, self._some(self.data.train_x, self.data.train_y)).mean

    def _score(self, weights: Tensors, examples: Iterable[tuple[Tensor, Tensor]]) -> Scores:
        return score(self.kernels, weights, examples, self.data.num_classes)

    def _some(self, x_NCHW: Tensor, y_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Images to select on, the same at each call; drawn, since a data set may be sorted by class."""
        rows = torch.randperm(len(y_N), generator=generator(self.seed, "evaluation images"))[: self.tuning_images]
        for start in range(0, len(rows), 1000):
            index = rows[start : start + 1000].to(y_N.device)
            yield self.data.preprocessing.apply(x_NCHW[index]), y_N[index]


def _check_same_task(run: LearnedSet, data: TaskData, tell: Callable[[str], None]) -> None:
    if data.image_shape != run.shape or data.num_classes != run.num_classes:
        raise LimbeckError(
            f"The run was learned for images of shape {run.shape} and {run.num_classes} classes; {data.name} has "
            f"{data.image_shape} and {data.num_classes}. Evaluate it on the data it was made from."
        )
    if data.sha256 != run.info["data"]["sha256"]:
        tell(f"note: {data.name} is not the data that the set was learned from ({run.info['data']['name']})")
