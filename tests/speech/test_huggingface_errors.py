"""What cannot be used says why, and what to do; nothing but safetensors is read."""

import json
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from riverrun.speech.huggingface import HuggingFaceError, load
from riverrun.speech.huggingface.parts import Settings
from riverrun.speech.huggingface.search import CachedDecoder, continue_text
from riverrun.speech.huggingface.tokens import Tokens
from riverrun.speech.search.attention_beam import AttentionBeamConfig
from riverrun.speech.translation import SearchConfig
from riverrun.streaming.policies import PolicyError, parse_policy
from riverrun.streaming.translator import Translator

from . import huggingface_tiny as tiny

SUPPORTED = "Whisper, Speech2Text, SeamlessM4T, SeamlessM4T v2, Canary, MoonshineStreaming, Qwen2-Audio, Granite Speech"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny.whisper(tmp_path_factory.mktemp("hf") / "whisper"))


def message(call, *arguments, **options) -> str:
    with pytest.raises(HuggingFaceError) as caught:
        call(*arguments, **options)
    return str(caught.value)


class Answer:
    def __init__(self, status_code):
        self.status_code, self.headers, self.request = status_code, {}, None


def test_repositories(monkeypatch):
    def away(name, local_files_only=False, **options):
        if local_files_only or away.status == 0:
            raise LocalEntryNotFoundError("not here")
        raise HfHubHTTPError("no", response=Answer(away.status))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    away.status = 0
    assert message(load, "someone/whisper") == (
        "hf:someone/whisper is not in the local cache, and the hub cannot be reached: fetch it where there is a network "
        "(hf download someone/whisper), or give hf:FOLDER"
    )
    away.status = 404
    assert message(load, "someone/whisper") == (
        "hf:someone/whisper: there is no such repository, or it needs an access token (hf auth login)"
    )
    away.status = 503
    assert message(load, "someone/whisper") == "hf:someone/whisper cannot be fetched: the hub answered with status 503; try again"
    assert message(load, "nowhere") == "hf:nowhere: no such folder, and no repository, which would be hf:owner/name"
    monkeypatch.undo()
    assert message(load, "some one/whis per").startswith("hf:some one/whis per cannot be the name of a repository: Repo id must")


def test_a_repository_in_the_local_cache_needs_no_network(monkeypatch, checkpoint):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, local_files_only, **options: checkpoint)
    assert load("someone/whisper").info["name"] == "someone/whisper"


def test_folders(tmp_path, checkpoint):
    name = str(tmp_path)
    assert message(load, name) == f"hf:{name} is no model of transformers: it has no config.json"
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert message(load, name) == (
        f"hf:{name} has no weights in safetensors, and other formats can run code when they are read: convert them first"
    )
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    assert message(load, name).startswith(f"hf:{name}: its config.json cannot be read (Expecting property name")
    (tmp_path / "config.json").write_text("[]")
    assert message(load, name) == f"hf:{name}: its config.json names no model_type"
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    assert message(load, name) == f'hf:{name} is a "wav2vec2", which has no adapter: supported are {SUPPORTED}'
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", "auto_map": {"AutoModel": "evil.Model"}}))
    assert message(load, name).startswith(f"hf:{name} cannot be loaded: ")


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert message(load, "someone/whisper") == "models of Hugging Face need transformers: pip install 'riverrun[hf]'"


def test_attention_that_keeps_nothing(checkpoint):
    model = load(checkpoint)
    adapter = model.attention_model()
    source = adapter.hear(torch.rand(1, 8000), torch.tensor([8000]), adapter.init_source(1))
    model.parts.network.set_attn_implementation("sdpa")
    assert message(adapter.generate, source, [0], [[]], "en") == (
        f"{checkpoint} returned no cross-attention, without which alignatt, edatt and streamatt are blind: "
        'its attention must run as "eager" ("sdpa" keeps none)'
    )
    assert message(model.attention_model, 260) == (
        f'{checkpoint}: its attention runs as "sdpa", which keeps no weights for policies to see: load it with attn_implementation="eager"'
    )


