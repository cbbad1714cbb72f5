"""Tiny corpora in their publishers' layouts, with tones for speech and with everything that can be wrong in them."""

from pathlib import Path

import numpy as np

from riverrun.speech.audio import write_audio


def tone(path: Path, rate: int, seconds: float = 1.0, pitch: float = 300.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)).astype(np.float32), rate)
    return path


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ljspeech(folder: Path) -> Path:
    root = folder / "LJSpeech-1.1"
    write(
        root / "metadata.csv",
        "LJ001-0001|12 men,|twelve  men,",
        "LJ001-0002|no audio|no audio",
        "LJ001-0003|torn|torn",
        "LJ001-0004|slow|slow",
        "LJ001-0005|two columns",
        "LJ001-0006| | ",
        "LJ001-0007|silent|silent",
        "LJ001-0008|many|far too many words for a second of speech, and still more of them",
        "LJ050-0001|Na\u0308chstes|Na\u0308chstes",
    )
    for number in ("001-0001", "001-0003", "001-0005", "001-0006", "001-0008", "050-0001"):
        tone(root / f"wavs/LJ{number}.wav", 22050)
    tone(root / "wavs/LJ001-0004.wav", 16000)
    write_audio(root / "wavs/LJ001-0007.wav", np.zeros(22050, np.float32), 22050)
    (root / "wavs/LJ001-0003.wav").write_bytes(b"no audio at all")
    return root


def librispeech(folder: Path) -> Path:
    root = folder / "LibriSpeech"
    write(root / "SPEAKERS.TXT", ";ID  |SEX| SUBSET |MINUTES| NAME", "84   | F | dev-clean | 8.02 | Christie Nowak", "99 | M | x | 1 | y")
    chapter = root / "dev-clean/84/121123"
    write(chapter / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR", "84-121123-0001 TORN", "84-121123-0002 GONE")
    for number in ("0000", "0001", "0003"):
        tone(chapter / f"84-121123-{number}.flac", 16000)
    cut(chapter / "84-121123-0001.flac")
    other = root / "dev-other/700/1"
    tone(write(other / "700-1.trans.txt", "700-1-0000 AND SO ON").with_name("700-1-0000.flac"), 16000)
    return root


def commonvoice(folder: Path) -> Path:
    root = folder / "cv-corpus-6.1/nl"
    write(
        root / "train.tsv",
        "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent",
        'c1\ta.mp3\tHij zei: "Ja."\t2\t0\tthirties\tmale\t',
        "c2\tb\tZonder achtervoegsel\t2\t1\t\t\t",
        "c3\tc.mp3\tBetwist\t2\t2\t\t\t",
        "c4\td.mp3\t\t2\t0\t\t\t",
        "c5\t../e.mp3\tBuiten\t2\t0\t\t\t",
        "c6\tf.mp3\tKort",
        "c7\tg.mp3\tTe lang\t2\t0\t\t\t",
        "c8\ta.mp3\tNogmaals\t2\t0\t\t\t",
    )
    for name in "abcdfg":
        tone(root / f"clips/{name}.mp3", 32000)
    write(root / "clip_durations.tsv", "clip\tduration[ms]", "a.mp3\t1000", "g.mp3\t5000")
    return root


def mustc(folder: Path) -> Path:
    root = folder / "MUSTC_v1.0_en-de"
    split = root / "en-de/data/dev"
    tone(split / "wav/ted_1.wav", 16000, 6.0)
    segment = "- {{duration: {}, offset: {}, rW: 9, uW: 0, speaker_id: spk.{}, wav: {}}}".format
    write(
        split / "txt/dev.yaml",
        segment(1.5, 0.25, 1, "ted_1.wav"),
        segment(1.0, 2.0, 1, "ted_1.wav"),
        segment(2.0, 3.0, 2, "ted_1.wav"),
        segment(2.0, 5.0, 2, "ted_1.wav"),
        segment(1.0, 4.0, 2, "ted_1.wav"),
        segment(1.0, 4.0, 2, "ted_2.wav"),
        "- {wav: ted_1.wav}",
        segment(1.0, 4.0, 2, "../ted_1.wav"),
    )
    write(split / "txt/dev.en", "Thank you.", "(Applause)", "It’s  late.", "Beyond.", "Untold.", "Gone.", "Nowhere.", "Elsewhere.")
    write(split / "txt/dev.de", "Danke.", "(Applaus)", "Es ist spa\u0308t.", "Danach.", " ", "Weg.", "Nirgends.", "Woanders.")
    return root


def own(folder: Path) -> Path:
    root = folder / "recordings"
    write(
        root / "manifest.jsonl",
        '{"id": "a", "audio": "audio/a.ogg", "text": "One.", "lang": "en", "speaker": "x", "duration": 1.0, "mood": "calm"}',
        "{",
        '{"id": "b", "audio": "audio/b.ogg", "text": null, "speaker": "y"}',
        '{"id": "c", "audio": "audio/b.ogg", "text": 3}',
        '{"audio": "audio/b.ogg"}',
        '{"id": "d", "audio": "audio/b.ogg", "text": "Two.", "speaker": "y"}',
        '{"id": "e", "audio": "audio/a.ogg", "text": "Three.", "speaker": "z"}',
    )
    for name in "ab":
        tone(root / f"audio/{name}.ogg", 16000)
    return root
