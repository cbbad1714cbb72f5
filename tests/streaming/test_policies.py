"""Each policy against its definition, and against what public implementations got wrong."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from riverrun.streaming.attention_model import continuation_rows
from riverrun.streaming.policies import (
    POLICIES,
    AlignAtt,
    EDAtt,
    Fixed,
    FixedWords,
    HoldN,
    Hypothesis,
    LocalAgreement,
    PolicyError,
    Progress,
    Retranslation,
    StreamAtt,
    Textual,
    WaitK,
    make_history,
    make_policy,
    parse_policy,
    policy_options,
    policy_text,
)
from riverrun.streaming.policies.history import Piece, ends_sentence
from riverrun.streaming.translator import whole_words


def looking(attention: list[list[float]] | torch.Tensor) -> Hypothesis:
    rows = torch.as_tensor(attention, dtype=torch.float32)
    return Hypothesis(tuple(range(len(rows))), (True,) * len(rows), rows, True)


def saying(tokens: str, starts: str | None = None) -> Hypothesis:
    """A token for each letter; ``starts`` marks with a capital or | what begins a word."""
    begins = [True] * len(tokens) if starts is None else [c == "|" for c in starts]
    return Hypothesis(tuple(map(ord, tokens)), tuple(begins), torch.zeros(len(tokens), 0), False)


def progress(ms: float = 1000, words: int = 0, written: int = 0, last: int = -1) -> Progress:
    return Progress(ms, words, written, False, last)


def peaks(frames: int, *at: int) -> Hypothesis:
    """Tokens that attend most to the given frames, but still more to the last one, the sink."""
    rows = torch.full((len(at), frames), 0.01)
    for row, frame in enumerate(at):
        rows[row, frame] = 0.3
    rows[:, -1] = 0.6
    return looking(rows)


# AlignAtt


def test_alignatt_forbids_one_frame_more_than_its_option_says() -> None:
    frames, f = 10, 3
    for at in range(frames - 1):
        assert AlignAtt(f).writable(peaks(frames, at), [], progress()) == (at < frames - 1 - f), at


def test_alignatt_does_not_look_at_the_sink() -> None:
    """A policy that keeps the last frame sees every token attend to it, and never writes."""
    assert AlignAtt(2).writable(peaks(20, 1, 5, 9, 16, 17, 3), [], progress()) == 4


def test_alignatt_writes_nothing_behind_the_first_token_that_stops() -> None:
    assert AlignAtt(2).writable(peaks(20, 18, 1, 1), [], progress()) == 0


def test_attention_policies_need_audio() -> None:
    for policy in (AlignAtt(1), EDAtt()):
        assert policy.writable(peaks(1, 0), [], progress()) == 0
        assert policy.writable(looking(torch.zeros(0, 5)), [], progress()) == 0


def test_a_jump_back_discards_the_step() -> None:
    """Whisper's attention sometimes loses its place and starts over."""
    lost = peaks(500, 300, 310, 50)
    assert AlignAtt(25).writable(lost, [], progress()) == 3
    assert AlignAtt(25, rewind=200).writable(lost, [], progress()) == 0
    assert AlignAtt(25, rewind=200).writable(peaks(500, 300, 310, 150), [], progress()) == 3
    assert AlignAtt(25, rewind=200).writable(peaks(500, 50, 60), [], progress(last=300)) == 0  # behind what is written
    assert AlignAtt(25, rewind=200).writable(peaks(500, 300, 490, 20), [], progress()) == 1  # a token that is not written anyway


# EDAtt


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 6), st.floats(0.01, 1), st.integers(1, 15))
def test_edatt_is_its_formula(seed: int, frames: int, tokens: int, alpha: float, lambda_: int) -> None:
    attention = np.random.default_rng(seed).dirichlet(np.ones(frames), tokens).astype(np.float32)
    want = 0
    for row in attention.astype(np.float64):
        row = row[:-1]
        if sum(row[max(len(row) - lambda_, 0) :]) / math.sqrt(sum(row**2)) >= alpha:
            break
        want += 1
    assert EDAtt(alpha, lambda_).writable(looking(torch.from_numpy(attention)), [], progress()) == want


