"""``riverrun evaluate --policy``: the numbers are those of sacrebleu and of `riverrun.streaming.latency`, and remembering changes none."""

import csv
import json
import random
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from riverrun.cli import policy_runs, recall
from riverrun.cli.policy_runs import Recording, Runner, Setting
from riverrun.cli.recall import Recall
from riverrun.cli.settings import USUAL, expand
from riverrun.cli.translation import Translating
from riverrun.recipes.corpora.packed import PackWriter
from riverrun.speech.model import load as load_really
from riverrun.speech.quality import SentenceCounts
from riverrun.speech.scoring import score_translations
from riverrun.streaming import Final, Stream
from riverrun.streaming.latency import score, timing_of
from riverrun.streaming.policies import POLICIES, parse_policy
from riverrun.streaming.translator import Translator

from ..streaming.fake_translator import FakeModel, Heard, speak
from ..tiny_translator import tiny_translator
from .test_translate import load

SENTENCES = {
    "a": ((1, 2, 3, 9), "eins zwei drei."),
    "b": ((4, 5, 6, 7, 9), "vier fünf sechs acht."),
    "c": ((8, 8, 1, 9), "acht acht eins."),
}


@pytest.fixture
def evaluate(run, monkeypatch, tmp_path):
    monkeypatch.setattr("riverrun.speech.load", load, raising=False)
    rows = []
    for name, (words, translation) in SENTENCES.items():
        soundfile.write(tmp_path / f"{name}.wav", speak(words), 16000, subtype="FLOAT")
        rows.append({"id": name, "audio": f"{name}.wav", "text": "", "translation": translation, "target_lang": "de"})
    rows.append({"id": "french", "audio": "a.wav", "text": "", "translation": "un", "target_lang": "fr"})
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def call(*arguments):
        return run("evaluate", "-m", "fake", "--manifest", "set.jsonl", "--to", "de", *arguments)

    return call


def expected(policy: str) -> tuple[list[str], list]:
    texts, timings = [], []
    for words, translation in SENTENCES.values():
        stream, audio = Stream(Translator(FakeModel(), parse_policy(policy), language="de")), speak(words)
        finals = [event for event in stream.push(audio) + stream.finish() if isinstance(event, Final)]
        texts.append(" ".join(event.text for event in finals))
        timings.append(timing_of([w for event in finals for w in event.words], len(audio) / 16, translation))
    return texts, timings


def test_a_report_has_the_scores_of_its_recordings(evaluate):
    files = ("-o", "out/r.json", "--csv", "out/r.csv", "--plot", "out/r.png", "--markdown", "out/r.md")
    asked = ("--policy", "alignatt", "--policy", "wait-k:unit-ms=200", "--sweep", "alignatt:f=2,9", "--sweep", "wait-k:k=1,2,4")
    code, out, err = evaluate(*asked, *files)
    assert (code, err) == (0, "") and [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["alignatt", "frames=2"],
        ["alignatt", "frames=9"],
        *(["wait-k", "unit-ms=200,"] for _ in range(3)),
    ]
    document = json.loads(Path("out/r.json").read_text())
    assert document["recordings"] == 3 and document["to"] == "de" and document["failed"] == {}
    references = [translation for _, translation in SENTENCES.values()]
    policies = ["alignatt:frames=2", "alignatt:frames=9", *(f"wait-k:unit-ms=200,k={k}" for k in (1, 2, 4))]
    for i, (policy, one) in enumerate(zip(policies, document["settings"], strict=True)):
        texts, timings = expected(policy)
        assert [o["settings"][i]["text"] for o in document["outcomes"]] == texts
        quality, latency = score_translations(texts, references, "de"), score(timings).values
        assert one["bleu"]["score"] == pytest.approx(quality.bleu, abs=1e-3) and one["chrf"]["score"] == pytest.approx(
            quality.chrf, abs=1e-3
        )
        assert {name: one["latency"][name] for name in latency} == {name: value and round(value, 3) for name, value in latency.items()}
        assert one["latency"]["StreamLAAL"] == one["laal"]["score"] == one["latency"]["LAAL"]
        for interval in (one["bleu"], one["chrf"], one["laal"]):
            assert interval["low"] <= interval["score"] + 1e-9 and interval["score"] <= interval["high"] + 1e-9
        aware = one["computation_aware"]
        assert one["laal"]["score"] < aware["queue"]["LAAL"] <= aware["additive"]["LAAL"] == aware["additive"]["laal"]["score"]
    assert document["settings"][1]["setting"] == {"frames": "9"} and document["bleu_signature"].startswith("nrefs:1|")
    rows = list(csv.DictReader(Path("out/r.csv").read_text().splitlines()))
    assert [r["setting"] for r in rows] == ["frames=2", "frames=9", *(f"unit-ms=200, k={k}" for k in (1, 2, 4))]
    assert float(rows[0]["laal"]) == document["settings"][0]["laal"]["score"] and float(rows[0]["ca_AL"]) > float(rows[0]["AL"])
    assert matplotlib.image.imread("out/r.png")[..., :3].std() > 0.05
    tables = Path("out/r.md").read_text()
    assert "![quality against latency](r.png)" in tables and "| alignatt | frames=2 |" in tables and "nrefs:1|" in tables
    ends = [s["laal"]["score"] for s in document["settings"][2:]]
    inside = [s for s in document["settings"][:2] if min(ends) <= s["laal"]["score"] <= max(ends)]
    assert [d["laal"] for d in document["differences"]] == [s["laal"]["score"] for s in inside]
    assert all(d["against"] == "wait-k" and d["low"] <= d["bleu"] + 1e-9 for d in document["differences"])


