"""Adapters for transformers' models say what a direct computation with transformers says, whatever the cuts."""

import numpy as np
import pytest
import torch
from transformers.models.whisper.generation_whisper import _median_filter

from riverrun.speech.huggingface import load
from riverrun.speech.huggingface.alignment import median_filter, standardise
from riverrun.speech.search.attention_beam import AttentionBeamConfig
from riverrun.speech.translation import SearchConfig
from riverrun.streaming import Final, Stream
from riverrun.streaming.policies import parse_policy
from riverrun.streaming.translator import Translator

from . import huggingface_tiny as tiny

RATE = 16000
KINDS = {
    "whisper": lambda folder: tiny.whisper(folder),
    "whisper.en": lambda folder: tiny.whisper(folder, multilingual=False, seed=1),
    "speech_to_text": lambda folder: tiny.speech_to_text(folder),
    "speech_to_text.many": lambda folder: tiny.speech_to_text(folder, "mustc", seed=1),
    "seamless": lambda folder: tiny.seamless(folder, 1),
    "seamless.2": lambda folder: tiny.seamless(folder, 2, seed=1),
    "canary": lambda folder: tiny.canary(folder),
    "moonshine": lambda folder: tiny.moonshine(folder),
    "qwen2_audio": lambda folder: tiny.qwen2_audio(folder),
    "granite_speech": lambda folder: tiny.granite_speech(folder),
}
LANGUAGE_MODELS = ("qwen2_audio", "granite_speech")
ENCODER_DECODERS = [kind for kind in KINDS if kind not in LANGUAGE_MODELS]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    loaded = {}

    def get(kind):
        if kind not in loaded:
            loaded[kind] = load(str(KINDS[kind](tmp_path_factory.mktemp("hf") / kind)))
        return loaded[kind]

    return get


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    loud = np.repeat(draw.random(int(seconds * 10) + 1), RATE // 10)[: round(seconds * RATE)]
    return (draw.standard_normal(len(loud)) * loud * 0.3).astype(np.float32)


def heard(model, audio: np.ndarray, cuts=()):
    source = model.init_source(1)
    for piece in np.split(audio, cuts):
        source = model.hear(torch.from_numpy(piece)[None], torch.tensor([len(piece)]), source)
    return model.finish(source)


def encoder_inputs(kind: str, parts, audio: np.ndarray) -> dict:
    if kind == "moonshine":
        whole = torch.from_numpy(audio[: len(audio) // 80 * 80])[None]
        return {"input_values": whole, "attention_mask": torch.ones_like(whole, dtype=torch.long)}
    features = parts.features(audio, sampling_rate=RATE, return_tensors="pt")
    return {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}


def prompt_of(kind: str, parts, language: str) -> list[int]:
    ids = parts.tokenizer.convert_tokens_to_ids
    return {
        "whisper": lambda: ids(["<|startoftranscript|>", "<|de|>", "<|translate|>", "<|notimestamps|>"]),
        "whisper.en": lambda: ids(["<|startoftranscript|>", "<|notimestamps|>"]),
        "speech_to_text": lambda: [2],
        "speech_to_text.many": lambda: [2, ids("<lang:fr>")],
        "seamless": lambda: ids(["</s>", "__fra__"]),
        "seamless.2": lambda: ids(["</s>", "__fra__"]),
        "canary": lambda: ids(["<|startofcontext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|pnc|>"]),
        "moonshine": lambda: [1],
    }[kind]()


def expected_attention(kind: str, parts, layers) -> torch.Tensor:
    """(queries, frames), written out for each family."""
    if not kind.startswith("whisper"):
        return layers[1][0].mean(0)  # two thirds of three layers, all heads
    rows = []
    for layer, head in parts.network.generation_config.alignment_heads:
        weights = layers[layer][0, head].double()
        z = (weights - weights.mean(0)) / weights.std(0, correction=0)
        mirrored = torch.cat([z[:, 1:4].flip(1), z, z[:, -4:-1].flip(1)], 1)
        rows.append(torch.stack([mirrored[:, i : i + 7].median(1).values for i in range(z.shape[1])], 1))
    return (sum(rows) / len(rows)).float()


FRAMES = {"whisper": 125, "whisper.en": 125, "speech_to_text": 62, "speech_to_text.many": 62, "seamless": 16, "seamless.2": 16}
FRAMES |= {"canary": 32, "moonshine": 125}


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_a_continuation_and_its_attention_are_those_of_direct_passes(models, kind):
    parts, audio = models(kind).parts, noise(2.5)
    settings = {"source": "de"} if kind == "whisper" else {}
    model = models(kind).attention_model(**settings)
    language = "fr" if "fr" in model.languages else model.languages[0] if model.languages else None
    inputs, prompt = encoder_inputs(kind, parts, audio), prompt_of(kind, parts, language)
    source = heard(model, audio, [700, 20000])
    first = model.generate(source, [0], [[]], language)[0]
    prefix = list(first.tokens[:3])
    for before, found in (([], first), (prefix, model.generate(source, [0], [prefix], language)[0])):
        given, new = [*prompt, *before], list(found.tokens)
        with torch.no_grad():
            out = parts.network(**inputs, decoder_input_ids=torch.tensor([[*given, *new]]), output_attentions=True, use_cache=False)
        frames = FRAMES[kind]
        assert model.frames(source).tolist() == [frames]
        rows = expected_attention(kind, parts, [layer[..., :frames] for layer in out.cross_attentions])
        wanted = rows[len(given) - 1 : len(given) - 1 + len(new)]
        assert found.attention.shape == (len(new), frames) and len(new) > 5
        torch.testing.assert_close(found.attention, wanted, atol=3e-4, rtol=1e-3)
        assert (found.attention.argmax(1) == wanted.argmax(1)).float().mean() > 0.9
        logits = out.logits[0, len(given) - 1 : -1]
        barred = forbidden(parts, model)
        lengthens = model.tokens.lengthens if before else torch.zeros_like(barred)
        allowed = logits.masked_fill(barred, -torch.inf)
        allowed[0] = allowed[0].masked_fill(lengthens, -torch.inf)
        assert allowed.argmax(1).tolist() == new
        torch.testing.assert_close(torch.tensor(found.scores), logits.log_softmax(1)[torch.arange(len(new)), new], atol=1e-3, rtol=1e-3)


def forbidden(parts, model) -> torch.Tensor:
    """What the checkpoint's own files say is no text, the end apart."""
    special = {*parts.tokenizer.all_special_ids, *parts.tokenizer.added_tokens_decoder} - set(model.ends)
    generation = parts.network.generation_config
    special |= set(generation.suppress_tokens or ())
    mask = torch.zeros(len(parts.tokenizer), dtype=torch.bool)
    mask[list(special)] = True
    return mask


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_a_language_model_looks_where_a_whole_pass_over_its_prompt_looks(models, kind):
    parts, audio = models(kind).parts, noise(1.83, 1)
    model = models(kind).attention_model(source="en")
    source = heard(model, audio, [12345])
    network, token = parts.network, parts.network.config.audio_token_id
    text = model.question("Translate the English speech into German.")
    asked = {"audio": torch.from_numpy(audio)[None]} if kind == "granite_speech" else {"audio": audio, "sampling_rate": RATE}
    inputs = dict(parts.processor(text=text, return_tensors="pt", **asked))
    prompt = inputs.pop("input_ids")[0].tolist()
    inputs.pop("attention_mask", None)
    places = [i for i, t in enumerate(prompt) if t == token]
    frames = int(model.frames(source)[0])
    assert {"qwen2_audio": 46, "granite_speech": 19}[kind] == frames <= len(places)
    first = model.generate(source, [0], [[]], "de")[0]
    prefix = list(first.tokens[:2])
    found = model.generate(source, [0], [prefix], "de")[0]
    labels = torch.tensor([[*prompt, *prefix, *found.tokens]])
    features = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        out = network(input_ids=labels, output_attentions=True, use_cache=False, **features)
    mean = torch.stack(out.attentions).mean((0, 1, 2))[places[-1] + 1 :, places[0] : places[0] + frames]
    rows = (mean - mean.mean(0)) / mean.std(0, correction=0)
    start = len(prompt) + len(prefix) - 1
    torch.testing.assert_close(found.attention, rows[start - places[-1] - 1 :][: len(found.tokens)], atol=3e-4, rtol=1e-3)
    one = models(kind).attention_model(source="en", layer=2, standardised=False).generate(source, [0], [prefix], "de")[0]
    plain = out.attentions[1][0, :, start : start + len(one.tokens), places[0] : places[0] + frames].mean(0)
    torch.testing.assert_close(one.attention, plain, atol=1e-5, rtol=1e-4)
    ends = network.generation_config.eos_token_id
    logits = out.logits[0, start:-1].clone()
    if isinstance(ends, list):
        logits[:, ends[0]] = logits[:, ends].logsumexp(1)
    mask = forbidden(parts, model)
    mask[model.ends[1:]] = True
    logits = logits.masked_fill(mask, -torch.inf)
    logits[0] = logits[0].masked_fill(model.tokens.lengthens, -torch.inf)
    assert logits.argmax(1).tolist() == list(found.tokens) and len(found.tokens) > 5


@pytest.mark.parametrize("kind", ["whisper", "moonshine", "granite_speech"])
def test_any_cuts_a_batch_and_a_saved_state_give_the_same(models, kind):
    policy = "streamatt:size=2" if kind == "moonshine" else "alignatt:frames=4"
    translator = Translator(models(kind).attention_model(), parse_policy(policy))
    audio = noise(1.9, 2)
    whole = Stream(translator)
    wanted = whole.push(audio) + whole.finish()
    stream, events = Stream(translator), []
    for i, piece in enumerate(np.split(audio, [1, 5000, 5100, 21000])):
        if i == 3:
            saved = stream.save()
            stream = Stream(translator)
            stream.restore(saved)
        events += stream.push(piece)
    assert events + stream.finish() == wanted and wanted
    model = translator.model
    a, b = (torch.from_numpy(x) for x in (audio[:20000], audio[:9000]))
    batch = torch.nn.utils.rnn.pad_sequence([a, b], batch_first=True)
    source = model.hear(batch, torch.tensor([20000, 9000]), model.init_source(2))
    idle = model.hear(torch.ones(2, 50), torch.tensor([0, 0]), source)
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(source.named_tensors(), idle.named_tensors(), strict=True))
    language = model.languages[0]
    both = model.generate(source, [1, 0], [[], []], language)
    lone = model.generate(heard_part(model, audio[:9000]), [0], [[]], language)[0]
    assert both[0].tokens == lone.tokens and torch.allclose(both[0].attention, lone.attention, atol=1e-4)


def heard_part(model, audio):
    return model.hear(torch.from_numpy(audio)[None], torch.tensor([len(audio)]), model.init_source(1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_forgotten_leaves_no_trace(models, kind):
    model, audio = models(kind).attention_model(), noise(2.0, 3)
    language = model.languages[0] if model.languages else None
    samples = round(model.frame_ms * RATE / 1000)
    drop = -(-RATE // samples // 2)
    kept = model.forget(heard(model, audio), torch.tensor([drop]))
    if kind == "moonshine":  # its encoder has heard what is forgotten; the frames that are left do not change
        whole = heard(model, audio)
        assert model.frames(kept).tolist() == [int(model.frames(whole)[0]) - drop]
        assert torch.equal(kept.frames, whole.frames)
    else:
        again = model.generate(heard(model, audio[drop * samples :]), [0], [[]], language)[0]
        found = model.generate(kept, [0], [[]], language)[0]
        assert found.tokens == again.tokens and torch.equal(found.attention, again.attention)
    assert model.frames(model.forget(kept, torch.tensor([10**6]))).tolist() == [0]
    assert model.frames(heard(model, np.zeros(0, np.float32))).tolist() == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_the_encoder_at_any_length(models, kind):
    model, parts = models(kind).attention_model(), models(kind).parts
    samples = round(model.frame_ms * RATE / 1000)
    for n in (samples - 1, samples, 2 * samples + 399, 8001, 8320, 16000, 17111):
        frames = int(model.frames(heard(model, noise(n / RATE)))[0])
        assert abs(frames - n / samples) <= 1 if frames else n < 2 * samples
        if frames and kind in ENCODER_DECODERS:
            with torch.no_grad():
                out = parts.network.get_encoder()(**encoder_inputs(kind, parts, noise(n / RATE)))
            mask = getattr(out, "attention_mask", None)
            made = out.last_hidden_state.shape[1] if mask is None else int(mask.sum())
            assert frames == made or (kind.startswith("whisper") and frames < made)


def test_a_stream_longer_than_the_model_holds_goes_on_by_streamatt(models):
    model = models("whisper").attention_model(1000)
    translator = Translator(model, parse_policy("streamatt:frames=20,size=3"))
    stream, sizes = Stream(translator), set()
    for piece in np.split(noise(9.0, 4), 6):
        stream.push(piece)
        sizes.add(len(stream._parts["state"].source.samples.untyped_storage()))
    assert stream.finish() and len(sizes) == 1


def test_a_text_longer_than_the_decoder_reads_is_continued_from_its_end(models):
    model, audio = models("whisper").attention_model(source="de"), noise(1.0, 8)
    source = heard(model, audio)
    tokens = [i for i in range(80) if not model.tokens.forbidden[i]][:70]
    found, short = (model.generate(source, [0], [prefix], "en")[0] for prefix in (tokens, tokens[-28:]))
    assert found.tokens == short.tokens and torch.equal(found.attention, short.attention) and 5 < len(found.tokens) <= 28


def test_whisper_tells_the_language_and_translates_only_what_is_foreign(models):
    parts, audio = models("whisper").parts, noise(1.0, 5)
    model = models("whisper").attention_model()
    encoded, _, _ = model.encode(heard(model, audio), 0)
    features = parts.features(audio, sampling_rate=RATE, return_tensors="pt").input_features
    with torch.no_grad():
        wanted = parts.network.detect_language(features).item()
    spoken = parts.tokenizer.convert_ids_to_tokens(wanted).strip("<|>")
    assert model.detect(encoded) == spoken
    ids = parts.tokenizer.convert_tokens_to_ids
    of = models("whisper").attention_model
    assert of(source="en").prompt("en", None)[1:3] == ids(["<|en|>", "<|transcribe|>"])
    assert of(source="de").prompt("de", None)[1:3] == ids(["<|de|>", "<|transcribe|>"])
    assert of(task="transcribe", source="de").prompt(None, None)[1:3] == ids(["<|de|>", "<|transcribe|>"])
    assert of(source="de").languages == ("en", "de") and of(task="transcribe").languages == ()


def test_recordings_are_transcribed(models):
    model = models("whisper")
    live = model.stream(latency_ms=1000, sample_rate=RATE)
    audio = noise(2.2, 7)
    events = live.push(audio) + live.finish()
    finals = [event for event in events if isinstance(event, Final)]
    assert model.transcribe(audio, latency_ms=1000).segments == tuple(finals) and finals
    assert model.transcribe(audio, latency_ms="full").words[-1].emitted_ms == 2200
    with model.stream(sample_rate=8000) as stream:
        assert stream.push(audio) + stream.finish()


def test_median_and_scores_are_whispers_own():
    weights = torch.rand(2, 5, 9)
    assert torch.equal(median_filter(weights, 7), _median_filter(weights[None], 7)[0])
    assert torch.equal(median_filter(weights[..., :3], 7), weights[..., :3])
    assert torch.equal(standardise(torch.ones(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("kind", ["whisper.en", "seamless.2", "canary", "moonshine"])
def test_a_beam_is_what_it_is_without_a_cache(models, kind):
    model, audio = models(kind).attention_model(search=SearchConfig(beam=3)), noise(1.0, 6)
    source = heard(model, audio)
    language = model.languages[0] if model.languages else None
    found = model.generate(source, [0], [[]], language)[0]
    encoded, mask, frames = model.encode(source, 0)

    class Written:
        def __init__(self, labels):
            self.labels = labels

        def batch_select_indices(self, rows):
            self.labels = self.labels[rows]

    def run(labels, past):
        new = labels.shape[1]
        labels = labels if past is None else torch.cat([past.labels, labels], 1)
        rows = type(encoded)(**{n: v.expand(len(labels), *v.shape[1:]) for n, v in encoded.items()})
        return model._call(rows, mask, labels, use_cache=False).logits[:, -new:], Written(labels)

    from riverrun.speech.huggingface.search import CachedDecoder, continue_text

    longest = 12 + int(frames * model.frame_ms / 100)
    given = model.prompt(language, encoded)
    with torch.no_grad():
        wanted = continue_text(
            CachedDecoder(run), given, longest, AttentionBeamConfig(3), model.ends[0], model._forbidden, None, model.device
        )
    assert found.tokens == wanted.labels and found.ended == wanted.ended
