"""Faults of movement, sensor and labels: what each makes of a recording, whoever cuts it how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.ledger import expected_by_engine
from demo.roster import Roster
from producer.faults.parse import FAULTS, parse_fault
from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.plan import plan_replay
from producer.settings import ProducerSettings
from repstream.arrays import FloatArray
from repstream.features.motion_shape import MIRROR
from repstream.messages.messages import decode_label
from repstream.messages.packet import packet_values
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recognition.model import load_model
from repstream.recordings import spar
from repstream.recordings.recording import Recording
from tests.test_schedule import NOW_US, make_recording, packets_of, read_back, times_of

ARM = make_recording(1000, "arm")  # 20 s
AT_5_S, AT_12_S = 250, 600  # samples
BY_SAMPLE = [kind.name for kind in FAULTS.values() if kind.sensor or kind.movement]
GRADUAL = [kind.name for kind in FAULTS.values() if kind.is_gradual]


def send(*specs: str, recordings: Sequence[Recording] = (ARM,), **changes: Any) -> list[Outgoing]:
    faults = tuple(map(parse_fault, specs))
    return list(messages(plan_replay(ProducerSettings(faults=faults, **changes), recordings, NOW_US)))


def sent(*specs: str, recording: Recording = ARM, **changes: Any) -> FloatArray:
    """All samples of a recording as they arrive, (n, 6)."""
    packets = packets_of(send(*specs, recordings=(recording,), **changes))[recording.device, recording.session]
    assert [t - NOW_US for t in times_of(packets)] == recording.times_us.tolist()
    assert {p.side for p in packets} == {recording.side}
    return packet_values(packets)


def told(*specs: str, recordings: Sequence[Recording], **changes: Any) -> list[tuple[str, str, float, float]]:
    """All labels as (session, label, start, end), s from the start of the replay."""
    out = [decode_label(m.value) for m in send(*specs, recordings=recordings, **changes) if m.topic == LABELS]
    return [(i.session, i.label, round(i.start - NOW_US / 1e6, 3), round(i.end - NOW_US / 1e6, 3)) for i in out]


# --- laws ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_SAMPLE)
@pytest.mark.parametrize("packet_samples", [1, 7, 500])
def test_a_fault_of_samples_is_the_same_to_the_last_bit_however_it_is_cut(kind: str, packet_samples: int) -> None:
    whole = sent(f"{kind}@5-12", seed=3)
    assert not np.array_equal(whole, ARM.values)
    np.testing.assert_array_equal(whole, sent(f"{kind}@5-12", seed=3, packet_samples=packet_samples))


@pytest.mark.slow
@given(
    kinds=st.lists(st.sampled_from(BY_SAMPLE), min_size=1, max_size=4),
    start_s=st.floats(-5, 15),
    length_s=st.floats(0.01, 30),
    ramp_s=st.floats(0, 10),
    cut=st.integers(1, 500),
    irregular=st.booleans(),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_any_faults_together_are_the_same_however_they_are_cut_and_end_with_their_span(
    kinds: list[str], start_s: float, length_s: float, ramp_s: float, cut: int, irregular: bool, seed: int
) -> None:
    steps = np.random.default_rng(seed).integers(2_000, 60_000, 299) if irregular else np.full(299, 20_000)
    time_s = np.concatenate(([0], np.cumsum(steps))) / 1e6
    recording = make_recording(300, time_s=time_s, seed=seed)
    start_s = abs(start_s)
    specs = []
    for kind in kinds:
        fault = FAULTS[kind]
        words = [f"{fault.default:g}"] if fault.unit else list(fault.words[:1])
        amount = ":" + ",".join(words) + (f"~{ramp_s}" if fault.is_gradual else "") if words else ""
        specs.append(f"{kind}{amount}@{start_s:.6f}-{start_s + length_s:.6f}")
    whole = sent(*specs, recording=recording, seed=seed)
    np.testing.assert_array_equal(whole, sent(*specs, recording=recording, seed=seed, packet_samples=cut))
    times_s = recording.times_us / 1e6
    outside = (times_s < start_s - 1e-6) | (times_s >= start_s + length_s + 1e-6)
    np.testing.assert_array_equal(whole[outside], recording.values[outside])


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_SAMPLE)
def test_a_device_gets_the_same_fault_alone_among_others_and_at_another_pace(kind: str) -> None:
    others = (make_recording(500, "leg", seed=1), ARM)
    alone = packet_values(packets_of(send(f"{kind}@3"))["arm", "one"])
    among = packet_values(packets_of(send(f"{kind}@3", recordings=others, speed=7.0))["arm", "one"])
    np.testing.assert_array_equal(alone, among)


@pytest.mark.parametrize("kind", GRADUAL)
def test_a_gradual_fault_grows_from_nothing_to_its_full_amount(kind: str) -> None:
    """
    ::

        time, s   0 ........ 5 ~~~~~~~~ 10 ========= 20
        amount    none         grows       full
    """
    default = f"{FAULTS[kind].default:g}"
    gradual, sudden = sent(f"{kind}:{default}~5@5"), sent(f"{kind}:{default}@5")
    np.testing.assert_array_equal(gradual[: AT_5_S + 1], ARM.values[: AT_5_S + 1])
    np.testing.assert_array_equal(gradual[500:], sudden[500:])
    off = np.abs(gradual - ARM.values)[:, :3].sum(axis=1) / np.abs(sudden - ARM.values)[:, :3].sum(axis=1).clip(1e-9)
    assert off[260:300].mean() < 0.25 < off[350:400].mean() < 0.75 < off[480:500].mean() < 1.0


def test_noise_of_two_devices_faults_and_sessions_differs() -> None:
    twice = (ARM, make_recording(1000, "leg"), make_recording(1000, "arm", "two"))
    packets = packets_of(send("noise@0", recordings=twice))
    added = [packet_values(p) - ARM.values for p in packets.values()]
    assert not any(np.array_equal(a, b) for i, a in enumerate(added) for b in added[:i])
    both = sent("noise@0", "noise@0") - ARM.values
    assert both[:, 0].std() == pytest.approx(0.3 * 2**0.5, rel=0.1)


def test_a_log_of_a_faulty_replay_is_gone_on_with_as_a_clean_one() -> None:
    faults = (parse_fault("rotate@0"),)
    plan = plan_replay(ProducerSettings(faults=faults), [ARM], NOW_US)
    out = list(messages(plan))
    again = list(messages(plan_replay(ProducerSettings(faults=faults), [ARM], NOW_US, read_back(out[:40], plan))))
    assert [m.value for m in out[:40] + again] == [m.value for m in out]


# --- the sensor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "turned"),
    [
        ("z", [-2, 1, 3, -5, 4, 6]),
        ("x", [1, -3, 2, 4, -6, 5]),
        ("y", [3, 2, -1, 6, 5, -4]),
        ("0,0,-2", [2, -1, 3, 5, -4, 6]),
    ],
)
def test_rotate_turns_both_sensors_by_the_right_hand_rule(axis: str, turned: list[float]) -> None:
    recording = Recording(
        "r", "s", "one", "arm", np.arange(20) / 50, np.tile([1.0, 2, 3, 4, 5, 6], (20, 1)), 50.0, "left"
    )
    np.testing.assert_allclose(sent(f"rotate:90,{axis}@0", recording=recording), np.tile(turned, (20, 1)), atol=1e-12)


@pytest.mark.slow
@given(st.tuples(*[st.integers(-9, 9)] * 3).filter(any), st.integers(-360, 360))
@settings(max_examples=30, deadline=None)
def test_any_rotation_keeps_lengths_angles_handedness_and_its_axis(axis: tuple[int, int, int], angle: int) -> None:
    values = sent(f"rotate:{angle},{','.join(map(str, axis))}@0")
    was, now = ARM.values.reshape(-1, 2, 3), values.reshape(-1, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(now, axis=2), np.linalg.norm(was, axis=2))
    np.testing.assert_allclose((now[:, 0] * now[:, 1]).sum(axis=1), (was[:, 0] * was[:, 1]).sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(now @ np.array(axis), was @ np.array(axis), atol=1e-8)
    triple = [np.linalg.det(np.stack([v[0, 0], v[0, 1], v[1, 0]])) for v in (was, now)]
    assert triple[1] == pytest.approx(triple[0], rel=1e-6)


def test_swap_wrist_mirrors_and_leaves_the_side_as_declared() -> None:
    np.testing.assert_array_equal(sent("swap-wrist@5-12")[AT_5_S:AT_12_S], ARM.values[AT_5_S:AT_12_S] * MIRROR)
    np.testing.assert_array_equal(sent("swap-wrist@0", "swap-wrist@0"), ARM.values)


def test_gain_and_offset_are_of_their_target_alone() -> None:
    np.testing.assert_array_equal(sent("gain:1.5@0"), ARM.values * 1.5)
    np.testing.assert_array_equal(sent("gain:2,gyro@0"), ARM.values * [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(sent("offset:-0.25@0"), ARM.values - np.array([0.25, 0.25, 0.25, 0, 0, 0]))
    np.testing.assert_array_equal(sent("offset:40,gyro_y@0"), ARM.values + np.array([0, 0, 0, 0, 40.0, 0]))


@pytest.mark.slow
def test_noise_is_normal_of_the_asked_deviation() -> None:
    recording = make_recording(20_000, "arm")
    added = sent("noise:12,gyro@0", recording=recording) - recording.values
    assert not added[:, :3].any()
    assert added[:, 3:].std(axis=0) == pytest.approx(12, rel=0.05)
    assert added[:, 3:].mean(axis=0) == pytest.approx(0, abs=0.4)
    assert np.abs(np.corrcoef(added[:-1, 3:].T, added[1:, 3:].T) - np.eye(6)).max() < 0.05


def test_clip_limits_to_a_range() -> None:
    clipped = sent("clip:0.8@0")
    np.testing.assert_array_equal(clipped[:, :3], ARM.values[:, :3].clip(-0.8, 0.8))
    np.testing.assert_array_equal(clipped[:, 3:], ARM.values[:, 3:])


def test_stuck_repeats_the_last_value_before_it_as_it_was_sent() -> None:
    expected = ARM.values.copy()
    expected[AT_5_S:AT_12_S, 4] = expected[AT_5_S - 1, 4]
    np.testing.assert_array_equal(sent("stuck:gyro_y@5-12"), expected)
    # From before the session: its first one.
    np.testing.assert_array_equal(sent("stuck@0"), np.tile(ARM.values[0], (1000, 1)))
    after = sent("noise@0", "stuck@5")
    np.testing.assert_array_equal(after[AT_5_S:], np.tile(sent("noise@0")[AT_5_S - 1], (750, 1)))


def test_units_are_those_that_are_mixed_up_most() -> None:
    both = sent("units@0")
    np.testing.assert_array_equal(both[:, :3], ARM.values[:, :3] * 9.80665)
    np.testing.assert_allclose(both[:, 3:], np.deg2rad(ARM.values[:, 3:]))
    np.testing.assert_array_equal(sent("units:accel@0")[:, 3:], ARM.values[:, 3:])
    np.testing.assert_array_equal(sent("units:gyro@0")[:, :3], ARM.values[:, :3])


# --- the movement --------------------------------------------------------------------------------


def test_rate_of_half_takes_every_other_sample_from_where_it_begins() -> None:
    """
    ::

        sent      0 1 2 … 249 | 250 251 252 … 599 | 600 …
        taken     0 1 2 … 249 | 250 252 254 … 948 | 600 …
    """
    values = sent("rate:25@5-12")
    np.testing.assert_array_equal(values[AT_5_S:AT_12_S], ARM.values[250:950:2])
    # Where the recording ends, it begins again.
    np.testing.assert_array_equal(sent("rate:25@0"), np.tile(ARM.values[::2], (2, 1)))


def test_rate_of_double_slows_the_movement_down() -> None:
    values = sent("rate:100@0")
    np.testing.assert_array_equal(values[::2], ARM.values[:500])
    np.testing.assert_allclose(values[1:999:2], (ARM.values[:499] + ARM.values[1:500]) / 2, atol=1e-12)


def test_a_sinusoid_comes_out_at_its_frequency_times_the_ratio_of_the_rates() -> None:
    t = np.arange(1000) / 50
    wave = np.repeat(np.sin(2 * np.pi * 1.0 * t)[:, None], 6, axis=1)
    recording = Recording("r", "s", "one", "arm", t, wave, 50.0, "left")
    spectrum = np.abs(np.fft.rfft(sent("rate:20@0", recording=recording)[:, 0]))
    assert np.argmax(spectrum) / 20.0 == pytest.approx(2.5)


def test_rate_takes_the_labels_along() -> None:
    recording = make_recording(1000, labels=["ABD"] * 600 + ["ROW"] * 400)
    assert told("rate:25@0", recordings=[recording]) == [
        ("one", "ABD", 0.0, 5.98),
        ("one", "ROW", 6.0, 9.98),
        ("one", "ABD", 10.0, 15.98),
        ("one", "ROW", 16.0, 19.98),
    ]


def test_new_exercise_puts_in_the_same_persons_and_wrists_other_recording_with_its_label() -> None:
    (abd, row) = (next(r for r in spar.recordings() if f"s08-right-{e}" in r.name) for e in ("ABD", "ROW"))
    plan = plan_replay(ProducerSettings(faults=(parse_fault("new-exercise:ROW@5-9"),)), [abd], NOW_US)
    out = list(messages(plan))
    values = packet_values(packets_of(out)[abd.device, abd.session])
    np.testing.assert_array_equal(values[250:450], row.values[:200])
    np.testing.assert_array_equal(values[:250], abd.values[:250])
    np.testing.assert_array_equal(values[450:], abd.values[450:])
    end_s = round(abd.duration_s, 3)
    assert [x[1:] for x in told("new-exercise:ROW@5-9", recordings=[abd])] == [
        ("ABD", 0.0, 4.98),
        ("ROW", 5.0, 8.98),
        ("ABD", 9.0, end_s),
    ]


def test_new_exercise_in_a_strangers_recording_is_of_the_same_wrist_and_says_what_it_is() -> None:
    assert told("new-exercise:IR@5-12", recordings=[ARM]) == [("one", "IR", 5.0, 11.98)]
    put_in = sent("new-exercise:IR@5-12")[AT_5_S:AT_12_S]
    from_left = [r for r in spar.recordings() if r.side == "left" and (r.labels == "IR").all()]
    assert sum(np.array_equal(put_in, r.values[:350]) for r in from_left) == 1


def test_the_sensors_faults_are_of_what_is_done() -> None:
    # Whatever the order asked for: the wearer moves, and then the sensor measures it.
    specs = ("gain:2@0", "rate:25@0")
    np.testing.assert_array_equal(sent(*specs), 2 * sent("rate:25@0"))
    np.testing.assert_array_equal(sent(*specs), sent(*reversed(specs)))


# --- labels --------------------------------------------------------------------------------------

CHANGING = make_recording(500, labels=["ABD"] * 200 + ["ROW"] * 300)  # 4 s, then 6 s


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("label-shift:2@0", [("ABD", 0.0, 5.98), ("ROW", 6.0, 9.98)]),
        ("label-shift:-2@0", [("ABD", 0.0, 1.98), ("ROW", 2.0, 9.98)]),
        # Ends while the old label is still told.
        ("label-shift:2@0-5", [("ABD", 0.0, 4.98), ("ROW", 5.0, 9.98)]),
        ("label-shift:2@8", [("ABD", 0.0, 3.98), ("ROW", 4.0, 9.98)]),
        ("label-shift:1@2-4.5", [("ABD", 0.0, 4.48), ("ROW", 4.5, 9.98)]),
        ("label-shift:2@0/other", [("ABD", 0.0, 3.98), ("ROW", 4.0, 9.98)]),
    ],
)
def test_label_shift_tells_what_was_done_before_or_will_be(spec: str, labels: list[tuple[str, float, float]]) -> None:
    """
    ::

        time, s         0 . . . 4 . 6 . . . 10
        done            ABD     ROW
        told, 2 behind  ABD         ROW
        told, 2 ahead   ABD ROW (from 2)
    """
    assert told(spec, recordings=[CHANGING]) == [("one", *label) for label in labels]
    assert [m.value for m in send(spec, recordings=[CHANGING]) if m.topic == SAMPLES] == [
        m.value for m in send(recordings=[CHANGING]) if m.topic == SAMPLES
    ]


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        # one: 0-1.98 s, two: 2.98-4.96 s, three: 5.96-7.94 s
        ("label-shift:1.5@0", [("one", "A"), ("two", "A"), ("two", "B"), ("three", "B"), ("three", "C")]),
        ("label-shift:-1.5@0", [("one", "A"), ("one", "B"), ("two", "B"), ("two", "C"), ("three", "C")]),
        ("label-shift:-60@0", [("one", "C"), ("two", "C"), ("three", "C")]),
        ("label-shift:60@0", [("one", "A"), ("two", "A"), ("three", "A")]),
    ],
)
def test_labels_are_late_or_early_across_sessions(spec: str, labels: list[tuple[str, str]]) -> None:
    sessions = [
        make_recording(100, session=name, labels=[label] * 100)
        for name, label in (("one", "A"), ("two", "B"), ("three", "C"))
    ]
    assert [x[:2] for x in told(spec, recordings=sessions)] == labels
    assert [x[:2] for x in told(spec, recordings=sessions, packet_samples=77)] == labels


def test_label_shift_goes_on_in_a_loop_and_is_counted_by_labels() -> None:
    state = ReplayState()
    faults = (parse_fault("label-shift:-3@0"),)
    settings = ProducerSettings(faults=faults, loop=True, duration_s=60.0)
    out = list(messages(plan_replay(settings, [CHANGING], NOW_US), state))
    labels = [decode_label(m.value) for m in out if m.topic == LABELS]
    assert {i.session for i in labels} >= {"one", "one#2", "one#3"}
    assert [i.label for i in labels if i.session == "one"] == ["ABD", "ROW", "ABD"]
    assert state.faults["label-shift"] >= len(labels)


# --- the demo's truth ----------------------------------------------------------------------------


def test_the_demos_truth_is_what_is_done_not_what_is_said() -> None:
    (abd,) = (r for r in spar.recordings() if "s08-left-ABD" in r.name)

    def roster(*specs: str) -> Roster:
        return Roster(ProducerSettings(faults=tuple(map(parse_fault, specs))), [abd], ("ABD", "ROW"), 151, 25)

    truths = [roster("new-exercise:ROW@6").truth(abd.device, abd.session, k) for k in (0, 8, 12, 20)]
    assert truths == ["ABD", "Transition", "ROW", "ROW"]
    shifted = roster("label-shift:60@0", "rotate@0")
    assert {shifted.truth(abd.device, abd.session, k) for k in range(20)} == {"ABD"}


def test_a_window_of_an_unlabelled_recording_has_a_truth_only_where_a_fault_gives_one() -> None:
    settings = ProducerSettings(faults=(parse_fault("new-exercise:ROW@10"),))
    roster = Roster(settings, [ARM], ("ROW",), 151, 25)
    assert roster.truth("arm", "one", 0) is None
    assert roster.truth("arm", "one", 25) == "ROW"


@pytest.mark.slow
def test_a_turned_sensor_makes_the_model_wrong() -> None:
    model = load_model("spar")
    recordings = [r for r in spar.recordings() if r.subject == "s08"]
    right = {}
    for specs in ((), ("rotate:90@0",)):
        out = [m for m in send(*specs, recordings=recordings) if m.topic == SAMPLES]
        log = [_Record(m.key, m.value, i) for i, m in enumerate(out)]
        rows, _ = expected_by_engine(log, model, frozenset(r.device for r in recordings), 1.0)
        truth = {r.session: str(r.labels[0]) for r in recordings if r.labels is not None}
        right[specs] = np.mean([model.labels[int(row.argmax())] == truth[n.split("/")[1]] for n, row in rows.items()])
    assert right[()] > 0.85
    assert right["rotate:90@0",] < 0.6


class _Record:
    partition = 0
    timestamp = -1

    def __init__(self, key: bytes, value: bytes, offset: int) -> None:
        self.key, self.value, self.offset = key, value, offset
