# ruff: noqa: E501 (one network a line or two)
"""Twenty small networks of the kinds that people write; between them they use every kind of layer that torch.nn has for
classifying images. All take images (M, 3, 32, 32) and give logits (M, 3)."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES: Final = 3


class By(nn.Module):
    """Layers by name, and a function of them and the images."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def _activated(*kinds: nn.Module) -> nn.Module:
    """Each kind on features of its own."""
    return By(
        lambda m, x: m.head(
            torch.cat([kind(layer(m.pool(x))) for kind, layer in zip(m.kinds, m.layers, strict=True)], 1)
        ),
        pool=nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        kinds=nn.ModuleList(kinds),
        layers=nn.ModuleList([nn.Linear(48, 8 if isinstance(kind, nn.GLU) else 4) for kind in kinds]),
        head=nn.Linear(4 * len(kinds), CLASSES),
    )


def _activations() -> nn.Module:
    return _activated(
        nn.ReLU(inplace=True), nn.ReLU6(), nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus(),
        nn.Softsign(), nn.Softshrink(), nn.Hardshrink(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.LeakyReLU(),
        nn.LogSigmoid(), nn.PReLU(), nn.Sigmoid(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 0.2), nn.GLU(1),
    )  # fmt: skip


def _random() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Dropout2d(0.1), nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1), nn.RReLU(),
                         _head(8))  # fmt: skip


def _dropouts() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Dropout2d(0.1), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Dropout(0.2), nn.Linear(32, CLASSES))  # fmt: skip


def _norms() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True),
                         nn.LocalResponseNorm(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(32), nn.RMSNorm(32),
                         nn.BatchNorm1d(32), nn.Linear(32, CLASSES))  # fmt: skip


def _pools() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.AvgPool2d(2, 1), nn.LPPool2d(2, 2), nn.AdaptiveMaxPool2d(2),
                         nn.Flatten(), nn.Linear(32, CLASSES))  # fmt: skip


def _paddings() -> nn.Module:
    return nn.Sequential(nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.5), nn.CircularPad2d(1),
                         nn.Conv2d(3, 8, 5, 2, padding_mode="circular", padding=1), nn.ReLU(), _head(8))  # fmt: skip


def _shapes() -> nn.Module:
    return nn.Sequential(nn.PixelUnshuffle(2), nn.ChannelShuffle(3), nn.PixelShuffle(2), nn.Upsample(scale_factor=2, mode="bilinear"),
                         nn.ConvTranspose2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Unflatten(1, (4, 16)), nn.Flatten(), nn.Linear(64, CLASSES))  # fmt: skip


def _unfolded() -> nn.Module:
    return By(
        lambda m, x: m.head(m.fold(m.mix(m.unfold(x).mT).mT).flatten(1)),
        unfold=nn.Unfold(4, stride=4), mix=nn.Linear(48, 32), fold=nn.Fold((32, 32), 4, stride=4), head=nn.Linear(2048, CLASSES),
    )  # fmt: skip


def _one_dimensional() -> nn.Module:
    return nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 8, 9, 4), nn.ReLU(), nn.MaxPool1d(2), nn.ConvTranspose1d(8, 4, 3), nn.Dropout1d(0.1),
                         nn.BatchNorm1d(4), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(16, CLASSES))  # fmt: skip


def _three_dimensional() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, (1, 2, 2), 1), nn.ReLU(), nn.MaxPool3d((1, 2, 2)), nn.BatchNorm3d(4),
                         nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, CLASSES))  # fmt: skip


