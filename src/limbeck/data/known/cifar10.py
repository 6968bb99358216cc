"""CIFAR-10, the official binary version."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np

from limbeck.data.arrays import Pair, TrainTest
from limbeck.data.binary import DOWNLOAD_AGAIN, read_bytes
from limbeck.data.known.base import Download, KnownSet
from limbeck.data.preprocessing import Preprocessing
from limbeck.errors import LimbeckError

_SHAPE = (3, 32, 32)
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
CIFAR10_FILES = (*_TRAIN, *_TEST)


def read_cifar10(folder: str | os.PathLike[str]) -> TrainTest:
    """The official binary version of CIFAR-10: five training batches and one test batch.

    Each record is one label byte and 3 × 32 × 32 pixel bytes, channels first (https://www.cs.toronto.edu/~kriz/cifar.html).

    Returns:
        ``train_x, train_y, test_x, test_y``: images (N, 3, 32, 32) uint8, labels (N,) uint8.

    Raises:
        LimbeckError: a batch is missing, empty, or not a whole number of records. Names the file.
    """
    folder = Path(folder)
    train_x, train_y = _read_batches(folder, _TRAIN)
    test_x, test_y = _read_batches(folder, _TEST)
    return train_x, train_y, test_x, test_y


def _read_batches(folder: Path, names: tuple[str, ...]) -> Pair:
    record = 1 + math.prod(_SHAPE)
    batches = []
    for name in names:
        raw = read_bytes(folder / name)
        if not raw or len(raw) % record:
            raise LimbeckError(
                f"{folder / name} has {len(raw)} bytes, expected a multiple of {record} (a label and 3 × 32 × 32 "
                f"pixels); {DOWNLOAD_AGAIN}."
            )
        batches.append(np.frombuffer(raw, np.uint8).reshape(-1, record))
    rows = np.concatenate(batches)
    return rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0].copy()


CIFAR10 = KnownSet(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    url="https://www.cs.toronto.edu/~kriz/",
    downloads=(
        Download(
            name="cifar-10-binary.tar.gz",
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            members=CIFAR10_FILES,
        ),
    ),
    files=MappingProxyType(
        {
            "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        }
    ),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    preprocessing=Preprocessing(scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261)),
    image_shape=(3, 32, 32),
    n_train=50_000,
    n_test=10_000,
    read=read_cifar10,
)
