"""A chart of learned images; it needs the extra ``figures`` (matplotlib)."""

from __future__ import annotations

from pathlib import Path

import torch

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.drawing import refuse_without_pictures
from limbeck.artefact.preview import stretch
from limbeck.common.charts import new_figure, save_figure, set_title
from limbeck.evaluation.training import LearnedSchedule


def sample_chart(path: Path, run: Distilled, *, title: str, columns: int = 12) -> None:
    """Draw a sheet of images: a row for each class, columns from the first inner step to the last.

    Args:
        path: of the chart; the endings .png and .svg are added.
        run: the set.
        title: above the chart.
        columns: steps at most, evenly spaced.

    Raises:
        LimbeckError: what was learned is no images.
    """
    refuse_without_pictures(run)
    order = list(range(run.images.shape[0]))
    if isinstance(run.training, LearnedSchedule):
        order = run.training.order.tolist()
    steps = torch.linspace(0, len(order) - 1, min(columns, len(order))).round().long().tolist()
    rows = run.num_classes
    figure = new_figure((0.55 * len(steps) + 1.2, 0.55 * rows + 0.9))
    for column, step in enumerate(steps):
        batch = order[step]
        kinds_M = run.labels[batch].argmax(-1)
        for k in range(rows):
            axes = figure.add_subplot(rows, len(steps), k * len(steps) + column + 1)
            axes.set_xticks([])
            axes.set_yticks([])
            members = (kinds_M == k).nonzero()[:, 0]
            if len(members):
                axes.imshow(stretch(run.images[batch, int(members[0])]).permute(1, 2, 0).numpy())
            if column == 0:
                axes.set_ylabel(run.class_names[k][:9], rotation=0, ha="right", va="center", fontsize=8)
            if k == 0:
                axes.set_title(f"step {step + 1}" if column == 0 else str(step + 1), fontsize=8)
    set_title(figure, title)
    save_figure(figure, path)
