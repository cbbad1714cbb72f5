"""The words of a running segment, kept from step to step, are those of all its labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from riverrun.speech.reader import Heard, LabelReader
from riverrun.speech.search.base import Committed, Label, Labels
from riverrun.speech.tokenizer import Tokenizer
from riverrun.speech.words import LabelDelay, words_of
from riverrun.streaming import Partial
from riverrun.streaming.endpoint import EndpointConfig, EndpointDetector, standard_rules

from ..tiny import tiny_tokenizer

FRAME_S, DELAY = 0.04, LabelDelay(0.05, 0.1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokens"))


def heard(steps: list[list[int]], best: list[int], decided: int) -> Heard:
    """Frames of one step with their labels, and what would follow."""
    width = max([len(labels) for labels in steps] + [1])
    ids = torch.tensor([[labels + [-1] * (width - len(labels)) for labels in steps]]).reshape(1, len(steps), width)
    tail = torch.tensor([best], dtype=torch.long).reshape(1, len(best))
    committed = Committed(tail, torch.full_like(tail, decided), torch.zeros(tail.shape))
    final = (Labels(ids, torch.where(ids >= 0, -0.5, 0.0)), torch.tensor([len(steps)]))
    return Heard([final], (committed, torch.tensor([len(best)])), torch.tensor([decided]))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_words_of_a_segment_are_those_of_its_labels(tokenizer: Tokenizer, data: DataObject) -> None:
    label = st.integers(1, len(tokenizer) - 1)
    frames = st.lists(st.lists(label, max_size=2) | st.just([]), max_size=6)
    endpoints = EndpointDetector(EndpointConfig(standard_rules(0.4, 0.3, 2.0), pause_s=0.2), FRAME_S)
    reader = LabelReader(tokenizer, endpoints, DELAY)
    decided = 0
    for steps in data.draw(st.lists(frames, max_size=12)):
        best = data.draw(st.lists(label, max_size=2))
        decided += len(steps)
        if data.draw(st.booleans()):  # kept words are not saved: they come of the labels
            saved = reader.save()
            reader = LabelReader(tokenizer, endpoints, DELAY)
            reader.restore(saved)
        events = reader.read(heard(steps, best, decided), 0)
        want = words_of(reader._labels + [Label(id, decided, 0.0) for id in best], tokenizer, FRAME_S, DELAY)
        for event in events:
            if isinstance(event, Partial):
                assert event.words == want and event.text == " ".join(word.text for word in want)
