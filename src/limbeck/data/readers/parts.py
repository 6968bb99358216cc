"""What the parts of a data set are called, and which are learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from limbeck.errors import LimbeckError

Part: TypeAlias = Literal["train", "val", "test"]

PARTS: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "test": "test",
        "testing": "test",
    }
)
"""Names of parts in lower case."""


def split_parts(names: Sequence[str], what: str) -> dict[str, list[str]]:
    """The names of the parts for training and for the test.

    Validation examples join the training ones, of which a validation split is drawn anyway; where there is no test set,
    they are that.

    >>> split_parts(["test", "train", "valid"], "pets"), split_parts(["train", "val"], "pets")
    ({'train': ['train', 'valid'], 'test': ['test']}, {'train': ['train'], 'test': ['val']})

    Raises:
        LimbeckError: no part to learn from, or two names for one part; ``what`` names the data set.
    """
    found: dict[Part, str] = {}
    for name in names:
        part = PARTS[name.lower()]
        if part in found:
            raise LimbeckError(f"{what} has the parts {found[part]} and {name}, which mean the same; keep one of them.")
        found[part] = name
    if "train" not in found:
        raise LimbeckError(f"{what} has the parts {', '.join(names)}, but none to learn from; call one train.")
    if "test" in found:
        train = [found[part] for part in ("train", "val") if part in found]
        return {"train": train, "test": [found["test"]]}
    return {"train": [found["train"]]} | ({"test": [found["val"]]} if "val" in found else {})
