"""How a bundle stores its weights: in half precision, or as bytes with a scale for each row.

Row-wise symmetric quantisation (as in Jacob et al., CVPR 2018, without zero points): a matrix row r is kept as
``round(r / s)`` in -127…127 with ``s = max|r| / 127``, so that no weight moves by more than s / 2. The network computes in float32
either way: only the file is small.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FORMATS = ("float16", "int8")
_SCALE = ":scale"
_STEPS = 127


def pack(weights: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Tensors to write.

    "int8" makes bytes of everything with two or more dimensions, with a float32 ``NAME:scale`` (rows,) beside it; whatever else there
    is becomes float16, and under "float16" all does.

    Raises:
        ValueError: unknown storage, or weights that it cannot hold (NaN, infinite, beyond float16).
    """
    if storage not in FORMATS:
        raise ValueError(f"unknown storage {storage!r} of weights: choose {' or '.join(FORMATS)}")
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        weight = weight.detach().float().cpu()
        if storage == "int8" and weight.dim() >= 2:
            rows = weight.flatten(1)
            scale = rows.abs().amax(1) / _STEPS if rows.shape[1] else rows.new_zeros(len(rows))
            levels = (rows / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
            packed[name], packed[name + _SCALE] = levels.to(torch.int8).reshape(weight.shape).contiguous(), scale
        else:
            packed[name] = weight.half().contiguous()
        if not all(torch.isfinite(packed[key]).all() for key in (name, name + _SCALE) if key in packed):
            raise ValueError(f"{name} holds weights that {storage} cannot: NaN, infinite or too large")
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, whichever way each was stored.

    Raises:
        ValueError: bytes without a scale for each of their rows, or a scale without bytes.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(_SCALE):
            if name.removesuffix(_SCALE) not in packed:
                raise ValueError(f"{name} scales nothing")
        elif tensor.dtype == torch.int8:
            scale = packed.get(name + _SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name} is stored as bytes without a scale for each row")
            weights[name] = tensor.float() * scale.float().reshape(-1, *[1] * (tensor.dim() - 1))
        else:
            weights[name] = tensor.float()
    return weights


__all__ = ["FORMATS", "pack", "unpack"]
