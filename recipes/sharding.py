"""Networks whose encoder is spread over several devices (FSDP2), and what treats the pieces alike.

Zhao et al. 2023, "PyTorch FSDP: experiences on scaling fully sharded data parallel". The encoder's layers, where nearly all
parameters are, lie in pieces and are gathered one layer at a time; heads are small, and whole on every device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def shard(encoder: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Spread an encoder, layer by layer, over the devices of ``mesh``."""
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(encoder, mesh=mesh)


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether any of them lies in pieces."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This device's piece of each; whole tensors are their own."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary of whole tensors. All ranks must call it together."""
    return {name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for name, tensor in state.items()}


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of whole parameters over all ranks; those of pieces are averaged already."""
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def clip(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that the norm of all of them, pieces on other devices included, is at most ``limit``; return it as it was."""
    if not is_sharded(parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, limit)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    pieces, others = (local(g for g in gradients if isinstance(g, DTensor) == kind) for kind in (True, False))
    squared = torch.nn.utils.get_total_norm(pieces).square()
    dist.all_reduce(squared)
    norm = (squared + torch.nn.utils.get_total_norm(others).square()).sqrt()
    torch._foreach_mul_([*pieces, *others], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


__all__ = ["clip", "is_sharded", "local", "shard", "share_gradients", "whole"]
