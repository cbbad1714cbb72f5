"""Limited-context attention cases: forward, and forward with gradients, plain, with a learned table and Transformer-XL."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..window_attention import reference
from ..window_attention import triton as kernels
from ..window_attention.op import attention
from .case import Case, Tuning, upstream, with_gradients

B, T, H, D, CHUNK, LEFT = 32, 512, 8, 64, 16, 64
W = LEFT + 2 * CHUNK - 1
SHAPE = f"B{B} T{T} H{H} D{D} chunk{CHUNK} left{LEFT} bf16"
Inputs = tuple[Any, ...]


def _inputs(seed: int, *bias: int) -> Inputs:
    generator = torch.Generator("cuda").manual_seed(seed)
    shapes = [(B, T, H, D)] * 3 + ([bias] if bias else [])
    floats = [torch.randn(shape, device="cuda", generator=generator).bfloat16() for shape in shapes]
    lengths = torch.randint(T * 3 // 4, T + 1, (B,), device="cuda", generator=generator)
    return *floats[:3], lengths, floats[3] if bias else None


def _table(seed: int) -> Inputs:
    *inputs, bias = _inputs(seed, 1, H, 1, W)
    return *inputs, bias.float()


def _per_query(seed: int) -> Inputs:
    return _inputs(seed, B, H, T, W)


def _ours(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    return attention(q, k, v, lengths, bias, None, CHUNK, LEFT, D**-0.5, None)[0]


def _ours_full(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    return attention(q, k, v, lengths, None, None, T, 0, D**-0.5, None)[0]


def _definition_full(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    context = T, 0, D**-0.5, None
    out, norm = reference.forward(q, k, v, lengths, None, None, *context)
    return out, *reference.backward(upstream(out.shape, out.dtype), q, k, v, lengths, None, None, out, norm, *context)[:3]


def _masked_full(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    mask = (torch.arange(T, device=q.device) < lengths[:, None])[:, None, None]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _definition(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    return reference.forward(q, k, v, lengths, bias, None, CHUNK, LEFT, D**-0.5, None)[0]


def _eager(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    """Frames squared: a mask, and the bias spread over all pairs of frames."""
    t = torch.arange(T, device=q.device)
    start = (t // CHUNK * CHUNK)[:, None]
    mask = ((t >= start - LEFT) & (t < start + CHUNK) & (t < lengths[:, None, None]))[:, None]
    if bias is not None:
        column = (t[:, None] - t + CHUNK - 1).clamp(0, W - 1)
        spread = bias.expand(-1, -1, T, -1).gather(-1, column.expand(len(bias), H, -1, -1)).to(q.dtype)
        mask = spread.masked_fill(~mask, float("-inf"))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flex(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
    """FlexAttention with the mask built beforehand."""

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        assert bias is not None  # noqa: S101
        return score + bias[0, h, 0, i - j + CHUNK - 1]

    mask = _mask(lengths)
    out = _compiled()(*(x.transpose(1, 2) for x in (q, k, v)), score_mod=None if bias is None else add, block_mask=mask)
    return out.transpose(1, 2)


@cache
def _mask(lengths: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        start = i // CHUNK * CHUNK
        return (j >= start - LEFT) & (j < start + CHUNK) & (j < lengths[b])

    return create_block_mask(sees, B, None, T, T)


def _training(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    def run(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        if bias is None:
            return with_gradients(lambda q, k, v: function(q, k, v, lengths, None), q, k, v)
        return with_gradients(lambda q, k, v, bias: function(q, k, v, lengths, bias), q, k, v, bias)

    return run


def _training_definition(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    context = CHUNK, LEFT, D**-0.5, None
    out, norm = reference.forward(q, k, v, lengths, bias, None, *context)
    *gradients, dbias = reference.backward(upstream(out.shape, out.dtype), q, k, v, lengths, bias, None, out, norm, *context)
    return out, *gradients, *([] if bias is None else [dbias])


def _floor(tensors: int) -> Callable[..., int]:
    def floor(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None) -> int:
        """Each of q, k, v and the output moved once forward; all again, with their gradients, backward; the bias alike."""
        return tensors * q.nbytes + (0 if bias is None else bias.nbytes * (1 if tensors == FORWARD else 3))

    return floor


FORWARD, TRAINING = 4, 12


def _flops(products: int, seen: float) -> Callable[..., float]:
    """So many matrix products over the keys that a frame sees."""
    return lambda q, k, v, lengths, *_: products * 2.0 * float(lengths.sum()) * H * D * seen


SEEN = LEFT + CHUNK
PLAIN = {"FlexAttention": _flex, "eager, masked SDPA": _eager}
CASES = [
    Case(
        "window_attention", "forward", SHAPE, _inputs, _definition, _ours, _floor(FORWARD), PLAIN, _flops(2, SEEN),
        tolerance=2e-2, comparable=False,
    ),
    Case(
        "window_attention", "plain, gradients", SHAPE, _inputs, _training_definition, _training(_ours), _floor(TRAINING),
        {name: _training(peer) for name, peer in PLAIN.items()}, _flops(7, SEEN), tolerance=2e-2, comparable=False,
    ),
    Case(
        "window_attention", "learned table, gradients", SHAPE, _table, _training_definition, _training(_ours), _floor(TRAINING),
        {name: _training(peer) for name, peer in PLAIN.items()}, _flops(7, SEEN), tolerance=2e-2, comparable=False,
    ),
    Case(
        "window_attention", "Transformer-XL bias, gradients", SHAPE, _per_query, _training_definition, _training(_ours), _floor(TRAINING),
        {"eager, masked SDPA": _training(_eager)}, _flops(7, SEEN), tolerance=2e-2, comparable=False,
    ),
    Case(
        "window_attention", "full context, ragged, gradients", f"B{B} T{T} H{H} D{D} bf16", _inputs, _definition_full,
        _training(_ours_full), _floor(TRAINING), {"masked SDPA": _training(_masked_full)}, _flops(7, T), tolerance=2e-2, comparable=False,
    ),
]  # fmt: skip

FORWARDS = ((64, 32, 4, 3), (64, 64, 4, 2), (32, 32, 4, 3), (32, 64, 4, 3), (128, 64, 8, 2), (64, 128, 4, 2), (64, 32, 4, 4))
BACKWARDS = ((32, 32, 4, 3), (64, 32, 4, 3), (64, 32, 4, 2), (32, 64, 4, 2), (64, 64, 8, 2), (128, 32, 8, 2), (64, 64, 4, 3))
SHIPPED = kernels.BLOCKS[2, D]
TUNINGS = [
    Tuning("forward", CASES[0], kernels.BLOCKS, (2, D), tuple((own, SHIPPED[1]) for own in FORWARDS)),
    *(Tuning(f"backward, {CASES[i].name}", CASES[i], kernels.BLOCKS, (2, D), tuple((SHIPPED[0], x) for x in BACKWARDS)) for i in (1, 2, 3)),
    Tuning("forward, full context", CASES[4], kernels.BLOCKS, (2, D), tuple((own, SHIPPED[1]) for own in FORWARDS)),
]
