"""The losses of a recogniser: each head's, and their weighted sum."""

from __future__ import annotations

import torch
from torch import Tensor

from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.losses.attention import attention_loss
from riverrun.speech.losses.pruned import SimpleJoiner, pruned_transducer_loss
from riverrun.speech.losses.smoothing import uniform_divergence
from riverrun.speech.models import Recogniser

from .corpus import Batch
from .options import Objective


def losses_of(
    model: Recogniser,
    simple: SimpleJoiner | None,
    o: Objective,
    encoded: Tensor,
    inner: list[Tensor],
    lengths: Tensor,
    batch: Batch,
    step: int,
) -> dict[str, Tensor]:
    """Each loss by name, and their weighted sum ``loss``.

    Args:
        model: whose heads these are.
        simple: the joiner that prunes, where the transducer is trained pruned.
        o: the losses' weights.
        encoded: (B, T, dim) the encoder's output.
        inner: outputs (B, T, dim) of inner layers.
        lengths: (B,) real frames.
        batch: labels and their counts.
        step: of training.
    """
    losses: dict[str, Tensor] = {}
    total = encoded.new_zeros((), dtype=torch.float32)
    alone = model.joiner is None and model.decoder is None
    if model.ctc is not None:
        logits = model.ctc(encoded)
        losses["ctc"] = ctc = ctc_loss(logits, lengths, batch.labels, batch.counts)
        if inner:
            n = len(inner)
            again = lengths.repeat(n), batch.labels.repeat(n, 1), batch.counts.repeat(n)
            losses["intermediate"] = ctc_loss(model.ctc(torch.cat(inner)), *again)
            ctc = (1 - o.intermediate_share) * ctc + o.intermediate_share * losses["intermediate"]
        if o.smoothing:
            ctc = ctc + o.smoothing * uniform_divergence(logits, lengths)
        total = total + (1.0 if alone else o.ctc) * ctc
    if model.decoder is not None:
        losses["attention"] = attention_loss(model.decoder, encoded, lengths, batch.labels, batch.counts, o.label_smoothing)
        total = total + o.attention * losses["attention"]
    if model.joiner is not None:
        heard = batch.labels
        if o.label_dropout:
            heard = heard.masked_fill(torch.rand(heard.shape, device=heard.device) < o.label_dropout, 0)
        sides = encoded, model.predict(heard, batch.counts), lengths, batch.labels, batch.counts
        if simple is None:
            losses["transducer"] = transducer_loss(model.joiner, *sides, fastemit=o.fastemit)
            total = total + losses["transducer"]
        else:
            by = "k2" if o.transducer == "k2" else "own"
            losses["simple"], losses["transducer"] = pruned_transducer_loss(model.joiner, simple, *sides, reach=o.reach, by=by)
            rise = min(step / max(o.pruned_warmup, 1), 1.0)  # the ranges mean little at first, and so does the loss within them
            total = total + (1 - rise * (1 - o.simple)) * losses["simple"] + (0.1 + 0.9 * rise) * losses["transducer"]
    return {**losses, "loss": total}
