"""Labels of any kind to class numbers, and what the classes are called.

Shapes: N examples, K classes.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import numpy as np

from limbeck.data.arrays import Array, as_array
from limbeck.errors import LimbeckError

_MOST_IN_A_MESSAGE: Final = 5


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts texts as people do: by the numbers in them.

    >>> sorted(["class10", "class9", "Class1", "b"], key=natural_key)
    ['b', 'Class1', 'class9', 'class10']
    """
    parts = re.split(r"([0-9]+)", text.casefold())
    keys = ((0, int(part), "") if part[:1].isdigit() else (1, 0, part) for part in parts if part)
    return (*keys, (2, 0, text))


def label_values(labels: object, what: str) -> Array:
    """Labels as (N,) of int64, bool or str.

    Whole floats, shape (N, 1) and one-hot rows (N, K) are accepted; the last become the places of their ones.

    Args:
        labels: a tensor, an array or a list.
        what: names the labels in an error, such as "training".

    Raises:
        LimbeckError: neither numbers nor texts, fractions, NaN, probabilities, several classes at once, or another
            shape.
    """
    y = as_array(labels, f"{what} labels")
    if y.dtype.kind == "O":
        y = _of_objects(y, what)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "buif":
        return _of_rows(y, what)
    if y.ndim != 1:
        raise LimbeckError(f"The {what} labels must be one class for each example, shape (N,), got {y.shape}.")
    if y.dtype.kind == "U":
        if (y == "").any():
            raise LimbeckError(
                f"{int((y == '').sum())} of the {what} labels are empty; fill them in or leave them out."
            )
        return y
    if y.dtype.kind not in "buif":
        raise LimbeckError(f"The {what} labels must be numbers or texts, got dtype {y.dtype}.")
    if y.dtype.kind == "b":
        return y
    if y.dtype.kind == "f":
        if np.isnan(y).any():
            raise LimbeckError(
                f"{int(np.isnan(y).sum())} of the {what} labels are NaN; fill them in or leave them out."
            )
        if not (np.isfinite(y).all() and (y == np.floor(y)).all()):
            raise LimbeckError(f"The {what} labels must be whole class numbers, got fractions or infinity.")
    if y.size and not -(2**63) <= int(y.min()) <= int(y.max()) < 2**63:
        raise LimbeckError(f"The {what} labels must be class numbers, got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def _of_objects(y: Array, what: str) -> Array:
    """An array of Python objects as one of texts or numbers."""
    kinds = {type(value) for value in y.ravel().tolist()}
    if kinds == {str}:
        return y.astype(str)
    if kinds and kinds <= {bool, np.bool_}:
        return y.astype(bool)
    if kinds and all(issubclass(kind, int | np.integer) for kind in kinds):
        return np.array(y.tolist())
    missing = sum(value is None or (isinstance(value, float) and value != value) for value in y.ravel().tolist())
    if missing:
        raise LimbeckError(f"{missing} of the {what} labels are missing; fill them in or leave them out.")
    if all(issubclass(kind, Enum) for kind in kinds) and kinds:
        return np.array([value.name for value in y.ravel().tolist()]).reshape(y.shape)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise LimbeckError(f"The {what} labels must be all numbers or all texts, got {names or 'none'}.")


def _of_rows(y_NK: Array, what: str) -> Array:
    """One-hot rows as the places of their ones."""
    if np.isin(y_NK, (0, 1)).all():
        ones_N = (y_NK == 1).sum(1)
        if (ones_N == 1).all():
            found: Array = y_NK.argmax(1).astype(np.int64)
            return found
        raise LimbeckError(
            f"The {what} labels of shape {y_NK.shape} give example {int((ones_N != 1).argmax())} "
            f"{int(ones_N[(ones_N != 1).argmax()])} classes; each must have one."
        )
    if y_NK.dtype.kind == "f":
        raise LimbeckError(
            f"The {what} labels of shape {y_NK.shape} are soft, but real examples must have one class each; give the "
            "class numbers, such as the argmax of each row."
        )
    raise LimbeckError(f"The {what} labels must be one class for each example, shape (N,), got {y_NK.shape}.")


def encode(
    train: object, test: object | None, names: tuple[str, ...] | None
) -> tuple[Array, Array | None, tuple[str, ...] | None]:
    """Class numbers 0 to K − 1 of training and test examples, and the K names.

    The classes are those of the training labels: numbers and False before True in their order, texts in natural order.
    Where ``names`` are given, numbers are places in them, and names that no example has are dropped.

    Args:
        train: labels of the training examples, see :func:`label_values`.
        test: those of the test examples; None where there are none.
        names: what the classes are called; None where the source does not say.

    Returns:
        int64 (N,) of both, and the names; None for the numbers 0 to K − 1 themselves.

    Raises:
        LimbeckError: as :func:`label_values`; numbers that are no places in ``names``; training and test labels of two
            kinds; a class of the test examples that no training example has.
    """
    y = label_values(train, "training")
    y_test = None if test is None else label_values(test, "test")
    if y_test is not None and y_test.size and y.dtype.kind != y_test.dtype.kind:
        kinds = {"U": "texts", "i": "numbers", "b": "truth values"}
        raise LimbeckError(
            f"The training labels are {kinds[y.dtype.kind]}, but the test labels are {kinds[y_test.dtype.kind]}; bring "
            "both to one form."
        )
    if names is not None:
        for each, what in ((y, "training"), (y_test, "test")):
            if each is not None and each.dtype.kind != "U":
                check_classes(each.astype(np.int64), len(names), what)
    values, places = np.unique(y, return_inverse=True)
    y_N: Array = places
    if values.dtype.kind == "U":
        order = sorted(range(len(values)), key=lambda i: natural_key(str(values[i])))
        values, y_N = values[order], np.argsort(order)[y_N]
    y_N = y_N.astype(np.int64)
    found = _names_of(values, names)
    if y_test is None:
        return y_N, None, found
    place = {value: index for index, value in enumerate(values.tolist())}
    others, counts = np.unique(y_test, return_counts=True)
    alien = [(value, n) for value, n in zip(others.tolist(), counts.tolist(), strict=True) if value not in place]
    if alien:
        listed = [f"'{_name(value, names)}' ({n})" for value, n in alien[:_MOST_IN_A_MESSAGE]]
        more = f" and {len(alien) - len(listed)} more" if len(alien) > len(listed) else ""
        word = "class" if len(alien) == 1 else "classes"
        raise LimbeckError(
            f"The test set has examples of the {word} {', '.join(listed)}{more}, of which the "
            "training set has none; add some to it, or leave these out."
        )
    test_N = np.array([place[value] for value in y_test.tolist()], dtype=np.int64)
    return y_N, test_N, found


def _names_of(values: Array, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    plain = values.dtype.kind == "i" and values.tolist() == list(range(len(values)))
    if plain and (names is None or len(names) == len(values)):
        return names
    return tuple(_name(value, names) for value in values.tolist())


def _name(value: object, names: tuple[str, ...] | None) -> str:
    return names[value] if names is not None and isinstance(value, int) else str(value)


def check_classes(y_N: Array, classes: int, what: str) -> None:
    """Labels are from 0 up and below the number of classes.

    Raises:
        LimbeckError: if one is not.
    """
    wrong = y_N[(y_N < 0) | (y_N >= classes)]
    if wrong.size:
        raise LimbeckError(
            f"A {what} label is {int(wrong.max())}, out of range: with {classes} classes they go from 0 to "
            f"{classes - 1}."
        )
