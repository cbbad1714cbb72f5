"""The transducer lattice in plain torch: the definition that the kernels are held to.

A node (u, t) of an utterance with U labels and T frames means "u labels written, frame t being read". From it a
label arc leads to (u + 1, t) and a blank arc to (u, t + 1); every path starts in (0, 0) and ends with the blank arc
of (U, T − 1) (Graves, "Sequence Transduction with Recurrent Neural Networks", 2012).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def arcs(
    logits: Tensor, targets: Tensor, first: Tensor | None, frames: Tensor, labels: Tensor, blank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the joiner's output and pick the arcs of the lattice.

    Args:
        logits: (B, T, R, V): row r of frame t belongs to node (first[b, t] + r, t).
        targets: (B, U) integers; what lies beyond ``labels`` is ignored.
        first: (B, T), the first label position of each frame, or None for all 0.
        frames: (B,) number of frames; not positive: no node.
        labels: (B,) number of labels.
        blank: index of blank in V.

    Returns:
        label (B, U, T) and blank (B, U + 1, T) log-probabilities, −inf where there is no arc, and the log-normaliser
        (B, T, R), 0 where there is no node. Float32, or float64 for float64 logits.
    """
    logits = _wide(logits)
    valid, row, label = _nodes(logits, targets, first, frames, labels)
    norm = torch.where(valid, logits.logsumexp(-1), 0)
    impossible = norm.new_tensor(float("-inf"))
    label_score = torch.where(valid & (row < labels[:, None, None]), logits.gather(-1, label[..., None])[..., 0] - norm, impossible)
    blank_score = torch.where(valid, logits[..., blank] - norm, impossible)
    height = targets.shape[1] + 2  # the last row collects what is no node
    place = torch.where(valid, row, height - 1)
    grid = logits.new_full((2, *logits.shape[:2], height), float("-inf"))
    label_grid, blank_grid = (g.scatter(2, place, s).transpose(1, 2) for g, s in zip(grid, (label_score, blank_score), strict=True))
    return label_grid[:, :-2].contiguous(), blank_grid[:, :-1].contiguous(), norm


