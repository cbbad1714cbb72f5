"""Weights of a learned spectral norm: training that does not fall into attention of zero entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_KEY = ".parametrizations."


class SigmaReparam(nn.Module):
    """W becomes γ·W / σ(W), with σ its spectral norm and γ learned.

    Zhai et al. 2023, "Stabilizing Transformer training by preventing attention entropy collapse". σ = uᵀWv comes from one step of power
    iteration in each training pass.

    Args:
        weight: (outputs, inputs).
        keep: let γ begin as σ, so that nothing changes at first, rather than as 1.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, keep: bool = False):
        super().__init__()
        with torch.no_grad():
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
        self.register_buffer("u", u[:, 0].clone())
        self.register_buffer("v", v[0].clone())
        self.gamma = nn.Parameter(s[0].clone() if keep else torch.ones(()))

    def forward(self, weight: Tensor) -> Tensor:
        u, v = self.u, self.v
        with torch.autocast(weight.device.type, enabled=False):  # half precision would spoil the norm
            if self.training:
                with torch.no_grad():
                    v = nn.functional.normalize(weight.T @ u, dim=0)
                    u = nn.functional.normalize(weight @ v, dim=0)
                    self.u.copy_(u)
                    self.v.copy_(v)
            return weight * (self.gamma / torch.dot(u, weight @ v))


def reparametrise(module: nn.Module, keep: bool = False) -> None:
    """Put all linear layers of ``module`` under `SigmaReparam`; ``keep`` what they compute, for weights that were trained before."""
    for part in [part for part in module.modules() if isinstance(part, nn.Linear)]:
        parametrize.register_parametrization(part, "weight", SigmaReparam(part.weight, keep))


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary with weights as they act, under the names that they had before `reparametrise`; others are as they were."""
    found = {}
    for name, tensor in state.items():
        if _KEY not in name:
            found[name] = tensor
        elif name.endswith(".original"):
            stem, weight = name.removesuffix(".original"), tensor.double()
            u, v, gamma = (state[f"{stem}.0.{part}"].double() for part in ("u", "v", "gamma"))
            found[stem.replace(_KEY, ".")] = (weight * (gamma / torch.dot(u, weight @ v))).to(tensor.dtype)
    return found
