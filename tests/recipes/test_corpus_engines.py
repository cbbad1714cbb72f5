"""The engines behind small C libraries, against stand-ins of their own libraries that tell what they were asked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from riverrun.recipes.corpora.synthetic.compiler import build_native, compile_library, native_library, run
from riverrun.recipes.corpora.synthetic.engine import Speech, Style, SynthesisError, Voice
from riverrun.recipes.corpora.synthetic.packages import LICENCES, PACKAGES
from riverrun.recipes.corpora.synthetic.pico import Pico
from riverrun.recipes.corpora.synthetic.rhvoice import RHVoice
from riverrun.recipes.corpora.synthetic.speaker import ENGINES, Task, make_clip
from riverrun.recipes.corpora.synthetic.unpack import main as unpack_main
from riverrun.recipes.corpora.synthetic.voices import DEFAULT, read_cast

from .fake_engine import tones

SOURCES = Path(__file__).parent / "native"
BRITISH = Voice("p", "pico", "en-GB", pitch=176)
BDL = Voice("r", "rhvoice", "Bdl", pitch=121)


def stand_in(root: Path, source: str, library: str, *options: str) -> None:
    (root / "usr/lib").mkdir(parents=True, exist_ok=True)
    compile_library(SOURCES / source, root / "usr/lib" / library, "-w", *options)


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Pico:
    root = tmp_path_factory.mktemp("pico")
    stand_in(root, "fake_pico.c", "libttspico.so.0")
    lingware = root / "usr/share/pico/lang"
    lingware.mkdir(parents=True)
    for name in ("en-GB_ta", "en-GB_kh0_sg"):
        (lingware / f"{name}.bin").touch()
    return Pico(root, [BRITISH], root)


def stand_in_rhvoice(root: Path, *options: str) -> None:
    for library in ("libsonic.so.0", "libRHVoice_core.so.7"):
        stand_in(root, "empty.c", library)
    stand_in(root, "fake_rhvoice.c", "libRHVoice.so.5", *options)


def asked(speech: Speech) -> str:
    return bytes(speech.samples.astype(np.uint8)).decode()


def test_pico_is_told_rate_and_pitch_and_tells_no_times(pico: Pico) -> None:
    speech = pico.speak("It is <late>.", BRITISH, Style(rate=1.2, pitch=0.9))
    assert asked(speech) == '<speed level="120"><pitch level="90">It is  late .</pitch></speed>'
    assert (speech.sample_rate, speech.words) == (16000, None)


def test_pico_allows_for_the_warp_to_come_and_for_its_own_limits(pico: Pico) -> None:
    assert asked(pico.speak("a", BRITISH, Style(warp=1.25))) == '<speed level="80"><pitch level="80">a</pitch></speed>'
    assert asked(pico.speak("a", BRITISH, Style(pitch=9, rate=9))) == '<speed level="500"><pitch level="200">a</pitch></speed>'


def test_pico_speaks_on_after_an_error(pico: Pico) -> None:
    with pytest.raises(SynthesisError, match="SVOX Pico refused the text"):
        pico.speak("what?", BRITISH, Style())
    assert "again" in asked(pico.speak("again", BRITISH, Style()))


def test_rhvoice_tells_word_times_to_a_frame(tmp_path: Path) -> None:
    stand_in_rhvoice(tmp_path)
    speech = RHVoice(tmp_path, [BDL], tmp_path).speak("the old man", BDL, Style(rate=1.2, pitch=1.5, warp=0.8))
    assert speech.sample_rate == 24000
    assert [word for word, _, _ in speech.words or []] == ["the", "old", "man"]
    expected = [(0.01 + 0.05 * index, 0.04 + 0.05 * index) for index in range(3)]
    assert [(start, end) for _, start, end in speech.words or []] == [pytest.approx(pair, abs=0.006) for pair in expected]
    assert list(speech.samples[[0, 120]]) == [1500, 1875], "rate and pitch, set against the warp"
    assert len(speech.samples) == 240 + 3 * (720 + 480)
    assert (tmp_path / "rhvoice/RHVoice.conf").read_text().startswith("quality=max")


def test_another_rhvoice_is_refused_rather_than_timed_wrongly(tmp_path: Path) -> None:
    # In a process of its own: this one has the first stand-in's symbols.
    stand_in_rhvoice(tmp_path, "-DCHANGED")
    program = (
        "import sys; from pathlib import Path\n"
        "from riverrun.recipes.corpora.synthetic.engine import Style, SynthesisError, Voice\n"
        "from riverrun.recipes.corpora.synthetic.rhvoice import RHVoice\n"
        "voice, root = Voice('r', 'rhvoice', 'Bdl', pitch=121), Path(sys.argv[1])\n"
        "try: RHVoice(root, [voice], root).speak('a', voice, Style())\n"
        "except SynthesisError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "not version 1.8" in told.stdout


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_engine_names_its_packages(name: str, tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match=rf"needs the Debian packages {PACKAGES[name][0]}.*--engines") as caught:
        ENGINES[name](tmp_path, [], tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "known"), [("pico", "en-GB en-US"), ("rhvoice", "Alan Bdl Clb Slt")])
def test_a_voice_that_the_engine_lacks_is_named(name: str, known: str, tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match=f'the voice "x" has the name "Kim"; {name} has {known}'):
        ENGINES[name](tmp_path, [Voice("x", name, "Kim")], tmp_path)


def test_every_engine_has_a_licence_a_share_and_packages_unless_it_is_neural() -> None:
    casts = [read_cast(), read_cast(DEFAULT.with_name("neural-en.yaml"))]
    assert set(PACKAGES) == set(casts[0].shares)
    assert set(ENGINES) == set(LICENCES) == set(casts[0].shares) | set(casts[1].shares)
    assert all(sum(cast.shares.values()) == pytest.approx(1) for cast in casts)


def test_unpacking_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack_main([str(tmp_path), str(tmp_path / "root"), "--engines", "pico"]) == 2
    assert "lacks the packages libttspico0 libttspico-data;" in capsys.readouterr().err
    assert unpack_main([str(tmp_path), str(tmp_path / "root"), "--engines", "pico,piko"]) == 2
    assert capsys.readouterr().err == "error: no engine piko; there are espeak festival flite pico rhvoice\n"


def test_programs_that_are_missing_or_fail_are_named() -> None:
    with pytest.raises(SynthesisError, match="riverrun-no-such-program is needed and is not installed"):
        run("riverrun-no-such-program")
    with pytest.raises(SynthesisError, match="cc failed: .*none.c"):
        run("cc", "none.c")


def test_what_was_compiled_at_unpacking_is_used(tmp_path: Path) -> None:
    library = build_native("pico", tmp_path / "stub")
    assert native_library("pico", tmp_path, tmp_path / "scratch") == library
    assert not (tmp_path / "scratch").exists()


def test_speech_without_times_gives_a_row_without_words() -> None:
    class Untimed:
        def speak(self, text: str, voice: Voice, style: Style) -> Speech:
            said = tones(text)
            return Speech(said.samples, said.sample_rate, None)

        def close(self) -> None: ...

    cast = read_cast().choose(engines={"pico"})
    clip, row = make_clip(Task(0, "one two three four"), cast, {"pico": Untimed()})  # type: ignore[dict-item]
    assert "words" not in row
    assert row["text"] == "one two three four"
    assert row["duration"] == pytest.approx(len(clip) / 16000, abs=1e-3)