def test_retranslation_is_late_and_erases(evaluate):
    (one,) = json.loads(evaluate("--policy", "re-translation", "--json")[1])["settings"]
    assert one["normalized_erasure"] > 0 and one["latency"]["YAAL"] is None and one["bleu"]["score"] > 30


def test_long_recordings_are_scored_by_their_sentences(evaluate):
    audio = np.concatenate([speak(words, end=12) for words, _ in SENTENCES.values()])
    soundfile.write("long.wav", audio, 16000, subtype="FLOAT")
    ends = np.cumsum([len(speak(words, end=12)) / 16000 for words, _ in SENTENCES.values()]).tolist()
    sentences = [
        {"start": start, "end": end, "translation": text}
        for start, end, (_, text) in zip([0, *ends], ends, SENTENCES.values(), strict=False)
    ]
    Path("set.jsonl").write_text(json.dumps({"id": "long", "audio": "long.wav", "text": "", "sentences": sentences}))
    (one,) = json.loads(evaluate("--policy", "streamatt", "--json")[1])["settings"]
    assert 0 < one["latency"]["StreamLAAL"] < 1500 and one["bleu"]["score"] > 50


def test_packed_corpora_and_failures(evaluate, tmp_path):
    writer = PackWriter(tmp_path / "packed")
    for words, translation in SENTENCES.values():
        writer.add((speak(words) * 32767).astype(np.int16), {"text": "", "translation": translation})
    writer.close()
    packed = json.loads(evaluate("--policy", "alignatt", "--manifest", "packed", "--limit", "2", "--json")[1])
    assert packed["recordings"] == 2 and [o["id"] for o in packed["outcomes"]] == ["0", "1"]
    files = json.loads(evaluate("--policy", "alignatt", "--json")[1])
    assert [o["settings"][0]["text"] for o in packed["outcomes"]] == [o["settings"][0]["text"] for o in files["outcomes"][:2]]
    Path("b.wav").write_text("no audio")
    code, out, err = evaluate("--policy", "alignatt", "--json")
    assert (
        code == 1 and json.loads(out)["recordings"] == 2 and err.splitlines()[-1] == "riverrun: 1 of 3 recordings failed, and do not count"
    )


def test_what_was_done_before_ctrl_c_is_reported(evaluate, monkeypatch):
    run = Runner.run

    def stop(runner, recording):
        if recording.id == "c":
            raise KeyboardInterrupt
        return run(runner, recording)

    monkeypatch.setattr(Runner, "run", stop)
    code, out, err = evaluate("--policy", "alignatt", "--json")
    assert (code, err) == (130, "riverrun: stopped; 2 of 3 recordings scored\n") and json.loads(out)["recordings"] == 2


