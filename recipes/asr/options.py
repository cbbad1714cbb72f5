"""What a configuration says about training, beside the network."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TrainingError


@dataclass(frozen=True)
class Optimisation:
    """Linear warm-up, then a cosine to zero at ``steps``.

    Attributes:
        peak: largest learning rate.
        warmup: steps until it is reached.
        steps: step at which it is back at zero.
        decay: weight decay.
        average: decay of the exponential moving average of the weights.
        clip: largest norm of the gradient.
        method: "adamw", or "muon" (see `riverrun.recipes.muon`).
    """

    peak: float = 1.0e-3
    warmup: int = 1000
    steps: int = 10000
    decay: float = 0.01
    average: float = 0.999
    clip: float = 5.0
    method: str = "adamw"

    def __post_init__(self) -> None:
        if self.method not in ("adamw", "muon"):
            raise TrainingError(f"optimisation.method must be adamw or muon, not {self.method!r}")


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of each alteration; all rise linearly from zero between steps ``begin`` and ``full``.

    Attributes:
        begin: steps without any.
        full: step from which on they are what is said here.
        noise: stationary noise.
        babble: other utterances of the batch.
        reverberation: a room.
        clipping: an overdriven recorder.
        telephone: the band of a telephone.
        narrow: an upper edge between 2.5 and 7.5 kHz.
        equaliser: a smooth random curve over the spectrum.
        quantisation: few μ-law bits.
        codec: weak components of the spectrum dropped.
        warp: another length of the vocal tract.
        warp_limit: largest relative warp.
        bend: of the same utterances, how unevenly (see `riverrun.speech.augment.warp_frequency`).
        contrast: sharper or blurred formants.
        bands: SpecAugment's masks in frequency.
        widest_band: of them, in bins.
        gaps: SpecAugment's masks in time.
        widest_gap: of them, as a share of the length.
    """

    begin: int = 1500
    full: int = 4000
    noise: float = 0.4
    babble: float = 0.15
    reverberation: float = 0.3
    clipping: float = 0.05
    telephone: float = 0.15
    narrow: float = 0.1
    equaliser: float = 0.6
    quantisation: float = 0.1
    codec: float = 0.1
    warp: float = 0.5
    warp_limit: float = 0.12
    bend: float = 0.0
    contrast: float = 0.0
    bands: int = 2
    widest_band: int = 20
    gaps: int = 6
    widest_gap: float = 0.05


@dataclass(frozen=True)
class Contexts:
    """Dynamic chunk training: what attention sees is drawn for each step.

    Attributes:
        chunks: chunk sizes in encoder frames (of 40 ms).
        lefts: left contexts in encoder frames.
        full: share of steps under full context.
    """

    chunks: tuple[int, ...] = (4, 8, 16, 32)
    lefts: tuple[int, ...] = (32, 64, 128)
    full: float = 0.3


@dataclass(frozen=True)
class Objective:
    """The losses and their weights.

    Attributes:
        transducer: how it is trained: "full", "pruned" (see `riverrun.speech.losses.pruned`) or "k2" (pruned, by k2).
        reach: label positions on a frame that a pruned transducer is trained on.
        simple: weight of the joiner that prunes, from step ``pruned_warmup`` on; before, it falls from 1.
        pruned_warmup: see ``simple``.
        attention: weight of the attention decoder.
        label_smoothing: of its labels.
        ctc: weight of CTC where there is another head; the transducer's is 1.
        intermediate: encoder layers, counted from 1, whose output the CTC head reads as well (Lee & Watanabe 2021,
            "Intermediate loss regularization for CTC-based speech recognition").
        intermediate_share: their share of the CTC loss.
        smoothing: weight of the divergence of CTC's frames from a uniform distribution.
        label_dropout: probability that the transducer's predictor hears nothing in place of a label.
        fastemit: λ of FastEmit.
    """

    transducer: str = "full"
    reach: int = 5
    simple: float = 0.5
    pruned_warmup: int = 2000
    attention: float = 0.7
    label_smoothing: float = 0.1
    ctc: float = 0.5
    intermediate: tuple[int, ...] = ()
    intermediate_share: float = 0.3
    smoothing: float = 0.0
    label_dropout: float = 0.0
    fastemit: float = 0.0

    def __post_init__(self) -> None:
        if self.transducer not in ("full", "pruned", "k2"):
            raise TrainingError(f"objective.transducer must be full, pruned or k2, not {self.transducer!r}")
        if not 0 <= self.intermediate_share < 1:
            raise TrainingError(f"objective.intermediate_share must be at least 0 and less than 1, not {self.intermediate_share}")


@dataclass(frozen=True)
class Compilation:
    """What is compiled by `torch.compile`, all of it for fixed shapes.

    Attributes:
        layers: each encoder layer (one graph per batch shape, shared by the layers).
        front: the subsampling and the features.
        window_kernel: attend by riverrun's kernel for windows rather than by PyTorch's under a mask. Compiled layers then need a graph
            for each batch shape and each context: have few of both.
        mode: of the layers: default, reduce-overhead (CUDA graphs), max-autotune-no-cudagraphs, max-autotune.
    """

    layers: bool = False
    front: bool = False
    window_kernel: bool = False
    mode: str = "default"


__all__ = ["Augmentation", "Compilation", "Contexts", "Objective", "Optimisation"]
