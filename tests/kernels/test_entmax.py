"""Entmax attention against the exact sorting algorithms for sparsemax and 1.5-entmax, softmax in the limit, and finite differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.kernels.entmax import entmax_attention, reference
from riverrun.kernels.entmax.op import attention

F64 = torch.float64


def random(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def entmax(scores, alpha):
    alpha = torch.tensor(alpha, dtype=scores.dtype)
    z = (alpha - 1) * scores
    return reference.weights(z, reference.threshold(z, alpha), alpha)[0]


def sparsemax(scores):
    """Martins and Astudillo, 2016: the support is a prefix of the sorted scores."""
    ordered = scores.sort(-1, descending=True).values
    count = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    tau = (ordered.cumsum(-1) - 1) / count
    size = (ordered > tau).sum(-1, keepdim=True)
    return (scores - tau.gather(-1, size - 1)).clamp(min=0)


def entmax15(scores):
    """Peters et al., 2019: the same, with a quadratic equation for each prefix."""
    half = scores / 2
    ordered = half.sort(-1, descending=True).values
    count = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    mean, square = ordered.cumsum(-1) / count, (ordered**2).cumsum(-1) / count
    tau = mean - ((1 - count * (square - mean**2)) / count).clamp(min=0).sqrt()
    size = (tau <= ordered).sum(-1, keepdim=True)
    return (half - tau.gather(-1, size - 1)).clamp(min=0) ** 2


SCORES = [random(20, 300), 0.05 * random(20, 300), 8 * random(20, 300), torch.zeros(1, 512, dtype=F64), random(20, 1), 1e4 * random(20, 9)]


@pytest.mark.parametrize("scores", SCORES, ids=["usual", "flat", "steep", "equal", "one", "huge"])
def test_exact_algorithms(scores):
    for exact, alpha in ((sparsemax, 2.0), (entmax15, 1.5)):
        torch.testing.assert_close(entmax(scores, alpha), exact(scores), atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(entmax(scores.float(), alpha), exact(scores.float().double()).float(), atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("scores", SCORES[:5], ids=["usual", "flat", "steep", "equal", "one"])
@pytest.mark.parametrize("alpha", [1.02, 1.1, 1.3, 1.7, 1.95])
def test_weights_sum_to_one(scores, alpha):
    p = entmax(scores, alpha)
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[:, 0]), atol=1e-10, rtol=0)


def test_softmax_in_the_limit():
    scores = random(20, 30)
    torch.testing.assert_close(entmax(scores, 1.0001), scores.softmax(-1), atol=1e-3, rtol=1e-2)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.05, 2), st.integers(1, 64), st.floats(0.01, 20), st.integers(0, 10))
def test_few_newton_steps_are_enough(alpha, keys, spread, seed):
    """The steps of the kernels, for half types and for float32; and none overshoots."""
    z = (alpha - 1) * spread * random(4, keys, seed=seed)
    exact = reference.threshold(z, torch.tensor(alpha, dtype=F64))
    for steps, error in ((6, 2e-3), (8, 1e-5)):
        tau = reference.threshold(z, torch.tensor(alpha, dtype=F64), steps)
        assert (tau <= exact + 1e-12).all()
        p, close = (reference.weights(z, x, torch.tensor(alpha, dtype=F64))[0] for x in (exact, tau))
        torch.testing.assert_close(close, p, atol=error, rtol=0)


def inputs(dtype=F64, frames=7, past=3, heads=2, key_heads=1):
    q = random(3, frames, heads, 4, dtype=dtype)
    k, v = (random(3, past + frames, key_heads, 4, seed=i, dtype=dtype) for i in (1, 2))
    return q, k, v, torch.linspace(1.3, 2, heads, dtype=dtype), torch.tensor([frames, frames - 3, 0])


@pytest.mark.parametrize(("chunk", "left"), [(None, None), (3, 2), (2, 0), (1, 4)])
def test_attention_equals_its_definition(chunk, left):
    q, k, v, alpha, lengths = inputs()
    alpha[:] = torch.tensor([1.5, 2.0])
    filled = torch.tensor([3, 1, 0])
    out = entmax_attention(q, k, v, alpha, lengths, chunk, left, filled=filled)
    for row, length in enumerate(lengths):
        for t in range(length):
            start = 0 if chunk is None else t // chunk * chunk
            first = max(start - (99 if left is None else left), -int(filled[row]))
            last = min(length if chunk is None else start + chunk, length)
            keys, values = (x[row, 3 + first : 3 + last, 0] for x in (k, v))
            for head, exact in enumerate((entmax15, sparsemax)):
                torch.testing.assert_close(out[row, t, head], exact(keys @ q[row, t, head] / 2) @ values)
        assert not out[row, length:].any()


def test_steps_equal_the_whole():
    q, k, v, alpha, lengths = inputs(frames=12, past=0)
    whole = entmax_attention(q, k, v, alpha, lengths, 3, 5)
    for start in range(0, 12, 3):
        past = slice(max(start - 5, 0), start + 3)
        out = entmax_attention(q[:, start : start + 3], k[:, past], v[:, past], alpha, (lengths - start).clamp(0, 3), 3, 5)
        torch.testing.assert_close(out, whole[:, start : start + 3])


def test_gradients():
    *floats, lengths = inputs(frames=4, past=2)
    q, k, v, alpha = (x.requires_grad_() for x in floats)
    filled = torch.tensor([2, 0, 1])
    alpha.data[1] = 1.8
    assert torch.autograd.gradcheck(lambda *x: entmax_attention(*x, lengths, 3, 2, filled=filled), (q, k, v, alpha))


def test_gradient_of_alpha_by_differences():
    """In float32 too, where it loses digits as α comes near 1."""
    q, k, v, _, lengths = inputs(frames=40, past=0)
    for value in (1.05, 1.3, 1.9):
        alpha = torch.full((2,), value, dtype=F64)
        above, below = (entmax_attention(q, k, v, alpha + step, lengths).square().sum() for step in (1e-5, -1e-5))
        for dtype, error in ((F64, 1e-5), (torch.float32, 2e-2)):
            leaf = alpha.to(dtype, copy=True).requires_grad_()
            entmax_attention(q.to(dtype), k.to(dtype), v.to(dtype), leaf, lengths).square().sum().backward()
            assert abs(float(leaf.grad.sum()) / float((above - below) / 2e-5) - 1) < error


def test_empty_inputs_half_types_and_what_lies_beyond():
    for shape in ((0, 2, 1, 4), (2, 0, 1, 4), (2, 3, 1, 4)):
        x = torch.zeros(shape, requires_grad=True)
        alpha = torch.full((1,), 1.5, requires_grad=True)
        out = entmax_attention(x, x, x, alpha, torch.zeros(shape[0], dtype=torch.long), 2, 1)
        out.sum().backward()
        assert out.shape == shape and not out.any() and not x.grad.any() and not alpha.grad.any()
    q, k, v, alpha, lengths = inputs(torch.float16)
    out = entmax_attention(q, k, v, alpha, lengths, 2, 3)
    assert out.dtype == torch.float16
    q[1, 4:], k[1, 7:], v[1, 7:] = (torch.nan,) * 3
    assert torch.equal(entmax_attention(q, k, v, alpha, lengths, 2, 3), out)


def test_operator_obeys_pytorch():
    *floats, lengths = inputs(frames=4)
    leaves = [x.requires_grad_() for x in floats]
    torch.library.opcheck(attention, (*leaves, lengths, torch.tensor([2, 0, 3]), 2, 2, 0.5))
    torch.library.opcheck(attention, (*leaves, lengths, None, 2, 2, 0.5))


def test_errors():
    q, k, v, alpha, lengths = inputs()
    with pytest.raises(ValueError, match=r"\(B, P \+ T, Hk, D\)"):
        entmax_attention(k, q, q, alpha, lengths)
    with pytest.raises(ValueError, match="each of 2 heads"):
        entmax_attention(q, k, v, alpha[:1], lengths)
    with pytest.raises(ValueError, match="is none"):
        entmax_attention(q, k, v, alpha, lengths, 0)