@pytest.mark.parametrize("policy", [*POLICIES, "streamatt:size=2", "wait-k:words=ctc"])
def test_what_is_remembered_is_what_would_be_said_again(policy):
    class Restarting(FakeModel):
        def restart(self, source, which):
            return Heard(source.waiting, source.waits.masked_fill(which, 0), source.symbols, source.held)  # and so hears a little less

    model = Restarting(most_frames=120)
    audio = speak([1, 2, 0, 3, 4, 9, 5, 6, 7, 8, 9, 1], frames=5)
    remembering = Recall(model)
    for text in ("alignatt:frames=3", policy, "local-agreement", policy):
        events = []
        for source in (model, remembering):
            stream = Stream(Translator(source, parse_policy(text), language="de", silence_s=0.4))
            events.append(stream.push(audio) + stream.finish())
        assert events[0] == events[1]
    asked = model.asked
    stream = Stream(Translator(remembering, parse_policy(policy), language="de", silence_s=0.4))
    assert stream.push(audio) + stream.finish() == events[0]
    assert model.asked == asked, "a setting that was run is computed again"


def test_a_source_that_is_no_longer_remembered_is_heard_again(monkeypatch):
    monkeypatch.setattr(recall, "_KEPT", 4)
    remembering = Recall(FakeModel())
    audio = speak([1, 2, 3, 4, 5, 9])
    events = []
    for _ in range(2):
        stream = Stream(Translator(remembering, parse_policy("alignatt:frames=3"), language="de"))
        events.append(stream.push(audio) + stream.finish())
    assert events[0] == events[1]
    with pytest.raises(ValueError, match="one stream at a time, not 2"):
        remembering.init_source(2)


