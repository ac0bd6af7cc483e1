"""A running replay is paused, sped up and given faults; without that it is the same each time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.control import Control, LiveFaults
from producer.faults.parse import parse_fault
from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.pace import Pace, Timeline, paced
from producer.replay.plan import ReplayPlan, plan_replay
from producer.settings import ProducerSettings
from repstream.errors import SettingsError
from repstream.kafka.connection import KafkaConnection
from repstream.messages.messages import ControlCommand, decode_label
from repstream.messages.packet import decode_packet, packet_values
from repstream.messages.topics import LABELS, SAMPLES
from tests.support import exercising, make_recording, spar_recordings

START_S = 1_763_700_000.0
START_US = round(START_S * 1e6)


class Clock:
    """Stands until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


Step = tuple[str, float]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["pause", "resume", "wait", "speed"]), st.floats(0.1, 20.0)), min_size=1, max_size=12
    ),
    speed=st.sampled_from([0.5, 1.0, 4.0]),
    behind_s=st.floats(0.0, 100.0),
)
def test_event_time_never_runs_back_nor_ahead_of_the_clock_whatever_is_pressed(
    steps: list[Step], speed: float, behind_s: float
) -> None:
    clock = Clock()
    pace = Pace(Timeline(START_US - round(behind_s * 1e6), START_US, speed), clock)
    before = pace.event_us()
    for what, amount in steps:
        if what == "pause":
            pace.pause()
        elif what == "resume":
            pace.resume()
        elif what == "speed":
            pace.set_speed(amount)
        else:
            was = pace.event_us()
            clock.sleep(amount)
            gained = (pace.event_us() - was) / 1e6
            assert gained <= amount * pace.speed + behind_s + 1e-3
            if pace.is_paused:
                assert gained == 0
        now = pace.event_us()
        assert before <= now <= clock() * 1e6 + 1
        assert pace.due_s(now) <= clock() + 2e-6
        assert pace.due_s(now + 1_000_000) > clock()
        before = now


def test_a_pause_moves_the_rest_by_its_length_and_a_pace_left_alone_is_the_timeline() -> None:
    clock = Clock()
    line = Timeline(START_US, START_US, 1.0)
    pace = Pace(line, clock)
    assert [pace.due_s(START_US + n) for n in (0, 1, 5_000_000)] == [
        line.due_s(START_US + n) for n in (0, 1, 5_000_000)
    ]
    clock.sleep(2)
    pace.pause()
    clock.sleep(10)
    assert pace.due_s(START_US + 3_000_000) == math.inf
    pace.resume()
    assert pace.due_s(START_US + 3_000_000) == pytest.approx(START_S + 13)
    pace.set_speed(4.0)
    assert pace.due_s(START_US + 6_000_000) == pytest.approx(START_S + 13)


def plan_of(*, faults: tuple[str, ...] = (), n: int = 500) -> ReplayPlan:
    recording = make_recording(n, labels=["ROW"] * n)
    return plan_replay(ProducerSettings(faults=tuple(parse_fault(f) for f in faults)), [recording], START_US)


def sent(plan: ReplayPlan, live: LiveFaults | None = None, act: dict[int, object] | None = None) -> list[Outgoing]:
    """All messages; after the nth of them `act` does something to the faults."""
    out = []
    for n, message in enumerate(messages(plan, ReplayState(), None if live is None else live.all)):
        out.append(message)
        if act and n in act:
            doing = act[n]
            assert callable(doing)
            doing()
    return out


def test_a_replay_that_may_be_controlled_and_is_not_is_the_same_to_the_byte() -> None:
    plan = plan_of(faults=("noise:0.1,accel@2-5", "drop:0.2@0"))
    assert sent(plan) == sent(plan, LiveFaults(plan.settings.faults))


def test_a_fault_put_in_from_now_on_touches_what_follows_for_its_time_and_nothing_before() -> None:
    plan = plan_of()
    live = LiveFaults(())
    # After the 20th packet, 4 s of event time have passed; one packet ahead is made already.
    plain = sent(plan)
    touched = sent(plan, live, {20: lambda: live.add("gain:2,accel", "made-up-device", 5.0, 2.0)})
    assert len(plain) == len(touched)
    for a, b in zip(plain, touched, strict=True):
        if a.topic != SAMPLES:
            continue
        x = packet_values([decode_packet(a.value, a.key)])
        y = packet_values([decode_packet(b.value, b.key)])
        at_s = (a.timestamp_ms / 1000) - START_S
        is_in = 5.1 < at_s < 7.0
        assert (
            (abs(y[:, :3] - (2 * x if is_in else x)[:, :3]).max() < 1e-12) or 5.0 <= at_s <= 5.2 or 7.0 <= at_s <= 7.2
        )
    assert live.touched(["made-up-device", "other"]) == ["made-up-device"]


