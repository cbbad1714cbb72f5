"""The translator behind the interface of policies: the law on its source, continuations, attention rows, limits."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.cli.policies import make
from riverrun.speech.attention import Context
from riverrun.speech.models import Translator
from riverrun.speech.translation import SearchConfig, Source, StreamingTranslator
from riverrun.streaming import Final, Stream
from riverrun.streaming.policies import AlignAtt, Hypothesis
from riverrun.streaming.policies.make import parse_policy
from riverrun.streaming.translator import Translator as Live

from ..tiny import tiny_tokenizer
from ..tiny_translator import tiny_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("translator")


def build(folder: Path, network: Translator | None = None, most_frames: int = 50, **options: object) -> StreamingTranslator:
    tokenizer = tiny_tokenizer(folder)
    network = network or tiny_network()
    return StreamingTranslator(network, tokenizer, tokenizer, Context(4, 8), most_frames, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(folder: Path) -> StreamingTranslator:
    return build(folder)


def recordings(lengths: list[int]) -> torch.Tensor:
    audio = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(3)) * 0.1
    return audio * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def whole(model: StreamingTranslator, audio: torch.Tensor, lengths: list[int]) -> Source:
    return model.finish(model.hear(audio, torch.tensor(lengths), model.init_source(len(lengths))))


def same(a: Hypothesis, b: Hypothesis) -> None:
    assert (a.tokens, a.starts, a.ended) == (b.tokens, b.starts, b.ended)
    torch.testing.assert_close(a.attention, b.attention, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(a.scores), torch.tensor(b.scores), rtol=1e-3, atol=1e-3)


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 16000), min_size=0, max_size=5), through_bytes=st.booleans(), swap=st.booleans())
def test_any_cut_leaves_the_same_source_and_text(model: StreamingTranslator, cuts: list[int], through_bytes: bool, swap: bool) -> None:
    lengths = [16000, 9000]
    audio = recordings(lengths)
    source, at = model.init_source(2), 0
    for cut in [*sorted(cuts), 16000]:
        here = torch.tensor([max(min(cut, n) - at, 0) for n in lengths])
        piece, order = audio[:, at:cut], torch.tensor([1, 0] if swap else [0, 1])
        source = model.hear(piece[order], here[order], source.gather(order)).gather(order)
        at = cut
        if through_bytes:
            source = model.init_source(1).from_bytes(source.to_bytes())
    want = whole(model, audio, lengths)
    source = model.finish(source)
    assert model.frames(source).tolist() == model.frames(want).tolist() == [25, 14]
    for a, b in zip(*(model.generate(s, [0, 1], [(), (5,)], None) for s in (source, want)), strict=True):
        same(a, b)
    assert model.source_words(source).tolist() == model.source_words(want).tolist()


def test_idle_slot_keeps_its_source_bit_for_bit(model: StreamingTranslator) -> None:
    before = model.hear(recordings([8000, 8000]), torch.tensor([8000, 5000]), model.init_source(2))
    after = model.hear(torch.randn(2, 3000), torch.tensor([0, 0]), before)
    forgotten = model.forget(before, torch.tensor([0, 0]))
    for (name, a), (_, b), (_, c) in zip(before.named_tensors(), after.named_tensors(), forgotten.named_tensors(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c), name


def test_source_is_bounded_and_forgets_its_oldest(folder: Path) -> None:
    small, large = build(folder, most_frames=8), build(folder, most_frames=50)
    audio = recordings([16000])
    short, long = whole(small, audio, [16000]), whole(large, audio, [16000])
    assert small.frames(short).tolist() == [8]
    same(small.generate(short, [0], [()], None)[0], large.generate(large.forget(long, torch.tensor([17])), [0], [()], None)[0])
    assert large.frames(large.forget(long, torch.tensor([99]))).tolist() == [0]
    assert len(short.to_bytes()) == len(small.init_source(1).to_bytes())


@pytest.mark.parametrize("languages", [("de",), ("de", "fr")])
def test_attention_is_that_of_one_forced_pass_at_the_rows_that_predict_the_continuation(folder: Path, languages: tuple[str, ...]) -> None:
    network = tiny_network(languages)
    model = build(folder, network, layer=1)
    source = whole(model, recordings([16000]), [16000])
    for prefix in ((), (5, 9, 7)):
        (found,) = model.generate(source, [0], [prefix], languages[-1])
        assert len(found.tokens) > 3
        begin = [0] if len(languages) == 1 else [0, 41]
        text = torch.tensor([[*begin, *prefix, *found.tokens]])
        frames = source.ring[:, -25:]
        with torch.no_grad():
            scores, looks = network.decoder.watched(text, torch.tensor([text.shape[1]]), frames, torch.tensor([25]))
            plain = network.decoder(text, torch.tensor([text.shape[1]]), frames, torch.tensor([25]))
        torch.testing.assert_close(scores, plain, rtol=1e-4, atol=1e-4)
        first = len(begin) + len(prefix) - 1
        torch.testing.assert_close(found.attention, looks[0, 0, :, first : first + len(found.tokens)].mean(0))
        torch.testing.assert_close(found.attention.sum(1), torch.ones(len(found.tokens)))
        likely = scores.log_softmax(-1)[0, torch.arange(first, first + len(found.tokens)), torch.tensor(found.tokens)]
        torch.testing.assert_close(torch.tensor(found.scores), likely)


def test_greedy_continues_what_it_wrote_itself(folder: Path) -> None:
    model = build(folder)
    source = whole(model, recordings([16000, 12000]), [16000, 12000])
    (text, _) = model.generate(source, [0, 1], [(), ()], None)
    words = [i for i, start in enumerate(text.starts) if start and i]
    assert words
    for cut in words[:3]:
        (rest,) = model.generate(source, [0], [text.tokens[:cut]], None)
        assert rest.tokens[: len(text.tokens) - cut] == text.tokens[cut:][: len(rest.tokens)]
        n = min(len(rest.tokens), len(text.tokens) - cut)
        torch.testing.assert_close(rest.attention[:n], text.attention[cut : cut + n], rtol=1e-4, atol=1e-4)


def test_a_continuation_does_not_lengthen_the_last_word(folder: Path) -> None:
    tokenizer = tiny_tokenizer(folder)
    for seed in range(6):
        model = build(folder, tiny_network(seed=seed))
        source = whole(model, recordings([16000]), [16000])
        (found,) = model.generate(source, [0], [(5,)], None)
        assert not found.tokens or found.starts[0] or not tokenizer.surface(found.tokens[0]).isalnum()
        assert tokenizer.unknown not in found.tokens and 0 not in found.tokens


def test_a_restarted_stream_hears_a_recording_of_its_own(model: StreamingTranslator) -> None:
    size, (before, after) = 2 * model.chunk + model.delay, recordings([20000, 16000])
    source = model.hear(before.repeat(2, 1), torch.tensor([size, size]), model.init_source(2))
    restarted = model.restart(source, torch.tensor([True, False]))
    assert restarted.held.tolist() == [0, 8]
    for (name, ours), (_, theirs) in zip(restarted.named_tensors(), source.named_tensors(), strict=True):
        assert torch.equal(ours[1], theirs[1]), name
    heard = model.finish(model.hear(after.repeat(2, 1), torch.tensor([16000, 0]), restarted))
    alone = whole(model, torch.cat([torch.zeros(model.delay), after])[None], [model.delay + 16000])
    torch.testing.assert_close(model._held(heard, torch.tensor([0])), model._held(alone, torch.tensor([0])), rtol=1e-4, atol=1e-5)


def test_slots_do_not_see_each_other(folder: Path) -> None:
    for beam in (1, 3):
        model = build(folder, search=SearchConfig(beam=beam))
        lengths = [16000, 9000, 12000]
        audio = recordings(lengths)
        together = model.generate(whole(model, audio, lengths), [2, 0], [(5,), ()], None)
        for got, slot, prefix in zip(together, [2, 0], [(5,), ()], strict=True):
            alone = whole(model, audio[slot : slot + 1, : lengths[slot]], [lengths[slot]])
            same(got, model.generate(alone, [0], [prefix], None)[0])


def test_nothing_heard_is_nothing_said_and_a_rambling_text_is_stopped(folder: Path) -> None:
    model = build(folder, search=SearchConfig(labels_per_second=2.0, spare_labels=1))
    (found,) = model.generate(model.init_source(1), [0], [()], None)
    assert found.tokens == () and found.ended and found.attention.shape == (0, 0)
    network = tiny_network()
    with torch.no_grad():
        network.decoder.norm.bias.copy_(-5 * network.decoder.embedding.weight[0])  # the end is never likely
    model = build(folder, network, search=SearchConfig(labels_per_second=2.0, spare_labels=1))
    (found,) = model.generate(whole(model, recordings([16000]), [16000]), [0], [()], None)
    assert len(found.tokens) == 1 + 2 and not found.ended


def test_text_and_words(model: StreamingTranslator, folder: Path) -> None:
    tokenizer = tiny_tokenizer(folder)
    labels = tokenizer.encode("the dog jumps")
    assert model.decode(labels) == "the dog jumps"
    assert sum(map(model.starts_word, labels)) == 3
    unspaced = build(folder, tiny_network(("zh",)))
    assert all(map(unspaced.starts_word, labels))
    assert build(folder, tiny_network(ctc=False)).source_words(model.init_source(1)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3}, "this model has no decoder layer 3: choose one of 1 to 2"),
        ({"most_frames": 3}, "most_frames must hold a chunk of 4 frames at least, not 3"),
    ],
)
def test_wrong_options_are_refused(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(folder, **options)


def test_unknown_language_is_refused(folder: Path) -> None:
    model = build(folder, tiny_network(("de", "fr")))
    source = whole(model, recordings([8000]), [8000])
    with pytest.raises(ValueError, match="this model does not translate into 'es'; it offers de, fr"):
        model.generate(source, [0], [()], "es")
    texts = {model.generate(source, [0], [()], language)[0].tokens for language in ("de", "fr")}
    assert len(texts) == 2 and model.generate(source, [0], [()], None)[0].tokens in texts


def test_policies_keep_away_from_the_newest_chunk(model: StreamingTranslator) -> None:
    assert model.policy_defaults == {"alignatt": {"frames": 4}, "streamatt": {"frames": 4}}
    assert make("alignatt", (), model.policy_defaults) == AlignAtt(4)
    assert make("streamatt:frames=9", (), model.policy_defaults) == parse_policy("streamatt:frames=9")


@pytest.mark.parametrize("policy", ["alignatt:frames=2", "wait-k:k=1,words=ctc"])
def test_a_live_stream_writes_the_same_however_audio_comes(model: StreamingTranslator, policy: str) -> None:
    audio = recordings([40000])[0].numpy()
    texts = []
    for piece in (40000, 1111):
        stream = Stream(Live(model, parse_policy(policy), silence_s=None))
        events = [event for at in range(0, len(audio), piece) for event in stream.push(audio[at : at + piece])] + stream.finish()
        texts.append(" ".join(event.text for event in events if isinstance(event, Final)))
    assert texts[0] == texts[1] != ""
