"""The text of a corpus: nothing of a development set, nothing twice, and new sentences made only of known words."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from riverrun.recipes.corpora.glosses import glosses
from riverrun.recipes.corpora.sampled import NgramSampler, dictionary_words, word_strings
from riverrun.recipes.corpora.sentences import main
from riverrun.recipes.corpora.text import transcript

BOOK = [
    "The cat sat on the mat.",
    "The dog sat on the log.",
    "A cat and a dog met on the road.",
    "Mr. Smith saw the cat.",
    "Room 12 is shut.",
]
GLOSSES = """  1 This software and database is being provided to you | by its makers
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived (or known) to have its own existence; "an entity stood there"
00002098 00 a 01 able 0 001 = 05200169 n 0000 | having skill; "able to swim"; "she was able to program"
"""


def run(tmp_path: Path, *more: object) -> list[str]:
    book, out = tmp_path / "book.txt", tmp_path / "out.txt"
    book.write_text("\n".join([*BOOK, BOOK[0]]) + "\n")
    assert main(["--text", str(book), "--out", str(out), *map(str, more)]) == 0
    return out.read_text().splitlines()


def test_sentences_are_speakable_and_each_comes_once(tmp_path: Path) -> None:
    assert sorted(run(tmp_path)) == sorted([*BOOK[:3], "Mister Smith saw the cat."])


def test_development_sentences_are_left_out_of_everything(tmp_path: Path) -> None:
    held = tmp_path / "dev.jsonl"
    held.write_text(json.dumps({"text": "the cat sat on the log"}) + "\n" + json.dumps({"text": "THE DOG SAT, on the log"}) + "\n")
    text = [transcript(line) for line in run(tmp_path, "--exclude", held, "--sampled", 40)]
    assert "the cat sat on the log" not in text  # a sentence that sampling would make
    assert "the dog sat on the log" not in text
    assert len(text) == len(set(text)) > 6


def test_the_same_seed_gives_the_same_text(tmp_path: Path) -> None:
    assert run(tmp_path, "--sampled", 5, "--prompts", 5) == run(tmp_path, "--sampled", 5, "--prompts", 5)
    assert run(tmp_path, "--prompts", 9) != run(tmp_path, "--prompts", 9, "--seed", 2)


def test_sampled_sentences_hold_known_words_in_known_pairs() -> None:
    sampler, rng = NgramSampler(BOOK[:3]), random.Random(1)
    pairs = {pair for line in BOOK[:3] for pair in zip(line.split(), line.split()[1:], strict=False)}
    made = [sampler.sample(rng, longest=12) for _ in range(50)]
    assert len(set(made)) > 10
    for sentence in made:
        words = sentence.split()
        assert len(words) <= 12
        assert set(zip(words[:-1], words[1:-1], strict=False)) <= pairs


def test_glosses_are_parted_into_definitions_and_examples(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(GLOSSES)
    assert list(glosses(tmp_path)) == [
        "An entity stood there.",
        "That which is perceived  to have its own existence.",
        "Able to swim.",
        "She was able to program.",
        "Having skill.",
    ]


def test_word_strings_come_from_the_dictionary(tmp_path: Path) -> None:
    lexicon = tmp_path / "cmudict.scm"
    lexicon.write_text('("don\'t" v (((d ow n t) 1)))\n("harbor" n (((hh aa r) 1) ((b er) 0)))\n("a" nil (((ax) 0)))\n("3d" n ())\n')
    words = dictionary_words(lexicon)
    assert words == ["don't", "harbor"]
    assert {w for line in islice(word_strings(words, random.Random(1)), 20) for w in transcript(line).split()} == set(words)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--word-strings", "5"], "error: --word-strings needs a --dictionary\n"),
        (["--dictionary", "no.scm"], "error: no.scm: no such file or directory\n"),
        (["--wordnet", "."], "error: . holds no WordNet database: no file is named data.noun, data.verb …\n"),
        (["--exclude", "bad.jsonl"], "error: bad.jsonl, line 1: no JSON object with a text\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    more: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("A cat sat here.\n")
    Path("bad.jsonl").write_text("[1]\n")
    assert main(["--text", "book.txt", "--out", "out.txt", *more]) == 2
    assert capsys.readouterr().err == message
    assert not Path("out.txt").exists()
