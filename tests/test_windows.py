"""Window k is the grid's samples k·hop … k·hop + window − 1, whatever else happened.

In the timelines a column is one sample of the 50 Hz grid; ``.`` is missing, ``[===]`` a window.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.recordings.recording import Recording
from repstream.windows.cut import cut, first_index, gather
from repstream.windows.truth import TRANSITION
from tests.support import make_recording, noise


def numbered(n: int, missing: range = range(0), labels: str | None = None) -> Recording:
    """Samples whose every value is their own number."""
    kept = np.array([i for i in range(n) if i not in missing])
    values = np.repeat(kept[:, None].astype(float), 6, axis=1)
    return make_recording(
        len(kept),
        time_s=kept / 50,
        values=values,
        labels=None if labels is None else [labels[i] for i in kept],
    )


def test_windows_are_numbered_by_where_they_start() -> None:
    #  sample   0 1 2 3 4 5 6 7 8 9
    #  k = 0    [=======]
    #  k = 1        [=======]
    #  k = 2            [=======]
    #  k = 3                [=====    not whole
    windows = cut(numbered(10), window=5, hop=2)
    assert windows.index.tolist() == [0, 1, 2]
    assert windows.values.shape == (3, 6, 5)
    assert windows.values[:, 0].tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]
    assert windows.start_s.tolist() == [0.0, 0.04, 0.08]
    assert windows.end_s.tolist() == [0.08, 0.12, 0.16]
    assert windows.labels is None


def test_a_hop_longer_than_the_window_leaves_samples_out() -> None:
    #  sample   0 1 2 3 4 5 6 7 8 9
    #  k = 0    [===]
    #  k = 1            [===]
    #  k = 2                    [=    not whole
    windows = cut(numbered(10), window=3, hop=4)
    assert windows.values[:, 5].tolist() == [[0, 1, 2], [4, 5, 6]]
    assert windows.index.tolist() == [0, 1]


@pytest.mark.parametrize(("n", "k"), [(150, []), (151, [0]), (175, [0]), (176, [0, 1]), (201, [0, 1, 2])])
def test_windows_of_the_default_length_and_hop(n: int, k: list[int]) -> None:
    windows = cut(make_recording(n))
    assert windows.index.tolist() == k
    assert windows.values.shape == (len(k), 6, 151)
    np.testing.assert_allclose(windows.end_s - windows.start_s, 3.0)


def test_a_recording_shorter_than_a_window_has_none_and_is_no_error() -> None:
    windows = cut(make_recording(20, labels=["A"] * 20))
    assert windows.values.shape == (0, 6, 151)
    assert windows.labels is not None
    assert len(windows.index) == len(windows.start_s) == len(windows.labels) == 0


def test_no_window_spans_a_long_gap_and_numbers_go_on_by_the_clock() -> None:
    #  sample   0 1 2 3 4 5 6 . (12 missing: 7 … 18) . 19 20 21 22 23 24 25 26
    #  k = 0    [=======]
    #  k = 1          [=======    runs into the gap
    #  k = 6                                   (18 missing) =====]
    #  k = 7                                                 [============]
    windows = cut(numbered(27, missing=range(7, 19)), window=5, hop=3)
    assert windows.index.tolist() == [0, 7]
    assert windows.values[:, 2].tolist() == [[0, 1, 2, 3, 4], [21, 22, 23, 24, 25]]
    assert windows.start_s.tolist() == [0.0, 21 / 50]
    assert windows.end_s.tolist() == [4 / 50, 25 / 50]


def test_a_window_may_start_at_the_very_first_sample_after_a_gap() -> None:
    #  sample   0 1 2 3 4 . (13 missing: 5 … 17) . 18 19 20 21 22
    #  k = 0    [=======]
    #  k = 6                                      [============]
    assert cut(numbered(23, missing=range(5, 18)), window=5, hop=3).index.tolist() == [0, 6]


def test_a_short_gap_is_interpolated_within_a_window() -> None:
    #  sample   0 1 2 3 . . . 7 8 9      value = number, so the interpolated ones are numbers too
    #  k = 0    [=================]
    windows = cut(numbered(10, missing=range(4, 7)), window=10, hop=1)
    assert windows.index.tolist() == [0]
    np.testing.assert_allclose(windows.values[0, 0], np.arange(10), atol=1e-12)


def test_stretches_between_gaps_that_are_too_short_give_no_window() -> None:
    #  sample   0 1 2 . (15) . 18 19 20 . (15) . 36 37 38 39 40
    #  k = 36                                    [=========]
    recording = numbered(41, missing=range(3, 18))
    keep = np.array([i for i, t in enumerate(recording.times_us) if not 21 <= t / 20_000 < 36])
    recording = make_recording(len(keep), time_s=recording.time_s[keep], values=recording.values[keep])
    assert cut(recording, window=5, hop=1).index.tolist() == [36]


def test_a_label_is_the_one_that_all_samples_share_else_transition() -> None:
    #  sample   0 1 2 3 4 5 6 7 8 9
    #  label    A A A A A B B B B B
    #  k = 0    [=====]                  A
    #  k = 1      [=====]                A    ends with the last A
    #  k = 2        [=====]              Transition
    #  k = 4            [=====]          Transition
    #  k = 5              [=====]        B    starts with the first B
    windows = cut(numbered(10, labels="AAAAABBBBB"), window=4, hop=1)
    assert windows.labels is not None
    assert windows.labels.tolist() == ["A", "A", *[TRANSITION] * 3, "B", "B"]
    assert TRANSITION == "Transition"


def test_a_label_that_comes_back_within_a_window_is_a_transition_all_the_same() -> None:
    windows = cut(numbered(6, labels="AABBAA"), window=6, hop=1)
    assert windows.labels is not None
    assert windows.labels.tolist() == [TRANSITION]


def test_labels_follow_their_samples_at_other_rates() -> None:
    #  25 Hz    A   A   A   B   B   B
    #  50 Hz    0 1 2 3 4 5 6 7 8 9 10
    #  k = 0    [=======]                 A
    #  k = 1      [=======]               A (samples 2 and 4 lie in it)
    #  k = 2        [=======]             Transition (2, 4 and 6)
    #  k = 6                [=======]     B
    windows = cut(make_recording(6, rate_hz=25.0, labels=list("AAABBB")), window=5, hop=1)
    assert windows.labels is not None
    assert windows.labels.tolist() == ["A", "A", *[TRANSITION] * 3, "B", "B"]


@pytest.mark.parametrize("late_us", [2, -2])
def test_a_sample_that_is_2_us_off_is_still_the_windows_own(late_us: int) -> None:
    #  sample   0 1 2 3 4 5 6 7      number 3 is early or late by what epoch seconds may be off
    #  label    A A A C B B B B
    #  k = 0    [=====]              Transition: number 3 is its last
    #  k = 1          [=====]        Transition: number 3 is its first
    time_s = np.arange(8) / 50
    time_s[3] += late_us / 1e6
    windows = cut(make_recording(8, time_s=time_s, labels=list("AAACBBBB")), window=4, hop=3)
    assert windows.labels is not None
    assert windows.labels.tolist() == [TRANSITION, TRANSITION]


@given(
    n=st.integers(1, 120),
    window=st.integers(1, 30),
    hop=st.integers(1, 40),
    gap=st.integers(11, 40),
    at=st.integers(1, 100),
)
@settings(max_examples=100, deadline=None)
def test_every_whole_window_is_there_once_with_its_own_samples(
    n: int, window: int, hop: int, gap: int, at: int
) -> None:
    there = [i for i in range(n + gap) if not at <= i < at + gap]
    windows = cut(numbered(n + gap, missing=range(at, at + gap)), window, hop)
    whole = [k for k in range(n + gap) if all(i in set(there) for i in range(k * hop, k * hop + window))]
    assert windows.index.tolist() == whole
    expected = [list(range(k * hop, k * hop + window)) for k in whole]
    assert windows.values[:, 3].tolist() == expected


def test_the_first_window_at_or_after_a_position() -> None:
    assert [first_index(p, 25) for p in (0, 1, 24, 25, 26, 50)] == [0, 1, 1, 1, 2, 2]


def test_gathered_windows_are_copies() -> None:
    values = noise(20)
    windows = gather(values, [0, 7], 5)
    assert np.array_equal(windows[1], values[7:12].T)
    windows[:] = 0.0
    assert values.all()
    assert gather(values, [], 5).shape == (0, 6, 5)
