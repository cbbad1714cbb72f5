"""Linear attention kernels: a program carries one head's state, or some columns of it, through all blocks of frames.

A whole sequence is one launch, and so is its backward, where the gradient of q is the forward function with its arguments exchanged, and
those of k and v share a state that is carried back in time. Every result is written by one program: repeats are equal bit for bit.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles import load_rows, product, store_rows
from .reference import wide

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def attend(
    a_ptr, b_ptr, c_ptr, state_ptr, after_ptr, out_ptr, a_frame, b_frame, c_frame, out_frame, d_stride, e_stride, part, length, T,
    log_decay, touches,
    HAS_STATE: tl.constexpr, HAS_AFTER: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    OUT_WIDTH: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``reference.linear_attention``, forward in time, for the ``part``-th COLUMNS columns of c; ``log_decay`` is in units of log 2.

    Element (d, e) of a state lies at d · d_stride + e · e_stride; states are read and written if ``touches``.
    """
    d = tl.arange(0, PADDED)
    e = part * COLUMNS + tl.arange(0, COLUMNS)
    at = d[:, None] * d_stride + e[None] * e_stride
    inside = (d < WIDTH)[:, None] & (e < OUT_WIDTH)[None] & touches
    state = tl.zeros([PADDED, COLUMNS], log_decay.dtype)
    if HAS_STATE:
        state = tl.load(state_ptr + at, mask=inside, other=0.0)
    r = tl.arange(0, BLOCK)
    age = r[:, None] - r[None]
    weight = tl.where(age >= 0, tl.exp2(log_decay * tl.maximum(age, 0)), 0.0)
    from_start = tl.exp2(log_decay * (r + 1))[:, None]
    blocks = tl.cdiv(length, BLOCK)
    for i in range(0, blocks):
        start = i * BLOCK
        count = tl.minimum(length - start, BLOCK)
        real = r < count
        t = (start + r).to(tl.int64)
        a = load_rows(a_ptr, t * a_frame, real, WIDTH, PADDED)
        b = load_rows(b_ptr, t * b_frame, real, WIDTH, PADDED)
        c = tl.load(c_ptr + (t * c_frame)[:, None] + e[None], mask=real[:, None] & (e < OUT_WIDTH)[None], other=0.0)
        to_end = tl.exp2(log_decay * tl.maximum(count - 1 - r, 0))[:, None]
        out = product(a, state.to(a.dtype)) * from_start
        out += product((product(a, tl.trans(b)) * weight).to(c.dtype), c)
        state = state * tl.exp2(log_decay * count) + product(tl.trans((b * to_end).to(b.dtype)), c)
        to = out_ptr + (t * out_frame)[:, None] + e[None]
        tl.store(to, out.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & (e < OUT_WIDTH)[None])
    for start in range(blocks * BLOCK, T, BLOCK):
        t = (start + r).to(tl.int64)
        to = out_ptr + (t * out_frame)[:, None] + e[None]
        tl.store(to, tl.zeros([BLOCK, COLUMNS], out_ptr.dtype.element_ty), mask=(t < T)[:, None] & (e < OUT_WIDTH)[None])
    if HAS_AFTER:
        tl.store(after_ptr + at, state, mask=inside)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, lengths_ptr, log_decay_ptr, slots_ptr, state_ptr, after_ptr, out_ptr,
    q_row, q_frame, k_row, k_frame, v_row, v_frame, T,
    HAS_STATE: tl.constexpr, HAS_SLOTS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, VALUES: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Output and state of COLUMNS values of one head; with slots, the state lies there and changes in place if there are frames."""
    part, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    length = tl.minimum(tl.load(lengths_ptr + row), T).to(tl.int32)
    log_decay = tl.load(log_decay_ptr + head).to(after_ptr.dtype.element_ty) * LOG2E
    slot = tl.load(slots_ptr + row).to(tl.int64) if HAS_SLOTS else row
    at = (slot * heads + head) * WIDTH * VALUES
    touches = (length > 0) if HAS_SLOTS else True
    attend(
        q_ptr + row * q_row + head * WIDTH, k_ptr + row * k_row + head * WIDTH, v_ptr + row * v_row + head * VALUES,
        state_ptr + at if HAS_STATE else None, after_ptr + at, out_ptr + (row * T * heads + head) * VALUES,
        q_frame, k_frame, v_frame, heads * VALUES, VALUES, 1, part, length, T, log_decay, touches,
        HAS_STATE, True, WIDTH, PADDED, VALUES, COLUMNS, BLOCK,
    )  # fmt: skip


@triton.jit
def keys_and_values_backward(
    grad_ptr, q_ptr, k_ptr, v_ptr, after_grad_ptr, dk_ptr, dv_ptr, dstate_ptr, grad_frame, q_frame, k_frame, v_frame, dk_frame, dv_frame,
    length, T, log_decay, WIDTH: tl.constexpr, PADDED: tl.constexpr, VALUES: tl.constexpr, PADDED_VALUES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of k, v and the state of one head: both carry Σ λ^… qᵀ grad back in time, and multiply it from either side."""
    d = tl.arange(0, PADDED)
    e = tl.arange(0, PADDED_VALUES)
    at = d[:, None] * VALUES + e[None]
    inside = (d < WIDTH)[:, None] & (e < VALUES)[None]
    state = tl.load(after_grad_ptr + at, mask=inside, other=0.0)
    r = tl.arange(0, BLOCK)
    age = r[None] - r[:, None]  # of a query, in a tile of (keys, queries)
    weight = tl.where(age >= 0, tl.exp2(log_decay * tl.maximum(age, 0)), 0.0)
    blocks = tl.cdiv(length, BLOCK)
    for i in range(0, blocks):
        start = (blocks - 1 - i) * BLOCK
        count = tl.minimum(length - start, BLOCK)
        real = r < count
        t = (start + r).to(tl.int64)
        q = load_rows(q_ptr, t * q_frame, real, WIDTH, PADDED)
        k = load_rows(k_ptr, t * k_frame, real, WIDTH, PADDED)
        v = load_rows(v_ptr, t * v_frame, real, VALUES, PADDED_VALUES)
        grad = load_rows(grad_ptr, t * grad_frame, real, VALUES, PADDED_VALUES)
        to_end = tl.exp2(log_decay * tl.maximum(count - 1 - r, 0))[:, None]
        carried = state.to(k.dtype)
        dk = product(v, tl.trans(carried)) * to_end
        dk += product((product(v, tl.trans(grad)) * weight).to(q.dtype), q)
        store_rows(dk_ptr, t * dk_frame, dk, t < T, WIDTH, PADDED)
        dv = product(k, carried) * to_end
        dv += product((product(k, tl.trans(q)) * weight).to(grad.dtype), grad)
        store_rows(dv_ptr, t * dv_frame, dv, t < T, VALUES, PADDED_VALUES)
        from_start = tl.exp2(log_decay * (r + 1))[:, None]
        state = state * tl.exp2(log_decay * count) + product(tl.trans((q * from_start).to(q.dtype)), grad)
    for start in range(blocks * BLOCK, T, BLOCK):
        t = (start + r).to(tl.int64)
        store_rows(dk_ptr, t * dk_frame, tl.zeros([BLOCK, PADDED], state.dtype), t < T, WIDTH, PADDED)
        store_rows(dv_ptr, t * dv_frame, tl.zeros([BLOCK, PADDED_VALUES], state.dtype), t < T, VALUES, PADDED_VALUES)
    tl.store(dstate_ptr + at, state, mask=inside)