def test_settings(checkpoint):
    of = load(checkpoint).attention_model
    assert message(of, layer=4) == f"{checkpoint} has no decoder layer 4: choose one of 1 to 3"
    assert message(of, source="xx") == f"{checkpoint} does not hear 'xx': it hears de, en"
    assert message(of, 5) == "decisions every 5 ms: give at least 20 milliseconds"
    assert of("full").chunk == 98 * 320
    with pytest.raises(PolicyError, match="decisions every 3000 ms: this model allows less than 2000 ms"):
        Translator(of(3000), parse_policy("alignatt"))
    assert message(of, search=SearchConfig(beam=65)) == "a beam of 65: give 1 to 64 hypotheses"
    with pytest.raises(PolicyError, match="this model does not translate into 'fr': it translates into en"):
        Translator(of(), parse_policy("alignatt"), language="fr")
    with pytest.raises(PolicyError, match="policy wait-k counts words by CTC, and this model has no CTC head"):
        Translator(of(), parse_policy("wait-k:words=ctc"))


def test_what_a_family_cannot_do(tmp_path):
    name = str(tiny.moonshine(tmp_path / "a", normalise=True))
    assert message(load(name).attention_model) == (
        f"{name}: its preprocessor_config.json normalises whole recordings, which cannot be streamed"
    )
    name = str(tiny.canary(tmp_path / "b"))
    canary = load(name)
    assert canary.attention_model(source="de").languages == ("en", "fr", "de")
    assert message(canary.attention_model, source="xx") == f"{name} does not hear 'xx': it hears en, fr, de"
    name = str(tiny.speech_to_text(tmp_path / "c"))
    assert load(name).attention_model(target="de").languages == ("de",)
    name = str(tiny.speech_to_text(tmp_path / "d", "mustc"))
    assert message(load(name).attention_model, task="transcribe") == (f"{name} translates, and does not transcribe: use riverrun translate")
    name = str(tiny.seamless(tmp_path / "e"))
    assert load(name).attention_model().languages == ("en", "de", "fr")
    assert load(name).attention_model(task="transcribe", source="de").prompt(None, None)[1] == 60


def test_words_begin_and_go_on_where_the_pieces_say():
    class Pieces:
        all_special_ids, added_tokens_decoder = [0], {0: None, 1: None}
        pieces = ["<s>", "<|de|>", "</s>", "▁ein", "er", ",", "的", "。", "Ġthe", "é", "-", "\ufffd", "▁"]

        def __len__(self):
            return len(self.pieces)

        def convert_ids_to_tokens(self, ids):
            return [self.pieces[i] for i in ids]

        def convert_tokens_to_string(self, tokens):
            return "".join(tokens)

    tokens = Tokens(Pieces(), 15, [2])
    assert [i for i in range(13) if tokens.starts_word(i)] == [3, 6, 8, 12]
    assert tokens.lengthens.nonzero().flatten().tolist() == [4, 9, 11]
    assert tokens.forbidden.nonzero().flatten().tolist() == [0, 1, 13, 14]


def test_a_text_ends_and_does_not_lengthen_what_is_written():
    likes = torch.tensor([[0.0, 1, 5, 3, 4], [0.0, 1, 2, 5, 3], [9.0, 1, 2, 3, 4]])
    read = []

    def run(labels, cache):
        read.append(labels.tolist())
        row = likes[min(len(read) - 1, 2)]
        return row.expand(len(labels), labels.shape[1], 5), object()

    forbidden = torch.tensor([False, False, False, False, True])
    first = torch.tensor([False, False, True, False, False])
    found = continue_text(CachedDecoder(run), [1, 2], 9, AttentionBeamConfig(1), 0, forbidden, first, torch.device("cpu"))
    assert found.labels == (3, 3) and found.ended and read == [[[1, 2]], [[3]], [[3]]]


def test_a_chunk_is_whole_frames():
    assert Settings().chunk(20.0, 16000, 1500) == 8000 and Settings().chunk(160.0, 16000, 187) == 4 * 2560
    assert Settings(chunk_ms=20).chunk(80.0, 16000, 375) == 1280
