"""A recording is refused where it would mislead everything after it."""

from __future__ import annotations

import numpy as np
import pytest

from repstream.errors import RecordingError
from repstream.recordings.recording import Recording, nominal_rate_hz
from tests.support import make_recording


def remade(**changes: object) -> Recording:
    fields: dict[str, object] = {
        "name": "r",
        "subject": "p1",
        "session": "morning",
        "device": "watch",
        "time_s": np.arange(5) / 50,
        "values": np.zeros((5, 6)),
        "rate_hz": 50.0,
    }
    return Recording(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"values": np.zeros((4, 6))}, "r: values have shape (4, 6), expected (5, 6)"),
        ({"values": np.zeros((5, 3))}, "r: values have shape (5, 3), expected (5, 6)"),
        ({"labels": np.array(["A"] * 4)}, "r: 4 labels for 5 samples"),
        ({"side": "up"}, "r: side is 'up'; it is one of left, right, unknown"),
        ({"rate_hz": 9.9}, "r: the sampling rate is 9.9 Hz, outside 10–400 Hz"),
        ({"rate_hz": 401.0}, "r: the sampling rate is 401 Hz, outside 10–400 Hz"),
        ({"rate_hz": float("nan")}, "r: the sampling rate is nan Hz, outside 10–400 Hz"),
        ({"subject": ""}, "r: subject is empty; name it with --subject"),
        ({"session": ""}, "r: session is empty; name it with --session"),
        ({"device": ""}, "r: device is empty; name it with --device"),
        (
            {"device": "a/b"},
            "r: device 'a/b' contains '/', which separates the parts of a prediction's id; "
            "choose another name with --device",
        ),
        (
            {"time_s": np.array([0.0, 0.02, 0.01, 0.03, 0.04])},
            "r: row 3: the clock runs backwards (0.020000 s, then 0.010000 s); "
            "sort the rows by time, remove repeated ones, or split the file into one a session",
        ),
        (
            {"time_s": np.array([0.0, 0.02, 0.04, 0.06, 0.06])},
            "r: row 5: the clock stands still (0.060000 s, then 0.060000 s); "
            "sort the rows by time, remove repeated ones, or split the file into one a session",
        ),
    ],
)
def test_what_is_no_recording_is_refused_with_its_value(changes: dict[str, object], text: str) -> None:
    with pytest.raises(RecordingError) as refused:
        remade(**changes)
    assert str(refused.value) == text


def test_the_slowest_and_the_fastest_allowed_rates_are_accepted() -> None:
    assert remade(rate_hz=10).rate_hz == 10
    assert remade(rate_hz=400).rate_hz == 400


def test_times_are_whole_microseconds_from_the_first_sample() -> None:
    recording = make_recording(4, time_s=np.array([5.0, 5.020001, 5.04, 5.0600004]))
    assert recording.times_us.tolist() == [0, 20001, 40000, 60000]
    assert recording.duration_s == pytest.approx(0.0600004)


def test_label_intervals_are_the_runs_of_one_label() -> None:
    assert make_recording(6, labels=list("AABBBA")).label_intervals() == [(0, 1, "A"), (2, 4, "B"), (5, 5, "A")]
    assert make_recording(3, labels=list("AAA")).label_intervals() == [(0, 2, "A")]
    assert make_recording(3).label_intervals() == []


@pytest.mark.parametrize("rate_hz", [10, 25, 30, 33, 50, 60, 64, 100, 104, 200, 400])
def test_whole_rates_are_recognised_through_rounding_jitter_and_gaps(rate_hz: int) -> None:
    rng = np.random.default_rng(rate_hz)
    period_us = 1e6 / rate_hz
    clean = np.rint(np.arange(300) * period_us)
    shaky = clean + np.rint(rng.uniform(-0.004, 0.004, 300) * period_us)
    gappy = np.delete(clean, slice(100, 180))
    for times in (clean, shaky, gappy):
        assert nominal_rate_hz(times.astype(np.int64)) == rate_hz


def test_a_rate_that_is_not_whole_is_kept() -> None:
    assert nominal_rate_hz(np.rint(np.arange(300) * 1e6 / 12.5).astype(np.int64)) == 12.5
