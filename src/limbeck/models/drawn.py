"""Torch's random functions, and those of its layers that drop activations, with numbers that follow from a key."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.engine import Noisy

Handler = Callable[..., Any]
"""Takes what has the key, and then what the function of torch takes whose place it has."""

_SELU_LOW: Final = -1.7580993408473766
"""The value that a self-normalising unit goes to far below 0: minus its scale times its alpha."""


def _uniform(
    noise: Noisy, shape: Sequence[int], like: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    values = noise.uniform(*shape)
    dtype = dtype or (like.dtype if like is not None else None)
    if dtype is not None and dtype.itemsize < 4:
        values = values * (1 - torch.finfo(dtype).eps)  # rounding must not reach 1
    return values if dtype is None else values.to(dtype)


def _normal(noise: Noisy, shape: Sequence[int], like: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """By Box and Muller (1958)."""
    angle, radius = _uniform(noise, (2, *shape), like, dtype)
    return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list, torch.Size)) else tuple(size)


def _rand(noise: Noisy, *sizes: Any, size: Any = None, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _uniform(noise, _shape(sizes if size is None else (size,)), dtype=dtype)


def _randn(noise: Noisy, *sizes: Any, size: Any = None, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _normal(noise, _shape(sizes if size is None else (size,)), dtype=dtype)


def _rand_like(noise: Noisy, like: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _uniform(noise, like.shape, like, dtype)


def _randn_like(noise: Noisy, like: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _normal(noise, like.shape, like, dtype)


def _bernoulli(noise: Noisy, given: Tensor, p: float | None = None, **_: Any) -> Tensor:
    return (_uniform(noise, given.shape, given) < (given if p is None else p)).to(given.dtype)


def _bernoulli_into(noise: Noisy, given: Tensor, p: float | Tensor = 0.5, **_: Any) -> Tensor:
    return given.copy_(_uniform(noise, given.shape) < p)


def _uniform_into(noise: Noisy, given: Tensor, low: float = 0.0, high: float = 1.0, **_: Any) -> Tensor:
    return given.copy_(low + (high - low) * _uniform(noise, given.shape, given))


def _normal_into(noise: Noisy, given: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return given.copy_(mean + std * _normal(noise, given.shape, given))


def _dropout(noise: Noisy, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return _into(x, _drop(noise, x, p, training, x.shape), inplace)


def _channel_dropout(noise: Noisy, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return _into(x, _drop(noise, x, p, training, (*x.shape[:2], *[1] * (x.ndim - 2))), inplace)


def _unbatched(dropout: Handler, ndim: int) -> Handler:
    """The dropout of channels for which an input of so many dimensions has no batch, as torch takes it."""

    def handle(noise: Noisy, x: Tensor, *args: Any, **settings: Any) -> Tensor:
        if x.ndim != ndim:
            result: Tensor = dropout(noise, x, *args, **settings)
            return result
        dropped: Tensor = dropout(noise, x[None], *args, **settings)
        return dropped[0]

    return handle


def _into(x: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """The result, written to ``x`` as well where that is asked for."""
    return x.copy_(result) if inplace and result is not x else result


def _drop(noise: Noisy, x: Tensor, p: float, training: bool, shape: Sequence[int]) -> Tensor:
    if not training or p == 0:
        return x
    return x * (_uniform(noise, shape) >= p) / (1 - p) if p < 1 else x * 0


def _alpha_dropout(noise: Noisy, x: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    return _into(x, _drop_alpha(noise, x, p, training, x.shape), inplace)


def _channel_alpha_dropout(
    noise: Noisy, x: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    return _into(x, _drop_alpha(noise, x, p, training, (*x.shape[:2], *[1] * (x.ndim - 2))), inplace)


def _drop_alpha(noise: Noisy, x: Tensor, p: float, training: bool, shape: Sequence[int]) -> Tensor:
    """Alpha dropout (Klambauer et al. 2017, section 3): keeps the mean and the variance of what self-normalises."""
    if not training or p == 0:
        return x
    kept = (_uniform(noise, shape) >= p).to(x.dtype)
    factor = ((1 - p) * (1 + p * _SELU_LOW**2)) ** -0.5 if p < 1 else 0.0
    return factor * (x * kept + _SELU_LOW * (1 - kept)) - factor * _SELU_LOW * p


def _rrelu(
    noise: Noisy, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    slope = lower + (upper - lower) * _uniform(noise, x.shape, x) if training else (lower + upper) / 2
    return _into(x, torch.where(x >= 0, x, x * slope), inplace)


def _gumbel_softmax(
    noise: Noisy, logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """The Gumbel softmax (Jang et al. 2017, eq. 2); ``hard`` by the straight-through estimator."""
    gumbel = -torch.log((-torch.log1p(-_uniform(noise, logits.shape, logits))).clamp_min(1e-30))
    soft = ((logits + gumbel) / tau).softmax(dim)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft


def _exponential_into(noise: Noisy, given: Tensor, lambd: float = 1.0, **_: Any) -> Tensor:
    return given.copy_(-torch.log1p(-_uniform(noise, given.shape, given)) / lambd)


def _normal_of(
    noise: Noisy,
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    size: Any = (),
    *,
    dtype: torch.dtype | None = None,
    **_: Any,
) -> Tensor:
    given = [each for each in (mean, std) if isinstance(each, Tensor)]
    shape = (given[0] + given[-1]).shape if given else _shape((size,))
    return mean + std * _normal(noise, shape, given[0] if given else None, dtype)


def _randint(noise: Noisy, *bounds: Any, low: int = 0, dtype: torch.dtype = torch.long, **given: Any) -> Tensor:
    """``torch.randint(low=0, high, size)``."""
    *bounds_given, size = (*bounds, given["size"]) if "size" in given else bounds
    high = given["high"] if "high" in given else bounds_given.pop()
    low = bounds_given[0] if bounds_given else low
    number: Tensor = low + ((high - low) * _uniform(noise, _shape((size,)))).floor()
    return number.to(dtype)


def _hardsigmoid(noise: Noisy, x: Tensor, inplace: bool = False) -> Tensor:
    return _into(x, F.relu6(x + 3) / 6, inplace)  # of torch's own there is no second derivative


def _attention(
    noise: Noisy,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with dropout on its weights."""
    if dropout_p == 0:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    weights = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        weights = weights.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else weights + attn_mask
    return _drop(noise, weights.softmax(-1), dropout_p, True, weights.shape) @ value


