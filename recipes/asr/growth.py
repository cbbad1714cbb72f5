"""Layer-growing pretraining with a shrinking reduction of time."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TrainingError


@dataclass(frozen=True)
class Stage:
    """Until step ``until``, the encoder has its first ``layers`` layers, and each of their frames is the mean of ``pool``."""

    until: int
    layers: int
    pool: int = 1


@dataclass(frozen=True)
class Growth:
    """Begin with few layers over few frames, and add layers and frames.

    Zeyer et al. 2018, "Improved training of end-to-end attention models for speech recognition". Layers that are added begin as they
    were drawn. Under several processes the strategy must put up with parameters that have no gradient yet:
    ``ddp_find_unused_parameters_true``.

    Attributes:
        stages: in order; after the last the encoder is whole.
    """

    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        for before, after in zip(self.stages, self.stages[1:], strict=False):
            if not (before.until < after.until and before.layers <= after.layers and before.pool >= after.pool):
                raise TrainingError("growth.stages must go on in steps, and never lose layers or gain in pooling")
        if any(stage.layers < 1 or stage.pool < 1 for stage in self.stages):
            raise TrainingError("growth.stages need at least 1 layer and a pool of at least 1 frame")

    def at(self, step: int) -> tuple[int | None, int]:
        """How many layers there are in a step (None for all), and how many frames are one."""
        stage = next((stage for stage in self.stages if step < stage.until), None)
        return (None, 1) if stage is None else (stage.layers, stage.pool)
