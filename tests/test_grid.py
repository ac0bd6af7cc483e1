"""However a clock ticks and however its samples are cut into packets, the 50 Hz grid is the same.

In the timelines ``x`` is a sample, ``.`` a missing one, ``o`` a value made by interpolation, and a
column is one period of the clock.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.arrays import FloatArray, IntArray
from repstream.windows.grid import GRID_US, RATE_ESTIMATE_SAMPLES, GridResampler, Run
from tests.support import joined, noise, on_grid, pieces, same_bits, sinusoid

EPOCH_US = 1_763_700_000_000_000
RATES = [10.0, 12.5, 25.0, 30.0, 33.3, 50.0, 50.4, 52.0, 64.0, 100.0, 104.0, 200.0, 399.9, 400.0]


def clock(n: int, rate_hz: float, jitter: float = 0.0, seed: int = 0) -> IntArray:
    """Event times in µs; `jitter` in periods, below a half."""
    shake = np.random.default_rng(seed).uniform(-jitter, jitter, n) if jitter else 0.0
    return EPOCH_US + np.rint((np.arange(n) + shake) * 1e6 / rate_hz).astype(np.int64)


@st.composite
def streams(draw: st.DrawFn) -> tuple[float, IntArray, FloatArray]:
    """A rate, times and values: regular or jittered, with or without gaps and repeated samples."""
    rate_hz = draw(st.sampled_from(RATES))
    n = draw(st.integers(2, 250))
    times = clock(n, rate_hz, draw(st.sampled_from([0.0, 0.001, 0.3])), draw(st.integers(0, 99)))
    values = noise(n, draw(st.integers(0, 99)))
    for _ in range(draw(st.integers(0, 2))):
        times[draw(st.integers(1, n - 1)) :] += draw(st.integers(1, 700_000))
    if draw(st.booleans()):
        i = draw(st.integers(0, n - 2))
        times[i + 1] = times[i] - draw(st.integers(0, 30_000))
    return rate_hz, times, values


@pytest.mark.slow
@given(stream=streams(), cuts=st.lists(st.integers(1, 249), max_size=30), known=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_cut_into_packets_gives_the_same_grid_to_the_last_bit(
    stream: tuple[float, IntArray, FloatArray], cuts: list[int], known: bool
) -> None:
    rate_hz, times, values = stream
    resampler = GridResampler(rate_hz if known else None)
    runs = [run for piece in pieces(len(times), cuts) for run in resampler.push(times[piece], values[piece])]
    whole = GridResampler(rate_hz if known else None)
    assert same_bits(joined(runs), joined(whole.push(times, values)))
    assert resampler.n_backwards == whole.n_backwards


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", RATES)
def test_one_sample_at_a_time_gives_the_same_grid_to_the_last_bit(rate_hz: float) -> None:
    times, values = clock(300, rate_hz, 0.3), noise(300)
    resampler = GridResampler(rate_hz)
    runs = [run for i in range(300) for run in resampler.push(times[i : i + 1], values[i : i + 1])]
    assert same_bits(joined(runs), on_grid(times, values, rate_hz))


@pytest.mark.slow
@given(stream=streams(), cuts=st.lists(st.integers(1, 249), min_size=1, max_size=4), known=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_resampler_made_from_a_saved_state_goes_on_as_if_nothing_had_happened(
    stream: tuple[float, IntArray, FloatArray], cuts: list[int], known: bool
) -> None:
    rate_hz, times, values = stream
    resampler = GridResampler(rate_hz if known else None)
    runs: list[Run] = []
    for piece in pieces(len(times), cuts):
        saved = copy.deepcopy(resampler.state())
        resampler.push(clock(5, 50.0), noise(5))  # what the old one does afterwards does not matter
        resampler = GridResampler.from_state(saved)
        runs += resampler.push(times[piece], values[piece])
    assert same_bits(joined(runs), on_grid(times, values, rate_hz if known else None))


@given(n=st.integers(1, 300), seed=st.integers(0, 99), first=st.integers(0, 10**16))
@settings(max_examples=50, deadline=None)
def test_the_samples_of_a_50_hz_clock_are_the_grid_itself(n: int, seed: int, first: int) -> None:
    values = noise(n, seed)
    rounding = np.random.default_rng(seed).integers(-2, 3, n)  # µs, as epoch seconds in float64 may be off
    rounding[0] = 0
    ((start, grid),) = on_grid(first + GRID_US * np.arange(n) + rounding, values, 50.0)
    assert start == 0
    assert grid.tobytes() == values.tobytes()


@pytest.mark.parametrize("rate_hz", [10.0, 12.5, 25.0, 30.0, 33.3, 50.0])
def test_a_straight_line_stays_straight(rate_hz: float) -> None:
    times = clock(200, rate_hz, 0.3)
    values = np.repeat(((times - times[0]) / 1e6)[:, None], 6, axis=1)
    ((start, grid),) = on_grid(times, values, rate_hz)
    assert start == 0
    np.testing.assert_allclose(grid[:, 3], np.arange(len(grid)) / 50, atol=1e-9)


# Gaps: 10 missing samples of a 50 Hz clock are 0.2 s.


def with_missing(n_missing: int, rate_hz: float = 50.0, before: int = 50) -> tuple[IntArray, FloatArray]:
    n = before + n_missing + before
    kept = np.delete(np.arange(n), np.s_[before : before + n_missing])
    return clock(n, rate_hz)[kept], noise(n)[kept]


def test_ten_missing_samples_are_interpolated() -> None:
    #  position  0 …  49  50 …  59  60 … 109
    #  samples   x x x x   . . . .   x x x x
    #  grid      x x x x   o o o o   x x x x     one run
    times, values = with_missing(10)
    ((start, grid),) = on_grid(times, values, 50.0)
    assert (start, len(grid)) == (0, 110)
    assert np.array_equal(grid[:50], values[:50])
    assert np.array_equal(grid[60:], values[50:])
    weight = np.arange(1, 11)[:, None] / 11
    np.testing.assert_allclose(grid[50:60], (1 - weight) * values[49] + weight * values[50], atol=1e-12)


def test_eleven_missing_samples_start_a_new_run() -> None:
    #  position  0 …  49  50 …  60  61 … 110
    #  samples   x x x x   . . . .   x x x x
    #  grid      x x x x             x x x x     two runs, numbered on by the clock
    times, values = with_missing(11)
    (first, before), (second, after) = on_grid(times, values, 50.0)
    assert (first, second) == (0, 61)
    assert np.array_equal(before, values[:50])
    assert np.array_equal(after, values[50:])


@pytest.mark.parametrize("rate_hz", [10.0, 20.0, 25.0, 100.0, 200.0, 400.0])
def test_at_every_rate_a_fifth_of_a_second_is_bridged_and_one_sample_more_is_not(rate_hz: float) -> None:
    #  samples   x x x x   . . 0.2 s . .     x x x x
    #  samples   x x x x   . . 0.2 s . . .   x x x x
    bridged = round(0.2 * rate_hz)
    before = int(rate_hz)
    assert len(on_grid(*with_missing(bridged, rate_hz, before), rate_hz)) == 1
    assert len(on_grid(*with_missing(bridged + 1, rate_hz, before), rate_hz)) == 2


def test_a_gap_between_two_packets_is_the_same_gap() -> None:
    times, values = with_missing(25)
    resampler = GridResampler(50.0)
    runs = resampler.push(times[:50], values[:50]) + resampler.push(times[50:], values[50:])
    assert same_bits(joined(runs), on_grid(times, values, 50.0))
    assert [run.start for run in runs] == [0, 75]


def test_after_a_gap_the_clock_goes_on_at_the_nearest_position_and_says_how_far_off_that_is() -> None:
    #  clock 50 Hz, after a gap of 1 s shifted by a quarter of a period
    #  position   0   1   2  …      52   53   54
    #  samples    x   x   x          x   x   x        (each 5 ms late)
    times = np.array([0, 20_000, 40_000, 1_045_000, 1_065_000, 1_085_000])
    values = np.repeat(np.array([[0.0], [1.0], [2.0], [10.0], [20.0], [30.0]]), 6, axis=1)
    before, after = GridResampler(50.0).push(times, values)
    assert (before.start, before.values[:, 0].tolist(), before.line) == (0, [0.0, 1.0, 2.0], ((0, 0),))
    assert (after.start, after.values[:, 0].tolist(), after.line) == (52, [10.0, 20.0, 30.0], ((52, 5_000),))


# The low-pass


def middle(signal: FloatArray) -> FloatArray:
    """Without the run's start, where the filter has only one side."""
    return signal[10:-10]


