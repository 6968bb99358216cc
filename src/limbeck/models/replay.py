"""What a module draws at random in its forward pass, drawn so that a step that is run again draws the same.

Torch's random functions draw from a global stream. Here they are replaced, while a module runs, by numbers that follow
from a key which the learner's state carries (see ``limbeck.engine.carried``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.engine import Noisy

_Handler = Callable[..., Any]


@final
class Replayed(Noisy):
    """Another module whose random numbers follow from a key, which each pass replaces in training only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, *inputs: Any) -> Any:
        """The module's output."""
        own = self.key
        with _Draws(self):
            output = self.module(*inputs)
        if not self.training:
            self.key = own
        return output


class random_calls(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801 (used as a context manager)
    """Within it, the names of torch's operators that draw random numbers are collected in ``names``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _draws_nothing(func, args):
            self.names.append(str(func).removeprefix("aten."))
        return func(*args, **(kwargs or {}))


def _draws_nothing(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operator is called so that chance has no part in it: attention without dropout."""
    name = str(func)
    if "attention" in name:
        return not any(isinstance(arg, float) and arg > 0 for arg in args[3:4])
    return "dropout" in name and len(args) > 1 and (args[1] == 0 or (len(args) > 2 and args[2] is False))


class _Draws(TorchFunctionMode):
    """Answers torch's random functions with numbers from a module's key."""

    def __init__(self, noise: Noisy) -> None:
        super().__init__()
        self.noise = noise

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = _HANDLERS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self.noise, *args, **(kwargs or {}))


def _uniform(
    noise: Noisy, shape: Sequence[int], like: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    values = noise.uniform(*shape)
    dtype = dtype or (like.dtype if like is not None else None)
    return values if dtype is None else values.to(dtype)


def _normal(noise: Noisy, shape: Sequence[int], like: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """By Box and Muller (1958)."""
    angle, radius = _uniform(noise, (2, *shape), like, dtype)
    return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list, torch.Size)) else tuple(size)


def _rand(noise: Noisy, *size: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _uniform(noise, _shape(size), dtype=dtype)


def _randn(noise: Noisy, *size: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _normal(noise, _shape(size), dtype=dtype)


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
    return _drop(noise, x, p, training, x.shape)


def _channel_dropout(noise: Noisy, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return _drop(noise, x, p, training, (*x.shape[:2], *[1] * (x.ndim - 2)))


def _drop(noise: Noisy, x: Tensor, p: float, training: bool, shape: Sequence[int]) -> Tensor:
    if not training or p == 0:
        return x
    return x * (_uniform(noise, shape) >= p) / (1 - p) if p < 1 else x * 0


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


_HANDLERS: Final = MappingProxyType[Any, _Handler](
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
        torch.dropout: _dropout,
        F.dropout: _dropout,
        F.dropout1d: _channel_dropout,
        F.dropout2d: _channel_dropout,
        F.dropout3d: _channel_dropout,
        F.scaled_dot_product_attention: _attention,
        F.multi_head_attention_forward: _multi_head,
    }
)
