"""Where kernels are checked: on the GPU where there is one, else in Triton's interpreter."""

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

#: The interpreter gets bfloat16 wrong without saying so.
DTYPES = [torch.float32, torch.float64, torch.float16] + [torch.bfloat16] * torch.cuda.is_available()


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """What a kernel may differ from its definition by."""
    limit = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    return {"rtol": limit, "atol": limit}
