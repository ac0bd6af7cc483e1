"""What an alarm says, of real recordings before and after each fault: sensor, axes, amount, and what to do."""

from __future__ import annotations

import re
from functools import cache

import pytest

from monitor.alarms.words import Words, describe
from repstream.alarms.recogniser import VARIANTS
from repstream.arrays import FloatArray
from repstream.messages.messages import ALARM_CAUSES
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from tests.drifting import summaries, variant_number, with_faults
from tests.support import spar_recordings

ACCEL, GYRO = list(AXES[:3]), list(AXES[3:])


@cache
def worn() -> tuple[Recording, ...]:
    return tuple(spar_recordings("s08-left-*"))


@cache
def usual(name: str) -> FloatArray:
    (recording,) = (r for r in worn() if r.name == name)
    mean: FloatArray = summaries(recording).mean(axis=0)
    return mean


def words(spec: str, cause: str, sensor: str = "", exercise: str = "ABD") -> Words:
    """What is said where `spec` befalls a recording of the very same exercise."""
    recording = next(r for r in worn() if f"-{exercise}-" in r.name)
    variant = VARIANTS[variant_number(cause, sensor)]
    now = summaries(with_faults(recording, f"{spec}@0")).mean(axis=0)
    return describe(variant, usual(recording.name), now)


def number(text: str, unit: str) -> float:
    (found,) = re.findall(rf"([-+]?[\d.]+) ?{re.escape(unit)}", text)
    return float(found)


@pytest.mark.parametrize("about", ["x", "y", "z"])
def test_a_turn_by_a_quarter_names_two_axes_and_the_angle_where_gravity_shows_it(about: str) -> None:
    shown = 0
    for recording in worn():
        said = words(f"rotate:90,{about}", "rotated", exercise=recording.name.split("-")[2])
        assert said.axes == list(AXES)
        assert "put it on as it was" in said.advice
        if "apart" in said.text:
            shown += 1
            assert len({d[1] for d in re.findall(r"[+−][xyz]", said.text)}) >= 2, said.text
            assert 45 <= number(said.text, "°") <= 90.5
    # Not where gravity lies along the axis of the turn.
    assert shown >= 4


def test_a_turn_by_a_half_turns_gravity_round() -> None:
    said = words("rotate:180,z", "rotated", exercise="PEN")
    assert said.text.startswith("The sensor is turned: on average gravity pulls along −x, before along +x, 1")


def test_a_turn_that_gravity_does_not_show_is_told_without_an_angle() -> None:
    same = usual("spar/s08-left-ABD-1")
    said = describe(VARIANTS[variant_number("rotated")], same, same)
    assert said.text == "The sensor is turned: movements go along other axes than before."


def test_where_the_axes_stay_the_same_the_angle_alone_is_told() -> None:
    before, now = usual("spar/s08-left-ABD-1").copy(), usual("spar/s08-left-ABD-1").copy()
    before[:3], now[:3] = (0.9, 0.4, 0.0), (0.9, -0.4, 0.0)
    said = describe(VARIANTS[variant_number("rotated")], before, now)
    assert said.text == "The sensor is turned: the mean direction of gravity moved by 48° (along +x)."


def test_the_other_wrist_is_told_with_what_to_do() -> None:
    said = words("swap-wrist", "other-wrist")
    assert "other wrist" in said.text
    assert "side" in said.advice


@pytest.mark.parametrize(
    ("spec", "sensor", "axes", "times"),
    [
        ("gain:2,accel", "accel", ACCEL, 2.0),
        ("gain:2,gyro", "gyro", GYRO, 2.0),
        ("gain:0.5,gyro", "gyro", GYRO, 0.5),
        ("gain:1.3,accel", "accel", ACCEL, 1.3),
        ("gain:2,gyro_y", "gyro", ["gyro_y"], 2.0),
        ("gain:0.5,accel_x", "accel", ["accel_x"], 0.5),
    ],
)
def test_a_gain_is_told_with_its_factor_and_axes(spec: str, sensor: str, axes: list[str], times: float) -> None:
    said = words(spec, "gain", sensor)
    assert said.axes == axes
    assert number(said.text, "times") == pytest.approx(times, rel=0.06)
    assert said.text.startswith(f"The {'accelerometer' if sensor == 'accel' else 'gyroscope'} ")
    assert all(axis in said.text for axis in axes)
    assert "calibrate" in said.advice