def _multi_head(
    noise: Noisy,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    in_weight: Tensor | None,
    in_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_weight: Tensor,
    out_bias: Tensor | None,
    training: bool = True,
    *args: Any,
    **settings: Any,
) -> Any:
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), by torch's own function where it drops nothing."""
    names = ("key_padding_mask", "need_weights", "attn_mask", "use_separate_proj_weight")
    settings |= dict(zip(names, args, strict=False))
    own = (bias_k, bias_v, add_zero_attn, dropout_p if training else 0.0, out_weight, out_bias, training)
    plain = bias_k is None and bias_v is None and not add_zero_attn and not settings.get("use_separate_proj_weight")
    if dropout_p == 0 or not training or not plain or in_weight is None:
        return F.multi_head_attention_forward(query, key, value, width, heads, in_weight, in_bias, *own, **settings)
    batched = query.ndim == 3  # (length, batch, width)
    if not batched:
        query, key, value = (each[:, None] for each in (query, key, value))
    biases = (None,) * 3 if in_bias is None else in_bias.chunk(3)
    parts = [
        F.linear(each, weight, bias).view(*each.shape[:2], heads, -1).permute(1, 2, 0, 3)
        for each, weight, bias in zip((query, key, value), in_weight.chunk(3), biases, strict=True)
    ]
    scores = parts[0] @ parts[1].mT / math.sqrt(width // heads)
    mask, padding = settings.get("attn_mask"), settings.get("key_padding_mask")
    if mask is not None:
        mask = mask if mask.ndim == 2 else mask.view(scores.shape)
        scores = scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    if padding is not None:
        padding = padding[:, None, None]
        scores = scores.masked_fill(padding, -math.inf) if padding.dtype == torch.bool else scores + padding
    weights = _drop(noise, scores.softmax(-1), dropout_p, True, scores.shape)
    mixed = (weights @ parts[2]).permute(2, 0, 1, 3).flatten(-2)
    output = F.linear(mixed, out_weight, out_bias)
    shown = weights.mean(1) if settings.get("average_attn_weights", True) else weights
    if not batched:
        output, shown = output[:, 0], shown[0]
    return output, shown if settings.get("need_weights", True) else None


def _recurrent(function: Handler) -> Handler:
    """A recurrent network of torch's whose layers are run one by one, with dropout between them."""

    def handle(noise: Noisy, x: Tensor, *args: Any) -> Any:
        packed = not isinstance(args[2], bool)  # then the sizes of the batches come first
        sizes, (start, weights, biases, layers, p, training, *rest) = args[:packed], args[packed:]
        if not training or p == 0 or layers == 1:
            return function(x, *args)
        ends, each = [], len(weights) // layers
        for i in range(layers):
            own = (
                [state.chunk(layers)[i] for state in start]
                if isinstance(start, (tuple, list))
                else start.chunk(layers)[i]
            )
            x = _drop(noise, x, p, True, x.shape) if i else x
            x, *end = function(x, *sizes, own, weights[i * each : (i + 1) * each], biases, 1, 0.0, training, *rest)
            ends.append(end)
        return x, *(torch.cat(states) for states in zip(*ends, strict=True))

    return handle


DRAWN: Final = MappingProxyType[Any, Handler](
    {
        torch.rand: _rand,
        torch.randn: _randn,
        torch.rand_like: _rand_like,
        torch.randn_like: _randn_like,
        torch.bernoulli: _bernoulli,
        Tensor.bernoulli: _bernoulli,
        Tensor.bernoulli_: _bernoulli_into,
        Tensor.uniform_: _uniform_into,
        Tensor.normal_: _normal_into,
        Tensor.exponential_: _exponential_into,
        F.gumbel_softmax: _gumbel_softmax,
        F.alpha_dropout: _alpha_dropout,
        F.feature_alpha_dropout: _channel_alpha_dropout,
        F.rrelu: _rrelu,
        F.hardsigmoid: _hardsigmoid,
        torch.normal: _normal_of,
        torch.randint: _randint,
        torch.rrelu: _rrelu,
        torch.dropout: _dropout,
        torch.feature_dropout: _channel_dropout,
        torch.alpha_dropout: _alpha_dropout,
        torch.feature_alpha_dropout: _channel_alpha_dropout,
        F.dropout: _dropout,
        F.dropout1d: _unbatched(_channel_dropout, 2),
        F.dropout2d: _channel_dropout,
        F.dropout3d: _unbatched(_channel_dropout, 4),
        F.scaled_dot_product_attention: _attention,
        F.multi_head_attention_forward: _multi_head,
        torch.lstm: _recurrent(torch.lstm),
        torch.gru: _recurrent(torch.gru),
        torch.rnn_tanh: _recurrent(torch.rnn_tanh),
        torch.rnn_relu: _recurrent(torch.rnn_relu),
    }
)
"""What takes the place of such a function."""
