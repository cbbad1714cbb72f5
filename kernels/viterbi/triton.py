"""Viterbi kernels: one program an utterance runs over the frames with its states side by side; a second walks back.

Back-pointers of successive frames are packed into 32-bit words: half a byte a label and frame for CTC, a bit for alignment search.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def ctc_kernel(
    log_probs_ptr, targets_ptr, frames_ptr, labels_ptr, words_ptr, score_ptr, end_ptr,
    T, L, V, blank, star, WORDS, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Scores forward; ``end`` is 1 where the best path ends in the last label. State l: label l, and the blank before it."""
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(frames_ptr + b).to(tl.int32)
    labels = tl.load(labels_ptr + b).to(tl.int32)
    log_probs_ptr += b * T * V
    words_ptr += b * WORDS * (L + 1)
    place = tl.arange(0, BLOCK)
    dtype = score_ptr.dtype.element_ty
    none = tl.full([BLOCK], float("-inf"), dtype)
    label = tl.load(targets_ptr + b * L + place, mask=place < labels, other=-1)
    previous = tl.load(targets_ptr + b * L + place - 1, mask=(place > 0) & (place < labels), other=-1)
    skips = (place > 0) & (place < labels) & (label != previous)
    reads = (place < labels) & (label != star)
    free = tl.where((place < labels) & (label == star), 0.0, none)
    in_blank = tl.where(place == 0, 0.0, none)
    in_label = none
    word = tl.zeros([BLOCK], tl.int32)
    for t in tl.range(0, frames, num_stages=STAGES):
        emission = tl.where(reads, tl.load(log_probs_ptr + t * V + label, mask=reads, other=0.0).to(dtype), free)
        blank_emission = tl.load(log_probs_ptr + t * V + blank).to(dtype)
        before = tl.gather(in_label, tl.maximum(place - 1, 0), 0)
        before = tl.where(place == 0, none, before)
        skip = tl.where(skips, before, none)
        own = tl.maximum(in_label, in_blank)
        step = tl.where(skip > own, 2, (in_blank > in_label).to(tl.int32)) + 4 * (before > in_blank).to(tl.int32)
        in_label = tl.maximum(own, skip) + emission
        in_blank = tl.maximum(in_blank, before) + blank_emission
        word = word | (step << (4 * (t % 8)))
        if t % 8 == 7 or t == frames - 1:
            tl.store(words_ptr + (t // 8) * (L + 1) + place, word, mask=place <= labels)
            word = tl.zeros([BLOCK], tl.int32)
    label_end = tl.max(tl.where(place == labels - 1, in_label, none), 0)
    blank_end = tl.max(tl.where(place == labels, in_blank, none), 0)
    tl.store(score_ptr + b, tl.maximum(label_end, blank_end))
    tl.store(end_ptr + b, ((label_end >= blank_end) & (labels > 0)).to(tl.int32))


@triton.jit
def ctc_walk_kernel(words_ptr, end_ptr, frames_ptr, labels_ptr, path_ptr, T, L, WORDS):
    """Follow the back-pointers of one utterance from its end."""
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(frames_ptr + b).to(tl.int32)
    is_label = tl.load(end_ptr + b)
    at = tl.load(labels_ptr + b).to(tl.int32) - is_label
    words_ptr += b * WORDS * (L + 1)
    for back in range(frames):
        t = frames - 1 - back
        tl.store(path_ptr + b * T + t, tl.where(is_label != 0, at, -1).to(tl.int64))
        step = tl.load(words_ptr + (t // 8) * (L + 1) + at) >> (4 * (t % 8))
        to_label = step & 3
        to_blank = (step >> 2) & 1
        at -= tl.where(is_label != 0, (to_label == 2).to(tl.int32), to_blank)
        is_label = tl.where(is_label != 0, (to_label != 1).to(tl.int32), to_blank)


@triton.jit
def monotonic_kernel(
    scores_ptr, labels_ptr, frames_ptr, words_ptr, N, T, WORDS, stride_b, stride_n, stride_t, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    """Scores forward; bit t of a label's words: whether its best path came from the label before it."""
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(frames_ptr + b).to(tl.int32)
    labels = tl.load(labels_ptr + b).to(tl.int32)
    words_ptr += b * WORDS * N
    place = tl.arange(0, BLOCK)
    dtype = tl.float64 if scores_ptr.dtype.element_ty == tl.float64 else tl.float32
    none = tl.full([BLOCK], float("-inf"), dtype)
    at = scores_ptr + b * stride_b + place.to(tl.int64) * stride_n
    best = none
    word = tl.zeros([BLOCK], tl.int32)
    for t in tl.range(0, frames, num_stages=STAGES):
        score = tl.load(at, mask=place < labels, other=float("-inf")).to(dtype)
        at += stride_t
        before = tl.gather(best, tl.maximum(place - 1, 0), 0)
        before = tl.where(place == 0, tl.where(t == 0, 0.0, none), before)
        word = word | ((before > best).to(tl.int32) << (t % 32))
        best = tl.maximum(best, before) + score
        if t % 32 == 31 or t == frames - 1:
            tl.store(words_ptr + (t // 32) * N + place, word, mask=place < labels)
            word = tl.zeros([BLOCK], tl.int32)


@triton.jit
def monotonic_walk_kernel(words_ptr, labels_ptr, frames_ptr, durations_ptr, N, WORDS):
    """Follow the bits of one utterance from its end, noting how long each label lasted."""
    b = tl.program_id(0).to(tl.int64)
    end = tl.load(frames_ptr + b).to(tl.int32)
    at = tl.load(labels_ptr + b).to(tl.int32) - 1
    words_ptr += b * WORDS * N
    durations_ptr += b * N
    frames = tl.where(at < 0, 0, end)
    for back in range(frames):
        t = frames - 1 - back
        moved = (tl.load(words_ptr + (t // 32) * N + at, mask=at >= 0, other=0) >> (t % 32)) & 1
        tl.store(durations_ptr + at, (end - t).to(tl.int64), mask=moved != 0)
        end = tl.where(moved != 0, t, end)
        at -= moved


#: Longer label sequences take the reference: a program holds all states of a frame.
MAX_LABELS = 4095


def _launch(labels: int) -> dict[str, int]:
    """Scores of the next frames are in flight while one is worked on, as far as shared memory has room."""
    block = triton.next_power_of_2(labels + 1)
    return {"BLOCK": block, "STAGES": 8 if block <= 1024 else 1, "num_warps": min(max(block // 64, 1), 16)}


def ctc(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int, star: int) -> tuple[Tensor, Tensor]:
    """See ``reference.ctc``; contiguous, at most MAX_LABELS labels."""
    B, T, V = log_probs.shape
    L = targets.shape[1]
    words = triton.cdiv(T, 8)
    dtype = torch.float64 if log_probs.dtype == torch.float64 else torch.float32
    path = torch.full((B, T), -1, device=log_probs.device)
    score = log_probs.new_empty(B, dtype=dtype)
    end = torch.empty(B, dtype=torch.int32, device=log_probs.device)
    steps = torch.empty(B, words, L + 1, dtype=torch.int32, device=log_probs.device)
    if B:
        ctc_kernel[(B,)](log_probs, targets, frames, labels, steps, score, end, T, L, V, blank, star, words, **_launch(L))
        ctc_walk_kernel[(B,)](steps, end, frames, labels, path, T, L, words, num_warps=1)
    return path, score


def monotonic(scores: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    """See ``reference.monotonic``; any strides, at most MAX_LABELS labels."""
    B, N, T = scores.shape
    words = triton.cdiv(T, 32)
    durations = torch.zeros(B, N, dtype=torch.long, device=scores.device)
    steps = torch.empty(B, words, N, dtype=torch.int32, device=scores.device)
    if durations.numel():
        monotonic_kernel[(B,)](scores, labels, frames, steps, N, T, words, *scores.stride(), **_launch(N))
        monotonic_walk_kernel[(B,)](steps, labels, frames, durations, N, words, num_warps=1)
    return durations
