import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.streaming.endpoint import Cut, Emission, EndpointConfig, EndpointDetector, EndpointRule, EndpointState, standard_rules

FRAME_S = 0.04


def detect(emissions: list[Emission], frames: int, config: EndpointConfig | None = None) -> list[Cut]:
    return EndpointDetector(config or EndpointConfig(), FRAME_S).advance(EndpointState(), frames, emissions)[1]


def words(*frames: int) -> list[Emission]:
    return [Emission(frame, True) for frame in frames]


def test_silence_without_words_takes_longer() -> None:
    assert detect([], 59) == []
    assert detect([], 60) == [Cut(0, 60, "silence")]
    assert detect([], 121) == [Cut(0, 60, "silence"), Cut(1, 120, "silence")]


def test_silence_after_words() -> None:
    assert detect(words(10), 40) == []
    assert detect(words(10), 41) == [Cut(0, 41, "silence-after-words")]
    assert detect(words(10), 101) == [Cut(0, 41, "silence-after-words"), Cut(1, 101, "silence")]
    config = EndpointConfig(standard_rules(silence_after_words_s=0.8))
    assert detect(words(10), 31, config) == [Cut(0, 31, "silence-after-words")]


def test_a_label_on_the_deciding_frame_prevents_the_endpoint() -> None:
    assert detect(words(10, 40), 41) == []


def test_a_long_utterance_is_cut_before_a_word_and_never_inside() -> None:
    inside = [Emission(frame, frame % 9 == 0) for frame in range(3, 600, 3)]
    assert detect(inside, 600)[0] == Cut(0, 504, "utterance")  # 500 frames are long enough, 504 begins the next word
    endless = [Emission(frame, frame == 3) for frame in range(3, 600, 3)]
    assert detect(endless, 600) == []


def test_a_long_utterance_is_cut_in_a_short_pause() -> None:
    endless = [Emission(frame, frame == 3) for frame in range(3, 520, 3)]
    assert detect(endless, 529) == []
    assert detect(endless, 530) == [Cut(0, 530, "utterance")]  # label at 519, then 10 frames of pause


def test_a_word_boundary_inside_a_frame_is_none() -> None:
    """A frame that ends one word and begins the next would give a piece of the old word to the new segment."""
    config = EndpointConfig((EndpointRule("utterance", min_utterance_s=0.4),), pause_s=1)
    mixed = [Emission(1, True), Emission(12, False), Emission(12, True), Emission(14, True)]
    assert detect(mixed, 15, config) == [Cut(0, 14, "utterance")]


def test_the_first_rule_that_holds_names_the_endpoint() -> None:
    rules = (EndpointRule("a", min_silence_s=1), EndpointRule("b", min_silence_s=1, needs_words=True))
    assert detect(words(0), 60, EndpointConfig(rules))[0] == Cut(0, 26, "a")
    assert detect(words(0), 60, EndpointConfig(rules[::-1]))[0] == Cut(0, 26, "b")


def test_no_rules_no_endpoints() -> None:
    assert detect([], 1_000, EndpointConfig(())) == []


def test_a_segment_without_any_gap_is_cut_where_it_stands() -> None:
    emissions = [Emission(frame, frame == 0) for frame in range(100)]
    config = EndpointConfig((), longest_s=40 * FRAME_S)
    assert [cut.frame for cut in detect(emissions, 100, config)] == [40, 80]


@pytest.mark.parametrize("frame_s", [0.01, 0.02, 0.03, 0.04, 0.06, 0.08])
def test_durations_are_whole_frames_that_last_long_enough(frame_s: float) -> None:
    (cut,) = EndpointDetector(EndpointConfig((EndpointRule("s", min_silence_s=2.4),)), frame_s).advance(
        EndpointState(), int(2.5 / frame_s), []
    )[1]
    assert cut.frame == round(2.4 / frame_s)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="'x': give it"):
        EndpointRule("x")
    with pytest.raises(ValueError, match="finite"):
        EndpointRule("x", min_silence_s=-1)
    with pytest.raises(ValueError, match="pause_s is 0"):
        EndpointConfig(pause_s=0)
    with pytest.raises(ValueError, match="frame_s is 0"):
        EndpointDetector(EndpointConfig(), 0)


CONFIG = EndpointConfig(standard_rules(0.8, 0.4, 1.6), pause_s=0.12)
emission_lists = st.lists(st.tuples(st.integers(0, 3), st.booleans()) | st.tuples(st.integers(4, 30), st.booleans()), max_size=60)


def timed(gaps: list[tuple[int, bool]]) -> list[Emission]:
    frame, found = 0, []
    for gap, starts in gaps:
        frame += gap
        found.append(Emission(frame, starts))
    return found


@given(emission_lists, st.lists(st.integers(0, 40), max_size=30), st.booleans())
def test_endpoints_do_not_depend_on_chunks_or_resuming(gaps: list[tuple[int, bool]], chunks: list[int], resend: bool) -> None:
    emissions = timed(gaps)
    end = (emissions[-1].frame if emissions else 0) + 50
    want = detect(emissions, end, CONFIG)
    state, have, at = EndpointState(), [], 0  # type: ignore[var-annotated]
    for chunk in [*chunks, end]:
        until = min(at + chunk, end)
        given_now = [e for e in emissions if e.frame < until and (resend or e.frame >= at)]
        saved = EndpointState(*tuple(state))
        state, cuts = EndpointDetector(CONFIG, FRAME_S).advance(saved, until, given_now)
        have, at = have + cuts, until
    assert have == want


@given(emission_lists)
def test_every_label_falls_into_one_segment_and_no_word_is_cut(gaps: list[tuple[int, bool]]) -> None:
    emissions = timed(gaps)
    cuts = detect(emissions, (emissions[-1].frame if emissions else 0) + 50, CONFIG)
    bounds = [0, *(cut.frame for cut in cuts), 10**9]
    assert bounds == sorted(set(bounds))
    assert [cut.segment for cut in cuts] == list(range(len(cuts)))
    segments = [[e for e in emissions if a <= e.frame < b] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert sum(segments, []) == emissions
    for before, after in zip(segments, segments[1:], strict=False):
        if before and after and not after[0].starts_word:
            assert after[0].frame - before[-1].frame > 3  # a pause, not the middle of a word
