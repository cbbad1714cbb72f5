"""The transducer definition against enumeration, another implementation and finite differences."""

import itertools
import math

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.kernels.transducer import (
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    joint_rnnt_loss,
    rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_simple,
)
from riverrun.kernels.transducer.op import arcs, joint_arcs, lattice

F64 = torch.float64


def batch(shapes, vocabulary=5, rows=None, seed=0):
    """Random logits and targets of utterances with the given (frames, labels)."""
    generator = torch.Generator().manual_seed(seed)
    frames, labels = (torch.tensor(x, dtype=torch.long) for x in zip(*shapes, strict=True))
    time, height = int(frames.max()), int(labels.max())
    logits = 2 * torch.randn(len(shapes), time, rows or height + 1, vocabulary, dtype=F64, generator=generator)
    return logits, torch.randint(1, vocabulary, (len(shapes), height), generator=generator), frames, labels


def enumerated(logits, targets, frames, labels):
    """−log of the sum over every path of one utterance, path by path."""
    scores = logits.log_softmax(-1)
    paths = []
    for emitting in itertools.combinations_with_replacement(range(frames), labels):  # the frame of each label
        u, score = 0, 0.0
        for t in range(frames):
            while u < labels and emitting[u] == t:
                score, u = score + scores[t, u, targets[u]], u + 1
            score = score + scores[t, u, 0]
        paths.append(score)
    return -torch.stack(paths).logsumexp(0)


def test_equals_enumeration_of_paths():
    shapes = [(1, 0), (1, 3), (4, 0), (3, 2), (2, 5), (5, 4)]
    logits, targets, frames, labels = batch(shapes)
    logits.requires_grad_()
    loss = rnnt_loss(logits, targets, frames, labels, reduction="none")
    expected = torch.stack([enumerated(*x) for x in zip(logits, targets, frames.tolist(), labels.tolist(), strict=True)])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected)))


@pytest.mark.parametrize("fastemit", [0.0, 0.01])
def test_equals_torchaudio(fastemit):
    logits, targets, frames, labels = batch([(7, 3), (9, 6), (4, 6), (9, 1)], 8)
    logits, ours, theirs = logits.float(), *(logits.float().requires_grad_() for _ in range(2))
    loss = rnnt_loss(ours, targets, frames, labels, fastemit=fastemit, reduction="none")
    expected = torchaudio.functional.rnnt_loss(theirs, targets.int(), frames.int(), labels.int(), 0, reduction="none")
    torch.testing.assert_close(loss, expected)
    if not fastemit:
        torch.testing.assert_close(
            *(torch.autograd.grad(x.sum(), y)[0] for x, y in ((loss, ours), (expected, theirs))), atol=1e-5, rtol=1e-4
        )


def test_fastemit_scales_the_label_arcs_only():
    logits, targets, frames, labels = batch([(6, 3)])
    label, blank, _ = (x.requires_grad_(i < 2) for i, x in enumerate(arcs(logits, targets, None, frames, labels, 0)))
    grads = [torch.autograd.grad(lattice(label, blank, frames, labels, f)[0].sum(), (label, blank)) for f in (0.0, 0.5)]
    torch.testing.assert_close(grads[1][0], 1.5 * grads[0][0])
    torch.testing.assert_close(grads[1][1], grads[0][1])


def test_gradients_by_finite_differences():
    logits, targets, frames, labels = batch([(3, 2), (2, 3), (1, 0)], 4)
    assert torch.autograd.gradcheck(lambda x: rnnt_loss(x, targets, frames, labels, reduction="none"), logits.requires_grad_())
    encoder, predictor, weight, bias = (torch.randn(s, dtype=F64, requires_grad=True) for s in ((3, 3, 4), (3, 4, 4), (5, 4), (5,)))
    for activation in ("tanh", "relu"):
        assert torch.autograd.gradcheck(
            lambda *x, a=activation: joint_rnnt_loss(*x, targets, frames, labels, a, tile=2, reduction="none"),
            (encoder, predictor, weight, bias),
        )


def test_joint_loss_is_the_loss_of_the_joiner_whatever_the_tile():
    _, targets, frames, labels = batch([(7, 3), (5, 4), (1, 0)], 6)
    encoder, predictor, weight, bias = inputs = [
        torch.randn(s, dtype=F64, requires_grad=True) for s in ((3, 7, 8), (3, 5, 8), (6, 8), (6,))
    ]
    expected = rnnt_loss(torch.tanh(encoder[:, :, None] + predictor[:, None]) @ weight.T + bias, targets, frames, labels)
    gradients = torch.autograd.grad(expected, inputs)
    for tile in (1, 3, 7, 100, None):
        loss = joint_rnnt_loss(*inputs, targets, frames, labels, tile=tile)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, inputs), gradients)
    without_bias = joint_rnnt_loss(encoder, predictor, weight, None, targets, frames, labels)
    torch.testing.assert_close(without_bias, joint_rnnt_loss(encoder, predictor, weight, torch.zeros_like(bias), targets, frames, labels))


