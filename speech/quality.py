"""BLEU and chrF of resampled sets of sentences, for confidence intervals: each sentence is counted once, then counts are added up.

On the whole set the scores are sacrebleu's, by the same definitions (`riverrun.speech.scoring`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .scoring import bleu_tokenizer

_CHARACTERS, _BETA = 6, 2  # chrF2: n-grams of up to 6 characters, recall twice as important as precision
_WORDS = 4


class SentenceCounts:
    """What BLEU and chrF count in each sentence.

    Args:
        hypotheses: one or more.
        references: as many.
        language: of both; see `riverrun.speech.scoring.score_translations`.

    Raises:
        ModuleNotFoundError: sacrebleu is missing.
    """

    def __init__(self, hypotheses: Sequence[str], references: Sequence[str], language: str):
        from sacrebleu.metrics.bleu import BLEU

        self._compute = BLEU.compute_bleu
        counter = BLEU(tokenize=bleu_tokenizer(language), effective_order=True)
        pairs = list(zip(hypotheses, references, strict=True))
        sentences = [counter.sentence_score(hypothesis, [reference]) for hypothesis, reference in pairs]
        self._bleu = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in sentences], np.int64)
        self._chrf = np.array([_characters(hypothesis, reference) for hypothesis, reference in pairs], np.int64).reshape(len(pairs), -1)

    def bleu(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """BLEU, 0 to 100, of sets that hold sentence i ``weights[r, i]`` times: (sets, sentences) -> (sets,)."""
        totals = weights @ self._bleu
        return np.array(
            [self._compute(t[:_WORDS].tolist(), t[_WORDS:-2].tolist(), int(t[-2]), int(t[-1]), smooth_method="exp").score for t in totals]
        )

    def chrf(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """chrF2, 0 to 100, likewise."""
        ours, theirs, both = np.moveaxis((weights @ self._chrf).reshape(len(weights), _CHARACTERS, 3).astype(np.float64), 2, 0)
        counted = (ours > 0) & (theirs > 0)
        orders = np.maximum(counted.sum(1), 1)
        precision, recall = (np.where(counted, both / np.maximum(of, 1), 0).sum(1) / orders for of in (ours, theirs))
        return 100 * (1 + _BETA**2) * precision * recall / np.maximum(_BETA**2 * precision + recall, 1e-16)


def _characters(hypothesis: str, reference: str) -> list[list[int]]:
    """For each order: n-grams of the hypothesis (0 if the reference has none), of the reference, and in both."""
    texts = ["".join(text.split()) for text in (hypothesis, reference)]
    counts = []
    for n in range(1, _CHARACTERS + 1):
        ours, theirs = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts)
        counts.append([ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()])
    return counts


__all__ = ["SentenceCounts"]
