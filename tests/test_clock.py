"""A session's clock may run fast or slow: its samples are ticks all the same, and windows know what time it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.drift.reference import load_reference
from repstream.arrays import FloatArray, IntArray
from repstream.features.sets import feature_set
from repstream.recognition.card import load_card
from repstream.recordings.recording import nominal_rate_hz
from repstream.windows.cut import cut, gather
from repstream.windows.grid import GridResampler, Run
from tests.support import joined, make_recording, noise, on_grid, pieces

EPOCH_US = 1_763_700_000_000_000


def ticking(n: int, step_us: float, whole_us: int = 1) -> IntArray:
    """Event times in µs of a regular clock, rounded down to whole `whole_us`."""
    return EPOCH_US + (np.floor(np.arange(n) * step_us / whole_us) * whole_us).astype(np.int64)


def times_of(runs: list[Run]) -> list[FloatArray]:
    """Times of grid values, µs from the first sample, a run each."""
    found = []
    for run in runs:
        positions = run.start + np.arange(len(run.values))
        begins, offsets = np.array(run.line).T
        found.append(positions * 20_000 + offsets[np.searchsorted(begins, positions, side="right") - 1])
    return found


def test_a_window_of_recofit_is_its_151_samples() -> None:
    # Steps of 19.99987 ms: after 151 samples the clock is 20 µs early.
    times, values = ticking(151, 19_999.87), noise(151)
    recording = make_recording(151, time_s=(times - EPOCH_US) / 1e6, values=values)
    windows = cut(recording)
    assert windows.index.tolist() == [0]
    assert windows.values[0].T.tobytes() == values.tobytes()
    assert windows.start_s.tolist() == [0.0]
    assert windows.end_s[0] == pytest.approx(150 * 0.01999987, abs=3e-6)


@settings(max_examples=60, deadline=None)
@given(
    drift=st.floats(-1e-3, 1e-3),
    n=st.integers(2, 600),
    cuts=st.lists(st.integers(1, 599), max_size=20),
    seed=st.integers(0, 99),
    keeps=st.booleans(),
)
def test_no_sample_of_a_clock_within_a_thousandth_of_50_hz_is_lost_or_changed(
    drift: float, n: int, cuts: list[int], seed: int, keeps: bool
) -> None:
    times, values = ticking(n, 20_000 * (1 + drift)), noise(n, seed)
    resampler, runs = GridResampler(50.0), []
    for piece in pieces(n, cuts):
        runs += resampler.push(times[piece], values[piece])
        if keeps:
            resampler = GridResampler.from_state(resampler.state())
    ((start, grid),) = joined(runs)
    assert start == 0
    assert grid.tobytes() == values.tobytes()
    assert np.abs(np.concatenate(times_of(runs)) - (times - EPOCH_US)).max() <= 2


@pytest.mark.parametrize("rate_hz", [49.955, 49.98, 50.02, 50.049])
def test_a_drifting_clock_that_counts_whole_milliseconds_keeps_its_samples(rate_hz: float) -> None:
    times, values = ticking(30_000, 1e6 / rate_hz, whole_us=1_000), noise(30_000)
    ((start, grid),) = on_grid(times, values, nominal_rate_hz(times))
    assert start == 0
    assert grid.tobytes() == values.tobytes()


def test_packets_lost_on_a_drifting_clock_are_interpolated_or_end_the_run_and_the_rest_stays_as_it_is() -> None:
    times, values = ticking(1_000, 20_010), noise(1_000)
    kept = np.r_[0:300, 310:600, 700:1_000]
    runs = GridResampler(50.0).push(times[kept], values[kept])
    (first, before), (second, after) = joined(runs)
    assert (first, second) == (0, 700)
    assert np.array_equal(before[np.r_[0:300, 310:600]], values[np.r_[0:300, 310:600]])
    assert np.array_equal(after, values[700:])
    assert np.abs(times_of(runs)[-1] - (times[700:] - EPOCH_US)).max() <= 2


def test_a_clock_that_jitters_is_not_taken_for_one_that_drifts() -> None:
    shake = np.random.default_rng(0).uniform(-4_000, 4_000, 500).astype(np.int64)
    shake[0] = 0
    times = ticking(500, 20_000) + shake
    values = np.repeat(((times - EPOCH_US) / 1e6)[:, None], 6, axis=1)
    runs = GridResampler(50.0).push(times, values)
    # A straight line in time is one on the grid, too, wherever the grid stands.
    np.testing.assert_allclose(joined(runs)[0][1][:, 0], np.concatenate(times_of(runs)) / 1e6, atol=5e-6)
    assert np.abs(np.concatenate(times_of(runs)) - 20_000 * np.arange(len(joined(runs)[0][1]))).max() < 1_000


TONES = np.array([0.5, 0.7, 1.1, 1.9, 2.3, 3.1, 4.3, 5.1, 6.7, 9.0, 11.0, 13.0, 15.0, 17.0])


@pytest.mark.parametrize(
    ("rate_hz", "within"),
    [(rate, 0.03) for rate in (47.0, 49.0, 49.6, 49.8, 49.9, 50.1, 50.4, 51.2, 52.0, 100.0, 119.2)]
    # Taken as it is: 17 Hz are 17.01 Hz.
    + [(49.96, 0.3), (50.04, 0.3)],
)
def test_features_of_sines_do_not_depend_on_the_clock(rate_hz: float, within: float) -> None:
    # In standard deviations over what people do, and where features are shares of the largest, in those.
    usual = load_reference(load_card("spar/1")).features.std(axis=0)
    for name, scale, share in (("motion-shape", usual, within), ("naive-frequency", 1.0, 0.1 * within)):
        found, expected = (feature_set(name).compute(w, np.zeros(20, np.int8)) for w in windows_of_tones(rate_hz))
        assert (np.abs(found - expected) / scale).max() < share, name


def windows_of_tones(rate_hz: float) -> tuple[FloatArray, FloatArray]:
    """Twenty windows of sums of sines by a clock of this rate, and by one of 50 Hz at the same times."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (len(TONES), 6))

    def signal(time_s: FloatArray) -> FloatArray:
        tones = np.sin(2 * np.pi * time_s[..., None, None] * TONES[:, None] + phases).sum(axis=-2)
        values: FloatArray = tones * [0.1, 0.15, 0.2, 20.0, 30.0, 40.0] + [0.2, 0.3, 0.9, 0.0, 0.0, 0.0]
        return values

    time_s = np.arange(int(30 * rate_hz)) / rate_hz
    runs = GridResampler(rate_hz).push(EPOCH_US + np.rint(time_s * 1e6).astype(np.int64), signal(time_s))
    ((first, grid),) = joined(runs)
    assert first == 0
    starts = np.arange(50, 1_050, 50)
    start_s = np.concatenate(times_of(runs))[starts] / 1e6
    expected = signal(start_s[:, None] + np.arange(151) / 50)
    return gather(grid, starts, 151), expected.transpose(0, 2, 1)


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 33.3, 50.0, 51.2, 52.0, 62.5, 99.7, 100.0, 119.2, 400.0])
@pytest.mark.parametrize("whole_us", [1, 1_000])
def test_the_rate_of_a_clock_is_found_whatever_it_counts_in(rate_hz: float, whole_us: int) -> None:
    found = nominal_rate_hz(ticking(2_000, 1e6 / rate_hz, whole_us))
    assert found == pytest.approx(rate_hz, rel=1e-6 if whole_us == 1 else 1e-3)
    holes = np.r_[0:500, 530:1_200, 1_900:2_000]
    assert nominal_rate_hz(ticking(2_000, 1e6 / rate_hz, whole_us)[holes]) == pytest.approx(rate_hz, rel=1e-3)


def test_labels_of_a_drifting_clock_are_those_of_its_samples() -> None:
    labels = ["A"] * 100 + ["B"] * 500
    recording = make_recording(600, time_s=np.arange(600) * 0.02002, labels=labels)
    shares = {}
    for share in (99 / 151, 100 / 151, 101 / 151):
        truths = cut(recording, hop=1, label_share=share).labels
        assert truths is not None
        shares[share] = truths.tolist().index("B")
    # Window k holds 151 - (100 - k) samples of B.
    assert shares == {99 / 151: 48, 100 / 151: 49, 101 / 151: 50}