def test_padding_is_not_read_and_gets_no_gradient():
    logits, targets, frames, labels = batch([(5, 3), (3, 1), (0, 2), (0, 0)])
    expected = rnnt_loss(logits[1:2, :3, :2], targets[1:2, :1], frames[1:2], labels[1:2])
    logits[1, 3:], logits[1, :, 2:], logits[2:], targets[1, 1:] = math.nan, math.nan, math.nan, -1
    logits.requires_grad_()
    loss = rnnt_loss(logits, targets, frames, labels, reduction="none")
    assert loss[1] == expected and loss[2] == math.inf and loss[3] == 0
    loss.sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[1, 3:].any() and not logits.grad[1, :, 2:].any() and not logits.grad[2:].any()


def test_reductions_empty_batches_and_errors():
    logits, targets, frames, labels = batch([(5, 3), (3, 1)])
    each = rnnt_loss(logits, targets, frames, labels, reduction="none")
    assert rnnt_loss(logits, targets, frames, labels, reduction="sum") == each.sum()
    assert rnnt_loss(logits, targets, frames, labels) == each.mean()
    torch.testing.assert_close(rnnt_loss(logits.roll(-1, -1), targets - 1, frames, labels, -1, "none"), each)
    assert rnnt_loss(logits[:0], targets[:0], frames[:0], labels[:0]) == 0
    with pytest.raises(ValueError, match="logit_lengths holds 6"):
        rnnt_loss(logits, targets, frames + 1, labels)
    with pytest.raises(ValueError, match="should be"):
        rnnt_loss(logits, targets[:, 1:], frames, labels)
    with pytest.raises(ValueError, match="choose none"):
        rnnt_loss(logits, targets, frames, labels, reduction="average")


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_frame_has_one_blank_and_every_label_one_arc(shapes, seed):
    logits, targets, frames, labels = batch(shapes, seed=seed)
    label, blank, _ = arcs(logits, targets, None, frames, labels, 0)
    _, label_count, blank_count = lattice(label, blank, frames, labels, 0.0)
    for b, (time, height) in enumerate(shapes):
        torch.testing.assert_close(blank_count[b].sum(0)[:time], torch.ones(time, dtype=F64))
        torch.testing.assert_close(label_count[b].sum(1)[:height], torch.ones(height, dtype=F64))


def boundary_of(frames, labels):
    return torch.stack([torch.zeros_like(labels), torch.zeros_like(labels), labels, frames], 1)


def simple_inputs(shapes, vocabulary=6):
    _, symbols, frames, labels = batch(shapes, vocabulary)
    am, lm = (torch.randn(len(shapes), int(x.max()) + extra, vocabulary, dtype=F64) for x, extra in ((frames, 0), (labels, 1)))
    return lm, am, symbols, boundary_of(frames, labels), frames, labels


def test_simple_loss_is_the_loss_of_the_sum():
    lm, am, symbols, boundary, frames, labels = simple_inputs([(6, 3), (4, 4), (2, 0)])
    loss, (px_grad, py_grad) = rnnt_loss_simple(lm, am, symbols, 0, boundary, return_grad=True, reduction="none")
    torch.testing.assert_close(loss, rnnt_loss(am[:, :, None] + lm[:, None], symbols, frames, labels, reduction="none"))
    assert px_grad.shape == (3, 4, 6) and py_grad.shape == (3, 5, 6)
    assert torch.autograd.gradcheck(
        lambda *x: rnnt_loss_simple(*x, symbols, 0, boundary, 0.25, 0.1, delay_penalty=0.1), (lm.requires_grad_(), am.requires_grad_())
    )


def test_smoothed_shares_are_distributions():
    """With the encoder or the predictor alone, label and blank scores come from one softmax over the vocabulary."""
    lm, am, symbols, boundary, frames, labels = simple_inputs([(5, 3)])
    only_lm = rnnt_loss_simple(lm, am, symbols, 0, boundary, lm_only_scale=1.0)
    torch.testing.assert_close(only_lm, rnnt_loss_simple(lm, torch.zeros_like(am), symbols, 0, boundary))
    only_am = rnnt_loss_simple(lm, am, symbols, 0, boundary, am_only_scale=1.0)
    prior = lm.softmax(-1).mean(1, keepdim=True).log()
    torch.testing.assert_close(only_am, rnnt_loss_simple(prior.expand_as(lm), am, symbols, 0, boundary))


def test_delay_penalty_prefers_early_labels():
    lm, am, symbols, boundary, *_ = simple_inputs([(9, 3)])
    frame = torch.arange(9, dtype=F64)

    def mean_frame(penalty):
        _, (px_grad, _) = rnnt_loss_simple(lm, am, symbols, 0, boundary, delay_penalty=penalty, return_grad=True)
        return (px_grad.sum(1)[0] @ frame).item()

    assert mean_frame(1.0) < mean_frame(0.0) < mean_frame(-1.0)