class Clock:
    """Seconds that pass only where a model computes: 10 ms for each piece that is heard, 100 ms for each continuation."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (recall, policy_runs):
            monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def model(self):
        clock = self

        class Timed(FakeModel):
            def hear(self, *given):
                clock.now += 0.01
                return super().hear(*given)

            def generate(self, *given):
                clock.now += 0.1
                return super().generate(*given)

        return Timed()


def test_computing_counts_in_every_setting_and_is_done_once(monkeypatch):
    clock = Clock(monkeypatch)

    class Loaded:
        info = {"name": "timed"}

        def attention_model(self, *given):
            return model

    model = clock.model()
    monkeypatch.setattr("riverrun.cli.translation.load_any", lambda name, device: Loaded())
    settings = [Setting("alignatt", ("f=2",)), Setting("hold-n", ("n=0",)), Setting("alignatt", ("f=2",))]
    audio = (speak([1, 2, 3, 9]) * 32767).astype(np.int16)
    run = Runner(Translating("timed", to="de"), settings).run(Recording("a", audio, "eins zwei drei."))
    alone = Runner(Translating("timed", to="de"), settings[1:2]).run(Recording("a", audio, "eins zwei drei."))
    first, second, third = run.outcomes
    for one, same in ((first, third), (second, alone.outcomes[0])):
        assert (one.text, one.delays) == (same.text, same.delays)
        assert one.elapsed == pytest.approx(same.elapsed) and one.compute_ms == pytest.approx(same.compute_ms)
    chunk, end = 160.0, len(audio) / 16
    decisions = [10 + chunk * n for n in range(1, int((end - 10) // chunk) + 1)]
    for delay, elapsed in zip(first.delays, first.elapsed, strict=True):
        heard = decisions.index(delay) + 1 if delay in decisions else len(decisions) + 1
        assert elapsed - delay == pytest.approx(110 * heard + (0 if delay in decisions else -10 * (end in decisions)))
    assert run.took < sum(outcome.compute_ms for outcome in run.outcomes) / 1000 * 0.7


def test_workers_write_what_one_process_writes(run, monkeypatch, tmp_path):
    monkeypatch.setattr("riverrun.speech.load", load_really, raising=False)
    folder = tiny_translator(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", draw.standard_normal(16000 + 4000 * i) * 0.1, 16000)
    rows = [{"id": str(i), "audio": f"{i}.wav", "text": "", "translation": "the quick brown fox"} for i in range(3)]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    documents = []
    for workers in ("1", "2"):
        asked = ("--manifest", "set.jsonl", "-m", str(folder), "-l", "320", "--policy", "alignatt", "--sweep", "f=1,4")
        code, out, err = run("evaluate", *asked, "--workers", workers, "--json")
        assert (code, err) == (0, "")
        documents.append(json.loads(out))
    texts = [[[s["text"] for s in o["settings"]] for o in d["outcomes"]] for d in documents]
    assert texts[0] == texts[1] and any(text for one in texts[0] for text in one)
    assert documents[0]["settings"][0]["laal"] == documents[1]["settings"][0]["laal"] and documents[1]["to"] == "de"


def test_settings_are_expanded():
    assert expand(["alignatt"], [], [], 40.0) == [("alignatt", ())]
    assert expand(["alignatt:rewind=9"], ["f=1", "f=1"], ["frames=2,4"], 40.0) == [
        ("alignatt:rewind=9", (option,)) for option in ("f=1", "frames=2", "frames=4")
    ]
    crossed = expand(["edatt", "hold-n"], ["hold-n:n=3"], ["edatt:a=0.1,0.2", "edatt:l=2,4"], 40.0)
    assert crossed == [("edatt", (f"alpha={a}", f"lambda={b}")) for a in (0.1, 0.2) for b in (2, 4)] + [("hold-n", ("n=3",))]
    assert expand(["alignatt"], [], ["usual"], 160.0) == [("alignatt", (f"frames={n}",)) for n in (1, 2, 3, 4, 6)]
    assert set(USUAL) == set(POLICIES)


@pytest.mark.parametrize("language", ["de", "zh", "ja"])
def test_resamples_are_scored_as_sacrebleu_scores_them(language):
    draw = random.Random(0)
    words = ["der", "die", "Mann", "Hund", "geht", "Straße", ".", ",", "auf", "龍", "です。"]
    references = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(40)]
    hypotheses = [r if draw.random() < 0.5 else " ".join(draw.choices(words, k=draw.randint(0, 12))) for r in references]
    hypotheses[3], references[5] = "", "a"
    counts = SentenceCounts(hypotheses, references, language)
    for chosen in (range(40), [i % 7 for i in range(40)], [3]):
        weights = np.bincount(list(chosen), minlength=40)[None]
        wanted = score_translations([hypotheses[i] for i in chosen], [references[i] for i in chosen], language)
        assert counts.bleu(weights)[0] == pytest.approx(wanted.bleu) and counts.chrf(weights)[0] == pytest.approx(wanted.chrf)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "guess"), "'guess' is not a policy; choose from alignatt"),
        (("--policy", "alignatt", "--sweep", "f"), "'f' is no sweep; write option=value,value,… or POLICY:option=value,value,… or usual"),
        (("--policy", "alignatt", "--setting", "f"), "'f' is no setting; write option=value, or POLICY:option=value"),
        (("--policy", "alignatt", "--sweep", "wait-k:k=1"), "wait-k:k=1: add --policy wait-k, or leave this out"),
        (("--policy", "alignatt", "--sweep", "k=1,2"), "policy alignatt has no option 'k': it has frames, rewind"),
        (("--policy", "edatt", "--sweep", "l=0,1"), "policy edatt: lambda is 0: give a whole number, at least 1"),
        (("--policy", "alignatt", "--manifest", "gone.jsonl"), "gone.jsonl: no such manifest; check the path"),
        (("--policy", "alignatt", "--to", "xx"), "set.jsonl: no recording has a \"translation\" into 'xx'"),
        (("--policy", "alignatt", "--plot", "a.doc"), "a.doc: the suffix names no picture; choose from .png, .svg, .pdf"),
        (("--sweep", "f=1,2"), "options of translation need a policy; add --policy NAME, or leave them out"),
    ],
)
def test_bad_use_is_told_in_one_line(evaluate, arguments, message):
    code, out, err = evaluate(*arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and message in err


def test_sentences_must_be_sentences(evaluate):
    Path("set.jsonl").write_text(json.dumps({"id": "x", "audio": "a.wav", "text": "", "sentences": [{"start": 0}]}))
    assert 'x: "sentences" is to be a list of {"start": …, "end": …, "translation": …}' in evaluate("--policy", "alignatt")[2]
