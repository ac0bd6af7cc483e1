"""A movement that two recordings hold is found by its content, whatever was done to it; and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from repstream.arrays import FloatArray
from repstream.recordings.copies import Shared, find_shared
from repstream.recordings.recording import Recording
from repstream.recordings.spar import recordings
from tests.support import make_recording, moving

UPRIGHT = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def people(n: int) -> list[Recording]:
    return [make_recording(1200, name=f"r{i}", subject=f"p{i}", values=moving(1200, seed=i)) for i in range(n)]


def copied(
    original: Recording, *, time_s: FloatArray | None = None, values: FloatArray | None = None, rate_hz: float = 50.0
) -> Recording:
    time_s = original.time_s if time_s is None else time_s
    return replace(
        original,
        name="copy",
        session="copy",
        subject="somebody else",
        time_s=time_s,
        values=original.values if values is None else values,
        rate_hz=rate_hz,
        labels=None,
    )


def at_times(original: Recording, times: FloatArray) -> FloatArray:
    return np.stack([np.interp(times, original.time_s, original.values[:, i]) for i in range(6)], axis=1)


def later(r: Recording) -> Recording:
    return copied(r, time_s=r.time_s + 3600.0)


def cut_out(r: Recording) -> Recording:
    return copied(r, time_s=r.time_s[301:801] - 2.0, values=r.values[301:801])


def faster_clock(r: Recording) -> Recording:
    return copied(r, time_s=r.time_s / 2, rate_hz=100.0)


def other_units_and_back(r: Recording) -> Recording:
    return copied(r, values=np.radians(r.values * 9.80665) / 9.80665 * 180.0 / np.pi)


def three_decimals(r: Recording) -> Recording:
    return copied(r, values=np.round(r.values, 3))


def another_g(r: Recording) -> Recording:
    return copied(r, values=r.values * [9.80665 / 9.81] * [1.0])


def single_precision(r: Recording) -> Recording:
    return copied(r, values=r.values.astype(np.float32).astype(np.float64))


def rounded_clock_resampled(r: Recording) -> Recording:
    told = replace(r, time_s=np.round(r.time_s * 1.0007, 3))
    times = np.arange(0.0, told.time_s[-1], 0.02)
    return copied(r, time_s=times, values=at_times(told, times))


def out_of_phase(r: Recording) -> Recording:
    times = np.arange(5.013, 15.0, 0.02)
    return copied(r, time_s=times, values=at_times(r, times))


def at_another_rate(r: Recording) -> Recording:
    times = np.arange(4.0, 20.0, 0.01)
    return copied(r, time_s=times, values=at_times(r, times), rate_hz=100.0)


CHANGES = {
    f.__name__: f
    for f in (
        later,
        cut_out,
        faster_clock,
        other_units_and_back,
        three_decimals,
        another_g,
        single_precision,
        rounded_clock_resampled,
        out_of_phase,
        at_another_rate,
    )
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_whatever_was_done_to_it(change: str) -> None:
    everyone = people(6)
    found = find_shared([*everyone, CHANGES[change](everyone[2])])
    assert {(s.first, s.second) for s in found} == {(2, 6)}


def test_where_it_stands_in_each_and_how_long_it_is_are_told() -> None:
    everyone = people(3)
    (found,) = find_shared([*everyone, cut_out(everyone[1])])
    assert found == Shared(1, 3, pytest.approx(301 / 50), 0.0, pytest.approx(499 / 50))
    (found,) = find_shared([*everyone, out_of_phase(everyone[1])])
    assert found.first_s - found.second_s == pytest.approx(5.013, abs=0.005)
    assert found.seconds > 8.0


@pytest.mark.parametrize("seconds", [1.0, 1.5, 3.0])
def test_a_short_stretch_of_one_recording_within_another_is_found(seconds: float) -> None:
    one, other = people(2)
    n = int(seconds * 50)
    values = other.values.copy()
    values[700 : 700 + n] = one.values[200 : 200 + n]
    (found,) = find_shared([one, replace(other, values=values)])
    assert (found.first_s, found.second_s) == (pytest.approx(4.0), pytest.approx(14.0))
    assert found.seconds == pytest.approx(seconds, abs=0.021)


def test_of_many_copies_each_is_found_with_another() -> None:
    one, *others = people(12)
    copies = [replace(later(one), name=f"copy{i}") for i in range(20)]
    found = find_shared([one, *others, *copies])
    assert {i for s in found for i in (s.first, s.second)} == {0, *range(12, 32)}


def test_the_same_periodic_movement_with_noise_of_its_own_is_none() -> None:
    def swinging(seed: int) -> Recording:
        t = np.arange(1000) / 50
        swing = np.outer(np.sin(2 * np.pi * 0.6 * t), [0.3, 0.1, 0.2, 40.0, 60.0, 20.0])
        uneven = moving(1000, seed) * 0.1
        return make_recording(1000, name=f"r{seed}", values=swing + uneven + [0, 0, 1, 0, 0, 0])

    assert find_shared([swinging(i) for i in range(8)]) == []


def test_watches_that_lie_still_share_nothing_however_coarse_their_numbers_are() -> None:
    def lying(seed: int) -> Recording:
        noise = np.random.default_rng(seed).normal(size=(1500, 6)) * [0.004] * 6
        values = np.round((noise + UPRIGHT) / 0.016) * 0.016
        return make_recording(1500, name=f"r{seed}", values=values)

    assert find_shared([lying(i) for i in range(10)]) == []
    still = np.tile([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (500, 1))
    assert find_shared([make_recording(500, name=f"s{i}", values=still) for i in range(3)]) == []


def test_someone_who_sits_still_is_found_again_by_the_sensors_noise() -> None:
    def sitting(seed: int) -> Recording:
        noise = np.random.default_rng(seed).normal(size=(700, 6)) * [0.005, 0.005, 0.005, 0.3, 0.3, 0.3]
        return make_recording(700, name=f"r{seed}", values=noise + UPRIGHT)

    everyone = [sitting(i) for i in range(5)]
    assert {(s.first, s.second) for s in find_shared([*everyone, later(everyone[3])])} == {(3, 5)}


@pytest.mark.slow
def test_none_of_spars_recordings_share_anything() -> None:
    assert find_shared(recordings()) == []


def test_few_and_short_recordings_are_no_trouble() -> None:
    assert find_shared([]) == []
    assert find_shared(people(1)) == []
    assert find_shared([make_recording(2, name="a"), make_recording(20, name="b")]) == []
