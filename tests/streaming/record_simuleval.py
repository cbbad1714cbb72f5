"""Records what SimulEval itself scores: run it where SimulEval 1.1.4 is installed (it need not be where riverrun is).

    python tests/streaming/record_simuleval.py tests/streaming/simuleval_instances.json

An agent that waits and writes at random runs over random sources; a few instances are made by hand, for what an agent does not do.
"""

import json
import random
import sys
import time
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from simuleval.agents import SpeechToSpeechAgent, SpeechToTextAgent, TextToTextAgent
from simuleval.agents.actions import ReadAction, WriteAction
from simuleval.data.dataloader import SpeechToTextDataloader, TextToTextDataloader
from simuleval.data.segments import SpeechSegment
from simuleval.evaluator.instance import SpeechToSpeechInstance, SpeechToTextInstance, TextToTextInstance
from simuleval.evaluator.scorers.latency_scorer import LATENCY_SCORERS_DICT

METRICS = ("AL", "LAAL", "AP", "DAL", "ATD", "StartOffset")
RANDOM = random.Random(0)


class Whim:
    """Writes with a probability of its own in each sentence, up to four words at a time."""

    eager, silent = 0.3, False

    def policy(self):
        time.sleep(RANDOM.choice([0, 0, 0, 0.001, 0.004]))
        end = self.states.source_finished
        if self.silent or (not end and RANDOM.random() > self.eager):
            return WriteAction("", finished=True) if end else ReadAction()
        return WriteAction(self.say(), finished=end)

    def say(self):
        return " ".join("x" * RANDOM.randint(1, 3) for _ in range(RANDOM.randint(1, 4)))


class TextWhim(Whim, TextToTextAgent):
    pass


class SpeechWhim(Whim, SpeechToTextAgent):
    pass


class SpokenWhim(Whim, SpeechToSpeechAgent):
    def say(self):
        size = RANDOM.choice([300, 450, 900, 1234])
        return SpeechSegment(content=[0.0] * size, sample_rate=1000, finished=self.states.source_finished)


def run(agent, instance, size):
    agent.eager, agent.silent = RANDOM.choice([0.05, 0.2, 0.5, 1.0]), RANDOM.random() < 0.05
    agent.reset()
    while not (instance.finish_prediction or getattr(instance, "source_finished_reading", False)):
        instance.receive_prediction(agent.pushpop(instance.send_source(size)))
    return instance


def score(instance):
    found = {}
    for name in METRICS:
        for aware in (False, True) if not isinstance(instance, TextToTextInstance) else (False,):
            try:
                value = LATENCY_SCORERS_DICT[name](computation_aware=aware)({0: instance})
            except Exception:  # an empty hypothesis has no score
                value = None
            found[name + "_CA" * aware] = None if value is None else round(value, 6)
    return found


def record(instance):
    instance.elapsed = [round(e, 3) for e in instance.elapsed]
    row = {"delays": instance.delays, "source": instance.source_length, "reference": instance.reference_length}
    if isinstance(instance, TextToTextInstance):
        row["text"] = True
    else:
        row["elapsed"] = instance.elapsed
    if isinstance(instance, SpeechToSpeechInstance) and instance.delays:
        row["durations"] = instance.durations
    return {**row, "scores": score(instance)}


def main(path):
    rows = []
    with TemporaryDirectory() as folder:
        args = Namespace(eval_latency_unit="word", output=folder)
        audios, targets = [], []
        for i in range(160):
            rate, length = RANDOM.choice([8000, 16000, 22050]), RANDOM.uniform(0.3, 6)
            audios.append(f"{folder}/{i}.wav")
            soundfile.write(audios[-1], np.zeros(int(rate * length), np.float32), rate)
            targets.append(" ".join(["y"] * RANDOM.randint(1, 15)))
        speech = SpeechToTextDataloader(audios, targets)
        size = lambda: RANDOM.choice([160, 320, 500, 1000])  # noqa: E731
        rows += [record(run(SpeechWhim(), SpeechToTextInstance(i, speech, args), size())) for i in range(100)]
        rows += [record(run(SpokenWhim(), SpeechToSpeechInstance(i, speech, args), size())) for i in range(100, 160)]
        sources = [" ".join(["z"] * RANDOM.randint(1, 20)) for _ in range(80)]
        text = TextToTextDataloader(sources, [" ".join(["y"] * RANDOM.randint(1, 15)) for _ in sources])
        rows += [record(run(TextWhim(), TextToTextInstance(i, text, args), 1)) for i in range(80)]
        for delays in ([], [0], [0, 0, 600], [5000] * 40, [6001.5], [100.25, 100.25, 5999, 6000, 6000], [i * 10.0 for i in range(300)]):
            made = SpeechToTextInstance(0, speech, args)  # over-generation, words after the end, nothing at all
            made.delays, made.elapsed = list(delays), [d * 1.1 + 20 for d in delays]
            rows.append(record(made))
    Path(path).write_text("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
