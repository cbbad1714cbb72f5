"""Entmax attention in plain torch: the definition that the kernels are held to.

Frames are counted from the first query: keys before it are past, and have negative numbers. Half types are computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Newton steps after which nothing changes in float64.
STEPS = 14


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that scores and sums are kept in."""
    return torch.promote_types(dtype, torch.float32)


def threshold(z: Tensor, alpha: Tensor, steps: int = STEPS) -> Tensor:
    """τ that solves Σ [z − τ]₊^{1/(α−1)} = 1 over the last axis, for z = (α−1)·scores; inf where all are −inf.

    Newton's method on the norm (Σ [z − τ]₊^{1/(α−1)})^{α−1} = 1 from τ = max z − 1. The norm is convex and falling in τ, so that no
    step overshoots; and nearly straight where the sum itself is steep, so that half the steps do (for equal scores, one).
    """
    top = z.amax(-1, keepdim=True) if z.shape[-1] else z.new_full((*z.shape[:-1], 1), -torch.inf)
    some = top > -torch.inf
    z = z - torch.where(some, top, 0)
    tau = torch.full_like(top, -1)
    for _ in range(steps):
        x = (z - tau).clamp(min=0)
        root = torch.where(x > 0, x, 1) ** (1 / (alpha - 1) - 1) * (x > 0)
        total, slope = (root * x).sum(-1, keepdim=True), root.sum(-1, keepdim=True)
        tau = tau + (total - total ** (2 - alpha)) / torch.where(some, slope, 1)
    return torch.where(some, tau + top, torch.inf)


def weights(z: Tensor, tau: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """P = [z − τ]₊^{1/(α−1)}, and p^{2−α} where p > 0: the derivative of p by its score, but for the normalisation."""
    x = z - tau
    log = torch.where(x > 0, x, 1).log() / (alpha - 1)
    return log.exp() * (x > 0), ((2 - alpha) * log).exp() * (x > 0)


def forward(
    q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, lengths: Tensor, filled: Tensor | None, chunk: int, left: int, scale: float
) -> tuple[Tensor, Tensor]:
    """See ``riverrun.kernels.entmax``; also the thresholds τ (B, H, T)."""
    z, alpha = _scores(q, k, alpha, lengths, filled, chunk, left, scale)
    tau = threshold(z, alpha)
    p, _ = weights(z, tau, alpha)
    return torch.einsum("bhij,bjhd->bihd", p, _values(v, q, lengths, filled)).to(q.dtype), tau[..., 0]


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    lengths: Tensor,
    filled: Tensor | None,
    out: Tensor,
    tau: Tensor,
    chunk: int,
    left: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and α (Correia et al., "Adaptively Sparse Transformers", 2019).

    With u = p^{2−α}, g the gradient of p and c = Σ u·g / Σ u, that of a score is u·(g − c). With h = −p log p, that of α is
    Σ g·(p − u / Σ u) / (α−1)² + Σ g·(h − u / Σ u · Σ h) / (α−1). ``out`` is not needed here.
    """
    z, a = _scores(q, k, alpha, lengths, filled, chunk, left, scale)
    p, u = weights(z, tau[..., None], a)
    values = _values(v, q, lengths, filled)
    real = torch.arange(q.shape[1], device=q.device) < lengths[:, None]
    grad_wide = grad.to(p.dtype).masked_fill(~real[..., None, None], 0)
    g = torch.einsum("bihd,bjhd->bhij", grad_wide, values)
    total = u.sum(-1, keepdim=True)
    skewed = u / torch.where(total > 0, total, 1)
    centre = (skewed * g).sum(-1, keepdim=True)
    dscore = u * (g - centre) * scale
    entropy = torch.special.entr(p)
    by_alpha = g * ((p - skewed) / (a - 1) ** 2 + (entropy - skewed * entropy.sum(-1, keepdim=True)) / (a - 1))
    group = q.shape[2] // k.shape[2]
    dq = torch.einsum("bhij,bjhd->bihd", dscore, _per_query_head(_clean(k, q, lengths, filled), q))
    queries = q.to(p.dtype).masked_fill(~real[..., None, None], 0)
    dk, dv = (torch.einsum("bhij,bihd->bjhd", x, y).unflatten(2, (-1, group)).sum(3) for x, y in ((dscore, queries), (p, grad_wide)))
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), by_alpha.sum((0, 2, 3)).to(alpha.dtype)


def _scores(
    q: Tensor, k: Tensor, alpha: Tensor, lengths: Tensor, filled: Tensor | None, chunk: int, left: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Z = (α−1)·scores (B, H, T, K), −inf where a query does not see a key; and α (H, 1, 1), in the dtype of sums."""
    i, there = torch.arange(q.shape[1], device=q.device), torch.arange(k.shape[1], device=q.device) - (k.shape[1] - q.shape[1])
    start = (i // chunk * chunk)[:, None]
    sees = (there >= start - left) & (there < start + chunk) & _real(k, q, lengths, filled)[:, None] & (i < lengths[:, None])[..., None]
    dtype = wide(q.dtype)
    alpha = alpha.to(dtype)[:, None, None]
    score = torch.einsum("bihd,bjhd->bhij", q.to(dtype), _per_query_head(_clean(k, q, lengths, filled), q))
    return ((alpha - 1) * scale * score).masked_fill(~sees[:, None], -torch.inf), alpha


def _real(k: Tensor, q: Tensor, lengths: Tensor, filled: Tensor | None) -> Tensor:
    """Which keys (B, K) are real."""
    past = k.shape[1] - q.shape[1]
    there = torch.arange(-past, q.shape[1], device=q.device)
    return (there < lengths[:, None]) & (there >= -(past if filled is None else filled[:, None]))


def _clean(x: Tensor, q: Tensor, lengths: Tensor, filled: Tensor | None) -> Tensor:
    return x.to(wide(q.dtype)).masked_fill(~_real(x, q, lengths, filled)[..., None, None], 0)


def _values(v: Tensor, q: Tensor, lengths: Tensor, filled: Tensor | None) -> Tensor:
    return _per_query_head(_clean(v, q, lengths, filled), q)


def _per_query_head(x: Tensor, q: Tensor) -> Tensor:
    return x.repeat_interleave(q.shape[2] // x.shape[2], 2)
