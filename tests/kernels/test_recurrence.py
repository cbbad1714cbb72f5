"""Recurrent attention against its formulas frame by frame, against being cut into steps, and against finite differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.kernels.recurrence import (
    RatState,
    damped_ema,
    gated_scan,
    lightning_attention,
    lightning_decays,
    lightning_step,
    rat_attention,
    reference,
)
from riverrun.kernels.recurrence.op import attention, step
from riverrun.kernels.recurrence.op_scan import ema, scan

F64 = torch.float64
LENGTHS = torch.tensor([11, 6, 1, 0])


def random(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def grads(*tensors):
    return tuple(x.requires_grad_() for x in tensors)


def linear_attention_loop(q, k, v, lengths, log_decay, state):
    decay, out = log_decay.to(state).exp()[:, None, None], torch.zeros_like(v)
    for t in range(q.shape[1]):
        live = (t < lengths)[:, None, None, None]
        state = torch.where(live, decay * state + k[:, t, :, :, None] * v[:, t, :, None], state)
        out[:, t] = torch.where(live[..., 0], torch.einsum("bhd,bhde->bhe", q[:, t], state), 0)
    return out, state


@pytest.mark.parametrize("frames", [1, 63, 64, 130])
@pytest.mark.parametrize("begun", [True, False])
def test_lightning_equals_the_recurrence(frames, begun):
    q, k, v = random(3, frames, 3, 4), random(3, frames, 3, 4, seed=1), random(3, frames, 3, 5, seed=2)
    lengths = torch.tensor([frames, frames // 2, 0])
    state = random(3, 3, 4, 5, seed=3) if begun else None
    log_decay = lightning_decays(3, 1, 12).double()
    expected = linear_attention_loop(q, k, v, lengths, log_decay, torch.zeros(3, 3, 4, 5, dtype=F64) if state is None else state)
    torch.testing.assert_close(lightning_attention(q, k, v, lengths, log_decay, state), expected)


def test_lightning_without_decay_is_exactly_a_sum():
    """Small whole numbers, which float32 adds without rounding."""
    x = random(1, 500, 1, 4).round().float()
    lengths = torch.tensor([500])
    out, state = lightning_attention(x, x, x, lengths, torch.zeros(1))
    assert torch.equal(state[0, 0], x[0, :, 0].T @ x[0, :, 0])
    mask = torch.ones(500, 500).tril()
    assert torch.equal(out[0, :, 0], (x[0, :, 0] @ x[0, :, 0].T * mask) @ x[0, :, 0])


def test_lightning_is_stable_over_long_inputs():
    """The strongest decays underflow to 0 and nothing overflows, however long the input."""
    log_decay = lightning_decays(4, 0, 12)
    q, k, v = (random(1, 1500, 4, 4, seed=i, dtype=torch.float32) for i in range(3))
    lengths = torch.tensor([1500])
    out, state = lightning_attention(q, k, v, lengths, log_decay)
    exact, exact_state = lightning_attention(q.double(), k.double(), v.double(), lengths, log_decay.double())
    for ours, theirs in ((out, exact), (state, exact_state)):
        assert (ours.double() - theirs).norm() <= 1e-5 * theirs.norm()


def test_decays():
    torch.testing.assert_close(lightning_decays(4, 3, 12), -(8 / 4) * (1 - 3 / 12) * torch.tensor([0.0, 1, 2, 3]))
    with pytest.raises(ValueError, match="count from 0"):
        lightning_decays(4, 12, 12)


def test_lightning_gradients(monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", 4)
    q, k, v, state = grads(random(2, 6, 2, 3), random(2, 6, 2, 3, seed=1), random(2, 6, 2, 2, seed=2), random(2, 2, 3, 2, seed=3))
    lengths, log_decay = torch.tensor([6, 3]), lightning_decays(2, 0, 2).double()
    assert torch.autograd.gradcheck(lambda *x: lightning_attention(*x[:3], lengths, log_decay, x[3]), (q, k, v, state))
    assert torch.autograd.gradcheck(lambda *x: lightning_attention(*x, lengths, log_decay)[0].sum(), (q, k, v), fast_mode=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_lightning_steps_equal_the_whole(steps):
    """Streams in permuted slots, with idle rows, whose states stay bit for bit."""
    lengths = torch.tensor(steps).sum(0)
    frames = max(int(lengths.max()), 1)
    q, k, v = (random(3, frames, 2, 4, seed=i) for i in range(3))
    log_decay, slots = lightning_decays(2, 0, 2).double(), torch.tensor([4, 0, 2])
    whole, after = lightning_attention(q, k, v, lengths, log_decay)
    state = random(5, 2, 4, 4)
    state[slots] = 0
    seen, outputs = torch.zeros(3, dtype=torch.long), torch.zeros_like(whole)
    for now in torch.tensor(steps):
        at = (seen[:, None] + torch.arange(3)).clamp(max=frames - 1)[..., None, None].expand(-1, -1, 2, 4)
        before = state.clone()
        out = lightning_step(q.gather(1, at), k.gather(1, at), v.gather(1, at), slots, now, log_decay, state)
        idle = [s for s in range(5) if s not in slots[now > 0]]
        assert torch.equal(state[idle].view(torch.int64), before[idle].view(torch.int64))
        for row, count in enumerate(now):
            outputs[row, seen[row] : seen[row] + count] = out[row, :count]
            assert not out[row, count:].any()
        seen += now
    torch.testing.assert_close(outputs, whole)
    torch.testing.assert_close(state[slots], after)


@pytest.mark.parametrize(("chunk", "begun"), [(None, False), (None, True), (4, False), (4, True)])
def test_scan(chunk, begun):
    x, gate, state = grads(random(4, 11, 3), random(4, 11, 3, seed=1).sigmoid(), random(4, 3, seed=2))
    phase = torch.tensor([0, 3, 2, 1]) if begun and chunk else None
    past = {"state": state, "phase": phase} if begun else {}
    expected = torch.zeros(4, 11, 3, dtype=F64)
    for row, length in enumerate(LENGTHS):
        y = state[row].detach() if begun else torch.zeros(3, dtype=F64)
        for t in range(length):
            if chunk and (t + (0 if phase is None else phase[row])) % chunk == 0:
                y = torch.zeros(3, dtype=F64)
            y = expected[row, t] = (gate[row, t] * y + x[row, t]).detach()
    y, after = gated_scan(x, gate, LENGTHS, chunk, **past)
    torch.testing.assert_close(y.detach(), expected)
    assert torch.equal(after[0], y[0, -1]) and torch.equal(after[3], state[3] if begun else torch.zeros(3, dtype=F64))
    assert torch.autograd.gradcheck(
        lambda x, gate, state: gated_scan(x, gate, LENGTHS, chunk, **{**past, **({"state": state} if begun else {})}), (x, gate, state)
    )


def test_moving_averages():
    u, decay, weight = random(4, 11, 3), random(3, 2, seed=1).sigmoid(), random(3, 2, seed=2)
    state = random(4, 3, 2, seed=3)
    out, after = damped_ema(u, decay, weight, LENGTHS, state)
    for row, length in enumerate(LENGTHS):
        y = state[row]
        for t in range(length):
            y = decay * y + u[row, t, :, None]
            torch.testing.assert_close(out[row, t], (weight * y).sum(-1))
        torch.testing.assert_close(after[row], y)
        assert not out[row, length:].any()
    half = damped_ema(u[:, :5], decay, weight, LENGTHS.clamp(max=5), state)
    rest = damped_ema(u[:, 5:], decay, weight, (LENGTHS - 5).clamp(min=0), half[1])
    torch.testing.assert_close((torch.cat([half[0], rest[0]], 1), rest[1]), (out, after))
    inputs = grads(u, decay, weight, state)
    assert torch.autograd.gradcheck(lambda *x: damped_ema(*x[:3], LENGTHS, x[3]), inputs)


def rat_inputs(frames=13):
    q, k, v, gate = (random(3, frames, 2, 4, seed=i) for i in range(4))
    return q, k, v, gate.sigmoid()


def test_rat_equals_its_definition():
    q, k, v, gate = rat_inputs()
    lengths, bias, left, chunk = torch.tensor([13, 7, 0]), random(2, 3), 2, 4
    out, _ = rat_attention(q, k, v, gate, lengths, chunk, RatState.empty(3, left, 2, 4, q), bias=bias)
    for row, length in enumerate(lengths):
        key = value = torch.zeros(2, 4, dtype=F64)
        past = []
        for t in range(length):
            if t % chunk == 0:
                key = value = torch.zeros(2, 4, dtype=F64)
            key, value = (gate[row, t] * y + (1 - gate[row, t]) * x[row, t] for y, x in ((key, k), (value, v)))
            keys, values = (torch.stack([p[i] for p in past[-left:]] + [own]) for i, own in enumerate((key, value)))
            weights = (torch.einsum("hd,khd->hk", q[row, t], keys) / 2 + bias[:, : len(keys)].flip(1)).softmax(-1)
            torch.testing.assert_close(out[row, t], torch.einsum("hk,khd->hd", weights, values))
            past += [(key, value)] * (t % chunk == chunk - 1)
        assert not out[row, length:].any()


@pytest.mark.parametrize("cuts", [range(14), (0, 1, 6, 6, 8, 13), (0, 4, 8, 13)])
@pytest.mark.parametrize("left", [0, 2])
def test_rat_steps_equal_the_whole(cuts, left):
    inputs, lengths = rat_inputs(), torch.tensor([13, 7, 0])
    state = RatState.empty(3, left, 2, 4, inputs[0])
    whole, end = rat_attention(*inputs, lengths, 4, state)
    pieces = []
    for a, b in zip(cuts, cuts[1:], strict=False):
        out, state = rat_attention(*(x[:, a:b] for x in inputs), (lengths - a).clamp(0, b - a), 4, state)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    torch.testing.assert_close(tuple(state), tuple(end))


def test_rat_gradients():
    inputs, lengths = grads(*(x[:, :6] for x in rat_inputs())), torch.tensor([6, 3, 0])
    assert torch.autograd.gradcheck(
        lambda *x: rat_attention(*x, lengths, 2, RatState.empty(3, 2, 2, 4, inputs[0]))[0], inputs, fast_mode=True
    )


def test_operators_obey_pytorch():
    q, k, v, state = grads(*(random(2, 5, 2, 3, seed=i) for i in range(3)), random(2, 2, 3, 3))
    lengths, log_decay, slots = torch.tensor([5, 2]), lightning_decays(2, 0, 2).double(), torch.tensor([1, 0])
    torch.library.opcheck(attention, (q, k, v, lengths, log_decay, state))
    torch.library.opcheck(attention, (q, k, v, lengths, log_decay, None))
    with torch.no_grad():
        torch.library.opcheck(step, (q, k, v, slots, lengths, log_decay, state.detach().clone()))
    x, gate, past = grads(random(2, 5, 3), random(2, 5, 3, seed=1), random(2, 3))
    torch.library.opcheck(scan, (x, gate, lengths, None, None, 2))
    torch.library.opcheck(scan, (x, gate, lengths, torch.tensor([1, 0]), past, 2))
    torch.library.opcheck(ema, (x, *grads(random(3, 2).sigmoid(), random(3, 2)), lengths, *grads(random(2, 3, 2))))


def test_empty_inputs_and_half_types():
    none = torch.zeros(2, dtype=torch.long)
    for shape in ((2, 0, 1, 3), (2, 4, 0, 3)):
        x = torch.zeros(shape, requires_grad=True)
        out, state = lightning_attention(x, x, x, none, torch.zeros(shape[2]))
        (out.sum() + state.sum()).backward()
        assert out.shape == shape and state.shape == (2, shape[2], 3, 3) and not state.any()
    x = torch.zeros(2, 0, 3, requires_grad=True)
    y, after = gated_scan(x, x, none)
    out, averages = damped_ema(x, torch.ones(3, 2), torch.ones(3, 2), none)
    (y.sum() + after.sum() + out.sum() + averages.sum()).backward()
    assert y.shape == out.shape == x.shape and not after.any() and averages.shape == (2, 3, 2)
    x = random(1, 9, 1, 4).half()
    out, state = lightning_attention(x, x, x, torch.tensor([9]), torch.zeros(1))
    assert out.dtype == torch.float16 and state.dtype == torch.float32


def test_errors():
    x, flat, one = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 3), torch.ones(1, dtype=torch.long)
    with pytest.raises(ValueError, match="of one dtype"):
        lightning_attention(x, x.half(), x, one, torch.zeros(1))
    with pytest.raises(ValueError, match="each of 1 heads"):
        lightning_attention(x, x, x, one, torch.zeros(2))
    with pytest.raises(ValueError, match="slots"):
        lightning_step(x, x, x, one, one, torch.zeros(1), torch.zeros(2, 1, 3, 3).half())
    with pytest.raises(ValueError, match="needs a phase"):
        gated_scan(flat, flat, one, 2, state=flat[:, 0])
    with pytest.raises(ValueError, match="at least 1 frame"):
        gated_scan(flat, flat, one, 0)
    with pytest.raises(ValueError, match=r"twice \(D, N\)"):
        damped_ema(flat, torch.zeros(2, 2), torch.zeros(2, 2), one)
    with pytest.raises(ValueError, match="one shape"):
        rat_attention(x, x, x, x[..., :2], one, 2, RatState.empty(1, 1, 1, 3, x))
