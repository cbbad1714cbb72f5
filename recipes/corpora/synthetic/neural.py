"""What neural voices have in common: a network in the ONNX format, run on one thread of this process by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .engine import SynthesisError

_FULL_SCALE = 32767


def model_file(root: Path, engine: str, name: str) -> Path:
    """The file ``root``/``engine``/``name``: networks are no Debian packages, and each engine's lie in a folder of its own.

    Raises:
        SynthesisError: it is not there.
    """
    path = root / engine / name
    if not path.exists():
        raise SynthesisError(
            f"{root} has no {engine}/{name}, and {engine} needs it there: see recipes/corpora/README.md; or leave it out with --engines"
        )
    return path


def open_network(path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` on one thread, since each worker process has its own.

    Raises:
        SynthesisError: onnxruntime is not installed, or the file is no network that it can run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise SynthesisError("neural voices need onnxruntime: pip install 'riverrun[voices]', or leave them out with --engines") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common base
        raise SynthesisError(f"{path}: {' '.join(str(error).split())[:200]}") from None


def pcm(audio: np.ndarray) -> np.ndarray:
    """Float samples as int16; what exceeds full scale is clipped."""
    return np.clip(np.rint(audio.reshape(-1) * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE).astype(np.int16)
