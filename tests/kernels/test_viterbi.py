"""Best paths against enumeration and other implementations."""

import itertools
import math

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.kernels.viterbi import ctc_alignment, monotonic_alignment
from riverrun.kernels.viterbi.op import ctc, monotonic


def collapse(path, targets, blank=0):
    """What a sequence of target positions (−1: blank) spells, as positions."""
    return [k for k, _ in itertools.groupby(path) if k >= 0], [targets[k] if k >= 0 else blank for k in path]


def best_score(log_probs, targets, star):
    """The best score of one utterance by trying every path."""
    states = [-1] + [s for k in range(len(targets)) for s in (k, -1)]  # blank, label 0, blank, label 1, …
    best = -math.inf
    for ends in itertools.combinations_with_replacement(range(len(states)), len(log_probs)):
        jumps = [ends[0], *(b - a for a, b in itertools.pairwise(ends))]
        legal = ends[-1] >= len(states) - 2 and jumps[0] <= 1
        for a, b in itertools.pairwise(ends):
            skip = b - a == 2 and states[b] >= 0 and targets[states[a]] != targets[states[b]]
            legal &= b - a <= 1 or skip
        if legal:
            score = 0.0
            for frame, s in zip(log_probs, ends, strict=True):
                label = targets[states[s]] if states[s] >= 0 else 0
                score += 0.0 if label == star else float(frame[label])
            best = max(best, score)
    return best


def path_score(log_probs, path, targets, star):
    return sum(
        0.0 if k >= 0 and targets[k] == star else float(row[targets[k] if k >= 0 else 0]) for row, k in zip(log_probs, path, strict=True)
    )


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_ctc_finds_the_best_path(data):
    """Scores are small integers, so that ties abound; 4 is the star."""
    targets = data.draw(st.lists(st.integers(1, 4), max_size=3))
    needed = len(targets) + sum(a == b for a, b in itertools.pairwise(targets))
    frames = data.draw(st.integers(max(needed, 1), 5))
    scores = data.draw(st.lists(st.lists(st.integers(-2, 0), min_size=4, max_size=4), min_size=frames, max_size=frames))
    log_probs = torch.tensor(scores, dtype=torch.float32)
    lengths = torch.tensor([frames]), torch.tensor([len(targets)])
    path, score = ctc_alignment(log_probs[None], torch.tensor([targets], dtype=torch.long), *lengths, star=4)
    assert collapse(path[0].tolist(), targets)[0] == list(range(len(targets)))
    assert score[0] == path_score(log_probs, path[0].tolist(), targets, 4) == best_score(log_probs, targets, 4)


def test_ctc_equals_torchaudio():
    torch.manual_seed(0)
    log_probs = torch.randn(4, 30, 9).log_softmax(-1)
    targets, frames, labels = torch.randint(1, 9, (4, 8)), torch.tensor([30, 25, 17, 30]), torch.tensor([8, 5, 8, 1])
    path, score = ctc_alignment(log_probs, targets, frames, labels)
    for b, (time, height) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        expected, scores = torchaudio.functional.forced_align(log_probs[b : b + 1, :time], targets[b : b + 1, :height].int())
        assert collapse(path[b, :time].tolist(), targets[b].tolist())[1] == expected[0].tolist()
        torch.testing.assert_close(score[b], scores.sum())
        assert (path[b, time:] == -1).all()


def test_ctc_ties_with_a_star():
    """A star costs nothing anywhere; a rule that prefers staying over an equal and better skip ends at −12 here."""
    log_probs = torch.full((1, 6, 3), -2.0)
    log_probs[0, 0, 1] = log_probs[0, 5, 2] = 0.0
    targets = torch.tensor([[1, 3, 2]])
    path, score = ctc_alignment(log_probs, targets, torch.tensor([6]), torch.tensor([3]), star=3)
    assert score == 0 and path.tolist() == [[0, 1, 1, 1, 1, 2]]


