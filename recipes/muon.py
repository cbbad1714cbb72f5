"""Muon: momentum whose matrices are orthogonalised before they are applied, AdamW for everything else.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the step's size follows Liu et al. 2025, "Muon is scalable
for LLM training", so that one learning rate serves both kinds of parameters. Matrices of one shape are treated in one batched product:
a small network's step is bound by launches, not by arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: singular values end near 1 after five rounds
_ROUNDS = 5
_RMS = 0.2  # of AdamW's updates, which an orthogonal matrix is scaled to


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly, of (n, rows, columns), by Newton-Schulz iteration in bfloat16."""
    a, b, c = _QUINTIC
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x if wide else x.mT).to(matrices.dtype)


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter maps hidden vectors to hidden vectors: embeddings, output layers, biases, gains and filters do not."""
    return parameter.dim() == 2 and ".layers." in f".{name}"


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices, AdamW for the rest.

    Args:
        parameters: of the network, with their names.
        lr: AdamW's learning rate, which both follow.
        betas: AdamW's.
        momentum: Muon's (Nesterov).
        weight_decay: decoupled, for all.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ):
        named = [(name, p) for name, p in parameters if p.requires_grad]
        hidden = [p for name, p in named if is_hidden_matrix(name, p)]
        other = [p for name, p in named if not is_hidden_matrix(name, p)]
        groups = [{"params": hidden, "orthogonal": True}, {"params": other, "orthogonal": False}]
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "steps": 0}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["steps"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                (self._muon if group["orthogonal"] else self._adam)(parameters, group)
        return loss

    def _moments(self, parameters: list[Any], name: str) -> list[Tensor]:
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]

    def _muon(self, parameters: list[Any], group: dict[str, Any]) -> None:
        gradients, momentum = [p.grad for p in parameters], group["momentum"]
        moments = self._moments(parameters, "momentum")
        torch._foreach_lerp_(moments, gradients, 1 - momentum)
        updates = torch._foreach_lerp(gradients, moments, momentum)
        shapes: dict[torch.Size, list[int]] = defaultdict(list)
        for i, p in enumerate(parameters):
            shapes[p.shape].append(i)
        for shape, members in shapes.items():
            step = orthogonalise(torch.stack([updates[i] for i in members]))
            torch._foreach_add_([parameters[i] for i in members], list(step), alpha=-group["lr"] * _RMS * max(shape) ** 0.5)

    def _adam(self, parameters: list[Any], group: dict[str, Any]) -> None:
        gradients, (beta1, beta2), steps = [p.grad for p in parameters], group["betas"], group["steps"]
        first, second = self._moments(parameters, "first"), self._moments(parameters, "second")
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(second)
        torch._foreach_div_(scale, (1 - beta2**steps) ** 0.5)
        torch._foreach_add_(scale, 1e-8)
        torch._foreach_addcdiv_(parameters, first, scale, -group["lr"] / (1 - beta1**steps))
