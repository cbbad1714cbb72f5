"""Beam search of an attention decoder, against exhaustive enumeration and plain greedy search."""

import itertools

import pytest
import torch

from riverrun.speech.decoders import DecoderConfig, TransformerDecoder
from riverrun.speech.search.attention_beam import AttentionBeamConfig, continue_texts

VOCABULARY, LONGEST = 4, 3


def decoder(seed: int) -> TransformerDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = TransformerDecoder(DecoderConfig(dim=8, layers=2, heads=2, feed_forward=12, left=9), VOCABULARY, VOCABULARY, 5).eval()
        torch.nn.init.normal_(made.embedding.weight, std=0.8)
    return made


def log_prob(made: TransformerDecoder, source: torch.Tensor, written: list[int], labels: tuple[int, ...]) -> float:
    text = torch.tensor([[*written, *labels]])
    with torch.no_grad():
        scores = made(text[:, :-1], torch.tensor([text.shape[1] - 1]), source[None], torch.tensor([len(source)]))
    likely = scores.log_softmax(-1)[0, torch.arange(text.shape[1] - 1), text[0, 1:]]
    return float(likely[len(written) - 1 :].sum())


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all_texts(seed: int, power: float) -> None:
    made, source = decoder(seed), torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    written = [0, 2] if seed % 2 else [0]
    best = max(
        (
            (log_prob(made, source, written, (*labels, 0)), labels)
            for n in range(LONGEST + 1)
            for labels in itertools.product((1, 2, 3), repeat=n)
        ),
        key=lambda found: found[0] / (len(found[1]) + 1) ** power,
    )
    beam = AttentionBeamConfig(beam=VOCABULARY**LONGEST, length_power=power)
    (found,) = continue_texts(made, source[None], torch.tensor([6]), [written], [LONGEST], beam)
    assert found.labels == best[1] and found.ended
    assert found.log_prob == pytest.approx(best[0], abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    made, source = decoder(seed), torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    text = [0]
    for _ in range(8):
        with torch.no_grad():
            scores = made(torch.tensor([text]), torch.tensor([len(text)]), source[None], torch.tensor([6]))[0, -1]
        text.append(int(scores.argmax()))
        if text[-1] == 0:
            break
    (found,) = continue_texts(made, source[None], torch.tensor([6]), [[0]], [8], AttentionBeamConfig(1))
    ended = text[-1] == 0 and len(text) > 1
    assert found.ended == ended and list(found.labels) == (text[1:-1] if ended else text[1:])


def test_texts_of_a_batch_do_not_see_each_other() -> None:
    made = decoder(1)
    source, frames = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([6, 2, 4])
    written, longest = [[0], [0, 1, 3], [0, 2]], [6, 0, 4]
    for beam in (1, 3):
        together = continue_texts(made, source, frames, written, longest, AttentionBeamConfig(beam))
        for i, found in enumerate(together):
            alone = continue_texts(
                made, source[i : i + 1, : frames[i]], frames[i : i + 1], [written[i]], [longest[i]], AttentionBeamConfig(beam)
            )
            assert alone[0].labels == found.labels and alone[0].ended == found.ended
            assert alone[0].log_prob == pytest.approx(found.log_prob, abs=1e-4)
    assert together[1].labels == () and not together[1].ended


def test_barred_labels_are_never_written() -> None:
    source, frames = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([6])
    for seed in range(4):
        bar = torch.tensor([False, True, False, False])
        (found,) = continue_texts(decoder(seed), source, frames, [[0]], [6], forbidden=bar)
        assert 1 not in found.labels
        (found,) = continue_texts(
            decoder(seed), source, frames, [[0]], [6], forbidden_first=~bar[None] & torch.tensor([[False, True, True, True]])
        )
        assert found.labels[:1] in ((), (1,))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"beam": 0}, "a beam of 0 holds nothing: use at least 1"), ({"length_power": -1.0}, "length_power must be 0 or more, not -1")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionBeamConfig(**options)