def arcs_backward(
    label_grad: Tensor,
    blank_grad: Tensor,
    logits: Tensor,
    norm: Tensor,
    targets: Tensor,
    first: Tensor | None,
    frames: Tensor,
    labels: Tensor,
    blank: int,
) -> Tensor:
    """Gradient (B, T, R, V) of the logits, in their dtype, from those of the arcs (B, U, T) and (B, U + 1, T)."""
    wide = _wide(logits)
    valid, row, label = _nodes(logits, targets, first, frames, labels)
    none = label_grad.new_zeros(len(targets), 1, logits.shape[1])
    label_grid = torch.cat([label_grad, none, none], 1).transpose(1, 2)
    blank_grid = torch.cat([blank_grad, none], 1).transpose(1, 2)
    place = torch.where(valid, row, targets.shape[1] + 1)
    to_label = torch.where(row < labels[:, None, None], label_grid.gather(2, place), 0)
    to_blank = blank_grid.gather(2, place)
    probability = torch.where(valid[..., None], (wide - norm[..., None]).exp(), 0)
    gradient = -probability * (to_label + to_blank)[..., None]
    gradient.scatter_add_(-1, label[..., None], to_label[..., None])
    gradient[..., blank] += to_blank
    return gradient.to(logits.dtype)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _nodes(logits: Tensor, targets: Tensor, first: Tensor | None, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of ``logits``: whether it is a node, its label position, and the index in V of its label."""
    batch, time, rows, _ = logits.shape
    row = torch.arange(rows, device=logits.device).expand(batch, time, rows)
    if first is not None:
        row = row + first[..., None]
    valid = (torch.arange(time, device=logits.device)[None, :, None] < frames[:, None, None]) & (row <= labels[:, None, None])
    known = torch.cat([targets, targets.new_zeros(batch, 1)], 1).long()
    place = torch.where(valid & (row < labels[:, None, None]), row, targets.shape[1])
    label = torch.where(place < targets.shape[1], known.gather(1, place.flatten(1)).view_as(place), 0)
    return valid, row, label


def join(encoder: Tensor, predictor: Tensor, activation: str) -> Tensor:
    """activation(encoder (B, T, J) + predictor (B, R, J)), every frame with every label position: (B, T, R, J)."""
    joined = encoder[:, :, None] + predictor[:, None]
    return joined.tanh_() if activation == "tanh" else joined.relu_()


def join_backward(grad: Tensor, hidden: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Gradients of encoder (B, T, J) and, at least float32, predictor (B, R, J) from that of ``join``'s result ``hidden``."""
    grad = grad * (1 - hidden.square() if activation == "tanh" else (hidden > 0).to(hidden.dtype))
    return grad.sum(2), grad.sum(1, dtype=torch.promote_types(grad.dtype, torch.float32))


def lattice(label: Tensor, blank: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over all paths, and how often each arc is taken.

    α[u, t] = logadd(α[u, t − 1] + blank[u, t − 1], α[u − 1, t] + label[u − 1, t]), and β likewise from the end, one
    anti-diagonal u + t after another.

    Args:
        label: (B, U, T) log-probabilities of label arcs.
        blank: (B, U + 1, T) log-probabilities of blank arcs.
        frames: (B,) number of frames.
        labels: (B,) number of labels.

    Returns:
        log-probability of the label sequence (B,), −inf where no path exists; expected counts of the label arcs
        (B, U, T) and of the blank arcs (B, U + 1, T), which are its gradient: 0 outside the lattice and where no path exists.
    """
    batch, height, time = blank.shape
    impossible = blank.new_full((), float("-inf"))
    row, diagonal = torch.arange(height, device=blank.device), torch.arange(height + time, device=blank.device)[:, None]
    end = (diagonal == (frames + labels)[:, None, None]) & (row == labels[:, None, None])  # where the last blank arc leads

    frame = diagonal - row
    on = (frame >= 0) & (frame < frames[:, None, None]) & (row <= labels[:, None, None])
    place = row, frame.clamp(0, max(time - 1, 0))
    if time == 0:
        label, blank = (x.new_full((batch, x.shape[1], 1), float("-inf")) for x in (label, blank))
    label = torch.where(on & (row < labels[:, None, None]), torch.cat([label, blank[:, :1]], 1)[:, *place], impossible)
    blank = torch.where(on, blank[:, *place], impossible)  # both (B, U + T + 1, U + 1): diagonal, row

    alpha, beta = [torch.where(row == 0, 0, impossible).expand(batch, height)], [torch.where(end[:, -1], 0, impossible)]
    for d in range(height + time - 1):
        from_label = F.pad((alpha[-1] + label[:, d])[:, :-1], (1, 0), value=float("-inf"))
        alpha.append(torch.logaddexp(alpha[-1] + blank[:, d], from_label))
    for d in reversed(range(height + time - 1)):
        after_label = F.pad(beta[-1][:, 1:], (0, 1), value=float("-inf"))
        beta.append(torch.where(end[:, d], 0, torch.logaddexp(beta[-1] + blank[:, d], after_label + label[:, d])))

    before, after = torch.stack(alpha, 1), torch.stack(beta[::-1], 1)
    total = torch.where(end, before, 0).sum((1, 2))
    reachable = torch.where(total == impossible, 0, total)[:, None, None]
    next_after = F.pad(after[:, 1:], (0, 1, 0, 1), value=float("-inf"))
    label_count = (before + label + next_after[..., 1:] - reachable).exp()
    blank_count = (before + blank + next_after[..., :-1] - reachable).exp()
    here = row[:, None] + torch.arange(time, device=blank.device), row[:, None]
    return total, label_count[:, *here][:, :-1].contiguous(), blank_count[:, *here].contiguous()
