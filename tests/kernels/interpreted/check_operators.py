"""What operators give where kernels compute has the shapes, dtypes and strides that their shape functions promise to compiled graphs."""

import pytest
import torch

import riverrun.kernels.convolution.op
import riverrun.kernels.entmax.op
import riverrun.kernels.monotonic.op
import riverrun.kernels.recurrence.op
import riverrun.kernels.recurrence.op_scan
import riverrun.kernels.step_attention.op
import riverrun.kernels.transducer.op
import riverrun.kernels.viterbi.op
import riverrun.kernels.window_attention.op  # noqa: F401

from .device import DEVICE


def floats(*shape):
    return torch.randn(*shape, device=DEVICE)


def integers(*values):
    return torch.tensor(values, device=DEVICE)


def transposed(*shape):
    """Not contiguous, as transposes and the gradients of sums are."""
    return floats(*shape[:1], shape[2], shape[1], *shape[3:]).transpose(1, 2)


LENGTHS = integers(5, 3)
HEADS = 2, 5, 2, 8
CONTEXT = 2, 3, 0.4


def attention():
    q, k, v, grad, out = (transposed(*HEADS) for _ in range(5))
    bias, norm = floats(1, 2, 1, 6), floats(2, 2, 5)
    yield "window_attention", (q, k, v, LENGTHS, bias, None, *CONTEXT, None)
    yield "window_attention", (q, k, v, LENGTHS, None, floats(2).abs(), *CONTEXT, -1.0)
    for given in (bias, None, transposed(2, 2, 5, 6)):
        yield "window_attention_backward", (grad, q, k, v, LENGTHS, given, None, out.contiguous(), norm, *CONTEXT, None)
    cache = floats(3, 8, 2, 8)
    yield "step_attention", (q, k, v, integers(2, 0), LENGTHS, cache, cache.clone(), integers(4, 0, 0), None, None, None, 5, 0, 0.4, None)
    alpha, tau = torch.tensor([1.3, 1.7], device=DEVICE), floats(2, 2, 5)
    yield "entmax_attention", (q, k, v, alpha, LENGTHS, None, *CONTEXT)
    yield "entmax_attention_backward", (grad, q, k, v, alpha, LENGTHS, None, out.contiguous(), tau, *CONTEXT)


def recurrence():
    q, k, v, grad = (transposed(*HEADS) for _ in range(4))
    decay, state = -floats(2).abs(), floats(2, 2, 8, 8)
    yield "linear_attention", (q, k, v, LENGTHS, decay, state)
    yield "linear_attention_backward", (grad, state.mT, q, k, v, LENGTHS, decay, state)
    yield "linear_attention_step", (q, k, v, integers(1, 0), LENGTHS, decay, state.clone())
    x, gate, y = (transposed(2, 5, 4) for _ in range(3))
    yield "gated_scan", (x, gate.sigmoid(), LENGTHS, None, None, 2)
    yield "gated_scan_backward", (x, gate.sigmoid(), y, LENGTHS, integers(1, 0), floats(2, 4), 2)
    decays, weights, averages = floats(3, 4).T.sigmoid(), floats(3, 4).T, transposed(2, 4, 3)
    yield "damped_ema", (x, decays, weights, LENGTHS, averages)
    yield "damped_ema_backward", (y, averages, x, decays, weights, LENGTHS, averages)


def others():
    x, grad, convolved = transposed(2, 5, 12), transposed(2, 5, 6), floats(2, 5, 6)
    weights = floats(3, 6).T, floats(6), floats(6), floats(6)
    yield "convolution", (x, *weights, 1e-5)
    yield "convolution_backward", (grad, x, convolved, *weights, 1e-5)
    yield "convolution_step", (x, integers(1, 0), LENGTHS, floats(2, 2, 6), *weights, 1e-5)
    p, energy = transposed(2, 3, 5).sigmoid(), transposed(2, 3, 5)
    yield "monotonic_alignment", (p,)
    yield "monotonic_alignment_backward", (p, p, energy)
    yield "monotonic_attention_backward", (p, p, energy, energy, p, 2)
    yield "monotonic_attention", (p, energy, 2)
    yield "viterbi_ctc", (transposed(2, 5, 6), integers([1, 2], [3, 4]), integers(5, 5), integers(2, 1), 0, -1)
    yield "viterbi_monotonic", (transposed(2, 2, 5), integers(2, 1), integers(5, 4))


def transducer():
    frames, labels, targets = integers(3, 2), integers(2, 1), integers([1, 2], [3, 0])
    logits, label, blank, norm = transposed(2, 3, 3, 5), transposed(2, 2, 3), transposed(2, 3, 3), floats(2, 3, 3)
    yield "transducer_arcs", (logits, targets, None, frames, labels, 0)
    yield "transducer_arcs_backward", (label, blank, logits, norm, targets, None, frames, labels, 0)
    yield "transducer_lattice", (label, blank, frames, labels, 0.0)
    joiner = transposed(2, 3, 4), transposed(2, 3, 4), floats(4, 5).T, floats(5)
    yield "transducer_joint_arcs", (*joiner, targets, frames, labels, 0, "tanh", 2)
    yield "transducer_joint_arcs_backward", (label, blank, *joiner, norm, targets, frames, labels, 0, "tanh", 2)


CASES = [case for family in (attention, recurrence, others, transducer) for case in family()]


def on_meta(x):
    """What a shape function gets for ``x``."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") if isinstance(x, torch.Tensor) else x


def layout(results):
    results = (results,) if isinstance(results, torch.Tensor) else results
    return [(x.shape, x.dtype, x.stride() if x.numel() else None) for x in results]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(CASES)])
def test_results_are_laid_out_as_promised(name, arguments):
    operator = getattr(torch.ops.riverrun, name).default
    promised = layout(operator(*map(on_meta, arguments)))
    assert layout(operator(*arguments)) == promised


def test_no_operator_is_missing():
    defined = {name.removeprefix("riverrun::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("riverrun::")}
    assert {name for name, _ in CASES} == defined
