"""Training losses against torchaudio and PyTorch, and on awkward lengths."""

import pytest
import torch
import torchaudio

from riverrun.speech.encoders import ConformerConfig
from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.models import Recogniser, RecogniserConfig, TransducerConfig


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_transducer_loss_is_torchaudios(predictor: str) -> None:
    torch.manual_seed(0)
    config = RecogniserConfig(7, encoder=ConformerConfig(dim=8, layers=1, heads=2), transducer=TransducerConfig(predictor, 6, 5))
    model = Recogniser(config)
    assert model.joiner is not None
    encoded, labels = torch.randn(3, 9, 8), torch.randint(1, 7, (3, 4))
    frames, counts = torch.tensor([9, 5, 7]), torch.tensor([4, 0, 2])
    predicted = model.predict(labels, counts)
    logits = model.joiner(encoded[:, :, None], predicted[:, None])
    want = torchaudio.functional.rnnt_loss(logits, labels.int(), frames.int(), counts.int(), blank=0, reduction="sum") / 6
    have = transducer_loss(model.joiner, encoded, predicted, frames, labels, counts)
    torch.testing.assert_close(have, want)
    parameters = list(model.joiner.parameters())
    for a, b in zip(torch.autograd.grad(have, parameters, retain_graph=True), torch.autograd.grad(want, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_ctc_loss_leaves_out_what_cannot_fit() -> None:
    logits = torch.randn(2, 4, 5, requires_grad=True)
    labels, counts = torch.tensor([[1, 2, 3], [1, 1, 1]]), torch.tensor([3, 3])
    loss = ctc_loss(logits, torch.tensor([4, 4]), labels, counts)  # three equal labels need five frames
    alone = ctc_loss(logits[:1], torch.tensor([4]), labels[:1], torch.tensor([3])) * 3 / 6
    torch.testing.assert_close(loss, alone)
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and (logits.grad[1] == 0).all()
