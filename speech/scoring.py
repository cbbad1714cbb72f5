"""Scores of translations: BLEU and chrF by sacrebleu, with the signatures that make them comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TranslationScores:
    """BLEU (Papineni et al. 2002) and chrF2 (Popović 2015) of a set of sentences, 0 to 100, and sacrebleu's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score_translations(hypotheses: Sequence[str], references: Sequence[str], language: str = "de") -> TranslationScores:
    """Score sentences as they would be read: cased, with punctuation.

    Args:
        hypotheses: one or more.
        references: as many.
        language: of both; Chinese, Japanese and Korean are counted in their own tokens.

    Raises:
        ValueError: nothing to score, or unequal numbers.
        ModuleNotFoundError: sacrebleu is missing.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"cannot score {len(hypotheses)} translations against {len(references)} references")
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise ModuleNotFoundError("scoring translations needs sacrebleu: pip install 'riverrun[translate]'") from None
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(language)), CHRF()
    return TranslationScores(
        bleu.corpus_score(hypotheses, [references]).score,
        chrf.corpus_score(hypotheses, [references]).score,
        str(bleu.get_signature()),
        str(chrf.get_signature()),
    )


def bleu_tokenizer(language: str) -> str:
    """The tokenizer by which sacrebleu counts the words of a language."""
    return {"zh": "zh", "ja": "char", "ko": "char"}.get(language, "13a")


__all__ = ["TranslationScores", "bleu_tokenizer", "score_translations"]
