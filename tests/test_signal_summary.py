"""What a summary's numbers are: each against plain code on one window, or by hand where hand suffices."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

from repstream.arrays import FloatArray
from repstream.features.motion_shape import MIRROR
from repstream.features.summary import EVERY_S, NAMES, every, summarise
from repstream.recordings.axes import AXES, SIDE_CODES
from repstream.windows.cut import WINDOW_SAMPLES, cut
from tests.support import noise, sinusoid, spar_recordings

N = WINDOW_SAMPLES
FLOOR = {**dict.fromkeys(AXES[:3], 1e-3), **dict.fromkeys(AXES[3:], 0.1)}


def sides_of(n: int, side: str = "left") -> Any:
    return np.full(n, SIDE_CODES[side], dtype=np.int8)  # type: ignore[index]


def summary(window: FloatArray, side: str = "left") -> dict[str, float]:
    (row,) = summarise(window[None], sides_of(1, side))
    return dict(zip(NAMES, row.tolist(), strict=True))


def window_with(**axes: FloatArray) -> FloatArray:
    """Noise on all axes but those given."""
    window = noise(N, 5).T.copy()
    for name, values in axes.items():
        window[AXES.index(name)] = values
    return window


@cache
def real_windows() -> FloatArray:
    windows: list[FloatArray] = [cut(r, hop=400).values for r in spar_recordings("s01-left-*", "s02-left-*")]
    # In double precision some neighbours differ that are equal in single precision.
    return np.concatenate(windows).astype(np.float32).astype(np.float64)


def plain(window: FloatArray) -> dict[str, float]:
    """The same numbers, one after the other in double precision, a left wrist's."""
    found: dict[str, float] = {}
    for axis, x in zip(AXES, window, strict=True):
        step, bend, tenth = np.diff(x), np.diff(x, n=2), FLOOR[axis] / 10
        step_size, bend_size = np.sqrt(np.mean(step**2)), np.sqrt(np.mean(bend**2))
        found |= {
            f"mean_{axis}": np.mean(x),
            f"logsd_{axis}": np.log(np.std(x) + FLOOR[axis]),
            f"min_{axis}": min(x),
            f"max_{axis}": max(x),
            f"repeats_{axis}": sum(b == a for a, b in itertools.pairwise(x)) / (N - 1),
            f"extremes_{axis}": (list(x).count(min(x)) + list(x).count(max(x))) / N,
            f"roughness_{axis}": np.log((bend_size + tenth) / (step_size + tenth)),
            f"pace_{axis}": np.log((step_size + tenth) / (np.std(x) + tenth)),
            f"jerk_{axis}": np.log(bend_size + FLOOR[axis]),
        }
    for i in range(6):
        for j in range(i + 1, 6):
            sizes = np.std(window[i]) * np.std(window[j])
            found[f"corr_{AXES[i]}_{AXES[j]}"] = np.corrcoef(window[i], window[j])[0, 1] * sizes / (sizes + 1e-4)
    size = [np.linalg.norm(a) for a in window[:3].T]
    found["magnitude_median"], found["magnitude_mean"] = np.median(size), np.mean(size)
    found["magnitude_sd"] = np.std(size)
    smooth = np.array([np.convolve(x, np.ones(13) / 13, "valid")[1:] for x in window])
    moved = np.gradient(smooth[:3], 1 / 50, axis=1)[:, 1:-1]
    expected = -np.cross(np.radians(smooth[3:, 1:-1]).T, smooth[:3, 1:-1].T).T
    for k, axis in enumerate(AXES[:3]):
        found[f"turn_{axis}"] = sum(moved[k] * expected[k]) / (sum(expected[k] ** 2) + 1e-3)
    both, ours, theirs = (moved * expected).sum(), (expected**2).sum(), (moved**2).sum()
    found["turn"] = both / (ours + 1e-3)
    found["turn_corr"] = both / np.sqrt(ours * theirs + 1e-6)
    found["turn_log"] = np.log(ours + 1e-3)
    found["turn_ratio_log"] = np.log((theirs + 1e-3) / (ours + 1e-3))
    return found