def test_faults_ended_by_hand_end_now_and_what_they_did_stays_done() -> None:
    plan = plan_of()
    live = LiveFaults(())
    live.add("gain:2,accel", "", 0.0, None)
    ended = sent(plan, live, {20: lambda: live.end(5.0)})
    plain = sent(plan)
    same = [a == b for a, b in zip(plain, ended, strict=True) if a.topic == SAMPLES]
    assert not any(same[:20])
    assert all(same[27:])
    assert live.active_after(5.0) == []


def test_another_exercise_put_in_midway_is_told_in_the_labels() -> None:
    (recording,) = spar_recordings("s08-left-ROW-1")
    plan = plan_replay(ProducerSettings(), [recording], START_US)
    live = LiveFaults(())
    out = sent(plan, live, {40: lambda: live.add("new-exercise:PEN", recording.device, 10.0, 5.0)})
    told = [decode_label(m.value) for m in out if m.topic == LABELS]
    assert [t.label for t in told] == ["ROW", "PEN", "ROW"]
    assert told[0].end - told[0].start == pytest.approx(10.0, abs=0.05)
    assert told[1].end - told[1].start == pytest.approx(5.0, abs=0.05)
    assert told[2].end == pytest.approx(START_S + recording.duration_s, abs=0.05)


def control(clock: Clock) -> tuple[Control, Pace, LiveFaults]:
    pace = Pace(Timeline(START_US, START_US, 1.0), clock)
    faults = LiveFaults(())
    return Control(KafkaConnection("nowhere:1"), pace, faults, START_US, clock), pace, faults


def command(action: str, **more: object) -> ControlCommand:
    return msgspec.convert({"kind": "command", "id": "c1", "producer": "p", "action": action, **more}, ControlCommand)


def test_each_command_is_followed_and_one_that_is_wrong_is_refused_in_words() -> None:
    clock = Clock()
    controller, pace, faults = control(clock)
    clock.sleep(10)
    controller.follow(command("inject", fault="rotate:90", device="dev[1]", seconds=30.0))
    assert controller.status().faults == ["rotate:90 on dev[1]"]
    (fault,) = faults.all()
    assert (fault.start_s, fault.end_s) == (10.0, 40.0)
    assert faults.touched(["dev[1]", "dev1"]) == ["dev[1]"], "a device's name is no pattern"
    controller.follow(command("pause"))
    assert (pace.is_paused, controller.status().paused) == (True, True)
    controller.follow(command("speed", speed=2.0))
    controller.follow(command("resume"))
    assert (controller.status().speed, controller.status().refused) == (2.0, "")
    clock.sleep(60)
    assert controller.status().faults == []
    for wrong, why in (
        (command("inject", fault="rotate:999"), "-360 to 360"),
        (command("inject", fault="nonsense"), "there is no kind"),
        (command("inject"), "no fault"),
        (command("inject", fault="label-shift:2"), "--inject"),
        (command("inject", fault="drop", seconds=-1.0), "up to a day"),
        (command("speed"), "0.1 to 100"),
        (command("speed", speed=1e9), "0.1 to 100"),
    ):
        controller.follow(wrong)
        assert why in controller.status().refused
    for _ in range(20):
        controller.follow(command("inject", fault="drop:0.1"))
    controller.follow(command("inject", fault="drop:0.1"))
    assert "20 faults already" in controller.status().refused
    controller.follow(command("clear"))
    clock.sleep(0.001)
    assert controller.status().faults == []


def test_a_pause_holds_messages_back_and_a_stop_still_ends_it() -> None:
    clock = Clock()
    pace = Pace(Timeline(START_US, START_US, 1.0), clock)
    plan = plan_replay(ProducerSettings(), exercising("p", "A"), START_US)
    ready: Iterator[tuple[Outgoing, float]] = paced(
        messages(plan), pace, clock, clock.sleep, lambda: clock.now_s > START_S + 60
    )
    next(ready)
    pace.pause()
    assert next(ready, None) is None
    assert clock.now_s > START_S + 60


def test_as_fast_as_possible_cannot_be_controlled() -> None:
    from producer.service import Producer

    with pytest.raises(SettingsError, match="--controllable does not go with --speed max"):
        Producer(ProducerSettings(speed=math.inf), KafkaConnection("nowhere:1"), [], controllable=True)
