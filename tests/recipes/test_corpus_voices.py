from pathlib import Path

import pytest

from riverrun.recipes.corpora.synthetic.engine import SynthesisError
from riverrun.recipes.corpora.synthetic.espeak import _END, _PHONEME, _WORD, _Event, word_spans
from riverrun.recipes.corpora.synthetic.festival import read_times
from riverrun.recipes.corpora.synthetic.speaker import same_words
from riverrun.recipes.corpora.synthetic.voices import espeak_variant, read_cast

GOOD = (
    "language: en\nseed: 1\nmax_seconds: 9\nshares: {fake: 1}\nvoices: [{id: a, engine: fake, name: a}, {id: b, engine: fake, name: b}]\n"
)


def test_the_configuration_holds_whole_voices_out() -> None:
    cast = read_cast()
    training, held_out = cast.choose(), cast.choose(held_out=True)
    assert {voice.id for voice in training.voices}.isdisjoint(voice.id for voice in held_out.voices)
    assert len(training.voices) + len(held_out.voices) == len(cast.voices)
    assert {voice.name for voice in held_out.voices if voice.engine == "festival"} == {"ked_diphone"}
    assert not any(voice.name == "ked_diphone" for voice in training.voices)
    assert sum(voice.engine == "espeak" for voice in held_out.voices) == 2


def test_weights_sum_to_the_engines_shares() -> None:
    training = read_cast().choose()
    for engine, share in training.shares.items():
        assert sum(voice.weight for voice in training.voices if voice.engine == engine) == pytest.approx(share)


def test_one_engine_can_be_chosen_and_an_empty_choice_is_an_error() -> None:
    assert {voice.engine for voice in read_cast().choose(engines={"flite"}).voices} == {"flite"}
    with pytest.raises(SynthesisError, match="no held-out voice"):
        read_cast().choose(engines={"flite"}, held_out=True)
    with pytest.raises(SynthesisError, match="no engine nobody; it has espeak"):
        read_cast().choose(engines={"nobody", "flite"})


def test_variants_repeat_and_differ() -> None:
    assert espeak_variant(3, 7) == espeak_variant(3, 7)
    assert len({espeak_variant(index, 7).split("\n", 2)[2] for index in range(30)}) == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("seed: 1\n", ""), "'seed' is missing"),
        (GOOD.replace("id: b", "id: a"), 'two voices have the id "a"'),
        (GOOD.replace("fake: 1", "other: 1"), "has no share"),
        (GOOD.replace("name: b", "nom: b"), "nom"),
        (GOOD + "hold_out: '('\n", "unterminated"),
        (GOOD + "style: {speed: 1}\n", "speed"),
        ("language: [", "expected"),
        ("just words", "mapping"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cast.yaml"
    path.write_text(text)
    with pytest.raises(SynthesisError, match=message) as caught:
        read_cast(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match="no such file"):
        read_cast(tmp_path / "none.yaml")


def test_espeak_words_join_where_it_merges_and_end_at_a_pause() -> None:
    events = [
        _Event(_WORD, 0, 100, False), _Event(_PHONEME, 0, 100, False), _Event(_WORD, 7, 900, False), _Event(_PHONEME, 7, 900, False),
        _Event(_PHONEME, 7, 1400, True), _Event(_WORD, 15, 2000, False), _Event(_PHONEME, 15, 2000, False), _Event(_END, 15, 2600, True),
    ]  # fmt: skip
    assert list(word_spans("out of the, door", events, 3000)) == [("out of", 100, 900), ("the,", 900, 1400), ("door", 2000, 2600)]


def test_espeak_pauses_inside_a_word_do_not_end_it() -> None:
    events = [_Event(_WORD, 0, 0, False), _Event(_PHONEME, 0, 0, False), _Event(_PHONEME, 0, 300, True), _Event(_PHONEME, 0, 500, False)]
    assert list(word_spans("uh-oh", events, 800)) == [("uh-oh", 0, 800)]


def test_festival_words_of_one_token_are_one() -> None:
    words, spoken = read_times("seven\tseven-up\t0.1\t0.4\nup\tseven-up\t0.4\t0.6\nwe\twe\t0.6\t0.7\nwe\twe\t0.7\t0.8\n")
    assert [(word, start, end) for word, start, end in words] == [("seven-up", 0.1, 0.6), ("we", 0.6, 0.7), ("we", 0.7, 0.8)]
    assert spoken == "seven up we we"


def test_spoken_words_are_compared_by_their_letters() -> None:
    assert same_words("well known reed ", "Well-known read!")
    assert not same_words("one hundred", "100")
