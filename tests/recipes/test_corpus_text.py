import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.recipes.corpora.prompts import prompts
from riverrun.recipes.corpora.text import plain, select, speakable, spoken_digits, spoken_number, transcript


@pytest.mark.parametrize(
    ("sentence", "said", "written"),
    [
        (
            "Mr. Neild\u2019s \u201cState\u201d \u2014 na\u00efve, etc.",
            'Mister Neild\'s "State" , naive, et cetera.',
            "mister neild's state naive et cetera",
        ),
        ("The well-known Dr. Grey", "The well-known Doctor Grey", "the well known doctor grey"),
        ("Rock 'n' roll at six o'clock", "Rock 'n' roll at six o'clock", "rock n roll at six o'clock"),
        ("I say no.", "I say no.", "i say no"),
    ],
)
def test_a_sentence_is_written_as_it_is_read(sentence: str, said: str, written: str) -> None:
    assert speakable(sentence) == said
    assert transcript(said) == written


@pytest.mark.parametrize("sentence", ["Press 3.", "50% of it", "St. James", "a [[b]] c", "R&B", "...", "", "\u65e5\u672c"])
def test_uncertain_readings_are_left_out(sentence: str) -> None:
    assert speakable(sentence) is None


@given(st.text())
def test_transcripts_hold_letters_and_inner_apostrophes_and_stand_still(text: str) -> None:
    once = transcript(text)
    assert re.fullmatch(r"([a-z]+('[a-z]+)*( [a-z]+('[a-z]+)*)*)?", once)
    assert transcript(once) == once
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (42, "forty two"),
        (1205, "one thousand two hundred five"),
        (900_015, "nine hundred thousand fifteen"),
    ],
)
def test_numbers(number: int, words: str) -> None:
    assert spoken_number(number) == words


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_numbers_out_of_reach(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        spoken_number(number)


def test_every_number_has_its_own_words() -> None:
    assert len({spoken_number(number) for number in range(2000)}) == 2000
    assert spoken_digits("307") == "three zero seven"


def test_selection_keeps_development_sentences_out_and_each_sentence_once() -> None:
    seen = {"held out by us"}
    sources = ["Held out, by us!", "Once is enough.", "once is enough", "Short", "Number 9 here", "one two three four five"]
    assert list(select(sources, words=(2, 4), exclude=seen)) == ["Once is enough."]
    assert list(select(["Once is enough"], words=(2, 4), exclude=seen)) == []


def test_prompts_repeat_with_the_seed_and_can_be_spoken() -> None:
    first, again, other = (list(itertools.islice(prompts(seed), 300)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(speakable(prompt) == prompt for prompt in first)
