"""scikit-learn's digits: a known set that comes with a Python package instead of files."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from limbeck.cli.tables import data_table
from limbeck.data import available, get, load
from limbeck.data.registry import locate
from limbeck.errors import LimbeckError


def table_text() -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(data_table(available()))
    return capture.get()


def test_digits() -> None:
    datasets: Any = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    data = load("digits")
    assert data.name == "digits" and data.image_shape == (1, 28, 28) and data.class_names == tuple("0123456789")
    assert (len(data.train_y), len(data.val_y), len(data.test_y)) == (1199, 299, 299)
    assert data.train_x.dtype == torch.uint8 and int(data.train_x.max()) == 255 and int(data.train_x.min()) == 0
    labels = torch.cat([data.train_y, data.val_y, data.test_y])
    assert labels.bincount().tolist() == np.bincount(theirs.target).tolist()
    images = torch.tensor(theirs.images)[:, None] * (255 / 16)
    wanted = torch.nn.functional.interpolate(images, (28, 28), mode="bilinear", align_corners=False)
    distance, nearest = torch.cdist(data.train_x.flatten(1).double(), wanted.flatten(1)).min(1)
    assert distance.max() <= 0.5 * 28 and len(nearest.unique()) == 1199  # but for rounding it is one of them, another
    assert data.train_y.tolist() == theirs.target[nearest].tolist()
    z = data.preprocessing.apply(data.train_x)
    assert abs(float(z.mean())) < 1e-5 and abs(float(z.std()) - 1) < 1e-4
    assert torch.equal(load("digits,invert=True").test_x, 255 - data.test_x)
    row = available()[-1]
    assert (
        row.where == locate("digits")
        and row.to_json()["package"] == "scikit-learn"
        and "in scikit-learn" in table_text()
    )


def test_digits_cannot_be_fetched() -> None:
    with pytest.raises(LimbeckError, match="nothing to fetch for digits: it comes with scikit-learn"):
        get("digits")


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[sklearn\]'"):
        load("digits")
    assert available()[-1].where is None and "missing: pip install 'limbeck[sklearn]'" in table_text()


def test_scikit_learn_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn.datasets")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(LimbeckError, match=r"Digits needs scikit-learn .*pip install 'limbeck\[sklearn\]'"):
        load("digits")