def test_edatt_does_not_look_at_the_sink() -> None:
    """Counting the last frame, or normalising before it is dropped, stops where nothing is to be stopped for (or does not where it is)."""
    rows = [[0.2, 0.1, 0.0, 0.0, 0.7], [0.0, 0.0, 0.05, 0.05, 0.9]]
    assert EDAtt(0.6, 2).writable(looking(rows), [], progress()) == 1


def test_edatt_stops_at_the_threshold_itself_and_survives_no_attention_at_all() -> None:
    assert EDAtt(1.0, 1).writable(looking([[0.0, 1.0, 0.0]]), [], progress()) == 0
    assert EDAtt(0.5, 1).writable(looking([[0.0, 0.0, 1.0]]), [], progress()) == 1


def test_rows_are_those_of_the_new_tokens() -> None:
    """Behind begin-of-sentence, a language tag and two written tokens, the query that predicts the first new token is the fourth."""
    attention = torch.arange(7.0)[:, None].expand(7, 3)  # each row holds its own number
    assert continuation_rows(attention, 4, 3)[:, 0].tolist() == [3, 4, 5]
    assert continuation_rows(attention, 1, 7)[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert continuation_rows(attention, 4, 0).shape == (0, 3)
    for before, new in ((0, 1), (4, 5)):
        with pytest.raises(ValueError, match=f"no rows for {new} tokens behind {before} in attention of 7 positions"):
            continuation_rows(attention, before, new)


# Local agreement, hold-n, re-translation


def earlier(*texts: str) -> list[tuple[int, ...]]:
    return [tuple(map(ord, text)) for text in texts]


def test_local_agreement_is_the_longest_common_prefix() -> None:
    la2, la3 = LocalAgreement(2), LocalAgreement(3)
    assert la2.writable(saying("abcd"), earlier("abxd"), progress()) == 2
    assert la2.writable(saying("abcd"), earlier("ab"), progress()) == 2
    assert la2.writable(saying("abcd"), earlier(""), progress()) == 0
    assert la3.writable(saying("abcd"), earlier("abcd", "abc"), progress()) == 3
    assert la3.writable(saying("abcd"), earlier("xbcd", "abcd"), progress()) == 0
    assert (la2.history, la3.history) == (1, 2)


def test_local_agreement_waits_for_enough_hypotheses() -> None:
    assert LocalAgreement(2).writable(saying("abcd"), [], progress()) == 0
    assert LocalAgreement(3).writable(saying("abcd"), earlier("abcd"), progress()) == 0


@given(st.lists(st.text("ab", max_size=6), min_size=1, max_size=4))
def test_local_agreement_of_many(texts: list[str]) -> None:
    n = len(texts) + 1
    agreed = LocalAgreement(n).writable(saying(texts[0]), earlier(*texts), progress())
    assert all(text[:agreed] == texts[0][:agreed] for text in texts)
    assert any(text[: agreed + 1] != texts[0][: agreed + 1] for text in texts) or agreed == len(texts[0])


def test_hold_n() -> None:
    assert [HoldN(2).writable(saying("abcde"[:size]), [], progress()) for size in range(6)] == [0, 0, 0, 1, 2, 3]
    assert HoldN(0).writable(saying("abc"), [], progress()) == 3


def test_retranslation_writes_nothing_and_masks_what_it_shows() -> None:
    assert Retranslation().writable(saying("abc"), [], progress()) == 0
    assert [Retranslation(2).shown(tokens) for tokens in range(5)] == [0, 0, 0, 1, 2]
    assert Retranslation().shown(4) == AlignAtt().shown(4) == 4


# wait-k and fixed


def test_wait_k_writes_one_word_for_each_after_the_first_k() -> None:
    words = saying("abcdefgh", "|.||.|||")  # ab c de f g h
    policy = WaitK(3, words="ctc")
    tokens = [policy.writable(words, [], progress(words=heard)) for heard in range(9)]
    assert tokens == [0, 0, 0, 2, 3, 5, 6, 7, 8]
    assert policy.writable(words, [], progress(words=5, written=2)) == 2
    assert policy.writable(words, [], progress(words=5, written=3)) == 0
    assert [policy.asks(progress(words=5, written=written)) for written in range(5)] == [True, True, True, False, False]


def test_punctuation_behind_a_written_word_costs_no_word() -> None:
    assert WaitK(1, words="ctc").writable(saying(".ab", ".||"), [], progress(words=3, written=2)) == 2
    assert WaitK(1, words="ctc").writable(saying(".ab", ".||"), [], progress(words=2, written=2)) == 1


def test_wait_k_says_what_counts_words_for_it() -> None:
    assert [WaitK(words=words).detector for words in ("ctc", "fixed", "speech")] == ["ctc", "fixed", "speech"]
    assert WaitK().unit_ms == 320 and AlignAtt().detector is None


def test_fixed_writes_at_its_pace() -> None:
    policy = Fixed(2, 500)
    assert [policy.writable(saying("abcdefgh"), [], progress(ms)) for ms in (0, 499, 500, 999, 1000, 1600)] == [0, 0, 2, 2, 4, 6]
    assert policy.writable(saying("abcdefgh"), [], progress(1000, written=3)) == 1
    assert not policy.asks(progress(1000, written=4))


# Whole words


def test_only_whole_words() -> None:
    starts = [True, False, True, True, False, False]
    kept = [whole_words(starts, False, count) for count in range(7)]
    assert kept == [0, 0, 2, 3, 3, 3, 3]  # nothing from the last word's beginning on, unless the next word has begun
    assert whole_words(starts, True, 6) == 6  # nothing follows
    assert whole_words([False, False], False, 1) == 0
    assert whole_words([], True, 0) == 0


@given(st.lists(st.booleans(), max_size=8), st.booleans(), st.integers(0, 8))
def test_what_is_written_ends_where_a_word_ends(starts: list[bool], closed: bool, count: int) -> None:
    count = min(count, len(starts))
    kept = whole_words(starts, closed, count)
    assert kept <= count and (kept == 0 or (starts[kept] if kept < len(starts) else closed))


# Histories


def pieces(text: str) -> list[Piece]:
    """Tokens of up to two letters; a word begins behind a space, a sentence ends with a full stop."""
    return [
        Piece(word[i : i + 2], i == 0, word.endswith(".") and i + 2 >= len(word)) for word in text.split() for i in range(0, len(word), 2)
    ]


def test_fixed_words_keep_the_last_words_whole() -> None:
    written = pieces("eins zwei drei. vi er")
    kept = {words: "".join(p.text for p in written[FixedWords(words).forgotten(written, False) :]) for words in range(1, 7)}
    assert kept == {1: "er", 2: "vier", 3: "drei.vier", 4: "zweidrei.vier", 5: "einszweidrei.vier", 6: "einszweidrei.vier"}
    assert FixedWords().words == 20 and FixedWords().forgotten([], False) == 0


def test_fixed_words_count_characters_where_no_spaces_are_written() -> None:
    written = [Piece(text, True, False) for text in ("你好", "世", "界", "再见")]
    assert [FixedWords(n).forgotten(written, True) for n in (1, 2, 3, 4, 5, 6, 7)] == [4, 3, 2, 1, 1, 0, 0]
    assert FixedWords(4).forgotten(written, False) == 0  # as words


def test_textual_keeps_what_follows_the_last_sentence_end() -> None:
    written = pieces("eins zwei. drei. vier fünf")
    assert "".join(p.text for p in written[Textual().forgotten(written, False) :]) == "vierfünf"
    written = pieces("eins zwei.")
    assert Textual().forgotten(written, False) == len(written)
    assert Textual().forgotten(pieces("eins zwei"), False) == 0
    written = pieces("abcd efgh ijkl")
    assert Textual(3).forgotten(written, False) == 4  # at most 3 tokens, and a whole number of words


@pytest.mark.parametrize("word", ["Haus.", "ja!", "Was?", "Ende…", "Ende...", "好。", "吗？", 'sagte."', "gut.)", "…"])
def test_sentence_ends(word: str) -> None:
    assert ends_sentence(word)


@pytest.mark.parametrize("word", ["Haus", "3.", "J.", "z.B.", "Dr.", "(Prof.", "Haus,", "", '"', "1.5"])
def test_no_sentence_ends(word: str) -> None:
    assert not ends_sentence(word)


# By name


def test_every_policy_can_be_made_by_name_and_written_down() -> None:
    assert list(POLICIES) == ["alignatt", "edatt", "streamatt", "wait-k", "local-agreement", "hold-n", "fixed", "retranslation"]
    for name in POLICIES:
        assert parse_policy(policy_text(make_policy(name))) == make_policy(name)
    assert policy_text(make_policy("edatt", alpha=0.1, **{"lambda": 3})) == "edatt:alpha=0.1,lambda=3"
    assert parse_policy("edatt:alpha=0.1,lambda=3") == EDAtt(0.1, 3) == make_policy("edatt", alpha=0.1, lambda_=3)
    assert parse_policy("wait-k:k=5,words=ctc,unit-ms=280") == WaitK(5, "ctc", 280) == make_policy("wait-k", k=5, words="ctc", unit_ms=280)
    assert policy_options("wait-k") == {"k": 3, "words": "fixed", "unit-ms": 320.0}


def test_streamatt_is_alignatt_with_a_history() -> None:
    assert StreamAtt().keeps == FixedWords(20) and StreamAtt(frames=4) == parse_policy("streamatt:frames=4")
    assert parse_policy("streamatt:remember=sentence").keeps == Textual(100)
    assert parse_policy("streamatt:size=5").keeps == make_history("words", 5) == FixedWords(5)
    assert StreamAtt(2).writable(peaks(20, 1, 5, 18), [], progress()) == 2 and StreamAtt.needs_attention


REFUSED = {
    "edatt:lambda=0": "policy edatt: lambda is 0: give a whole number, at least 1",
    "edatt:lambda=1.5": "policy edatt: lambda is 1.5: give a whole number, at least 1",
    "edatt:alpha=0": "policy edatt: alpha is 0: give a number above 0 and at most 1",
    "edatt:alpha=1.01": "policy edatt: alpha is 1.01: give a number above 0 and at most 1",
    "edatt:alpha=nan": "policy edatt: alpha is nan: give a number above 0 and at most 1",
    "alignatt:frames=0": "policy alignatt: frames is 0: give a whole number, at least 1",
    "streamatt:frames=-2": "policy streamatt: frames is -2: give a whole number, at least 1",
    "alignatt:rewind=-1": "policy alignatt: rewind is -1: give a whole number, at least 1",
    "wait-k:k=-1": "policy wait-k: k is -1: give a whole number, at least 1",
    "wait-k:k=0": "policy wait-k: k is 0: give a whole number, at least 1",
    "wait-k:k=three": "policy wait-k: k is 'three': give a whole number, at least 1",
    "wait-k:unit-ms=0": "policy wait-k: unit-ms is 0: give milliseconds, at least 20",
    "wait-k:words=oracle": "policy wait-k: words is 'oracle': choose ctc, fixed or speech",
    "local-agreement:n=1": "policy local-agreement: n is 1: give a whole number, from 2 to 16",
    "hold-n:n=-1": "policy hold-n: n is -1: give a whole number, at least 0",
    "fixed:words=0": "policy fixed: words is 0: give a whole number, at least 1",
    "fixed:every-ms=inf": "policy fixed: every-ms is inf: give milliseconds, at least 20",
    "retranslation:mask=-1": "policy retranslation: mask is -1: give a whole number, at least 0",
    "streamatt:remember=all": "unknown history 'all': choose words or sentence",
    "streamatt:size=0": "history words: words is 0: give a whole number, at least 1",
    "alignatt:alpha=1": "policy alignatt has no option 'alpha': it has frames, rewind",
    "alignatt:frames": "policy 'alignatt:frames': 'frames' is no option: write option=value",
    "attention": "unknown policy 'attention': choose alignatt, edatt, streamatt, wait-k, local-agreement, hold-n, fixed, retranslation",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_policy(text)
    assert str(error.value) == REFUSED[text]
    assert isinstance(error.value, ValueError)


def test_what_suits_a_model_holds_where_nothing_else_is_asked_for() -> None:
    defaults = {"alignatt": {"frames": 16}, "edatt": {"lambda": 3}}
    assert parse_policy("alignatt", defaults) == AlignAtt(16)
    assert parse_policy("alignatt:frames=8", defaults) == AlignAtt(8) == parse_policy("alignatt")
    assert parse_policy("edatt:alpha=0.5", defaults) == parse_policy("edatt:alpha=0.5,lambda=3")
    assert parse_policy("wait-k", defaults) == parse_policy("wait-k")