@pytest.mark.parametrize("s_range", [2, 3, 4, 9])
def test_ranges_are_connected_and_pruned_loss_bounds_the_full_one(s_range):
    shapes = [(9, 7), (7, 7), (8, 2), (7, 0), (1, 1)]
    lm, am, symbols, boundary, frames, labels = simple_inputs(shapes)
    full, grads = rnnt_loss_simple(lm, am, symbols, 0, boundary, reduction="none", return_grad=True)
    ranges = get_rnnt_prune_ranges(*grads, boundary, s_range)
    width = min(s_range, 8)
    assert ranges.shape == (5, 9, width)
    first = ranges[..., 0]
    assert not first[:, 0].any() and ((first.diff() >= 0) & (first.diff() < width)).all() and (ranges.diff() == 1).all()
    assert (first.gather(1, frames[:, None] - 1)[:, 0] == (labels - width + 1).clamp(min=0)).all()
    am_pruned, lm_pruned = do_rnnt_pruning(am, lm, ranges)
    logits = (am_pruned + lm_pruned).requires_grad_()
    pruned = rnnt_loss_pruned(logits, symbols, ranges, 0, boundary, reduction="none")
    assert pruned.isfinite().all() and (pruned >= full - 1e-9).all()
    if s_range >= 8:
        torch.testing.assert_close(pruned, full)
    assert torch.autograd.gradcheck(lambda x: rnnt_loss_pruned(x, symbols, ranges, 0, boundary, 0.1), logits, fast_mode=True)


def test_ranges_follow_the_paths():
    """A lattice whose every path emits label s near frame 4·s is covered by ranges around that line."""
    labels, frames = 8, 32
    lm, am = torch.zeros(1, labels + 1, labels + 1), torch.zeros(1, frames, labels + 1)
    symbols = torch.arange(1, labels + 1)[None]
    for s in range(labels):
        am[0, 4 * s + 2, s + 1] = 20.0
    boundary = torch.tensor([[0, 0, labels, frames]])
    _, grads = rnnt_loss_simple(lm, am, symbols, 0, boundary, return_grad=True)
    ranges = get_rnnt_prune_ranges(*grads, boundary, 3)
    emitted = torch.arange(labels)
    assert ((ranges[0, 4 * emitted + 2] == emitted[:, None]).any(1)).all()
    pruned = rnnt_loss_pruned(sum(do_rnnt_pruning(am, lm, ranges)), symbols, ranges, 0, boundary)
    torch.testing.assert_close(pruned, rnnt_loss_simple(lm, am, symbols, 0, boundary), atol=0.5, rtol=0)
    with pytest.raises(ValueError, match="at least 2"):
        get_rnnt_prune_ranges(*grads, boundary, 1)


def test_a_path_that_the_ranges_cut_off_is_impossible_not_nan():
    lm, am, symbols, boundary, *_ = simple_inputs([(2, 6)])
    ranges = torch.tensor([[[0, 1], [5, 6]]])
    logits = torch.randn(1, 2, 2, 6, requires_grad=True)
    loss = rnnt_loss_pruned(logits, symbols, ranges, 0, boundary)
    loss.backward()
    assert loss == math.inf and not logits.grad.any()


def test_operators_obey_pytorch():
    logits, targets, frames, labels = batch([(4, 2), (3, 3)])
    logits.requires_grad_()
    torch.library.opcheck(arcs, (logits, targets, None, frames, labels, 0))
    label, blank, _ = (x.detach().requires_grad_() for x in arcs(logits, targets, None, frames, labels, 0))
    torch.library.opcheck(lattice, (label, blank, frames, labels, 0.0))
    encoder, predictor, weight, bias = (torch.randn(s, dtype=F64, requires_grad=True) for s in ((2, 4, 3), (2, 4, 3), (5, 3), (5,)))
    torch.library.opcheck(joint_arcs, (encoder, predictor, weight, bias, targets, frames, labels, 0, "tanh", 3))


def test_losses_trace_whole():
    logits, targets, frames, labels = batch([(4, 2), (3, 3)])
    compiled = torch.compile(lambda x: rnnt_loss(x, targets, frames, labels), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits), rnnt_loss(logits, targets, frames, labels))


def test_autocast_runs_the_joiner_in_half_precision():
    _, targets, frames, labels = batch([(4, 2), (3, 3)], 6)
    inputs = [torch.randn(s, requires_grad=True) for s in ((2, 4, 8), (2, 4, 8), (6, 8), (6,))]
    exact = joint_rnnt_loss(*inputs, targets, frames, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss = joint_rnnt_loss(*inputs, targets, frames, labels)
    assert loss.dtype == torch.float32
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.05, rtol=0.02)
    assert all(x.grad.dtype == torch.float32 and x.grad.any() for x in inputs)
