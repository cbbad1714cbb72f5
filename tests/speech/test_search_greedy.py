import pytest
import torch
from torch import nn

from riverrun.speech.search import CtcGreedy, Label, TransducerGreedy, read_labels

from .search_reference import greedy, transducer, transducer_scorer


def close(have: list[Label], want: list[Label]) -> bool:
    return [h[:2] for h in have] == [w[:2] for w in want] and all(abs(h.score - w.score) < 1e-9 for h, w in zip(have, want, strict=True))


@pytest.mark.parametrize("max_symbols", [1, 3])
def test_transducer_greedy_is_the_plain_loop(max_symbols: int) -> None:
    predictor, joiner = transducer(vocabulary=4, seed=2)
    search = TransducerGreedy(predictor, joiner, max_symbols)
    x = torch.randn(3, 20, 3, dtype=torch.float64)
    lengths = torch.tensor([20, 1, 0])
    y, frames = search(x, lengths)
    assert frames.tolist() == [20, 1, 0]
    for s, size in enumerate(lengths.tolist()):
        want = greedy(transducer_scorer(predictor, joiner, x[s]), size, max_symbols)
        assert close(read_labels(y, frames, s), want)
    assert len(read_labels(y, frames, 0)) > 5


def test_labels_carry_the_stream_s_own_frames() -> None:
    predictor, joiner = transducer(vocabulary=4, seed=2)
    search = TransducerGreedy(predictor, joiner)
    x = torch.randn(1, 12, 3, dtype=torch.float64)
    whole, lengths = search(x, torch.tensor([12]))
    state, have = search.init_state(1, x), []
    for start in range(0, 12, 5):
        piece = x[:, start : start + 5]
        offset = int(state.heard[0])
        y, n, state = search.step(piece, torch.tensor([piece.shape[1]]), state)
        have += read_labels(y, n, 0, offset)
    assert close(have, read_labels(whole, lengths, 0))
    assert search.decided(state).tolist() == [12]
    nothing, lengths = search.best(state)
    assert read_labels(nothing, lengths, 0) == []


def test_ctc_greedy_collapses_repeats_but_not_across_blanks() -> None:
    search = CtcGreedy(nn.Identity())
    path = [1, 1, 0, 1, 2, 2, 0, 0, 3]
    x = torch.nn.functional.one_hot(torch.tensor([path]), 4).double() * 9
    y, lengths = search(x, torch.tensor([9]))
    score = x[0, 0].log_softmax(-1)[1].item()
    assert close(read_labels(y, lengths, 0), [Label(1, 0, score), Label(1, 3, score), Label(2, 4, score), Label(3, 8, score)])


def test_a_stream_s_graph_does_not_grow() -> None:
    predictor, joiner = transducer(vocabulary=4, seed=2)
    search = TransducerGreedy(predictor, joiner)
    x = torch.randn(1, 12, 3, dtype=torch.float64)
    _, _, state = search.step(x, torch.tensor([12]), search.init_state(1, x))
    assert not any(tensor.requires_grad for _, tensor in state.named_tensors())


def test_a_frame_needs_room_for_a_label() -> None:
    with pytest.raises(ValueError, match="max_symbols is 0"):
        TransducerGreedy(*transducer(), max_symbols=0)