def test_ctc_tie_rule():
    """All paths equal: it ends in the last label, which stays as long as the labels before it allow."""
    path, _ = ctc_alignment(torch.zeros(1, 6, 3), torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2]))
    assert path.tolist() == [[0, 1, 1, 1, 1, 1]]


def test_impossible_lengths_are_named():
    log_probs, one = torch.zeros(2, 3, 4), torch.tensor([3, 3])
    with pytest.raises(ValueError, match="utterance 1 has 4 labels with the blanks between equal ones, but only 3 fit"):
        ctc_alignment(log_probs, torch.tensor([[1, 2, 3], [1, 1, 2]]), one, one)
    with pytest.raises(ValueError, match="utterance 0 has 4 tokens, but only 3 fit"):
        monotonic_alignment(torch.zeros(1, 4, 3), torch.tensor([4]), torch.tensor([3]))


def test_empty_texts_and_batches():
    path, score = ctc_alignment(torch.full((1, 3, 2), -1.0), torch.zeros(1, 0, dtype=torch.long), torch.tensor([3]), torch.tensor([0]))
    assert path.tolist() == [[-1] * 3] and score == -3
    assert monotonic_alignment(torch.zeros(2, 3, 4), torch.tensor([0, 1]), torch.tensor([4, 4])).tolist() == [[0, 0, 0], [4, 0, 0]]
    assert monotonic_alignment(torch.zeros(0, 3, 4), torch.zeros(0).long(), torch.zeros(0).long()).shape == (0, 3)


def test_padding_is_not_read():
    torch.manual_seed(1)
    log_probs, targets = torch.randn(2, 9, 5).log_softmax(-1), torch.randint(1, 5, (2, 3))
    frames, labels = torch.tensor([9, 6]), torch.tensor([3, 2])
    expected = ctc_alignment(log_probs, targets, frames, labels)
    log_probs[1, 6:], targets[1, 2:] = math.nan, -7
    assert all(torch.equal(x, y) for x, y in zip(expected, ctc_alignment(log_probs, targets, frames, labels), strict=True))
    scores, text = torch.randn(2, 4, 9), torch.tensor([4, 3])
    durations = monotonic_alignment(scores, text, frames)
    scores[1, 3:], scores[1, :, 6:] = math.nan, math.nan
    assert torch.equal(durations, monotonic_alignment(scores, text, frames))


def best_durations(scores):
    """The best alignment of one utterance by trying every one."""
    tokens, frames = scores.shape
    cuts = itertools.combinations(range(1, frames), tokens - 1)
    spans = ([0, *cut, frames] for cut in cuts)
    return max(sum(float(scores[n, a:b].sum()) for n, (a, b) in enumerate(itertools.pairwise(s))) for s in spans)


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_alignment_search_finds_the_best(tokens, more, seed):
    scores = torch.randint(-2, 3, (tokens, tokens + more), generator=torch.Generator().manual_seed(seed)).float()
    durations = monotonic_alignment(scores[None], torch.tensor([tokens]), torch.tensor([tokens + more]))[0]
    assert durations.sum() == tokens + more and (durations >= 1).all()
    assigned = torch.repeat_interleave(torch.arange(tokens), durations)
    assert scores[assigned, torch.arange(tokens + more)].sum() == best_durations(scores)


def test_alignment_search_stays_on_ties():
    assert monotonic_alignment(torch.zeros(1, 3, 7), torch.tensor([3]), torch.tensor([7])).tolist() == [[1, 1, 5]]


def test_operators_obey_pytorch():
    lengths = torch.tensor([4, 3]), torch.tensor([2, 2])
    torch.library.opcheck(ctc, (torch.randn(2, 4, 5), torch.randint(1, 5, (2, 2)), *lengths, 0, -1))
    torch.library.opcheck(monotonic, (torch.randn(2, 2, 4), *reversed(lengths)))