def _recurrent(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    width = 16 if options.get("bidirectional") else 8
    return By(
        lambda m, x: m.head(m.rnn(x.mean(1))[0][:, -1]), rnn=kind(32, 8, batch_first=True, **options), head=nn.Linear(width, CLASSES)
    )  # fmt: skip


def _cells() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        h = c = g = r = x.new_zeros(len(x), 8)
        for row in x.mean(1).unbind(1)[::8]:
            h, c = m.lstm(row, (h, c))
            g = m.gru(h, g)
            r = m.rnn(g, r)
        logits: Tensor = m.head(r)
        return logits

    return By(run, lstm=nn.LSTMCell(32, 8), gru=nn.GRUCell(8, 8), rnn=nn.RNNCell(8, 8), head=nn.Linear(8, CLASSES))


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)  # dropout 0.1, as torch has it by default
    module = By(
        lambda m, x: m.head(m.encoder(m.embed(x.mean(1)) + m.place).mean(1)),
        embed=nn.Linear(32, 16),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(16, CLASSES),
    )
    module.place = nn.Parameter(0.02 * torch.randn(32, 16))
    return module


def _decoder() -> nn.Module:
    module = By(
        lambda m, x: m.head(m.decoder(m.query.expand(len(x), -1, -1), m.embed(x.mean(1))).flatten(1)),
        embed=nn.Linear(32, 16),
        decoder=nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0, batch_first=True),
        head=nn.Linear(32, CLASSES),
    )
    module.query = nn.Parameter(torch.randn(1, 2, 16))
    return module


def _bilinear() -> nn.Module:
    return By(
        lambda m, x: m.head(m.both(x.mean((1, 2)), x.mean((1, 3)))), both=nn.Bilinear(32, 32, 8), head=nn.Linear(8, CLASSES)
    )  # fmt: skip


def _embedded() -> nn.Module:
    """Looks up levels of grey: the pixels themselves have no gradient there, so they are added."""
    return By(
        lambda m, x: m.head((m.table((x.mean((1, 2)).clamp(0, 1) * 9).long()) + x.mean((1, 2))[..., None]).mean(1)),
        table=nn.Embedding(10, 8), head=nn.Linear(8, CLASSES),
    )  # fmt: skip


def _distances() -> nn.Module:
    module = By(
        lambda m, x: m.scale * torch.stack([m.cosine(m.body(x), c) - m.distance(m.body(x), c) for c in m.centres], 1),
        body=nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 8)), cosine=nn.CosineSimilarity(), distance=nn.PairwiseDistance(),
    )  # fmt: skip
    module.centres = nn.Parameter(torch.randn(CLASSES, 1, 8))
    module.scale = nn.Parameter(torch.tensor(2.0))
    return module


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(3072, 8)), nn.Tanh(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Tanh(), nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)),
        nn.Softmax(1), nn.Linear(8, CLASSES), nn.LogSoftmax(1),
    )  # fmt: skip


def _residual() -> nn.Module:
    def block() -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 1, 1)
        )
        return By(lambda m, x: F.relu(x + m.body(x), inplace=True), body=body)  # fmt: skip

    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), block(), block(), _head(8))


NETWORKS: Final = MappingProxyType(
    {
        "activations, 23 kinds": _activations,
        "dropouts": _dropouts,
        "alpha dropout, randomised ReLU": _random,
        "normalisations, 8 kinds": _norms,
        "pools, 5 kinds": _pools,
        "paddings, 6 kinds": _paddings,
        "pixel shuffle, upsampling, transposed": _shapes,
        "unfold and fold": _unfolded,
        "1-D layers": _one_dimensional,
        "3-D layers": _three_dimensional,
        "LSTM, two layers, bidirectional": lambda: _recurrent(nn.LSTM, num_layers=2, bidirectional=True),
        "GRU": lambda: _recurrent(nn.GRU),
        "cells of LSTM, GRU and RNN": _cells,
        "transformer encoder with dropout": _transformer,
        "transformer decoder": _decoder,
        "bilinear": _bilinear,
        "embedding": _embedded,
        "cosine similarity and distance": _distances,
        "weight, spectral and orthogonal norm": _normalised,
        "residual, in-place ReLU": _residual,
    }
)


def make(name: str) -> nn.Module:
    """The network of that name."""
    return NETWORKS[name]()