@pytest.mark.parametrize("hertz", [32.1, 40.0, 45.0])
@pytest.mark.parametrize("rate_hz", [100.0, 200.0, 400.0])
def test_a_fast_tone_is_gone_instead_of_appearing_as_a_slow_one(rate_hz: float, hertz: float) -> None:
    # 40 Hz would fold onto 10 Hz, and 32.1 Hz onto 17.9 Hz, the highest that a feature reads.
    n = int(4 * rate_hz)
    values = np.repeat(sinusoid(hertz, rate_hz, n)[:, None], 6, axis=1)
    ((_, grid),) = on_grid(clock(n, rate_hz), values, rate_hz)
    rms = np.sqrt(np.square(middle(grid)).mean(axis=0)) / np.sqrt(0.5)
    assert (20 * np.log10(rms) < -40).all()


@pytest.mark.parametrize(
    ("rate_hz", "hertz"),
    [(rate, hertz) for rate in (100.0, 200.0, 400.0) for hertz in (0.0, 0.5, 5.0, 12.0)] + [(52.0, 0.5), (64.0, 0.5)],
)
def test_a_movement_passes_within_one_percent(rate_hz: float, hertz: float) -> None:
    n = int(4 * rate_hz)
    values = np.repeat(np.cos(2 * np.pi * hertz * np.arange(n) / rate_hz)[:, None], 6, axis=1)
    ((start, grid),) = on_grid(clock(n, rate_hz), values, rate_hz)
    assert start == 0
    expected = np.cos(2 * np.pi * hertz * np.arange(len(grid)) / 50.0)
    assert np.abs(middle(grid[:, 0] - expected)).max() < 0.01


