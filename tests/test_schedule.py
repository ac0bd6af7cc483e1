"""The pure side of a replay: who sends what when, and that it is the recording."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.pace import TICK_S, Timeline, paced
from producer.replay.plan import Delivered, LogState, ReplayPlan, plan_replay
from producer.resume import LogReader
from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings
from repstream.errors import SettingsError
from repstream.messages.messages import decode_label
from repstream.messages.packet import Packet, decode_packet, packet_times_us, packet_values
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recordings.recording import Recording

NOW_US = 1_763_700_000_123_457


def make_recording(
    n: int = 120,
    device: str = "watch",
    session: str = "one",
    rate_hz: float = 50.0,
    time_s: Any = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Recording:
    generator = np.random.default_rng(seed)
    return Recording(
        name=f"{device}/{session}",
        subject="s",
        session=session,
        device=device,
        time_s=np.arange(n) / rate_hz if time_s is None else np.asarray(time_s, dtype=np.float64),
        values=generator.normal(size=(n, 6)) * [1, 1, 1, 100, 100, 100],
        rate_hz=rate_hz,
        side="left",
        labels=None if labels is None else np.asarray(labels),
    )


def plan_of(*recordings: Recording, there: LogState | None = None, **settings: Any) -> ReplayPlan:
    return plan_replay(ProducerSettings(**settings), recordings, NOW_US, there or LogState())


def packets_of(outgoing: Sequence[Outgoing]) -> dict[tuple[str, str], list[Packet]]:
    """Decode all packets, by device and session, in the order in which they were sent."""
    found = defaultdict(list)
    for out in outgoing:
        if out.topic == SAMPLES:
            packet = decode_packet(out.value, out.key)
            found[packet.device, packet.session].append(packet)
    return found


def times_of(packets: Sequence[Packet]) -> list[int]:
    return [t for packet in packets for t in packet_times_us(packet)]


def assert_replays(packets: Sequence[Packet], recording: Recording) -> None:
    """The packets are numbered from 0 and hold the recording bit for bit, on its own clock to 1 µs."""
    assert [packet.seq for packet in packets] == list(range(len(packets)))
    np.testing.assert_array_equal(packet_values(packets), recording.values)
    times = np.array(times_of(packets))
    assert np.abs(times - times[0] - recording.times_us).max() <= 1


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self, now_s: float = NOW_US / 1e6) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


# --- packets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet_samples", [1, 7, 10, 50, 119, 120, 500])
def test_whatever_the_cut_the_packets_are_the_recording(packet_samples: int) -> None:
    recording = make_recording()
    sent = packets_of(list(messages(plan_of(recording, packet_samples=packet_samples))))
    assert list(sent) == [("watch", "one")]
    assert_replays(sent["watch", "one"], recording)


@given(
    steps_us=st.lists(st.integers(1, 90_000), min_size=1, max_size=80),
    packet_samples=st.integers(1, 500),
    rate_hz=st.sampled_from([10.0, 30.0, 50.0, 104.0, 400.0]),
    seed=st.integers(0, 1000),
)
def test_any_clock_and_cut_keep_values_bit_for_bit_and_times_to_the_microsecond(
    steps_us: list[int], packet_samples: int, rate_hz: float, seed: int
) -> None:
    times_us = np.cumsum([0, *steps_us])
    recording = make_recording(len(times_us), rate_hz=rate_hz, time_s=times_us / 1e6, seed=seed)
    sent = packets_of(list(messages(plan_of(recording, packet_samples=packet_samples))))
    assert_replays(sent["watch", "one"], recording)


@pytest.mark.parametrize("rate_hz", [10.0, 30.0, 50.0, 52.0, 100.0, 400.0])
def test_a_regular_clock_is_sent_as_t0_and_rate(rate_hz: float) -> None:
    recording = make_recording(400, rate_hz=rate_hz)
    packets = packets_of(list(messages(plan_of(recording))))["watch", "one"]
    assert all(packet.t is None and packet.rate_hz == rate_hz for packet in packets)
    assert all((packet.t0 or 0) * 1e6 == pytest.approx(round((packet.t0 or 0) * 1e6)) for packet in packets)
    assert_replays(packets, recording)


def test_one_sample_off_the_clock_makes_all_packets_list_their_times() -> None:
    time_s = np.arange(40) / 50
    time_s[33] += 5e-6
    packets = packets_of(list(messages(plan_of(make_recording(40, time_s=time_s)))))["watch", "one"]
    # All, not just the one: how a session is told does not depend on how it is cut.
    assert all(packet.t is not None and packet.t0 is None and packet.rate_hz == 50 for packet in packets)


def test_keys_are_devices_and_timestamps_the_last_samples_event_time() -> None:
    recording = make_recording(25)
    out = [m for m in messages(plan_of(recording)) if m.topic == SAMPLES]
    assert {m.key for m in out} == {b"watch"}
    assert [m.timestamp_ms for m in out] == [(NOW_US + int(recording.times_us[i])) // 1000 for i in (9, 19, 24)]
    assert [m.due_us for m in out] == [NOW_US + int(recording.times_us[i]) for i in (9, 19, 24)]
    assert decode_packet(out[0].value, b"watch").side == "left"


# --- wearers and sessions ------------------------------------------------------------------------


def test_a_devices_sessions_follow_one_another_a_second_apart_and_devices_run_side_by_side() -> None:
    """
    ::

        a  |one: 2.38 s|  1 s  |two: 0.98 s|
        b  |one: 0.18 s|
    """
    plan = plan_of(make_recording(120, "a"), make_recording(10, "b"), make_recording(50, "a", "two"))
    spans = {
        name: (times_of(ps)[0] - NOW_US, times_of(ps)[-1] - NOW_US)
        for name, ps in packets_of(list(messages(plan))).items()
    }
    assert spans == {
        ("a", "one"): (0, 2_380_000),
        ("b", "one"): (0, 180_000),
        ("a", "two"): (3_380_000, 4_360_000),
    }
    assert plan.duration_us == 4_360_000


def test_messages_come_in_the_order_in_which_they_are_due() -> None:
    recordings = [make_recording(100 + i, f"d{i}", labels=["x"] * 50 + ["y"] * (50 + i)) for i in range(5)]
    due = [m.due_us for m in messages(plan_of(*recordings, wearers=12, label_delay_s=0.7, seed=3))]
    assert due == sorted(due)


def test_wearers_are_the_own_devices_then_copies_in_turn_started_at_different_times() -> None:
    a, b = make_recording(30, "a"), make_recording(40, "b", seed=1)
    plan = plan_of(a, b, wearers=5, seed=4)
    assert [w.device for w in plan.wearers] == ["a", "b", "a~2", "b~2", "a~3"]
    sent = packets_of(list(messages(plan)))
    for wearer in plan.wearers:
        assert_replays(sent[wearer.device, "one"], wearer.recordings[0])
    starts = [times_of(sent[w.device, "one"])[0] for w in plan.wearers]
    assert len(set(starts)) == 5
    assert starts[0] == NOW_US
    assert max(starts) - NOW_US < 2_500_000
    assert plan.wearers[3].start_us == plan_of(a, b, wearers=5, seed=4).wearers[3].start_us


def test_a_thousand_wearers_start_within_five_seconds_no_two_at_once() -> None:
    starts = [w.start_us for w in plan_of(make_recording(30), wearers=1000).wearers]
    assert len(set(starts)) == 1000
    assert max(starts) < 5_000_000
    # Nor do their packets, 0.2 s apart, pile up: no 10 ms of it gets a fifth of them.
    assert np.bincount(np.array(starts) % 200_000 // 10_000).max() < 100


def test_fewer_wearers_than_devices_are_the_first_devices() -> None:
    plan = plan_of(*(make_recording(10, f"d{i}") for i in range(4)), wearers=2)
    assert [w.device for w in plan.wearers] == ["d0", "d1"]


def test_a_copy_does_not_take_another_recordings_device() -> None:
    plan = plan_of(make_recording(10, "a"), make_recording(10, "a~2"), wearers=4)
    assert [w.device for w in plan.wearers] == ["a", "a~2", "a~2~2", "a~3"]


def test_a_loop_starts_again_with_numbered_sessions() -> None:
    plan = plan_of(make_recording(10, session="one"), make_recording(10, session="two"), loop=True)
    outgoing = itertools.islice(messages(plan), 5)
    assert [m.session for m in outgoing] == ["one", "two", "one#2", "two#2", "one#3"]


def test_a_loop_ends_with_its_duration() -> None:
    plan = plan_of(make_recording(100), loop=True, speed=4.0, duration_s=10.0)
    out = list(messages(plan))
    assert plan.duration_us == 40_000_000
    assert NOW_US - 200_000 <= out[-1].due_us <= NOW_US + 10_000_000


def test_a_suffix_makes_new_sessions() -> None:
    out = list(messages(plan_of(make_recording(10), session_suffix="-again", loop=True, duration_s=2.0)))
    assert [m.session for m in out] == ["one-again", "one-again#2"]


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 1.5])
def test_each_run_of_one_label_is_sent_once_it_has_ended(delay_s: float) -> None:
    labels = ["ROW"] * 25 + ["rest"] * 10 + ["ROW"] * 65
    out = list(messages(plan_of(make_recording(100, labels=labels), label_delay_s=delay_s)))
    intervals = [decode_label(m.value) for m in out if m.topic == LABELS]
    assert [(i.label, round(i.start * 1e6) - NOW_US, round(i.end * 1e6) - NOW_US) for i in intervals] == [
        ("ROW", 0, 480_000),
        ("rest", 500_000, 680_000),
        ("ROW", 700_000, 1_980_000),
    ]
    for message, interval in zip([m for m in out if m.topic == LABELS], intervals, strict=True):
        end_us = round(interval.end * 1e6)
        assert message.timestamp_ms == end_us // 1000
        assert message.key == b"watch"
        assert message.due_us >= end_us + round(delay_s * 1e6)
        # No label before the packet that ends its interval.
        before = out[: out.index(message)]
        assert max(t for m in before if m.topic == SAMPLES for t in times_of([decode_packet(m.value, m.key)])) >= end_us


# --- pace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.25, 1.0, 3.0, 50.0, AS_FAST_AS_POSSIBLE])
def test_event_time_never_runs_ahead_of_the_clock_and_ends_at_now(speed: float) -> None:
    recordings = [make_recording(500, f"d{i}", seed=i) for i in range(3)]
    plan = plan_of(*recordings, wearers=4, speed=speed)
    clock = FakeClock()
    newest_us = 0
    for out, _ in paced(messages(plan), plan.timeline, clock, clock.sleep):
        times = times_of([decode_packet(out.value, out.key)])
        newest_us = max(newest_us, *times)
        assert times[-1] <= clock.now_s * 1e6 + 1
    if speed >= 1:
        assert clock.now_s * 1e6 - newest_us <= 2 * TICK_S * 1e6 * (1 if math.isinf(speed) else speed) + 1
    expected_s = 0.0 if math.isinf(speed) else plan.duration_us / 1e6 / speed
    assert clock.now_s - NOW_US / 1e6 == pytest.approx(expected_s, abs=2 * TICK_S)


def test_there_is_no_drift_and_a_stall_is_caught_up_at_once() -> None:
    """
    ::

        due    0.18 0.38 0.58 0.78 0.98 1.18 1.38 ...
        sent   0.18 0.38 [   stalled till 1.00  ] 1.18 1.38 ...
                         0.58 0.78 0.98 at 1.00
    """
    plan = plan_of(make_recording(5000))
    clock = FakeClock()
    sent = []
    for out, behind_s in paced(messages(plan), plan.timeline, clock, clock.sleep):
        sent.append((out.due_us / 1e6 - NOW_US / 1e6, clock.now_s - NOW_US / 1e6, behind_s))
        if len(sent) == 2:
            clock.now_s = NOW_US / 1e6 + 1.0
    assert len(sent) == 500
    stalled, others = sent[2:5], sent[:2] + sent[5:]
    assert [at for _, at, _ in stalled] == pytest.approx([1.0] * 3, abs=1e-6)
    assert [behind for _, _, behind in stalled] == pytest.approx([0.42, 0.22, 0.02], abs=1e-6)
    # 100 s later still to the tick: nothing adds up.
    assert all(0 <= at - due <= TICK_S + 1e-6 for due, at, _ in others)


def test_dense_packets_go_out_together_once_a_tick() -> None:
    plan = plan_of(make_recording(200), wearers=1000)
    clock = FakeClock()
    moments = {clock.now_s for _ in paced(itertools.islice(messages(plan), 3000), plan.timeline, clock, clock.sleep)}
    assert len(moments) < 3000 / 2


def test_a_stop_ends_the_replay_before_the_next_message() -> None:
    plan = plan_of(make_recording(500))
    clock = FakeClock()
    stop_s = NOW_US / 1e6 + 3.0
    sent = list(paced(messages(plan), plan.timeline, clock, clock.sleep, lambda: clock.now_s >= stop_s))
    assert len(sent) == 15
    assert clock.now_s - stop_s <= 0.05


def test_waiting_calls_idle_often_enough_for_a_progress_line() -> None:
    plan = plan_of(make_recording(100), speed=0.1)
    clock = FakeClock()
    calls: list[float] = []
    list(paced(messages(plan), plan.timeline, clock, clock.sleep, idle=lambda _: calls.append(clock.now_s)))
    assert max(np.diff(calls)) <= 0.05 + TICK_S


def test_the_timeline_ends_at_now() -> None:
    timeline = Timeline.starting(NOW_US, 60_000_000, 10.0)
    assert timeline.origin_us == NOW_US - 54_000_000
    assert timeline.due_s(timeline.origin_us + 60_000_000) == pytest.approx(NOW_US / 1e6 + 6.0)


def test_the_state_tells_who_is_active() -> None:
    state = ReplayState()
    plan = plan_of(make_recording(20, "a"), make_recording(60, "b"))
    active = [state.started - state.finished for _ in messages(plan, state)]
    assert active[0] == 2
    assert active[-1] == 1
    assert state.finished == 2


# --- going on from the log -----------------------------------------------------------------------


def read_back(outgoing: Sequence[Outgoing], plan: ReplayPlan) -> LogState:
    reader = LogReader(w.device for w in plan.wearers)
    for m in outgoing:
        reader.take(m.topic, m.key, m.value, m.timestamp_ms)
    return reader.state(plan.wearers, plan.settings)


@pytest.mark.slow
@given(
    n_sent=st.integers(0, 40),
    packet_samples=st.integers(1, 40),
    packet_samples_after=st.integers(1, 40),
    later_s=st.integers(0, 3600),
    order=st.randoms(use_true_random=False),
)
def test_killed_anywhere_and_run_again_each_sample_is_in_the_log_once(
    n_sent: int, packet_samples: int, packet_samples_after: int, later_s: int, order: Any
) -> None:
    recordings = [
        make_recording(130, "a", labels=["x"] * 60 + ["y"] * 70),
        make_recording(50, "a", "two", labels=["z"] * 50),
        make_recording(80, "b", seed=1),
    ]
    first = plan_of(*recordings, packet_samples=packet_samples)
    log = list(itertools.islice(messages(first), n_sent))
    # Partitions are read in any order; within a device it is kept.
    devices = ["a", "b"]
    order.shuffle(devices)
    read = [m for d in devices for m in log if m.device == d]
    settings = ProducerSettings(packet_samples=packet_samples_after)
    again = plan_replay(settings, recordings, NOW_US + later_s * 1_000_000, read_back(read, first))
    log += list(messages(again))
    sent = packets_of(log)
    for recording in recordings:
        assert_replays(sent[recording.device, recording.session], recording)
    intervals = [(m.device, m.session, decode_label(m.value).label) for m in log if m.topic == LABELS]
    assert sorted(intervals) == [("a", "one", "x"), ("a", "one", "y"), ("a", "two", "z")]
    # And a third time there is nothing left.
    assert list(messages(plan_replay(settings, recordings, NOW_US, read_back(log, first)))) == []


def test_a_session_that_goes_on_keeps_its_times_and_the_next_begins_with_this_replay() -> None:
    first, second = make_recording(100), make_recording(50, session="two")
    there = LogState({("watch", "one"): Delivered(NOW_US - 60_000_000, 40, 4)})
    plan = plan_of(first, second, there=there)
    sent = packets_of(list(messages(plan)))
    assert sent["watch", "one"][0].seq == 4
    assert times_of(sent["watch", "one"])[0] == NOW_US - 60_000_000 + 800_000
    assert times_of(sent["watch", "two"])[0] == NOW_US


def test_a_session_that_goes_on_is_not_sent_before_its_time() -> None:
    # Written by a faster replay: what is left lies after now, and has to wait for the clock.
    recording = make_recording(500)
    there = LogState({("watch", "one"): Delivered(NOW_US - 1_000_000, 40, 4)})
    plan = plan_of(recording, speed=AS_FAST_AS_POSSIBLE, there=there)
    clock = FakeClock()
    for out, _ in paced(messages(plan), plan.timeline, clock, clock.sleep):
        assert out.due_us <= clock.now_s * 1e6 + 1


@pytest.mark.parametrize("deleted", [1, 5])
def test_a_session_whose_first_packets_have_left_the_log_is_not_sent_again(deleted: int) -> None:
    recording = make_recording(100)
    plan = plan_of(recording)
    left = list(itertools.islice(messages(plan), 8))[deleted:]
    again = plan_replay(ProducerSettings(), [recording], NOW_US + 10**8, read_back(left, plan))
    sent = packets_of(list(messages(again)))["watch", "one"]
    assert [p.seq for p in sent] == [8, 9]
    assert times_of(sent)[0] == NOW_US + 1_600_000
    assert np.array_equal(np.array([r for p in sent for r in p.accel]), recording.values[80:, :3])


def test_a_label_lost_at_the_very_end_is_sent_again_alone() -> None:
    recording = make_recording(30, labels=["x"] * 30)
    plan = plan_of(recording)
    log = [m for m in messages(plan) if m.topic == SAMPLES]
    again = plan_replay(ProducerSettings(), [recording], NOW_US, read_back(log, plan))
    assert [(m.topic, decode_label(m.value).label) for m in messages(again)] == [(LABELS, "x")]


def test_a_loop_goes_on_in_the_round_it_was_in() -> None:
    recording = make_recording(30)
    plan = plan_of(recording, loop=True)
    log = list(itertools.islice(messages(plan), 4))
    again = plan_replay(ProducerSettings(loop=True), [recording], NOW_US + 10**8, read_back(log, plan))
    out = itertools.islice(messages(again), 3)
    assert [(m.session, decode_packet(m.value, m.key).seq) for m in out] == [("one#2", 1), ("one#2", 2), ("one#3", 0)]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"speed": 0.0}, "--speed is a number above 0, or max, not 0"),
        ({"wearers": 0}, "--wearers is at least 1, not 0"),
        ({"packet_samples": 501}, "--packet-samples is 1 to 500, not 501"),
        ({"label_delay_s": -1.0}, "--label-delay is at least 0 s, not -1"),
        ({"duration_s": 0.0}, "--duration is more than 0 s, not 0"),
        ({"partitions": 0}, "--partitions is at least 1, not 0"),
        ({"session_suffix": "/x"}, "--session-suffix contains '/'"),
        ({"loop": True, "speed": AS_FAST_AS_POSSIBLE, "duration_s": 3.0}, "--loop does not go with --speed max"),
        ({"loop": True, "speed": 2.0}, "--loop faster than real time needs --duration S"),
    ],
)
def test_settings_outside_what_is_allowed_are_refused_in_words(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says.replace("(", r"\(")):
        ProducerSettings(**settings)


def test_a_loop_refuses_sessions_that_its_rounds_would_collide_with() -> None:
    with pytest.raises(SettingsError, match="'one#2', which is another recording's"):
        plan_of(make_recording(10, session="one"), make_recording(10, session="one#2"), loop=True)


def test_nothing_to_replay_is_said() -> None:
    with pytest.raises(SettingsError, match="no samples to replay"):
        plan_of()