GROUPS = (
    "mean",
    "logsd",
    "min",
    "max",
    "repeats",
    "extremes",
    "roughness",
    "pace",
    "jerk",
    "corr",
    "turn",
    "magnitude",
)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_each_number_is_that_of_plain_code_on_real_windows(group: str) -> None:
    names = [n for n in NAMES if n.split("_")[0] == group]
    assert names
    for window in real_windows()[::3]:
        found, wanted = summary(window), plain(window)
        for name in names:
            assert found[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-3), name


def test_the_plain_code_knows_all_numbers_and_the_groups_are_all() -> None:
    assert plain(real_windows()[0]).keys() == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    assert {n.split("_")[0] for n in NAMES} == set(GROUPS)


# Known signals


def test_an_axis_that_stands_still_repeats_and_has_no_spread() -> None:
    found = summary(window_with(gyro_y=np.full(N, 7.0)))
    assert found["repeats_gyro_y"] == 1.0
    assert found["extremes_gyro_y"] == 2.0  # each sample is the smallest, and the largest
    assert (found["mean_gyro_y"], found["min_gyro_y"], found["max_gyro_y"]) == (7.0, 7.0, 7.0)
    assert found["logsd_gyro_y"] == pytest.approx(np.log(0.1), abs=0.02)
    assert found["jerk_gyro_y"] == pytest.approx(np.log(0.1))
    assert found["roughness_gyro_y"] == 0.0
    assert abs(found["corr_accel_x_gyro_y"]) < 0.01
    assert found["repeats_gyro_x"] == 0.0


def test_an_axis_that_grows_evenly_does_not_bend() -> None:
    step = 1.0 / 64.0  # a power of two: its differences are exact
    found = summary(window_with(accel_y=step * np.arange(N, dtype=np.float64)))
    spread = step * np.sqrt((N**2 - 1) / 12)
    assert found["jerk_accel_y"] == pytest.approx(np.log(1e-3))
    assert found["repeats_accel_y"] == 0.0
    assert found["extremes_accel_y"] == pytest.approx(2 / N)
    assert found["mean_accel_y"] == pytest.approx(step * 75)
    assert found["logsd_accel_y"] == pytest.approx(np.log(spread + 1e-3), abs=1e-4)
    assert found["pace_accel_y"] == pytest.approx(np.log((step + 1e-4) / (spread + 1e-4)), abs=1e-4)
    assert found["roughness_accel_y"] == pytest.approx(np.log(1e-4 / (step + 1e-4)), abs=1e-4)


def test_a_signal_that_is_cut_off_stays_at_its_extremes() -> None:
    whole = 100.0 * sinusoid(1.3, 50.0, N)
    clipped = np.clip(whole, -60.0, 60.0)
    found = summary(window_with(gyro_z=clipped))
    beyond = int((np.abs(whole) >= 60.0).sum())
    assert beyond > 0.5 * N
    assert found["extremes_gyro_z"] == pytest.approx(beyond / N)
    assert (found["min_gyro_z"], found["max_gyro_z"]) == (-60.0, 60.0)
    assert summary(window_with(gyro_z=whole))["extremes_gyro_z"] < 0.05


def test_twice_the_pace_of_a_sine_is_twice_the_pace() -> None:
    slow, fast = (summary(window_with(accel_z=sinusoid(hertz, 50.0, N)))["pace_accel_z"] for hertz in (1.0, 2.0))
    assert np.exp(fast - slow) == pytest.approx(2.0, rel=0.02)