@triton.jit
def backward_kernel(
    grad_ptr, after_grad_ptr, q_ptr, k_ptr, v_ptr, lengths_ptr, log_decay_ptr, state_ptr, dq_ptr, dk_ptr, dv_ptr, dstate_ptr,
    grad_row, grad_frame, q_row, q_frame, k_row, k_frame, v_row, v_frame, T,
    HAS_STATE: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, VALUES: tl.constexpr, PADDED_VALUES: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The first program of a head takes the gradients of k, v and state, which is the most; each of the others COLUMNS of q's."""
    part, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    length = tl.minimum(tl.load(lengths_ptr + row), T).to(tl.int32)
    log_decay = tl.load(log_decay_ptr + head).to(dstate_ptr.dtype.element_ty) * LOG2E
    grad_ptr += row * grad_row + head * VALUES
    q_ptr += row * q_row + head * WIDTH
    k_ptr += row * k_row + head * WIDTH
    v_ptr += row * v_row + head * VALUES
    at = (row * heads + head) * WIDTH * VALUES
    keys_at, values_at = (row * T * heads + head) * WIDTH, (row * T * heads + head) * VALUES
    if part == 0:
        keys_and_values_backward(
            grad_ptr, q_ptr, k_ptr, v_ptr, after_grad_ptr + at, dk_ptr + keys_at, dv_ptr + values_at, dstate_ptr + at,
            grad_frame, q_frame, k_frame, v_frame, heads * WIDTH, heads * VALUES, length, T, log_decay,
            WIDTH, PADDED, VALUES, PADDED_VALUES, BLOCK,
        )  # fmt: skip
    else:
        attend(
            grad_ptr, v_ptr, k_ptr, state_ptr + at if HAS_STATE else None, None, dq_ptr + keys_at,
            grad_frame, v_frame, k_frame, heads * WIDTH, 1, VALUES, part - 1, length, T, log_decay, True,
            HAS_STATE, False, VALUES, PADDED_VALUES, WIDTH, COLUMNS, BLOCK,
        )  # fmt: skip


#: Frames of a block, columns of a program, warps and pipeline stages: forward, backward and for steps, by bytes of an element and the wider
#: padded width. Forward half a state a program or less: more programs, for batches of speech that are smaller than the GPU. A step mostly
#: moves states: whole ones. Shapes that are not here take the reference.
BLOCKS = {
    (2, 16): ((64, 16, 4, 3), (64, 16, 4, 2), (16, 16, 4, 2)),
    (2, 32): ((64, 32, 4, 3), (64, 32, 4, 2), (16, 32, 4, 2)),
    (2, 64): ((64, 32, 4, 3), (64, 64, 4, 2), (16, 64, 4, 2)),
    (2, 128): ((64, 32, 8, 2), (16, 64, 8, 1), (16, 64, 8, 2)),
    (4, 16): ((16, 16, 4, 2), (16, 16, 4, 2), (16, 16, 4, 2)),
    (4, 32): ((16, 32, 4, 2), (16, 32, 4, 2), (16, 32, 4, 2)),
    (4, 64): ((16, 32, 4, 2), (16, 32, 8, 1), (16, 32, 4, 2)),
    (8, 16): ((16, 16, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 32): ((16, 16, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
}

FORWARD, BACKWARD, STEP = range(3)


def _padded(*widths: int) -> int:
    return max(triton.next_power_of_2(max(widths)), 16)


def supports(itemsize: int, width: int, values: int) -> bool:
    """Whether the kernels take keys and values of these widths."""
    return (itemsize, _padded(width, values)) in BLOCKS


def launch(itemsize: int, width: int, values: int, frames: int, what: int = FORWARD) -> dict[str, int]:
    """Block sizes for keys and values of these widths, in inputs of ``frames`` frames; ``what`` is FORWARD, BACKWARD or STEP."""
    block, columns, warps, stages = BLOCKS[itemsize, _padded(width, values)][what]
    block = min(block, max(triton.next_power_of_2(frames), 16))
    sizes = {"WIDTH": width, "PADDED": _padded(width), "VALUES": values, "PADDED_VALUES": _padded(values)}
    return sizes | {"COLUMNS": columns, "BLOCK": block, "num_warps": warps, "num_stages": stages}


def _frames(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:2]]


def _forward(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, slots: Tensor | None, state: Tensor | None, after: Tensor
) -> Tensor:
    batch, frames, heads, width = q.shape
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    tile = launch(q.element_size(), width, v.shape[3], frames, FORWARD if slots is None else STEP)
    del tile["PADDED_VALUES"]
    forward_kernel[triton.cdiv(v.shape[3], tile["COLUMNS"]), heads, batch](
        q, k, v, lengths, log_decay, slots, state, after, out, *_frames(q, k, v), frames,
        HAS_STATE=state is not None, HAS_SLOTS=slots is not None, **tile,
    )  # fmt: skip
    return out


def linear_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """See ``reference.linear_attention``, forward in time; heads lie side by side in q, k and v, and no tensor is empty."""
    after = torch.empty((len(q), *q.shape[2:], v.shape[3]), dtype=wide(q.dtype), device=q.device)
    return _forward(q, k, v, lengths, log_decay, None, state, after), after


def linear_attention_step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
    """See ``reference.linear_attention_step``; ``state`` is contiguous."""
    return _forward(q, k, v, lengths, log_decay, slots, state, state)


def linear_attention_backward(
    grad: Tensor, state_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.linear_attention_backward``; heads lie side by side in grad, q, k and v."""
    batch, frames, heads, width = q.shape
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dstate = torch.empty_like(state_grad)
    tile = launch(q.element_size(), width, v.shape[3], frames, BACKWARD)
    backward_kernel[1 + triton.cdiv(width, tile["COLUMNS"]), heads, batch](
        grad, state_grad, q, k, v, lengths, log_decay, state, dq, dk, dv, dstate, *_frames(grad, q, k, v), frames,
        HAS_STATE=state is not None, **tile,
    )  # fmt: skip
    return dq, dk, dv, dstate
