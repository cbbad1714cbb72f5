import gzip
import json
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.recipes.corpora import pairs, spoken
from riverrun.recipes.corpora.errors import CorpusError
from riverrun.recipes.corpora.multi30k import Multi30k
from riverrun.recipes.corpora.packed import PackedCorpus
from riverrun.recipes.corpora.pair_text import reference_text, source_text, target_text
from riverrun.recipes.corpora.part import whole_lines
from riverrun.recipes.corpora.synthetic.engine import SynthesisError
from riverrun.recipes.corpora.synthetic.script import read_pairs
from riverrun.recipes.corpora.synthetic.speak import speak
from riverrun.recipes.corpora.tatoeba import Tatoeba
from riverrun.recipes.corpora.text import speakable

from .fake_engine import FakeEngine
from .publishers import write


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("2 blond girls sit.", "Two blond girls sit."),
        ("a Lounge &amp; Grill", "A Lounge and Grill"),
        ("# 8 for Iowa, the number #19", "Number eight for Iowa, the number nineteen"),
        ('It says "Asian Pacific 2007".', 'It says "Asian Pacific two thousand seven".'),
        ("they 're here", "They're here"),
        ("naïve \u2014 caf\u00e9", "Naive , cafe"),
        ("in his 50s", None),
        ("at 11:27", None),
        ("chestnuts for 2.00", None),
        ("95,000 a year", None),
        ("$5", None),
        ("...", None),
    ],
)
def test_english_is_made_speakable_or_left_out(published: str, said: str | None) -> None:
    assert source_text(published) == said


@pytest.mark.parametrize(
    ("published", "written"),
    [
        ("„Ja“ , sagt  e\u0308r\u00a0.", '"Ja", sagt \u00ebr.'),
        ("C\u2019est \u00ab bon \u00bb !", 'C\'est " bon " !'),
        ("Q&amp;A mit 50 %", "Q&A mit 50 %"),
        ("wei\u00dfe\u200b Zähne", "wei\u00dfe Zähne"),
        ("@@", None),
        ("#Ein Mann", None),
        ("42", None),
        ("", None),
    ],
)
def test_translations_keep_case_and_marks(published: str, written: str | None) -> None:
    assert target_text(published) == written


@given(st.text().filter(lambda text: "&" not in text))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    for clean in (target_text, reference_text, source_text):
        once = clean(text)
        if once is not None:
            assert clean(once) == once
            assert unicodedata.is_normalized("NFC", once)
    if (said := source_text(text)) is not None:
        assert speakable(said) == said


TRAIN = [
    ("A dog runs.", "Ein Hund rennt."),
    ("A dog runs!", "Ein  Hund rennt."),
    ("A DOG swims.", "Ein Hund schwimmt."),
    ("It swims, a dog", "Ein Hund badet!"),
    ("A cat.", "@@"),
    ("In 1,5.", "In eins komma fünf."),
    ("No.", "Das ist eine viel zu lange Antwort auf eine kurze Frage."),
    ("Four cats.", "Vier Katzen."),
    ("One two three four five six", "eins zwei drei vier fünf sechs"),
]
VAL = [("A dog swims.", "Ein Hund badet."), ("At 7:30.", "Um halb acht."), ("4 cats", "4 Katzen , da")]


