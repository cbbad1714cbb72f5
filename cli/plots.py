"""Pictures, by matplotlib, which is an extra."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from .trace import Written

SUFFIXES = (".png", ".svg", ".pdf")
_LABELLED = 150  #: tokens that are still written beside their rows
_DPI = 150
#: Colours that people with any colour vision tell apart (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def check_plot(path: Path | None) -> None:
    """See that a picture can be drawn into ``path``, before anything is computed.

    Raises:
        UsageError: matplotlib is missing, or the suffix names no picture.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: the suffix names no picture; choose from {', '.join(SUFFIXES)}")
    _matplotlib()


def alignment(path: Path, written: Sequence[Written], frame_ms: float, title: str) -> None:
    """A heat map of target tokens (downwards) over source time, with a point where each token was written.

    Rows are scaled to their own maxima; what a model did not hold any more, or not yet, is white.

    Args:
        path: where it goes.
        written: one or more.
        frame_ms: source time of a column of attention.
        title: above it.

    Raises:
        UsageError: the file cannot be written.
    """
    import numpy as np

    seconds = written[-1].at_ms / 1000
    frames = max(max(w.first_frame + len(w.attention) for w in written), 1)
    heat = np.full((len(written), frames), np.nan, np.float32)
    for i, token in enumerate(written):
        row = token.attention.astype(np.float32)
        if row.size:
            row = row - min(float(row.min()), 0.0)
            heat[i, token.first_frame : token.first_frame + row.size] = row / max(float(row.max()), 1e-9)
    picture, axes = figure(min(max(seconds * 0.7, 6), 40), min(max(len(written) * 0.2, 3), 60))
    extent = (0, frames * frame_ms / 1000, len(written) - 0.5, -0.5)
    axes.imshow(heat, aspect="auto", interpolation="nearest", cmap="Blues", extent=extent, vmin=0, vmax=1)
    places = range(len(written))
    axes.plot([w.at_ms / 1000 for w in written], places, ".", color=COLOURS[1], label="written")
    if len(written) <= _LABELLED:
        axes.set_yticks(places, [w.text for w in written], fontsize=8)
    axes.set(xlabel="source time [s]", ylabel="target tokens", xlim=(0, max(seconds, extent[1])), ylim=(len(written) - 0.5, -0.5))
    axes.set_title(title, fontsize="medium", wrap=True)
    axes.legend(loc="upper right", bbox_to_anchor=(1, -0.08), frameon=False)  # beside the label below: above, a title may be as wide
    save(picture, path)


def figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """A figure of so many inches, and its panels beside each other: a pair of axes, or of several a sequence."""
    picture = _matplotlib().figure.Figure((width, height), layout="constrained")
    return picture, picture.subplots(1, panels)


def save(picture: Any, path: Path) -> None:
    """Write a figure under a temporary name, then rename.

    Raises:
        UsageError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            picture.savefig(temporary, format=path.suffix[1:].lower(), dpi=_DPI)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; choose another place") from None


def _matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'riverrun[plot]'") from None
    return matplotlib
