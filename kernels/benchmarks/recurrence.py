"""Recurrent attention cases: lightning attention, whole and in steps, RAT's scan, Mega's moving averages."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..recurrence import damped_ema, gated_scan, lightning_attention, lightning_decays, lightning_step, reference, triton_scan
from ..recurrence import triton as kernels
from .case import Case, Tuning, upstream, with_gradients

B, T, H, D = 32, 1500, 8, 64
SLOTS, FRAMES = 1024, 8
LAYER, LAYERS = 1, 12
CHUNK, N = 16, 16


def _random(seed: int) -> torch.Generator:
    return torch.Generator("cuda").manual_seed(seed)


def _qkv(generator: torch.Generator, *shape: int) -> list[Tensor]:
    q, k, v = (torch.randn(shape, device="cuda", generator=generator) for _ in range(3))
    return [x.bfloat16() for x in (q * shape[-1] ** -0.5, k, v)]


@cache
def _decays() -> Tensor:
    """On the GPU beforehand: a copy from the host, in every run, would wait for it."""
    return lightning_decays(H, LAYER, LAYERS).cuda()


def _full(rows: int, frames: int) -> Tensor:
    return torch.full((rows,), frames, device="cuda")


def _attention_inputs(seed: int) -> tuple[Any, ...]:
    return *_qkv(_random(seed), B, T, H, D), _full(B, T)


def _attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda q, k, v: lightning_attention(q, k, v, lengths, _decays())[0], q, k, v)


def _attention_definition(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    decays = _decays().double()
    out, state = reference.linear_attention(q, k, v, lengths, decays, None)
    grad = upstream(out.shape, out.dtype)
    return out, *reference.linear_attention_backward(grad, torch.zeros_like(state), q, k, v, lengths, decays, None)[:3]


def _fla(q: Tensor, k: Tensor, v: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    from fla.ops.lightning_attn import chunk_lightning_attn

    return with_gradients(lambda *x: chunk_lightning_attn(*x, layer_idx=LAYER, num_layers=LAYERS, scale=1.0)[0], q, k, v)


def _step_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    state = torch.randn(SLOTS, H, D, D, device="cuda", generator=generator)
    slots = torch.randperm(SLOTS, device="cuda", generator=generator)
    return *_qkv(generator, SLOTS, FRAMES, H, D), slots, _full(SLOTS, FRAMES), state, state.clone()


def _step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, state: Tensor, _: Tensor) -> Tensor:
    return lightning_step(q, k, v, slots, lengths, _decays(), state)


def _step_definition(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, _: Tensor, untouched: Tensor) -> Tensor:
    state = untouched.clone()  # the definition, too, changes it, and is run more than once
    return reference.linear_attention_step(q, k, v, slots, lengths, _decays().double(), state)


def _fla_step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, _: Tensor, state: Tensor, __: Tensor) -> Tensor:
    """With the gather and scatter of states that a batch of live streams needs."""
    from fla.ops.lightning_attn import fused_recurrent_lightning_attn

    out, after = fused_recurrent_lightning_attn(
        q, k, v, layer_idx=LAYER, num_layers=LAYERS, scale=1.0, initial_state=state[slots], output_final_state=True
    )
    state[slots] = after
    return out


def _scan_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    x, gate = (torch.randn(B, T, 2 * H * D, device="cuda", generator=generator) for _ in range(2))
    return x.bfloat16(), gate.sigmoid().bfloat16(), _full(B, T)


def _scan(x: Tensor, gate: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda x, gate: gated_scan(x, gate, lengths, CHUNK)[0], x, gate)


def _scan_definition(x: Tensor, gate: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    y = reference.scan(x, gate, lengths, None, None, CHUNK)
    return y, *reference.scan_backward(upstream(y.shape, y.dtype), gate, y, lengths, None, None, CHUNK)[:2]


def _scan_torch(x: Tensor, gate: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    """Doubling steps over all chunks at once, under autograd."""

    def padded(z: Tensor) -> Tensor:
        return torch.nn.functional.pad(z.float(), (0, 0, 0, -T % CHUNK)).unflatten(1, (-1, CHUNK)).flatten(0, 1)

    def scan(x: Tensor, gate: Tensor) -> Tensor:
        return reference.recurrence(padded(gate), padded(x)).unflatten(0, (B, -1)).flatten(1, 2)[:, :T].to(x.dtype)

    return with_gradients(scan, x, gate)


def _ema_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    u = torch.randn(B, T, H * D, device="cuda", generator=generator)
    decay, weight = (torch.randn(H * D, N, device="cuda", generator=generator) for _ in range(2))
    return u, decay.sigmoid(), weight / N, _full(B, T)


def _ema(u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda u, decay, weight: damped_ema(u, decay, weight, lengths)[0], u, decay, weight)


def _ema_fourier(u: Tensor, decay: Tensor, weight: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    """As a convolution, the usual way to train it."""

    def convolve(u: Tensor, decay: Tensor, weight: Tensor) -> Tensor:
        time = torch.arange(T, device=u.device, dtype=u.dtype)
        response = torch.einsum("dn,dnt->td", weight, (decay.log()[..., None] * time).exp())
        spectrum = torch.fft.rfft(u, 2 * T, dim=1) * torch.fft.rfft(response, 2 * T, dim=0)
        return torch.fft.irfft(spectrum, 2 * T, dim=1)[:, :T]

    return with_gradients(convolve, u, decay, weight)


CASES = [
    Case(
        "recurrence", "lightning_attention, gradient", f"B{B} T{T} H{H} D{D} bf16", _attention_inputs, _attention_definition, _attention,
        lambda q, *_: 11 * q.nbytes, {"flash-linear-attention": _fla}, tolerance=2e-2,
    ),
    Case(
        "recurrence", "lightning_step", f"S{SLOTS} C{FRAMES} H{H} D{D} bf16", _step_inputs, _step_definition, _step,
        lambda q, k, v, slots, lengths, state, _: 4 * q.nbytes + 2 * state.nbytes,
        {"flash-linear-attention": _fla_step}, tolerance=2e-2, deterministic=False,
    ),
    Case(
        "recurrence", f"gated_scan in chunks of {CHUNK}, gradient", f"B{B} T{T} D{2 * H * D} bf16", _scan_inputs, _scan_definition, _scan,
        lambda x, *_: 8 * x.nbytes, {"torch, doubling": _scan_torch}, tolerance=2e-2,
    ),
    Case(
        "recurrence", "damped_ema, gradient", f"B{B} T{T} D{H * D} N{N}", _ema_inputs, _ema_fourier, _ema,
        lambda u, *_: 5 * u.nbytes, {"torch, Fourier transform": _ema_fourier},
    ),
]  # fmt: skip

FORWARDS = ((64, 64, 4, 2), (32, 32, 4, 3), (64, 32, 4, 2), (64, 16, 4, 3), (128, 32, 8, 2), (32, 64, 4, 3))
BACKWARDS = ((64, 32, 4, 2), (64, 64, 4, 1), (32, 64, 4, 2), (32, 32, 4, 3), (64, 64, 8, 2), (64, 32, 8, 2))
STEPS = ((16, 64, 2, 2), (16, 64, 8, 2), (16, 32, 2, 2), (16, 32, 4, 2), (16, 64, 4, 1))
SHIPPED = kernels.BLOCKS[2, D]
TUNINGS = [
    Tuning("lightning_attention", CASES[0], kernels.BLOCKS, (2, D), tuple((x, *SHIPPED[1:]) for x in FORWARDS)),
    Tuning("lightning_attention, backward", CASES[0], kernels.BLOCKS, (2, D), tuple((SHIPPED[0], x, SHIPPED[2]) for x in BACKWARDS)),
    Tuning("lightning_step", CASES[1], kernels.BLOCKS, (2, D), tuple((*SHIPPED[:2], x) for x in STEPS)),
    Tuning(
        "gated_scan", CASES[2], triton_scan.SIZES, "scan", ((32, 64, 4), (16, 64, 4), (16, 128, 4), (32, 32, 2), (32, 128, 4), (64, 64, 4))
    ),
    Tuning("damped_ema", CASES[3], triton_scan.SIZES, "ema", ((16, 128, 4), (64, 128, 4), (32, 64, 2), (32, 256, 8), (16, 256, 8))),
    Tuning("damped_ema, backward", CASES[3], triton_scan.SIZES, "ema_backward", ((8, 128, 4), (32, 128, 4), (16, 64, 2), (16, 256, 8))),
]
