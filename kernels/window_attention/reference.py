"""Limited-context attention in plain torch: the definition that the kernels are held to. Tensors are (B, T, heads, D)."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    chunk: int,
    left: int,
    scale: float,
    sigmoid: float | None,
) -> tuple[Tensor, Tensor]:
    """See ``riverrun.kernels.window_attention``; half types are summed in float32.

    Returns:
        The output, like ``q``, and the log of the softmax's denominator (B, H, T): −inf where nothing is seen, 0 for sigmoid.
    """
    q, k, v = (_real(x, lengths) for x in (q, k, v))
    score, mask = _scores(q, k, lengths, bias, slopes, chunk, left, scale)
    if sigmoid is not None:
        norm = score.new_zeros(score.shape[:3])
        weights = (score + sigmoid).sigmoid().masked_fill(~mask, 0)
    else:
        norm = score.masked_fill(~mask, -torch.inf).logsumexp(-1)
        weights = _softmax(score, mask, norm)
    return torch.einsum("bhij,bjhd->bihd", weights, _wide(_repeat(v, q))).to(q.dtype), norm


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    out: Tensor,
    norm: Tensor,
    chunk: int,
    left: int,
    scale: float,
    sigmoid: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, and of the bias (empty without one)."""
    grad, q, k, v = (_real(x, lengths) for x in (grad, q, k, v))
    score, mask = _scores(q, k, lengths, bias, slopes, chunk, left, scale)
    dout = _wide(grad)
    dweights = torch.einsum("bihd,bjhd->bhij", dout, _wide(_repeat(v, q)))
    if sigmoid is not None:
        weights = (score + sigmoid).sigmoid().masked_fill(~mask, 0)
        dscore = weights * (1 - weights) * dweights
    else:
        weights = _softmax(score, mask, norm)
        dscore = weights * (dweights - (dout * _wide(out)).sum(-1).transpose(1, 2)[..., None])
    group = q.shape[2] // k.shape[2]
    dq = torch.einsum("bhij,bjhd->bihd", dscore, _wide(_repeat(k, q))) * scale
    dk = torch.einsum("bhij,bihd->bjhd", dscore, _wide(q)) * scale
    dv = torch.einsum("bhij,bihd->bjhd", weights, dout)
    dk, dv = (x.unflatten(2, (-1, group)).sum(3) for x in (dk, dv))
    if bias is None:
        dbias = q.new_empty(0)
    else:
        band = dscore.new_zeros(*dscore.shape[:3], bias.shape[-1])
        band.scatter_add_(-1, _column(dscore, chunk, bias), dscore)
        dbias = band.sum_to_size(bias.shape).to(bias.dtype)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), dbias


def _scores(
    q: Tensor, k: Tensor, lengths: Tensor, bias: Tensor | None, slopes: Tensor | None, chunk: int, left: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Scores (B, H, T, T), and which of them count."""
    t = torch.arange(q.shape[1], device=q.device)
    start = (t // chunk * chunk)[:, None]
    real = t < lengths[:, None]
    mask = (t >= start - left) & (t < start + chunk) & real[:, None] & real[:, :, None]
    score = torch.einsum("bihd,bjhd->bhij", _wide(q), _wide(_repeat(k, q))) * scale
    if bias is not None:
        score = score + _wide(bias).expand(*score.shape[:3], -1).gather(-1, _column(score, chunk, bias))
    if slopes is not None:
        score = score - slopes[:, None, None] * (t[:, None] - t).abs()
    return score, mask[:, None]


def _real(x: Tensor, lengths: Tensor) -> Tensor:
    """``x`` (B, T, …) with zeros beyond the lengths, whatever was there."""
    keep = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return torch.where(keep[..., None, None], x, x.new_zeros(()))


def _column(score: Tensor, chunk: int, bias: Tensor) -> Tensor:
    """Column of a bias for each score; distances out of range are masked."""
    t = torch.arange(score.shape[-1], device=score.device)
    return (t[:, None] - t + chunk - 1).clamp(0, bias.shape[-1] - 1).expand_as(score)


def _softmax(score: Tensor, mask: Tensor, norm: Tensor) -> Tensor:
    norm = norm.masked_fill(norm == -torch.inf, 0)[..., None]
    return (score.masked_fill(~mask, -torch.inf) - norm).exp()


def _repeat(x: Tensor, q: Tensor) -> Tensor:
    return x.repeat_interleave(q.shape[2] // x.shape[2], 2)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