def multi30k(folder: Path) -> Path:
    for name, rows in (("train", TRAIN), ("val", VAL), ("test_2016_flickr", VAL[:1]), ("test_2017_flickr", VAL[:1])):
        for column, lang in enumerate(("en", "de")):
            write(folder / f"{name}.{lang}", *(row[column] for row in rows))
    plain = folder / "val.de"
    (folder / "data/task1/raw").mkdir(parents=True)
    (folder / "data/task1/raw/val.de.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return folder


def run(*arguments: object) -> int:
    return pairs.main([str(argument) for argument in arguments])


def test_pairs_to_train_on_hold_nothing_that_is_measured(tmp_path: Path) -> None:
    source, out = multi30k(tmp_path / "m"), tmp_path / "out"
    more = write(tmp_path / "more.txt", "four cats\tignored")
    assert run("multi30k", "--source", source, "--target", "de", "--out", out, "--words", 1, 5, "--exclude", more) == 0
    assert whole_lines(out / "train.en-de.jsonl") == [
        {"text": "A dog runs.", "translation": "Ein Hund rennt.", "target_lang": "de", "pair": "multi30k/train/1"}
    ]
    reasons = {row["place"]: row["reason"] for row in whole_lines(out / "dropped.jsonl")}
    uncertain = "the English cannot be spoken with certainty"
    assert reasons == {
        "train/2": "a repetition", "train/3": "held out", "train/4": "held out", "train/5": "the translation is no clean sentence",
        "train/6": uncertain, "train/7": "the lengths are too unlike", "train/8": "held out", "train/9": "too short or too long",
        "val/2": uncertain,
    }  # fmt: skip
    assert [(row["text"], row["translation"]) for row in whole_lines(out / "val.en-de.jsonl")] == [
        ("A dog swims.", "Ein Hund badet."),
        ("Four cats", "4 Katzen , da"),
    ]
    about = json.loads((out / "about.json").read_text())
    assert "research use only" in about["licence"]
    assert about["pairs"] == {"train": 1, "val": 2, "test_2016_flickr": 1, "test_2017_flickr": 1}
    assert run("multi30k", "--source", source, "--target", "de", "--out", out, "--format", "tsv") == 0
    assert (out / "val.en-de.tsv").read_text() == "A dog swims.\tEin Hund badet.\nFour cats\t4 Katzen , da\n"


def test_tatoebas_splits_are_of_sentences_and_stay(tmp_path: Path) -> None:
    words = [f"{a} {b}" for a in ("red", "green", "blue") for b in ("cat", "dog", "house", "door", "ship", "bird", "tree", "road", "book")]
    rows = [(f"A {word}.", f"Etwas, {i} {n}-mal.") for i, word in enumerate(words) for n in range(2)]
    two = write(tmp_path / "2.tsv", *("\t".join(row) for row in rows))
    four = write(tmp_path / "4.tsv", *(f"{i}\t{en}\t{i}\t{de}" for i, (en, de) in enumerate(rows + [("New.", "Neu.")])))
    given = ["--target", "de", "--held-out-share", 0.2]
    for table in (two, four):
        assert run("tatoeba", "--source", table, "--out", tmp_path / table.stem, *given) == 0
    splits = {name: [row["text"] for row in whole_lines(tmp_path / f"2/{name}.en-de.jsonl")] for name in ("train", "val", "test")}
    assert all(len(set(texts)) == len(texts) for name, texts in splits.items() if name != "train")
    sets = [set(texts) for texts in splits.values()]
    assert sum(map(len, sets)) == len(words) == len(set.union(*sets))
    for name in ("val", "test"):
        assert set(splits[name]) <= {row["text"] for row in whole_lines(tmp_path / f"4/{name}.en-de.jsonl")}
    assert run("tatoeba", "--source", two, "--out", tmp_path / "all", "--target", "de", "--held-out-share", 0) == 0
    assert json.loads((tmp_path / "all/about.json").read_text())["pairs"] == {"train": 54}


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("multi30k", {}, "has no val.en (nor val.en.gz)"),
        ("multi30k", {"val.en": "a\nb", "val.de": "a"}, "val.en has 2 lines and val.de has 1"),
        ("multi30k", {"val.en": "a", "val.de.gz": "no gzip"}, "val.de.gz: not a gzipped file"),
        ("tatoeba", {}, "is a directory"),
    ],
)
def test_bad_pairs_are_named_in_one_line(
    name: str, files: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, content in files.items():
        write(tmp_path / file, *content.split("\n"))
    assert run(name, "--source", tmp_path, "--target", "de", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"), [("a", "line 1 has 1 columns; 2 (en, de), 3 or 4 are known"), ("1\t2", "no pair to train on")]
)
def test_bad_tables_are_named(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tatoeba", "--source", write(tmp_path / "t", line), "--target", "de", "--out", tmp_path / "o") == 2
    assert message in capsys.readouterr().err


def test_a_share_that_cannot_be_held_out_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tatoeba", "--source", tmp_path, "--target", "de", "--out", tmp_path / "o", "--held-out-share", 0.5) == 2
    assert "at least 0 and less than 0.5, not 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.tsv", "a\tb", "line 1: does not say its target language; give --target-lang"),
        ("p.tsv", "a\tb\tc", "line 1: is no pair; a line is to hold a sentence, a tab and its translation"),
        ("p.tsv", "a\t ", "line 1: is no pair"),
        ("p.jsonl", "{", "line 1: is no JSON"),
        ("p.jsonl", '{"text": "a"}', 'line 1: is no pair {"text": …, "translation": …, "target_lang": …}'),
        ("p.jsonl", '{"text": "a", "translation": "b", "words": []}', 'has the key "words", which the spoken clip sets; rename it'),
        ("p.jsonl", '{"text": "1", "translation": "b", "target_lang": "de"}', "has no sentence that can be spoken"),
    ],
)
def test_bad_scripts_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SynthesisError) as caught:
        read_pairs(write(tmp_path / name, content), None)
    assert message in str(caught.value)