def turning(degrees_s: float, axis: int) -> FloatArray:
    """Gravity seen by a sensor that turns about one of its axes: da/dt = -ω × a."""
    angle = np.radians(degrees_s) * np.arange(N) / 50
    window = np.zeros((6, N))
    window[(axis + 1) % 3], window[(axis + 2) % 3] = np.sin(angle), np.cos(angle)
    window[3 + axis] = degrees_s
    return window


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees_s", [90.0, -140.0])
def test_gravity_turns_as_the_gyroscope_says_in_a_sensor_that_only_turns(axis: int, degrees_s: float) -> None:
    found = summary(turning(degrees_s, axis))
    turned = [AXES[(axis + 1) % 3], AXES[(axis + 2) % 3]]
    for name in ("turn", "turn_corr", *(f"turn_{a}" for a in turned)):
        assert found[name] == pytest.approx(1.0, abs=0.01), name
    assert found[f"turn_{AXES[axis]}"] == pytest.approx(0.0, abs=1e-6)
    assert found["turn_ratio_log"] == pytest.approx(0.0, abs=0.02)


def test_radians_sent_as_degrees_turn_57_times_too_little() -> None:
    window = turning(180.0, 0)
    window[3:] *= np.pi / 180.0
    found = summary(window)
    assert found["turn"] == pytest.approx(180.0 / np.pi, rel=0.01)
    assert found["turn_corr"] == pytest.approx(1.0, abs=0.01)
    assert found["turn_ratio_log"] == pytest.approx(2 * np.log(180.0 / np.pi), abs=0.02)


def test_a_gyroscope_mounted_the_wrong_way_round_turns_against_gravity() -> None:
    window = turning(90.0, 2)
    window[3:] *= -1.0
    assert summary(window)["turn"] == pytest.approx(-1.0, abs=0.01)


# Wrists, shapes, batches


def test_a_right_wrist_looks_as_the_left_one_that_it_mirrors() -> None:
    windows = real_windows()
    left = summarise(windows, sides_of(len(windows)))
    right = summarise(windows * MIRROR[:, None], sides_of(len(windows), "right"))
    np.testing.assert_array_equal(left, right)
    assert not np.array_equal(left, summarise(windows * MIRROR[:, None], sides_of(len(windows))))


def test_a_wrist_of_unknown_side_is_told_by_gravity() -> None:
    windows = real_windows()
    mirrored = np.where((windows[:, 0].mean(axis=1) < 0)[:, None, None], windows * MIRROR[:, None], windows)
    assert 0 < (mirrored != windows).any(axis=(1, 2)).sum() < len(windows)
    np.testing.assert_array_equal(
        summarise(windows, sides_of(len(windows), "unknown")), summarise(mirrored, sides_of(len(windows)))
    )


def test_no_window_gives_no_row() -> None:
    found = summarise(np.empty((0, 6, N)), sides_of(0))
    assert found.shape == (0, len(NAMES))
    assert found.dtype == np.float32


def test_windows_one_by_one_are_those_of_a_batch_to_single_precision() -> None:
    windows = real_windows()
    assert len(windows) > 64  # more than fit into a block
    together = summarise(windows, sides_of(len(windows)))
    alone = np.concatenate([summarise(w[None], sides_of(1)) for w in windows])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reading", [1e12, -1e30, 1e300])
def test_absurd_readings_give_finite_numbers(reading: float) -> None:
    window = real_windows()[0].copy()
    window[2, 40:60] = reading
    (row,) = summarise(window[None], sides_of(1))
    assert np.isfinite(row).all()


def test_the_windows_that_are_given_are_left_as_they_are() -> None:
    windows = real_windows()[:3].copy()
    before = windows.copy()
    summarise(windows, sides_of(3, "right"))
    np.testing.assert_array_equal(windows, before)


@pytest.mark.parametrize(("hop", "n"), [(25, 3), (75, 1), (1, 75), (151, 1), (50, 2)])
def test_one_window_each_second_and_a_half_carries_a_summary(hop: int, n: int) -> None:
    assert every(hop) == n
    assert EVERY_S == 1.5