@pytest.mark.parametrize(
    ("spec", "axes", "amount", "unit"),
    [
        ("offset:0.3,accel_x", ["accel_x"], 0.3, "g"),
        ("offset:-0.25,accel_z", ["accel_z"], -0.25, "g"),
        ("offset:40,gyro_z", ["gyro_z"], 40.0, "°/s"),
        ("offset:-30,gyro_x", ["gyro_x"], -30.0, "°/s"),
    ],
)
def test_an_offset_is_told_with_its_amount_sign_and_unit(spec: str, axes: list[str], amount: float, unit: str) -> None:
    said = words(spec, "offset", axes[0].split("_")[0])
    assert said.axes == axes
    assert number(said.text, unit) == pytest.approx(amount, rel=0.05)
    assert axes[0] in said.text
    assert "Calibrate" in said.advice


def test_an_offset_of_a_whole_sensor_tells_each_axis() -> None:
    said = words("offset:0.3,accel", "offset", "accel")
    assert said.axes == ACCEL
    assert said.text.count("+0.3 g") == 3


@pytest.mark.parametrize(
    ("spec", "axes"), [("noise:0.3,accel", ACCEL), ("noise:0.3,accel_y", ["accel_y"]), ("noise:60,gyro_x", ["gyro_x"])]
)
def test_noise_is_told_by_how_much_and_on_which_axes(spec: str, axes: list[str]) -> None:
    said = words(spec, "noise", axes[0].split("_")[0])
    assert said.axes == axes
    assert number(said.text, "times") > 3
    assert "loose" in said.advice


def test_clipping_is_told_with_the_range_that_is_reached() -> None:
    said = words("clip:60,gyro_y", "clipped", "gyro")
    assert said.axes == ["gyro_y"]
    assert "gyro_y -60 to 60 °/s" in said.text
    assert said.advice == "Set a larger measuring range."


@pytest.mark.parametrize("axis", AXES)
def test_a_stuck_axis_is_named_and_no_other(axis: str) -> None:
    said = words(f"stuck:{axis}", "stuck", axis.split("_")[0])
    assert said.axes == [axis]
    assert said.text == f"{axis} repeats one value: the sensor is stuck."
    assert "Restart" in said.advice


def test_a_stuck_sensor_names_all_its_axes() -> None:
    said = words("stuck:gyro", "stuck", "gyro")
    assert said.axes == GYRO
    assert said.text == "gyro_x, gyro_y and gyro_z repeat one value: the sensor is stuck."


@pytest.mark.parametrize(("sensor", "mistake"), [("accel", "m/s² sent as g"), ("gyro", "rad/s sent as °/s")])
def test_wrong_units_are_told_with_both_units(sensor: str, mistake: str) -> None:
    said = words(f"units:{sensor}", "units", sensor)
    assert mistake in said.text
    assert said.axes == [a for a in AXES if a.startswith(sensor)]


def test_a_wrong_rate_is_told_by_how_much_faster_all_looks() -> None:
    assert 1.5 < number(words("rate:25", "rate").text, "times") < 2.2
    assert 0.4 < number(words("rate:100", "rate").text, "times") < 0.7
    assert "rate_hz" in words("rate:25", "rate").advice


def test_every_variant_has_a_text_of_whole_sentences_and_an_advice() -> None:
    """Also where the signal did not change that way, or not at all: the recogniser may be mistaken."""
    for before in worn():
        for now in worn():
            for variant in VARIANTS:
                said = describe(variant, usual(before.name), usual(now.name))
                assert said.text.endswith("."), variant
                assert said.advice.endswith("."), variant
                assert set(said.axes) <= set(AXES)
                assert said.axes or variant.cause == "unknown-movement"
                assert "nan" not in said.text
    assert {v.cause for v in VARIANTS} < set(ALARM_CAUSES)
