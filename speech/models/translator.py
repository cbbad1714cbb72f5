"""The network of a speech translator: features, encoder, a decoder that writes the target, and a CTC head on the source text."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from ..attention import Context
from ..decoders import DecoderConfig, TransformerDecoder
from ..encoders import ConformerConfig, ConformerEncoder
from ..features import LogMel, LogMelConfig
from .normalise import Normalise

BOUNDARY = 0  #: the label that begins and ends every target text; as the tokenizer's blank, it is no piece of text


@dataclass(frozen=True)
class TranslatorConfig:
    """What a translator is made of.

    Attributes:
        vocabulary: target label ids, the boundary (0) included, language tags not.
        source_vocabulary: label ids of the CTC head on the source text, the blank (0) included; None for no such head.
        languages: target languages, the default first. With two or more, a tag after the first boundary says which is wanted.
        attention_layer: the decoder layer, counted from 1, whose attention tells where the decoder looked. Papi et al. 2023
            ("Attention as a guide for simultaneous speech translation") found the 4th of 6 best.
    """

    vocabulary: int = 4000
    source_vocabulary: int | None = 500
    languages: tuple[str, ...] = ()
    features: LogMelConfig = field(default_factory=LogMelConfig)
    encoder: ConformerConfig = field(default_factory=ConformerConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    attention_layer: int = 4

    def __post_init__(self) -> None:
        if self.features.bins != self.encoder.bins:
            raise ValueError(f"features have {self.features.bins} bins, the encoder reads {self.encoder.bins}")
        if not 1 <= self.attention_layer <= self.decoder.layers:
            raise ValueError(f"attention_layer must be one of the decoder's {self.decoder.layers} layers, not {self.attention_layer}")
        if len(set(self.languages)) != len(self.languages):
            raise ValueError(f"a target language is named twice: {', '.join(self.languages)}")

    @property
    def labels(self) -> int:
        """Labels that the decoder reads: target labels, then a tag for each language if there are several."""
        return self.vocabulary + (len(self.languages) if len(self.languages) > 1 else 0)

    def begin(self, language: str | None = None) -> list[int]:
        """The labels before a text in ``language`` (None: the default).

        Raises:
            ValueError: the model does not write that language.
        """
        if language is not None and language not in self.languages:
            raise ValueError(
                f"this model does not translate into {language!r}; it offers {', '.join(self.languages) or 'one language only'}"
            )
        if len(self.languages) < 2:
            return [BOUNDARY]
        return [BOUNDARY, self.vocabulary + (self.languages.index(language) if language else 0)]


class Translator(nn.Module):
    """Audio (B, samples) in [-1, 1] to encoder frames, and with target labels to scores of the next one. ``ctc`` may be None."""

    def __init__(self, config: TranslatorConfig, context: Context | None = None):
        super().__init__()
        self.config = config
        self.features = LogMel(config.features)
        self.normalise = Normalise(config.features.bins)
        self.encoder = ConformerEncoder(config.encoder, context or Context())
        self.ctc = nn.Linear(config.encoder.dim, config.source_vocabulary) if config.source_vocabulary else None
        self.decoder = TransformerDecoder(config.decoder, config.labels, config.vocabulary, config.encoder.dim)
