"""Features are what their definitions say, the same in any batch; `NAIVE` is written here once more."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.arrays import FloatArray
from repstream.errors import FeatureError
from repstream.features.sets import DEFAULT_FEATURE_SET, FEATURE_SETS, feature_set
from repstream.recordings.axes import AXES, SIDE_CODES
from repstream.windows.cut import cut
from tests.support import make_recording, spar_named

# As in the contract, section 3.
NAIVE_TEXT = """
accel_x 0 1 2 4 5 7 9 12 16
accel_y 0 1 2 3 4 5 6 7 8 9 10 11 12
accel_z 0 1 2 3 4 5 8 12 14
gyro_x 0 1 2 3 4 5 6 7 8 9 10 11 12 13
gyro_y 0 1 2 3 4 5 6 7 8 10 11
gyro_z 0 1 3 4 5 8 14 17 18
"""
NAIVE = [(axis, int(f)) for axis, *fs in map(str.split, NAIVE_TEXT.strip().splitlines()) for f in fs]
NAIVE_NAMES = [f"{axis}_{f}" for axis, f in NAIVE]

naive = FEATURE_SETS["naive-frequency"]
shape = FEATURE_SETS["motion-shape"]
LEFT, RIGHT, UNKNOWN = (SIDE_CODES[s] for s in ("left", "right", "unknown"))
every_set = pytest.mark.parametrize("name", sorted(FEATURE_SETS))


def real_windows(n: int, window: int = 151) -> FloatArray:
    """Windows of both wrists, over and over, each with a little noise of its own."""
    both = [cut(spar_named(f"s03-{side}-ROW-1"), window, 40).values for side in ("left", "right")]
    found = np.concatenate(both)
    repeated = np.tile(found, (-(-n // len(found)), 1, 1))[:n]
    return repeated + np.random.default_rng(n).normal(0.0, 1e-3, repeated.shape)


def sides_of(n: int) -> np.ndarray:
    return np.resize(np.array([LEFT, RIGHT, UNKNOWN, UNKNOWN, RIGHT], dtype=np.int8), n)


@functools.cache
def dft(n: int) -> np.ndarray:
    samples = np.arange(n)
    return np.exp(-2j * np.pi * (np.outer(samples, samples) % n) / n)


def defined(window: FloatArray) -> list[float]:
    """naive-frequency of one window, (6, n), straight from its definition.

    That is for 151 samples; other windows are read at the frequencies of these bins, which their spectrum has, too, if
    zeros make them as long as a multiple of 151.
    """
    n = window.shape[1]
    finer = -(-n // 151)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))
    spectra = np.abs(np.pad(window * hann, ((0, 0), (0, finer * 151 - n))) @ dft(finer * 151))
    values = []
    for axis, f in NAIVE:
        magnitudes = spectra[AXES.index(axis)]
        largest = magnitudes.max()
        values.append(magnitudes[3 * finer * f] / largest if largest > 0 else 0.0)
    return values


# naive-frequency


def test_naive_frequency_has_the_65_names_of_the_contract_in_their_order() -> None:
    assert len(NAIVE_NAMES) == 65
    assert list(naive.names) == NAIVE_NAMES


def test_naive_frequency_agrees_with_its_definition() -> None:
    windows = np.concatenate((real_windows(25), np.random.default_rng(1).normal(size=(5, 6, 151))))
    np.testing.assert_allclose(naive.compute(windows), [defined(w) for w in windows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [50, 109, 128, 150, 200, 302, 400])
def test_naive_frequency_agrees_with_its_definition_for_other_windows(window: int) -> None:
    windows = real_windows(3, window)
    np.testing.assert_allclose(naive.compute(windows), [defined(w) for w in windows], rtol=0, atol=1e-12)


@given(
    scales=st.lists(st.floats(-12, 12), min_size=6, max_size=6),
    offsets=st.lists(st.sampled_from([0.0, 1.0, -3.0]), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_axes_of_very_different_size_do_not_disturb_each_other(
    scales: list[float], offsets: list[float], seed: int
) -> None:
    window = np.random.default_rng(seed).normal(size=(6, 151)) + np.array(offsets)[:, None]
    window *= 10.0 ** np.array(scales)[:, None]
    np.testing.assert_allclose(naive.compute(window[None])[0], defined(window), rtol=0, atol=1e-12)


@pytest.mark.parametrize("silent", [[0], [1], [0, 1], [2, 5], [0, 1, 2, 3, 4, 5]])
def test_an_axis_that_is_all_zero_gives_zeros_and_no_warning(silent: list[int]) -> None:
    windows = real_windows(3)
    windows[:, silent] = 0.0
    with np.errstate(all="raise"):
        table = naive.compute(windows)
    columns = [i for i, (axis, _) in enumerate(NAIVE) if AXES.index(axis) in silent]
    assert not table[:, columns].any()
    np.testing.assert_allclose(table, [defined(w) for w in windows], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("axis", "f"), [("accel_y", 2), ("accel_x", 7), ("gyro_x", 13), ("gyro_z", 18)])
def test_a_sinusoid_peaks_in_the_feature_of_its_frequency_and_leaves_the_other_axes_alone(axis: str, f: int) -> None:
    windows = real_windows(4)
    before = naive.compute(windows)
    # Feature f reads bin 3·f of 151 samples at 50 Hz, 0.993·f Hz.
    windows[:, AXES.index(axis)] = np.sin(2 * np.pi * 3 * f * 50 / 151 * np.arange(151) / 50 + 0.4)
    after = naive.compute(windows)
    of_axis = [i for i, name in enumerate(NAIVE_NAMES) if name.rsplit("_", 1)[0] == axis]
    others = [i for i in range(65) if i not in of_axis]
    assert {NAIVE_NAMES[of_axis[int(i)]] for i in after[:, of_axis].argmax(axis=1)} == {f"{axis}_{f}"}
    np.testing.assert_allclose(after[:, NAIVE_NAMES.index(f"{axis}_{f}")], 1.0, atol=1e-9)
    np.testing.assert_allclose(after[:, others], before[:, others], rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [50, 51, 75, 100, 128, 200, 302, 400])
@pytest.mark.parametrize(("axis", "f"), [("accel_y", 3), ("accel_x", 7), ("gyro_x", 13), ("gyro_z", 18)])
def test_a_sinusoid_peaks_in_the_feature_of_its_frequency_whatever_the_window(axis: str, f: int, window: int) -> None:
    windows = real_windows(2, window)
    windows[:, AXES.index(axis)] = np.sin(2 * np.pi * 3 * f / 151 * np.arange(window) + 0.4)
    after = naive.compute(windows)
    of_axis = [i for i, name in enumerate(NAIVE_NAMES) if name.rsplit("_", 1)[0] == axis]
    assert {NAIVE_NAMES[of_axis[int(i)]] for i in after[:, of_axis].argmax(axis=1)} == {f"{axis}_{f}"}
    np.testing.assert_allclose(after[:, NAIVE_NAMES.index(f"{axis}_{f}")], 1.0, atol=0.02)


@pytest.mark.parametrize("factor", [1e-9, 0.5, 9.80665, 1e9])
def test_naive_frequency_knows_no_scale(factor: float) -> None:
    windows = real_windows(5)
    np.testing.assert_allclose(naive.compute(windows * factor), naive.compute(windows), rtol=0, atol=1e-12)


def test_naive_frequency_lies_between_0_and_1_and_cannot_tell_wrists_apart() -> None:
    windows = real_windows(20)
    table = naive.compute(windows)
    assert table.min() >= 0.0
    assert table.max() <= 1.0
    assert np.array_equal(naive.compute(windows, np.full(20, RIGHT)), table)


# motion-shape


def test_motion_shape_names_are_distinct() -> None:
    assert len(shape.names) == len(set(shape.names)) == 105


def test_a_right_wrist_equals_the_left_one_that_mirrors_it() -> None:
    windows = real_windows(30)
    mirror = np.array([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0])[:, None]
    right = shape.compute(windows, np.full(30, RIGHT))
    left = shape.compute(windows * mirror, np.full(30, LEFT))
    assert np.array_equal(right, left)
    assert not np.allclose(right, shape.compute(windows, np.full(30, LEFT)))


@pytest.mark.parametrize(("sign", "taken_for"), [(1.0, LEFT), (-1.0, RIGHT)])
def test_an_unknown_wrist_is_told_by_the_sign_of_its_mean_accel_x(sign: float, taken_for: int) -> None:
    windows = real_windows(30)
    windows[:, 0] += sign * (0.3 - (sign * windows[:, 0].mean(axis=1, keepdims=True)))
    assert (np.sign(windows[:, 0, :150].mean(axis=1)) == sign).all()
    told = shape.compute(windows, np.full(30, UNKNOWN))
    assert np.array_equal(told, shape.compute(windows, np.full(30, taken_for)))
    assert np.array_equal(told, shape.compute(windows))


def column(name: str, windows: FloatArray) -> FloatArray:
    return shape.compute(windows, np.full(len(windows), LEFT))[:, shape.names.index(name)]


def test_each_band_holds_the_power_of_its_own_frequencies() -> None:
    bands = [name for name in shape.names if name.startswith("gyro_y_log_")]
    inside = [0.5, 1.3, 2.5, 4.4, 8.0]
    t = np.arange(151) / 50
    for hertz, band in zip(inside, bands, strict=True):
        windows = np.zeros((1, 6, 151))
        windows[0, 4] = 100.0 * np.sin(2 * np.pi * hertz * t)
        assert max(bands, key=lambda name: column(name, windows)[0]) == band


@pytest.mark.parametrize("window", [50, 75, 100, 149, 152, 200, 302, 400])
@pytest.mark.parametrize(("hertz", "near"), [(4.4, 0.05), (2.5, 0.15), (8.0, 0.05)])
def test_a_movement_within_a_band_has_the_same_value_whatever_the_window(
    window: int, hertz: float, near: float
) -> None:
    def bands(n: int) -> FloatArray:
        windows = np.zeros((1, 6, n))
        windows[0, 4] = 100.0 * np.sin(2 * np.pi * hertz * np.arange(n) / 50)
        return np.array([column(name, windows)[0] for name in shape.names if name.startswith("gyro_y_log_")])

    usual, found = bands(151), bands(window)
    assert found.argmax() == usual.argmax()
    # A second tells 2 Hz apart: of a narrow band's movement some counts for its neighbours.
    assert found.max() == pytest.approx(usual.max(), abs=near if window >= 100 else 0.6)


@pytest.mark.parametrize("window", [50, 75, 100, 128, 200])
def test_every_feature_varies_with_the_movement_whatever_the_window(window: int) -> None:
    table = shape.compute(real_windows(40, window), sides_of(40))
    assert np.isfinite(table).all()
    assert (table.std(axis=0) > 1e-6).all()


def test_quantiles_deviation_and_correlation_are_those_of_the_samples() -> None:
    ramp = np.linspace(-1.0, 1.0, 150)
    windows = np.zeros((1, 6, 150))
    windows[0, 1], windows[0, 2] = ramp, -2.0 * ramp
    pairs = ramp.reshape(75, 2).mean(axis=1)
    assert column("accel_y_min", windows)[0] == pytest.approx(pairs.min())
    assert column("accel_y_max", windows)[0] == pytest.approx(pairs.max())
    assert column("accel_y_q25", windows)[0] == pytest.approx(np.quantile(pairs, 0.25), abs=0.02)
    assert column("accel_y_logsd", windows)[0] == pytest.approx(np.log(pairs.std() + 1e-3))
    assert column("corr_accel_y_accel_z", windows)[0] == pytest.approx(-1.0, abs=1e-4)
    assert column("corr_accel_x_gyro_x", windows)[0] == 0.0


def test_turning_about_gravity_is_told_from_turning_level() -> None:
    windows = np.zeros((2, 6, 151))
    windows[:, 0] = 1.0  # gravity along x
    windows[0, 3] = 90.0  # turning about x
    windows[1, 4] = 90.0  # turning about y
    np.testing.assert_allclose(column("turn_vertical_mean", windows), [90.0, 0.0], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(column("turn_level_logrms", windows), [0.0, np.log(91.0)], atol=0.2)


# Every set


@pytest.mark.slow
@every_set
@pytest.mark.parametrize("batch", [7, 64, 65, 1000])
def test_a_windows_features_do_not_depend_on_its_batch_to_the_last_bit(name: str, batch: int) -> None:
    features = FEATURE_SETS[name]
    windows, sides = real_windows(1000), sides_of(1000)
    whole = features.compute(windows, sides)
    for first in (0, 64, 333, 1000 - batch):
        rows = slice(first, first + batch)
        assert features.compute(windows[rows], sides[rows]).tobytes() == whole[rows].tobytes()


@every_set
def test_one_by_one_gives_the_same_features_to_the_last_bit(name: str) -> None:
    features = FEATURE_SETS[name]
    windows, sides = real_windows(200), sides_of(200)
    alone = [features.compute(windows[i : i + 1], sides[i : i + 1])[0] for i in range(200)]
    assert np.array(alone).tobytes() == features.compute(windows, sides).tobytes()


@every_set
@given(order=st.permutations(range(130)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_windows_does_not_matter_to_the_last_bit(name: str, order: list[int]) -> None:
    features = FEATURE_SETS[name]
    windows, sides = real_windows(130), sides_of(130)
    whole = features.compute(windows, sides)
    assert features.compute(windows[order], sides[order]).tobytes() == whole[order].tobytes()


@every_set
def test_how_windows_lie_in_memory_does_not_matter_to_the_last_bit(name: str) -> None:
    features = FEATURE_SETS[name]
    windows, sides = real_windows(70), sides_of(70)
    expected = features.compute(windows, sides).tobytes()
    time_first = np.ascontiguousarray(windows.transpose(0, 2, 1)).transpose(0, 2, 1)
    every_other = np.repeat(windows, 2, axis=2)[:, :, ::2]
    backwards = windows[::-1].copy()[::-1]
    fortran = np.asfortranarray(windows)
    for laid_out in (time_first, every_other, backwards, fortran):
        assert np.array_equal(laid_out, windows)
        assert features.compute(laid_out, sides).tobytes() == expected


@every_set
def test_windows_are_left_as_they_were(name: str) -> None:
    windows, sides = real_windows(70), sides_of(70)
    before, sides_before = windows.tobytes(), sides.tobytes()
    FEATURE_SETS[name].compute(windows, sides)
    assert (windows.tobytes(), sides.tobytes()) == (before, sides_before)
    windows.flags.writeable = False
    FEATURE_SETS[name].compute(windows, sides)


@every_set
@given(
    levels=st.lists(
        st.one_of(st.floats(-4000, 4000), st.sampled_from([0.0, -0.0, 1e-300, 5e-324, 1.0])), min_size=6, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_a_sensor_that_stands_still_gives_finite_features(name: str, levels: list[float]) -> None:
    windows = np.repeat(np.array(levels)[None, :, None], 151, axis=2)
    with np.errstate(divide="raise", invalid="raise"):
        for side in (LEFT, RIGHT, UNKNOWN):
            assert np.isfinite(FEATURE_SETS[name].compute(windows, np.full(1, side, np.int8))).all()


@every_set
def test_windows_of_a_wrong_shape_are_refused_with_it(name: str) -> None:
    features = FEATURE_SETS[name]
    for wrong in ((151, 6), (2, 151, 6), (2, 3, 151), (2, 7, 151)):
        with pytest.raises(FeatureError) as refused:
            features.compute(np.zeros(wrong))
        assert str(refused.value) == f"windows have shape {wrong}, expected (n, 6, window)"
    with pytest.raises(FeatureError) as refused:
        features.compute(np.zeros((2, 6, 49)))
    assert str(refused.value) == (
        f"feature set {name} needs windows of at least 50 samples (1 s), received 49: "
        "a shorter one does not tell its frequencies apart"
    )


@every_set
def test_the_shortest_window_that_a_set_takes_is_enough(name: str) -> None:
    features = FEATURE_SETS[name]
    assert features.compute(make_windows(3, features.min_window)).shape == (3, len(features.names))
    with pytest.raises(FeatureError):
        features.compute(make_windows(3, features.min_window - 1))


def make_windows(n: int, window: int) -> FloatArray:
    return cut(make_recording(n * window), window, window).values


@every_set
def test_no_windows_give_a_table_without_rows(name: str) -> None:
    assert FEATURE_SETS[name].compute(np.empty((0, 6, 151))).shape == (0, len(FEATURE_SETS[name].names))


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(FeatureError) as refused:
        feature_set("magic")
    assert str(refused.value) == "unknown feature set 'magic'; choose one of motion-shape, naive-frequency"
    assert feature_set(DEFAULT_FEATURE_SET).name == DEFAULT_FEATURE_SET
