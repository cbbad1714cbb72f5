"""Pictures of what a model heard, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from riverrun.speech.search.base import Label
from riverrun.speech.tokenizer import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAMES_PER_LABEL = 4  # feature frames of an encoder frame


def alignment(features: Tensor, labels: Sequence[Label], tokenizer: Tokenizer, title: str, pool: int = 1) -> Figure:
    """Features (T, bins) as an image, and each label at the frame that emitted it, darker the surer the model was.

    ``pool`` encoder frames are one where the encoder is still growing.
    """
    from matplotlib.figure import Figure

    seconds = len(features) / 100
    figure = Figure(figsize=(min(4 + 2 * seconds, 40), 3), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(features.float().cpu().T.numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, features.shape[1]), cmap="Greys")
    for label in labels:
        at = (label.frame + 0.5) * pool * _FRAMES_PER_LABEL / 100
        axes.axvline(at, color="tab:red", alpha=float(np.clip(np.exp(label.score), 0.1, 1)), linewidth=0.8)
        axes.text(at, features.shape[1] + 1, tokenizer.piece(label.id), rotation=90, fontsize=7, ha="center", va="bottom")
    axes.set_xlabel("s")
    axes.set_ylabel("mel bin")
    figure.suptitle(title, fontsize=8)
    return figure
