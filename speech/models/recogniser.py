"""The network of a recogniser: features, encoder, and a CTC head, a transducer, or both (a hybrid); an attention decoder besides."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import Context
from ..decoders import DecoderConfig, TransformerDecoder
from ..encoders import ConformerConfig, ConformerEncoder
from ..features import LogMel, LogMelConfig
from ..joiner import Joiner
from ..predictors import LstmPredictor, StatelessPredictor
from .normalise import Normalise


@dataclass(frozen=True)
class TransducerConfig:
    """Label side of a transducer: ``predictor`` is "stateless" or "lstm"; ``joiner`` the joint size."""

    predictor: str = "stateless"
    dim: int = 256
    joiner: int = 256
    context: int = 2
    layers: int = 1


@dataclass(frozen=True)
class RecogniserConfig:
    """What a recogniser is made of.

    Attributes:
        vocabulary: label ids, the blank (0) included.
        ctc: whether there is a CTC head.
        transducer: the transducer's label side, or None.
        decoder: an attention decoder that helps in training and judges the texts of a beam afterwards, or None.
    """

    vocabulary: int = 500
    features: LogMelConfig = field(default_factory=LogMelConfig)
    encoder: ConformerConfig = field(default_factory=ConformerConfig)
    ctc: bool = True
    transducer: TransducerConfig | None = field(default_factory=TransducerConfig)
    decoder: DecoderConfig | None = None

    def __post_init__(self) -> None:
        if not self.ctc and self.transducer is None:
            raise ValueError("a recogniser needs a CTC head, a transducer or both")
        if self.features.bins != self.encoder.bins:
            raise ValueError(f"features have {self.features.bins} bins, the encoder reads {self.encoder.bins}")
        if self.transducer is not None and self.transducer.predictor not in ("stateless", "lstm"):
            raise ValueError(f"unknown predictor {self.transducer.predictor!r}: choose stateless or lstm")


class Recogniser(nn.Module):
    """Audio (B, samples) in [-1, 1] to label scores.

    ``ctc`` is the CTC head or None; ``predictor`` and ``joiner`` are the transducer or None; ``decoder`` is an attention decoder or None.
    """

    def __init__(self, config: RecogniserConfig, context: Context | None = None):
        super().__init__()
        self.config = config
        dim = config.encoder.dim
        self.features = LogMel(config.features)
        self.normalise = Normalise(config.features.bins)
        self.encoder = ConformerEncoder(config.encoder, context or Context())
        self.ctc = nn.Linear(dim, config.vocabulary) if config.ctc else None
        self.predictor: StatelessPredictor | LstmPredictor | None = None
        self.joiner: Joiner | None = None
        if (t := config.transducer) is not None:
            self.predictor = (
                StatelessPredictor(config.vocabulary, t.dim, t.context)
                if t.predictor == "stateless"
                else LstmPredictor(config.vocabulary, t.dim, t.layers)
            )
            self.joiner = Joiner(dim, t.dim, t.joiner, config.vocabulary)
        self.decoder = TransformerDecoder(config.decoder, config.vocabulary, config.vocabulary, dim) if config.decoder else None

    def predict(self, labels: Tensor, counts: Tensor) -> Tensor:
        """The label side (B, U + 1, P) of labels (B, U), (B,): after a blank, which stands for "nothing yet", and after each label."""
        if self.predictor is None:
            raise ValueError("this recogniser has no transducer")
        predicted, _ = self.predictor(F.pad(labels, (1, 0)), counts + 1)
        return predicted
