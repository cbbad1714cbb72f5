import pytest
import torch
from torch import Tensor, nn

from riverrun.speech.search import BeamSearch, CtcBeam, CtcGreedy, Label, Search, TransducerBeam, TransducerGreedy, read_labels
from riverrun.speech.search.beam import Beam

from .search_reference import beam, exhaustive_ctc, exhaustive_transducer, transducer, transducer_scorer
from .test_search_greedy import close

ENOUGH = 80  # more hypotheses than there are label sequences
FAR = 10**6


def decode(search: Search, x: Tensor) -> list[Label]:
    """The labels of one whole stream (T, E)."""
    y, lengths = search(x[None], torch.tensor([len(x)]))
    return read_labels(y, lengths, 0)


def listen(search: BeamSearch, x: Tensor) -> Beam:
    """The state after one stream (T, E), nothing flushed."""
    return search.step(x[None], torch.tensor([len(x)]), search.init_state(1, x))[2]


def check_against_all(search: BeamSearch, x: Tensor, want: dict[tuple[int, ...], float]) -> None:
    ranked = sorted(want.items(), key=lambda item: -item[1])
    found = search.nbest(listen(search, x))
    alive = int((found.log_probs[0] > float("-inf")).sum())
    assert alive == len(ranked)
    for k, (labels, total) in enumerate(ranked):
        size = int(found.lengths[0, k])
        assert tuple(found.ids[0, k, :size].tolist()) == labels
        assert abs(float(found.log_probs[0, k]) - total) < 1e-9
        frames = found.frames[0, k, :size].tolist()
        assert frames == sorted(set(frames))
    assert tuple(label.id for label in decode(search, x)) == ranked[0][0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("frames", [0, 1, 5])
def test_transducer_beam_sums_over_all_alignments(seed: int, frames: int) -> None:
    predictor, joiner = transducer(seed=seed)
    x = torch.randn(frames, 3, dtype=torch.float64)
    want = exhaustive_transducer(transducer_scorer(predictor, joiner, x), frames, 3)
    check_against_all(TransducerBeam(predictor, joiner, ENOUGH, settle=FAR), x, want)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("frames", [0, 1, 5])
def test_ctc_beam_sums_over_all_paths(seed: int, frames: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(frames, 3, dtype=torch.float64)
    want = exhaustive_ctc(x.log_softmax(-1).tolist()) if frames else dict[tuple[int, ...], float]({(): 0.0})
    check_against_all(CtcBeam(nn.Identity(), ENOUGH, settle=FAR), x, want)


def test_equal_sequences_are_one_hypothesis() -> None:
    """Two frames that may each emit the only label: [a] at 0 and [a] at 1 add up, and win only together."""
    log = torch.tensor([[0.55, 0.45], [0.55, 0.45]], dtype=torch.float64).log()

    class Fixed(nn.Module):
        def project_encoder(self, x: Tensor) -> Tensor:
            return x

        def project_predictor(self, y: Tensor) -> Tensor:
            return y[..., :2] * 0

        def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
            return encoded + predicted

    predictor, _ = transducer(vocabulary=2)
    found = TransducerBeam(predictor, Fixed(), beam=3).nbest(listen(TransducerBeam(predictor, Fixed(), beam=3), log))  # type: ignore[arg-type]
    torch.testing.assert_close(found.log_probs[0].exp(), torch.tensor([2 * 0.55 * 0.45, 0.55**2, 0.45**2], dtype=torch.float64))
    assert found.lengths[0].tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("size", "max_length", "settle"), [(1, 4, 3), (2, 64, FAR), (3, 2, FAR), (4, 1, 2), (4, 3, 2), (4, 64, 4), (5, 5, 1)]
)
def test_settling_and_overflow_are_the_plain_search(size: int, max_length: int, settle: int) -> None:
    for seed in range(6):
        predictor, joiner = transducer(vocabulary=4, seed=seed)
        x = torch.randn(40, 3, dtype=torch.float64)
        want, history = beam(transducer_scorer(predictor, joiner, x), 40, size, max_length, settle)
        search = TransducerBeam(predictor, joiner, size, max_length, settle)
        state, final, have = search.init_state(1, x), list[int](), list[Label]()
        for t in range(40):
            y, n, state = search.step(x[None, t : t + 1], torch.tensor([1]), state)
            before = int(search.decided(state)[0])
            have += read_labels(y, n, 0)
            final.append(len(have))
            best, running = search.best(state)
            assert all(label.frame >= before for label in read_labels(best, running, 0))
        assert final == history
        best, running = search.flush(state)
        assert close(have + read_labels(best, running, 0), want)


def test_a_small_buffer_gives_what_a_large_one_gives() -> None:
    predictor, joiner = transducer(vocabulary=5, seed=1, sharpness=3)
    x = torch.randn(2, 120, 3, dtype=torch.float64)
    lengths = torch.tensor([120, 77])
    small, few = TransducerBeam(predictor, joiner, 4, 8, FAR)(x, lengths)
    large, many = TransducerBeam(predictor, joiner, 4, 128, FAR)(x, lengths)
    assert few.min() > 40
    for s in range(2):
        assert close(read_labels(small, few, s), read_labels(large, many, s))


def test_silence_makes_labels_final_without_changing_them() -> None:
    x = torch.full((40, 3), -9.0, dtype=torch.float64)
    x[:, 0] = 0
    for frame, label in ((2, 1), (5, 2), (20, 2), (21, 1)):
        x[frame, label] = 4
    search = CtcBeam(nn.Identity(), settle=6)
    state, final = search.init_state(1, x), dict[tuple[int, int], int]()
    for t in range(40):
        y, n, state = search.step(x[None, t : t + 1], torch.tensor([1]), state)
        final |= {(label.id, label.frame): t for label in read_labels(y, n, 0)}
    assert final == {(1, 2): 11, (2, 5): 11, (2, 20): 27, (1, 21): 27}
    assert search.decided(state).tolist() == [40]


def test_a_repeat_across_settling_needs_a_blank() -> None:
    """A label held longer than ``settle`` is one label, though it has left the buffer."""
    path = torch.tensor([1] * 6 + [0] + [1] * 2)
    x = torch.nn.functional.one_hot(path, 3).double() * 20
    assert [label[:2] for label in decode(CtcBeam(nn.Identity(), settle=2), x)] == [(1, 0), (1, 7)]


def test_a_beam_of_one_is_greedy() -> None:
    predictor, joiner = transducer(vocabulary=4, seed=4)
    x = torch.randn(30, 3, dtype=torch.float64)
    one = decode(TransducerBeam(predictor, joiner, beam=1, settle=5), x)
    assert len(one) > 5
    assert close(one, decode(TransducerGreedy(predictor, joiner, 1), x))


def test_a_sharp_ctc_model_needs_no_beam() -> None:
    torch.manual_seed(0)
    projection = nn.Linear(3, 5).double()
    nn.init.normal_(projection.weight, std=500)
    x = torch.randn(30, 3, dtype=torch.float64)
    beams, bests = (decode(search, x) for search in (CtcBeam(projection), CtcGreedy(projection)))
    assert [label.id for label in beams] == [label.id for label in bests]
    assert len(beams) > 5


def test_a_bonus_gives_more_labels() -> None:
    predictor, joiner = transducer(vocabulary=4, seed=5)
    x = torch.randn(30, 3, dtype=torch.float64)
    plain, more = (len(decode(TransducerBeam(predictor, joiner, label_bonus=b), x)) for b in (0.0, 5.0))
    assert more == 30 > plain


def test_memory_of_a_long_stream_is_flat_and_its_scores_stay_exact() -> None:
    predictor, joiner = transducer(vocabulary=4, seed=3)
    search = TransducerBeam(predictor, joiner, max_length=8, settle=4).float()
    x = torch.randn(2, 400, 3)
    state = search.init_state(2, x)
    before = state.bytes_per_stream
    for _ in range(3):
        _, _, state = search.step(x, torch.tensor([400, 400]), state)
    assert state.bytes_per_stream == before
    assert state.heard.tolist() == [1200, 1200]
    assert state.log_probs[:, 0].tolist() == [0, 0]


def test_nonsense_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="beam is 0"):
        CtcBeam(nn.Identity(), beam=0)


def test_reading_labels_of_a_slot() -> None:
    search = CtcBeam(nn.Identity(), settle=FAR)
    x = torch.nn.functional.one_hot(torch.tensor([[0, 2, 0], [1, 0, 0]]), 3).double() * 50
    y, n = search(x, torch.tensor([3, 1]))
    assert read_labels(y, n, 0) == [Label(2, 1, 0.0)]
    assert read_labels(y, n, 1) == [Label(1, 0, 0.0)]
