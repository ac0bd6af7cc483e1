"""Faults: what each does, where, and that a seed repeats it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.app import app
from producer.faults.parse import EXAMPLE, FAULTS, parse_fault
from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.plan import plan_replay
from producer.settings import ProducerSettings
from repstream.errors import MessageError, SettingsError
from repstream.messages.fields import REJECT_REASONS
from repstream.messages.packet import decode_packet, packet_values
from repstream.recordings.recording import Recording
from tests.support import success
from tests.test_schedule import NOW_US, make_recording, packets_of, read_back, times_of

# Kinds that change what is sent of a recording without labels; label-shift has its own tests.
KINDS = [kind for kind in FAULTS if kind != "label-shift"]
DRAWING = ("duplicate", "shuffle", "drop", "late", "malformed", "nan", "jitter", "noise", "new-exercise")

RECORDINGS = (make_recording(1000, "arm"), make_recording(1000, "leg", seed=1))  # 20 s, 100 packets each


def send(*specs: str, recordings: Sequence[Recording] = RECORDINGS, **settings: Any) -> list[Outgoing]:
    return list(messages(plan(*specs, recordings=recordings, **settings)))


def plan(*specs: str, recordings: Sequence[Recording] = RECORDINGS, **settings: Any) -> Any:
    faults = tuple(map(parse_fault, specs))
    return plan_replay(ProducerSettings(faults=faults, **settings), recordings, NOW_US)


def values_of(outgoing: Sequence[Outgoing], device: str = "arm") -> list[bytes]:
    return [m.value for m in outgoing if m.device == device]


def reason_of(out: Outgoing) -> str | None:
    """Why a reader refuses it; None where it does not."""
    try:
        decode_packet(out.value, out.key)
    except MessageError as error:
        return error.reason
    return None


# --- laws that all kinds keep --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_a_fault_and_another_does_otherwise(kind: str) -> None:
    first, again = send(f"{kind}@2", seed=5), send(f"{kind}@2", seed=5)
    assert first == again
    assert first != send(), "it does something"
    assert (first != send(f"{kind}@2", seed=6)) == (kind in DRAWING)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_stays_within_its_span(kind: str) -> None:
    """
    ::

        event time, s   0 ......... 5 =========== 12 ......... 20
        packets         0 .. 24       touched        60 .. 99
    """
    clean, faulty = values_of(send()), values_of(send(f"{kind}@5-12"))
    assert faulty[:25] == clean[:25]
    # Held-up packets come among those after the span, which are themselves untouched.
    assert [value for value in faulty if value in clean[60:]] == clean[60:]
    assert values_of(send(f"{kind}@100-200")) == clean


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_concerns_only_the_devices_of_its_pattern(kind: str) -> None:
    out = send(f"{kind}@0/l*")
    assert values_of(out, "arm") == values_of(send(), "arm")
    assert values_of(out, "leg") != values_of(send(), "leg")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_does_not_depend_on_other_devices_or_the_pace(kind: str) -> None:
    alone = send(f"{kind}@2", recordings=RECORDINGS[:1])
    assert values_of(alone) == values_of(send(f"{kind}@2"))
    faster = send(f"{kind}@2", recordings=RECORDINGS[:1], speed=5.0)
    assert len(faster) == len(alone)
    assert [m.due_us - faster[0].due_us for m in faster] == [m.due_us - alone[0].due_us for m in alone]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_faulty_replay_is_still_in_order_of_due_and_timestamps_stay_true(kind: str) -> None:
    clean = {m.timestamp_ms for m in send()}
    out = send(f"{kind}@2")
    assert [m.due_us for m in out] == sorted(m.due_us for m in out)
    assert {m.timestamp_ms for m in out} <= clean


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_faults_are_counted(kind: str) -> None:
    state = ReplayState()
    list(messages(plan(f"{kind}@2"), state))
    assert set(state.faults) == {kind}
    assert state.faults[kind] > 0


# --- each kind -----------------------------------------------------------------------------------


def test_duplicate_sends_a_share_of_packets_twice() -> None:
    values = values_of(send("duplicate:0.5@0"))
    assert 130 <= len(values) <= 170
    assert len(set(values)) == 100
    assert sum(m.n_samples for m in send("duplicate:1@0")) == 2000


def test_drop_loses_packets_whose_numbers_are_missing() -> None:
    packets = packets_of(send("drop:0.3@0"))["arm", "one"]
    numbers = [p.seq for p in packets]
    assert 55 <= len(numbers) <= 85
    assert numbers == sorted(numbers)
    assert all(times_of([p])[0] == NOW_US + p.seq * 200_000 for p in packets)
    assert packets_of(send("drop:1@0")) == {}


def test_shuffle_changes_the_order_but_holds_nothing_up_for_longer_than_its_amount() -> None:
    clean = {m.value: m.due_us for m in send()}
    out = send("shuffle:0.5@0")
    assert sorted(m.value for m in out) == sorted(clean)
    assert values_of(out) != values_of(send())
    held_us = [m.due_us - clean[m.value] for m in out]
    assert min(held_us) >= 0
    assert 300_000 < max(held_us) <= 500_000


def test_late_holds_one_packet_in_ten_up_for_its_amount() -> None:
    clean = {m.value: m.due_us for m in send()}
    held_us = [m.due_us - clean[m.value] for m in send("late:3@0")]
    assert set(held_us) == {0, 3_000_000}
    assert 8 <= held_us.count(3_000_000) <= 35


@pytest.mark.parametrize("spec", ["gap:1.5@4", "gap@4-5.5"])
def test_gap_removes_all_samples_of_its_span_and_no_others(spec: str) -> None:
    packets = packets_of(send(spec))["arm", "one"]
    times = [t - NOW_US for t in times_of(packets)]
    assert times == [t for t in range(0, 20_000_000, 20_000) if not 4_000_000 <= t < 5_500_000]
    left = np.array(times) // 20_000
    np.testing.assert_array_equal(packet_values(packets), RECORDINGS[0].values[left])
    # 5.5 s is within packet 27: it starts later, still on the regular clock.
    assert [p.seq for p in packets][18:22] == [18, 19, 27, 28]
    assert all(p.t is None for p in packets)


def test_a_gap_within_a_packet_makes_it_list_its_times() -> None:
    packets = packets_of(send("gap@4.05-4.1"))["arm", "one"]
    assert [p.seq for p in packets if p.t is not None] == [20]
    assert len(packets[20].accel) == 8


def test_malformed_packets_are_refused_for_known_reasons_and_count_no_samples() -> None:
    out = send("malformed:0.5@0")
    broken = [m for m in out if reason_of(m) is not None]
    assert 70 <= len(broken) <= 130
    assert {reason_of(m) for m in broken} == {"not-json", "version"}
    assert {m.n_samples for m in broken} == {0}
    assert {m.n_samples for m in out if m not in broken} == {10}


def test_nan_writes_the_bare_word_and_the_packet_is_refused_for_it() -> None:
    out = send("nan:0.4@0")
    broken = [m for m in out if reason_of(m) is not None]
    assert 60 <= len(broken) <= 100
    assert {reason_of(m) for m in broken} == {"nan"}
    assert all(m.value.count(b"NaN") == 1 for m in broken)
    assert all(m.n_samples == 0 for m in broken)
    assert set(REJECT_REASONS) >= {"nan", "not-json", "version"}


@pytest.mark.parametrize("sd_ms", [2.0, 500.0])
def test_jitter_moves_sample_times_but_keeps_them_increasing(sd_ms: float) -> None:
    packets = packets_of(send(f"jitter:{sd_ms}@0"))["arm", "one"]
    assert all(p.t is not None for p in packets)
    times = np.array(times_of(packets))
    moved = times - NOW_US - RECORDINGS[0].times_us
    assert (np.diff(times) > 0).all()
    assert np.abs(moved).max() <= 9_000
    if sd_ms == 2.0:
        assert np.std(moved) == pytest.approx(2_000, rel=0.1)
    np.testing.assert_array_equal(packet_values(packets), RECORDINGS[0].values)


@pytest.mark.parametrize("seconds", [7.0, -7.0])
def test_clock_skew_moves_whole_packets_and_leaves_kafkas_timestamp_alone(seconds: float) -> None:
    out = [m for m in send(f"clock-skew:{seconds}@4-8") if m.device == "arm"]
    packets = packets_of(out)["arm", "one"]
    skew = [times_of([p])[0] - NOW_US - p.seq * 200_000 for p in packets]
    assert skew == [0] * 20 + [round(seconds * 1e6)] * 20 + [0] * 60
    assert [m.timestamp_ms for m in out] == [m.timestamp_ms for m in send() if m.device == "arm"]


def test_faults_of_both_levels_go_together() -> None:
    state = ReplayState()
    specs = ("jitter:1@0", "gap:1@3", "duplicate:0.2@0", "shuffle:0.4@5", "malformed:0.1@10/arm")
    out = list(messages(plan(*specs), state))
    assert set(state.faults) == {"jitter", "gap", "duplicate", "shuffle", "malformed"}
    assert out == list(messages(plan(*specs)))


# --- going on from a log with faults -------------------------------------------------------------


@pytest.mark.parametrize("kind", [k.name for k in FAULTS.values() if k.loses_packets])
def test_a_log_that_lacks_packets_on_purpose_is_gone_on_with_after_its_last_one(kind: str) -> None:
    p = plan(f"{kind}@2")
    out = list(messages(p))
    there = read_back(out[: len(out) // 2], p).sessions["arm", "one"]
    last = [m for m in out[: len(out) // 2] if m.device == "arm" and reason_of(m) is None][-1]
    assert there.next_seq == decode_packet(last.value, b"arm").seq + 1
    assert there.n_samples == there.next_seq * 10
    assert there.start_us == NOW_US


def test_a_wrong_clock_in_the_log_does_not_move_the_session() -> None:
    p = plan("clock-skew:3000@0")
    there = read_back(list(messages(p))[:20], p).sessions["arm", "one"]
    assert abs(there.start_us - NOW_US) <= 1_000


# --- how they are asked for ----------------------------------------------------------------------


def test_a_fault_is_read_from_its_text() -> None:
    fault = parse_fault("clock-skew:-2.5@30-90.5/spar-s08-*")
    assert (fault.kind.name, fault.amount, fault.start_s, fault.end_s) == ("clock-skew", -2.5, 30.0, 90.5)
    assert fault.device == "spar-s08-*"
    plain = parse_fault("late@60")
    assert (plain.amount, plain.end_s, plain.device) == (3.0, math.inf, "*")
    assert parse_fault("gap:2@10").end_s == 12.0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("rain:1@5", "there is no kind 'rain'; the kinds are duplicate, shuffle, drop"),
        ("drop:0.1", "it has no @START"),
        ("drop", "it has no @START"),
        ("", "there is no kind ''"),
        ("drop:a@5", "the amount 'a' is not a number"),
        ("drop:@5", "the amount '' is not a number"),
        ("drop:nan@5", "the amount 'nan' is not finite"),
        ("drop:1.5@5", "the amount of drop is 0 to 1 (share of packets, 0–1), not 1.5"),
        ("drop:0.5@", "the start '' is not a number"),
        ("drop:0.5@x", "the start 'x' is not a number"),
        ("drop:0.5@5-y", "the end 'y' is not a number"),
        ("drop:0.5@9-5", "it ends at 5 s, not after its start at 9 s"),
        ("drop:0.5@5/", "the device after '/' is empty"),
        ("gap:1@5-9", "gap takes a length or an END, not both"),
        ("drop:0.1,accel@5", "drop takes nothing after its amount, not 'accel'"),
        ("drop:0.1~5@5", "drop is there or not, it does not grow: leave ~5 out"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_wrong_and_one_that_is_right(spec: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_fault(spec)
    assert says in str(refused.value)
    assert "KIND[:AMOUNT]@START[-END][/DEVICE], e.g. drop:0.05@30-90/spar-s08-*" in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "says", "example"),
    [
        (
            "rotate:90,w@5",
            "the axis of rotate is one of z, x, y, or three numbers: a direction, not 'w'",
            "rotate:90,x~",
        ),
        ("rotate:90,0,0,0@5", "not '0,0,0'", "rotate:90,x~"),
        ("rotate:x@5", "the amount 'x' is not a number", "rotate:90,x~"),
        ("rotate:400@5", "the amount of rotate is -360 to 360 (°), not 400", "rotate:90,x~"),
        ("rotate:90~fast@5", "the time after '~' 'fast' is not a number", "rotate:90,x~"),
        ("rotate:90~-1@5", "the time after '~' is at least 0 s, not -1", "rotate:90,x~"),
        ("swap-wrist:1@5", "swap-wrist takes no amount", "swap-wrist@60"),
        ("swap-wrist:~9@5", "swap-wrist is there or not, it does not grow", "swap-wrist@60"),
        ("offset:1,both@5", "the target of offset is one of accel, gyro, accel_x", "offset:0.3,accel_x"),
        ("gain:,gyro@5", "the amount '' is not a number", "gain:1.2,accel"),
        ("gain:2,@5", "the target of gain is one of both, accel", "gain:1.2,accel"),
        ("stuck:3@5", "the target of stuck is one of both, accel", "stuck:gyro_y@20-40"),
        ("units:accel_x@5", "the sensor of units is one of both, accel, gyro, not 'accel_x'", "units:accel@60"),
        ("units:gyro~9@5", "units is there or not", "units:accel@60"),
        ("rate:0@5", "the amount of rate is 1 to 10000 (Hz), not 0", "rate:25@60"),
        ("rate:25,accel@5", "rate takes nothing after its amount, not 'accel'", "rate:25@60"),
        ("new-exercise:SQUAT@5", "the exercise of new-exercise is one of ROW, PEN, ABD", "new-exercise:ROW@60"),
        ("label-shift:a@5", "the amount 'a' is not a number", "label-shift:2@60"),
    ],
)
def test_a_wrong_parameter_is_refused_with_an_example_of_that_kind(spec: str, says: str, example: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_fault(spec)
    assert says in str(refused.value)
    assert f"e.g. {example}" in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "amount", "parameter", "ramp_s"),
    [
        ("rotate@60", 90.0, "z", 0.0),
        ("rotate:-45,x@60", -45.0, "x", 0.0),
        ("rotate:30,1,0,-1~12.5@60-90", 30.0, "1,0,-1", 12.5),
        ("gain:1.5~10@60", 1.5, "both", 10.0),
        ("offset:5,gyro_z@60", 5.0, "gyro_z", 0.0),
        ("stuck@60", 0.0, "both", 0.0),
        ("stuck:accel@60", 0.0, "accel", 0.0),
        ("units:gyro@60", 0.0, "gyro", 0.0),
        ("new-exercise:IR@60", 0.0, "IR", 0.0),
        ("label-shift:-1.5@60", -1.5, "", 0.0),
    ],
)
def test_parameters_are_read_from_the_text(spec: str, amount: float, parameter: str, ramp_s: float) -> None:
    fault = parse_fault(spec)
    assert (fault.amount, fault.parameter, fault.ramp_s, fault.start_s) == (amount, parameter, ramp_s, 60.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--inject", "rain@5"], "there is no kind 'rain'"),
        (["--speed", "fast"], "'fast' is neither a number above 0 nor max"),
        (["--speed", "max", "--loop"], "--loop does not go with --speed max"),
        (["--packet-samples", "501"], "500"),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_anything_else(options: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["produce", "no-such-recording", *options])
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_every_kind_is_listed_by_the_command_with_unit_parameter_and_default() -> None:
    listed = CliRunner().invoke(app, ["produce", "--list-faults"]).stdout
    for kind in FAULTS.values():
        assert kind.name in listed
        if kind.unit:
            assert f"AMOUNT in {kind.unit}; default {kind.default:g}" in listed
        if kind.parameter:
            assert f"{', '.join(kind.words)}" in listed
            assert f"default {kind.words[0]}" in listed
    assert listed.count("~S") == sum(kind.is_gradual for kind in FAULTS.values())


def test_every_kind_is_described_with_its_unit_and_default() -> None:
    listed = success("produce", "--list-faults").out
    for kind in FAULTS.values():
        assert kind.help
        levels = (kind.signal, kind.delivery, kind.sensor, kind.movement, kind.shifts_labels or None)
        assert sum(level is not None for level in levels) == 1
        assert kind.allowed[0] <= kind.default <= kind.allowed[1]
        assert parse_fault(kind.example).kind is kind or kind.example == EXAMPLE
        assert f"\n  {kind.name} " in listed
