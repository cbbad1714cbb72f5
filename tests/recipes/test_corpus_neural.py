"""Neural voices: what their networks are given, against stand-ins of the networks and of espeak-ng."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riverrun.recipes.corpora.synthetic import kokoro, piper
from riverrun.recipes.corpora.synthetic.compiler import compile_library
from riverrun.recipes.corpora.synthetic.engine import Style, SynthesisError, Voice
from riverrun.recipes.corpora.synthetic.kokoro import Kokoro, letters
from riverrun.recipes.corpora.synthetic.neural import open_network, pcm
from riverrun.recipes.corpora.synthetic.phonemes import Phonemes
from riverrun.recipes.corpora.synthetic.piper import Piper, token_ids
from riverrun.recipes.corpora.synthetic.voices import DEFAULT, read_cast

SOURCES = Path(__file__).parent / "native"
NEURAL = DEFAULT.with_name("neural-en.yaml")
PIPER_IDS = {symbol: [number] for number, symbol in enumerate("_^$ .abc", start=0)}


@dataclass
class Network:
    """Answers with three samples, and keeps what it was asked."""

    names: tuple[str, ...]
    asked: dict[str, Any] = field(default_factory=dict)

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": name})() for name in self.names]

    def run(self, _: None, inputs: dict[str, Any]) -> list[np.ndarray]:
        self.asked = inputs
        return [np.array([[0.5, -2.0, 0.0]], np.float32)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib/espeak-ng-data/voices/!v").mkdir(parents=True)
    compile_library(SOURCES / "fake_espeak.c", tmp_path / "usr/lib/libespeak-ng.so.1", "-w")
    (tmp_path / "kokoro/voices").mkdir(parents=True)
    (tmp_path / "piper").mkdir()
    (tmp_path / "kokoro/model.onnx").touch()
    (tmp_path / "kokoro/config.json").write_text(json.dumps({"vocab": {"a": 5, "b": 6, " ": 7, ".": 8}}))
    for name, value in (("af_one", 1.0), ("bm_two", 3.0)):
        (np.arange(510, dtype=np.float32)[:, None] + np.full(256, value, np.float32)).tofile(tmp_path / f"kokoro/voices/{name}.bin")
    return tmp_path


def piper_voice(root: Path, name: str, speakers: int) -> None:
    config = {
        "audio": {"sample_rate": 22050}, "espeak": {"voice": "en-us"}, "num_speakers": speakers, "phoneme_id_map": PIPER_IDS,
        "inference": {"noise_scale": 0.6, "length_scale": 1.5, "noise_w": 0.8},
    }  # fmt: skip
    (root / f"piper/{name}.onnx.json").write_text(json.dumps(config))
    (root / f"piper/{name}.onnx").touch()


def test_phonemes_keep_the_marks_that_end_clauses(root: Path) -> None:
    phonemes = Phonemes(root, root)
    assert phonemes.of("well, it is; so?! ab|cd", "en-us") == "well, it is; so? ab cd"
    assert phonemes.of(" ... ", "en-gb") == ""
    with pytest.raises(SynthesisError, match="espeak-ng has no voice martian"):
        phonemes.of("well", "martian")


def test_phonemes_become_the_letters_that_kokoro_learned() -> None:
    assert letters("ðə wˈɔːɾɚ flˈoʊz nˈaʊ, tʃˈɜːtʃ", british=False) == "ðə wˈɔTəɹ flˈOz nˈW, ʧˈɜɹʧ"
    assert letters("ðə wˈɔːtə flˈəʊz nˈaʊ, ðˈeə", british=True) == "ðə wˈɔːtə flˈQz nˈW, ðˈɛː"


def test_kokoro_is_given_tokens_a_blended_style_and_a_speed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(("input_ids", "style", "speed"))
    monkeypatch.setattr(kokoro, "open_network", lambda path: network)
    voices = [Voice("v", "kokoro", "af_one"), Voice("w", "kokoro", "af_one+bm_two*0.25")]
    engine = Kokoro(root, voices, root)
    speech = engine.speak("ab b.", voices[0], Style(rate=1.2, warp=0.8))
    assert (speech.sample_rate, speech.words, list(speech.samples)) == (24000, None, [16384, -32767, 0])
    assert network.asked["input_ids"].tolist() == [[0, 5, 6, 7, 6, 8, 0]]
    assert network.asked["style"].shape == (1, 256) and network.asked["style"][0, 0] == 6, "of five phonemes"
    assert network.asked["speed"].tolist() == pytest.approx([1.5])
    engine.speak("ab b.", voices[1], Style())
    assert network.asked["style"][0, 0] == 6.5
    with pytest.raises(SynthesisError, match="0 phonemes, of which Kokoro takes 1 to 509"):
        engine.speak("xyz", voices[0], Style())
    with pytest.raises(SynthesisError, match="510 phonemes"):
        engine.speak("|".join(["a" * 200, "a" * 200, "a" * 108]), voices[0], Style())


def test_kokoro_names_what_is_wrong_with_its_files(root: Path) -> None:
    with pytest.raises(SynthesisError, match='the name "af one" is neither a style of Kokoro nor two, such as'):
        Kokoro(root, [Voice("v", "kokoro", "af one")], root)
    with pytest.raises(SynthesisError, match=r"has no kokoro/voices/af_none.bin, and kokoro needs it there: .* or leave it out"):
        Kokoro(root, [Voice("v", "kokoro", "af_none")], root)
    (root / "kokoro/voices/af_one.bin").write_bytes(b"1234")
    with pytest.raises(SynthesisError, match="af_one.bin is no style of Kokoro: it holds 1 numbers, not 510 × 256"):
        Kokoro(root, [Voice("v", "kokoro", "af_one")], root)


def test_a_file_that_is_no_network_is_named_in_one_line(root: Path) -> None:
    with pytest.raises(SynthesisError, match=r"model.onnx: \S") as caught:
        open_network(root / "kokoro/model.onnx")
    assert "\n" not in str(caught.value)


def test_piper_is_given_tokens_scales_and_a_speaker(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(())
    monkeypatch.setattr(piper, "open_network", lambda path: network)
    piper_voice(root, "one", 1)
    piper_voice(root, "many", 3)
    voices = [Voice("v", "piper", "one"), Voice("w", "piper", "many#2")]
    engine = Piper(root, voices, root)
    speech = engine.speak("ab", voices[0], Style(rate=1.25, warp=0.5))
    assert (speech.sample_rate, speech.words) == (22050, None)
    assert network.asked["input"].tolist() == [[1, 0, 5, 0, 6, 0, 2]] and network.asked["input_lengths"].tolist() == [7]
    assert network.asked["scales"].tolist() == pytest.approx([0.6, 0.6, 0.8]) and "sid" not in network.asked
    engine.speak("ab", voices[1], Style())
    assert network.asked["sid"].tolist() == [2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one#0", 'the voice "v" has the name "one#0", which has one: leave out #'),
        ("many", 'has the name "many", which has #0 to #2'),
        ("many#3", 'has the name "many#3", which has #0 to #2'),
        ("none", r"has no piper/none.onnx.json, and piper needs it there"),
    ],
)
def test_piper_names_what_is_wrong_with_a_voice(root: Path, name: str, message: str) -> None:
    piper_voice(root, "one", 1)
    piper_voice(root, "many", 3)
    with pytest.raises(SynthesisError, match=message):
        Piper(root, [Voice("v", "piper", name)], root)


def test_unknown_symbols_are_left_out_and_composed_ones_taken_apart() -> None:
    assert token_ids("a^_ç.", PIPER_IDS | {"\u0327": [9]}) == [1, 0, 5, 0, 7, 0, 9, 0, 4, 0, 2]


def test_samples_beyond_full_scale_are_clipped() -> None:
    assert pcm(np.array([[1.5], [-1.5], [1e-5]])).tolist() == [32767, -32767, 0]


def test_blends_repeat_and_speak_as_often_as_single_styles() -> None:
    cast = read_cast(NEURAL)
    speakers = [voice for voice in cast.voices if voice.engine == "kokoro"]
    blends = [voice for voice in speakers if "+" in voice.name]
    assert speakers == [voice for voice in read_cast(NEURAL).voices if voice.engine == "kokoro"]
    assert len(blends) == 300 and sum(voice.weight for voice in blends) == pytest.approx(
        sum(voice.weight for voice in speakers if "+" not in voice.name)
    )
    assert all(voice.name[0] in "ab" for voice in speakers), "an English style leads"
    assert {voice.name.split("+")[1][0] for voice in blends} > {"a", "b", "j"}