def test_scripts_of_pairs_keep_what_they_say(tmp_path: Path) -> None:
    (line, other), left = read_pairs(write(tmp_path / "p.tsv", "Mr. A sings.\tHerr A singt.", "7\tsieben", "Go.\tGeh."), "de")
    assert (line.sentence, line.extra, left) == ("Mister A sings.", {"translation": "Herr A singt.", "target_lang": "de"}, 1)
    assert other.sentence == "Go."
    row = {"text": "Go.", "translation": "Va.", "target_lang": "fr", "pair": "x/1"}
    ((line,), _) = read_pairs(write(tmp_path / "p.jsonl", json.dumps(row)), "de")
    assert line.extra == {"translation": "Va.", "target_lang": "fr", "pair": "x/1"}


def test_pairs_are_spoken_by_voices_of_their_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "speak", partial(speak, engines={"fake": FakeEngine}))
    voices = "[{id: a, engine: fake, name: a}, {id: held, engine: fake, name: b}]"
    config = write(
        tmp_path / "c.yaml", "language: en", "seed: 1", "max_seconds: 20", "hold_out: held", "shares: {fake: 1}", f"voices: {voices}"
    )
    source = multi30k(tmp_path / "m")

    def speak_split(collection: Any, split: str, *more: str, source: Path = source) -> PackedCorpus:
        out = tmp_path / f"{collection.name}-{split}"
        arguments = ["--source", str(source), "--target", "de", "--split", split, "--out", str(out), "--root", str(tmp_path)]
        assert spoken.main(collection, [*arguments, "--config", str(config), "--jobs", "1", *more]) == 0
        return PackedCorpus(out)

    train = speak_split(Multi30k, "train", "--words", "1", "3")
    assert {(one.text, one.row["translation"], one.row["target_lang"], one.row["speaker"]) for one in train} == {
        ("a dog runs", "Ein Hund rennt.", "de", "a"),
    }
    val = speak_split(Multi30k, "val")
    assert [(one.text, one.row["pair"], one.row["speaker"]) for one in val] == [
        ("a dog swims", "multi30k/val/1", "held"),
        ("four cats", "multi30k/val/3", "held"),
    ]
    about = json.loads((tmp_path / "multi30k-val/about.json").read_text())
    assert "research use only" in about["text"]["licence"] and about["skipped"] == 1
    (skipped,) = whole_lines(tmp_path / "multi30k-val/skipped.jsonl")
    assert skipped["id"] == "val/2"
    table = write(tmp_path / "t.tsv", "Go now.\tGeh jetzt.\tCC-BY 2.0 (France)")
    assert [one.row["translation"] for one in speak_split(Tatoeba, "train", source=table)] == ["Geh jetzt."]


def test_a_command_on_pairs_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", str(tmp_path), "--target", "de", "--out", str(tmp_path / "o"), "--root", str(tmp_path)]
    assert spoken.main(Multi30k, arguments) == 2
    assert "has no val.en" in capsys.readouterr().err
    assert spoken.main(Multi30k, [*arguments, "--engines", "nobody"]) == 2
    assert "the configuration has no engine nobody; it has espeak festival" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="no translation|has no"):
        list(Multi30k(tmp_path, "de", pairs.parser().parse_args(["multi30k", *arguments[:6]])).pairs("val"))
