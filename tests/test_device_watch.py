"""One partition's devices: alarms from what the real model says of real recordings with faults put in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alarms.devices import FORGET_S, SIGNS, DeviceWatch
from repstream.errors import MessageError
from repstream.messages.fields import encode
from repstream.messages.messages import Alarm, Prediction, decode_alarm
from repstream.recordings.axes import AXES
from tests.drifting import T0_S, drift_model, model, sent_for
from tests.support import spar_recordings

TURNED = ("rotate:90,z@60-150",)


def new_watch() -> DeviceWatch:
    return DeviceWatch(drift_model(), model().id)


@cache
def sent(device: str, *specs: str, rounds: int = 1) -> tuple[Prediction, ...]:
    """What a predictor sends of all sessions of one device, one after the other."""
    return tuple(sent_for(spar_recordings(f"{device}-*") * rounds, *specs))


def alarms(predictions: Sequence[Prediction]) -> list[Alarm]:
    return new_watch().add(predictions)


def with_device(predictions: Sequence[Prediction], device: str) -> list[Prediction]:
    return [msgspec.structs.replace(p, device=device) for p in predictions]


def later(predictions: Sequence[Prediction], seconds: float) -> list[Prediction]:
    return [msgspec.structs.replace(p, start=p.start + seconds, end=p.end + seconds) for p in predictions]


# Alarms


@pytest.mark.slow
@pytest.mark.parametrize("device", ["s08-left", "s08-right", "s10-left"])
def test_a_turned_sensor_brings_one_alarm_that_begins_with_it_and_ends_after_it(device: str) -> None:
    began, ended = alarms(sent(device, *TURNED))
    assert (began.cause, began.scope, began.device) == ("rotated", "device", f"spar-{device}")
    assert began.ended is None
    assert T0_S + 60 <= began.since <= T0_S + 66  # the first windows hold it in part
    assert began.since <= began.raised <= T0_S + 90
    assert began.model == "spar/1"
    assert 0.9 <= began.certainty <= 1.0
    assert began.id == f"spar-{device}/rotated/{round(began.since * 1e3)}"
    assert ended == msgspec.structs.replace(began, ended=ended.ended)
    assert ended.ended is not None
    assert T0_S + 150 <= ended.ended <= T0_S + 190


@pytest.mark.slow
@pytest.mark.parametrize("device", ["s08-left", "s08-right", "s09-right", "s10-left", "s10-right"])
def test_without_a_fault_there_is_none(device: str) -> None:
    assert alarms(sent(device)) == []


@pytest.mark.slow
def test_a_movement_that_is_new_to_a_wearer_may_be_a_false_alarm_which_says_so_ends_and_does_not_come_again() -> None:
    # Circling the arm turns this watch by 30 °/s on average, as on all wrists of the data set that do so.
    began, ended = alarms(sent("s09-left", rounds=3))
    assert (began.cause, began.axes) == ("offset", ["gyro_x"])
    assert "This wearer has hardly done PEN before: it may be how they do it" in began.text
    assert ended.ended is not None
    assert ended.ended - began.raised < 45
    turned, _ = alarms(sent("s08-left", "rotate:90,z@280-340", rounds=2))  # what is done then was done before
    assert "hardly done" not in turned.text


def test_before_a_fault_all_is_as_without_it() -> None:
    end = T0_S + 60
    turned, well = ([p for p in sent("s08-left", *specs) if p.end < end] for specs in (TURNED, ()))
    assert turned == well


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "cause", "axes", "says"),
    [
        ("stuck:gyro_y@60", "stuck", ["gyro_y"], "gyro_y repeats one value"),
        ("stuck@60", "stuck", list(AXES), "repeat one value"),
        ("units:gyro@60", "units", ["gyro_x", "gyro_y", "gyro_z"], "rad/s sent as °/s"),
        ("units@60", "units", ["accel_x", "accel_y", "accel_z"], "m/s² sent as g"),
        ("swap-wrist@60", "other-wrist", list(AXES), "mirror image"),
        ("offset:60,gyro_z@60", "offset", ["gyro_z"], "°/s (gyro_z)"),
    ],
)
def test_each_fault_has_its_own_alarm_about_the_axes_that_it_is_on(
    spec: str, cause: str, axes: list[str], says: str
) -> None:
    (alarm,) = alarms(sent("s08-left", spec))
    assert (alarm.cause, alarm.axes) == (cause, axes), alarm.text
    assert says in alarm.text
    assert alarm.since >= T0_S + 60


def test_devices_do_not_touch_each_other_however_their_predictions_are_mixed() -> None:
    turned, well = sent("s08-left", *TURNED), sent("s08-right")
    mixed = sorted([*turned, *well], key=lambda p: (p.end, p.device))
    assert alarms(mixed) == alarms(turned)


def test_predictions_in_batches_of_any_size_bring_the_same_alarms() -> None:
    predictions = sent("s08-left", *TURNED)
    for size in (1, 7, 100):
        watch = new_watch()
        found = [a for i in range(0, len(predictions), size) for a in watch.add(predictions[i : i + size])]
        assert found == alarms(predictions), size


def test_predictions_without_a_summary_or_with_an_odd_one_are_ignored() -> None:
    predictions = sent("s08-left", *TURNED)
    assert sum(p.signal is None for p in predictions) > len(predictions) / 2
    told = [p for p in predictions if p.signal is not None]
    assert alarms(told) == alarms(predictions)
    watch = new_watch()
    silent = [msgspec.structs.replace(p, signal=None) for p in told]
    odd = [msgspec.structs.replace(p, signal=[1.0, 2.0]) for p in told]
    assert watch.add([*silent, *odd]) == []
    assert len(watch) == 0


def test_alarms_that_are_on_are_listed_until_they_end() -> None:
    watch = new_watch()
    predictions = sent("s08-left", *TURNED)
    on = []
    for prediction in predictions:
        changed = watch.add([prediction])
        if changed:
            on.append(watch.open())
    assert [len(now) for now in on] == [1, 0]
    assert on[0][0].cause == "rotated"


def test_an_alarm_can_be_sent_and_read() -> None:
    for alarm in alarms(sent("s08-left", *TURNED)):
        assert decode_alarm(encode(alarm)) == alarm


# Restarts


@pytest.mark.slow
@given(st.sets(st.integers(0, 46), max_size=12))
@settings(max_examples=15, deadline=None)
def test_restarts_at_any_points_bring_the_alarms_of_a_watch_that_was_never_ended(points: set[int]) -> None:
    predictions = [*sent("s08-left", *TURNED)]
    watch, found = new_watch(), []
    for i in range(0, len(predictions), 10):
        found += watch.add(predictions[i : i + 10])
        if i // 10 in points:
            again = new_watch()
            again.load(watch.dump())
            watch = again
    assert found == alarms(predictions)


def test_a_restart_after_each_prediction_ends_in_the_very_same_state() -> None:
    # On for longer than what could be a movement of this wearer.
    predictions = [p for p in sent("s08-left", "rotate:90,z@20-180") if p.signal is not None]
    steady, restarted = new_watch(), new_watch()
    for prediction in predictions:
        steady.add([prediction])
        restarted.add([prediction])
        again = new_watch()
        again.load(restarted.dump())
        restarted = again
    assert restarted.dump() == steady.dump()
    assert restarted.open() == steady.open()


def test_what_an_earlier_release_wrote_down_is_read_and_written_the_same() -> None:
    data = (Path(__file__).parent / "data" / "device-watch-v1.msgpack").read_bytes()
    watch = new_watch()
    watch.load(data)
    assert [alarm.cause for alarm in watch.open()] == ["rotated"]
    assert watch.dump() == data


def test_what_is_written_down_of_another_model_or_release_is_refused() -> None:
    data = new_watch().dump()
    with pytest.raises(MessageError, match=r"of model spar/1; this monitor has other/7"):
        DeviceWatch(drift_model(), "other/7").load(data)
    for junk in (b"", b"junk", data[:-1], data + b"x"):
        with pytest.raises(MessageError, match="cannot read"):
            new_watch().load(junk)


def test_a_device_is_kept_in_a_few_kilobytes() -> None:
    watch = new_watch()
    watch.add(sent("s08-left", *TURNED))
    assert len(watch.dump()) < 12_000


# Silence


def test_a_device_that_is_silent_for_a_day_is_forgotten_with_its_alarm() -> None:
    watch = new_watch()
    (began,) = watch.add(sent("s08-left", "stuck:gyro_y@60"))
    last = max(p.end for p in sent("s08-left") if p.signal is not None)
    other = sent("s08-right")
    watch.add(later(other, FORGET_S - 400))
    assert watch.forget() == []
    assert len(watch) == 2
    watch.add(later(other, FORGET_S + 60))
    assert watch.forget() == [msgspec.structs.replace(began, ended=last)]
    assert (len(watch), watch.open()) == (1, [])
    assert watch.forget() == []


def test_a_device_that_comes_back_after_being_forgotten_begins_anew() -> None:
    watch = new_watch()
    watch.add(sent("s08-left", "stuck:gyro_y@60"))
    back = later(sent("s08-left", *TURNED), 2 * FORGET_S)
    watch.add(later(sent("s08-right"), 2 * FORGET_S - 600))
    watch.forget()
    assert [a.cause for a in watch.add(back)] == ["rotated", "rotated"]


def test_one_prediction_with_a_date_far_ahead_makes_no_other_device_silent() -> None:
    watch = new_watch()
    (began,) = watch.add(sent("s08-left", "stuck:gyro_y@60"))
    poison = [msgspec.structs.replace(p, device="bad") for p in later(sent("s08-right")[:1], 70 * 365 * 86_400.0)]
    for stamped_s in ([began.raised], [poison[0].end]):  # Kafka's own time tells, and so does the step
        watch.add(poison, stamped_s)
        assert watch.forget() == []
        assert watch.open() == [began]
        restarted = new_watch()
        restarted.load(watch.dump())
        assert restarted.forget() == []


def test_a_watch_that_begins_with_a_date_far_ahead_forgets_nobody_for_it() -> None:
    watch = new_watch()
    good = sent("s08-left", "stuck:gyro_y@60")
    poison = [msgspec.structs.replace(p, device="bad") for p in later(good[:1], 70 * 365 * 86_400.0)]
    watch.add([*poison, *good], [good[0].end, *(p.end for p in good)])
    assert watch.forget() == []
    assert [a.device for a in watch.open()] == ["spar-s08-left"]


# Suspects


def suspects(*specs: str, device: str = "s08-left") -> dict[str, int]:
    watch = new_watch()
    watch.add(sent(device, *specs))
    return watch.suspects(0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "sign"),
    [
        ("stuck:gyro_y@100", "stuck"),
        ("stuck@100", "stuck"),
        ("clip:25,gyro@100", "clipped"),
        ("units:accel@100", "implausible-units"),
        ("units:gyro@100", "implausible-units"),
        ("units@100", "implausible-units"),
    ],
)
def test_a_signal_that_cannot_be_right_is_counted_under_its_sign(spec: str, sign: str) -> None:
    assert suspects(spec) == {**dict.fromkeys(SIGNS, 0), sign: 1}


@pytest.mark.parametrize("device", ["s08-left", "s08-right", "s09-left", "s09-right", "s10-left", "s10-right"])
def test_at_no_time_is_a_sound_signal_suspect(device: str) -> None:
    watch = new_watch()
    predictions = sent(device)
    for i in range(0, len(predictions), 30):
        watch.add(predictions[i : i + 30])
        assert set(watch.suspects(0.0).values()) == {0}, predictions[i].end - T0_S


def test_suspects_are_counted_over_devices_and_those_that_were_not_heard_of_lately_are_left_out() -> None:
    watch = new_watch()
    stuck = sent("s08-left", "stuck:gyro_y@100")
    for n in range(3):
        watch.add(later(with_device(stuck, f"d{n}"), 1000.0 * n))
    assert watch.suspects(0.0)["stuck"] == 3
    assert watch.suspects(T0_S + 1000.0)["stuck"] == 2
    assert watch.suspects(T0_S + 10_000.0)["stuck"] == 0
    assert new_watch().suspects(0.0) == dict.fromkeys(SIGNS, 0)