@pytest.mark.parametrize("rate_hz", [100.0, 200.0, 400.0])
def test_the_grid_lags_no_more_than_an_eighth_of_a_second_behind_a_fast_clock(rate_hz: float) -> None:
    n = int(4 * rate_hz)
    ((_, grid),) = on_grid(clock(n, rate_hz), noise(n), rate_hz)
    assert (len(grid) - 1) / 50 > (n - 1) / rate_hz - 0.125 - 0.02


# What is not in order, what is not known


def test_samples_that_run_backwards_or_repeat_are_dropped_and_counted() -> None:
    #  time, ms   0   20   40   30!  40!  60   80
    times = EPOCH_US + 1000 * np.array([0, 20, 40, 30, 40, 60, 80])
    values = noise(7)
    in_order = [0, 1, 2, 5, 6]
    resampler = GridResampler(50.0)
    runs = resampler.push(times, values)
    assert same_bits(joined(runs), on_grid(times[in_order], values[in_order], 50.0))
    assert resampler.n_backwards == 2
    assert resampler.push(times[:3], values[:3]) == []
    assert resampler.n_backwards == 5


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 30.0, 50.0, 64.0, 100.0, 400.0])
def test_a_rate_that_is_not_given_is_estimated(rate_hz: float) -> None:
    times, values = clock(200, rate_hz), noise(200)
    resampler = GridResampler(None)
    assert resampler.push(times[: RATE_ESTIMATE_SAMPLES - 1], values[: RATE_ESTIMATE_SAMPLES - 1]) == []
    assert resampler.rate_hz is None
    runs = resampler.push(times[RATE_ESTIMATE_SAMPLES - 1 :], values[RATE_ESTIMATE_SAMPLES - 1 :])
    assert resampler.rate_hz == rate_hz
    assert same_bits(joined(runs), on_grid(times, values, rate_hz))


def test_the_stream_knows_where_a_50_hz_clock_goes_to_the_grid_as_it_is() -> None:
    times, values = clock(60, 50.0), noise(60)
    resampler, skipping = GridResampler(50.0), GridResampler(50.0)
    assert skipping.on_grid is None
    for each in (resampler, skipping):
        each.push(times[:20], values[:20])
    assert skipping.on_grid == 20
    resampler.push(times[20:40], values[20:40])
    skipping.skip_to(39, values[39])
    assert same_bits(
        joined(skipping.push(times[40:] + 7000, values[40:])), joined(resampler.push(times[40:] + 7000, values[40:]))
    )
    assert skipping.on_grid is None


@pytest.mark.parametrize("rate_hz", [30.0, 100.0])
def test_what_was_pushed_may_be_overwritten_afterwards(rate_hz: float) -> None:
    times, values = clock(200, rate_hz, 0.3), noise(200)
    kept = values.copy()
    resampler = GridResampler(rate_hz)
    runs = [Run(start, grid.copy()) for start, grid in joined(resampler.push(times[:150], values[:150]))]
    assert np.array_equal(values, kept)
    values[:] = 0.0
    runs += resampler.push(times[150:], kept[150:])
    assert same_bits(joined(runs), on_grid(times, kept, rate_hz))
