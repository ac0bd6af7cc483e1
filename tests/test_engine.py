"""The predictor's pure core: whatever way packets come, the windows are the batch's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor import checkpoint
from predictor.engine import Counts, Engine, Partition
from repstream.errors import MessageError
from repstream.messages import Packet, packet_values
from repstream.recording import Recording
from repstream.spar import recordings
from repstream.windows import cut

WINDOW, HOP = 151, 25
ORIGIN_US = 1_763_700_000_000_000

Windows = dict[tuple[str, int], np.ndarray]


@cache
def three() -> tuple[Recording, ...]:
    """Two sessions of one device and one of another, 12 s each."""
    first, second = recordings()[:2]
    other = recordings()[20]
    return tuple(replace(r, time_s=r.time_s[:600], values=r.values[:600], labels=None) for r in (first, second, other))


def packets_of(
    recording: Recording, sizes: Sequence[int], origin_us: int = ORIGIN_US, with_t: bool = False
) -> list[Packet]:
    """Cut a recording into packets of the sizes given, again and again."""
    packets: list[Packet] = []
    us = recording.times_us
    i = 0
    while i < recording.n_samples:
        n = sizes[len(packets) % len(sizes)]
        rows = recording.values[i : i + n].tolist()
        packets.append(
            Packet(
                v=1,
                device=recording.device,
                session=recording.session,
                seq=len(packets),
                accel=[tuple(r[:3]) for r in rows],
                gyro=[tuple(r[3:]) for r in rows],
                t0=None if with_t else (origin_us + int(us[i])) / 1e6,
                t=[(origin_us + int(u)) / 1e6 for u in us[i : i + n]] if with_t else None,
                rate_hz=recording.rate_hz,
                side=recording.side,
            )
        )
        i += n
    return packets


def stream(
    packets: Sequence[Packet], batch: int = 50, restart: bool = False, engine: Engine | None = None
) -> tuple[Windows, Counts]:
    """Feed packets in batches; `restart` goes through a checkpoint between any two."""
    engine = engine or Engine(WINDOW, HOP)
    partition = Partition()
    windows: Windows = {}
    for i in range(0, len(packets), batch):
        part = packets[i : i + batch]
        done = engine.advance(part, [partition] * len(part), range(i, i + len(part)), packet_values(part), 0.0)
        for session, index, values in zip(done.session, done.index, done.values, strict=True):
            assert (session, index) not in windows, "a window came twice"
            windows[session, index] = values
        if restart:
            partition = checkpoint.load(checkpoint.dump(partition, WINDOW, HOP), WINDOW, HOP, 0.0)
    return windows, engine.counts


def batch_windows(*those: Recording) -> Windows:
    windows: Windows = {}
    for recording in those:
        whole = cut(recording, WINDOW, HOP)
        windows |= {(recording.session, int(k)): v for k, v in zip(whole.index, whole.values, strict=True)}
    return windows


def assert_same(found: Windows, expected: Windows) -> None:
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert np.array_equal(found[key], values), key


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=5),
    batch=st.integers(1, 200),
    restart=st.booleans(),
)
def test_however_packets_are_cut_and_batched_the_windows_are_those_of_the_whole(
    sizes: list[int], batch: int, restart: bool
) -> None:
    packets = [p for r in three() for p in packets_of(r, sizes)]
    windows, _ = stream(packets, batch, restart)
    assert_same(windows, batch_windows(*three()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 7, 10, 50]), restart=st.booleans())
def test_packets_shuffled_within_the_lateness_and_repeated_change_nothing(seed: int, size: int, restart: bool) -> None:
    rng = np.random.default_rng(seed)
    packets = []
    for recording in three():
        own = packets_of(recording, [size])
        own += [own[i] for i in rng.integers(0, len(own), 20)]
        delayed = [float(p.t0 or 0.0) + 0.95 * rng.random() for p in own]
        packets += [own[i] for i in np.argsort(delayed)]
    windows, counts = stream(packets, 37, restart)
    assert_same(windows, batch_windows(*three()))
    assert counts.duplicate_packets == 60
    assert counts.late_packets == 0


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 30.0, 62.5, 100.0, 333.0])
@pytest.mark.parametrize("jitter_s", [0.0, 0.0008])
def test_other_rates_and_jittered_clocks_give_the_batchs_windows(rate_hz: float, jitter_s: float) -> None:
    those = []
    for recording in three():
        time_s = np.arange(int(recording.duration_s * rate_hz)) / rate_hz
        if jitter_s:
            time_s = np.sort(time_s + np.random.default_rng(1).normal(0, jitter_s, len(time_s)))
            time_s = time_s[np.concatenate(([True], np.diff(time_s) > 2e-6))]
            time_s -= time_s[0]
        values = np.stack([np.interp(time_s, recording.time_s, recording.values[:, i]) for i in range(6)], axis=1)
        those.append(replace(recording, time_s=time_s, values=values, rate_hz=rate_hz))
    packets = [p for r in those for p in packets_of(r, [1, 13, 40], with_t=bool(jitter_s))]
    windows, _ = stream(packets, 7, restart=True)
    expected = batch_windows(*those)
    assert len(expected) > 10
    assert_same(windows, expected)


def test_devices_side_by_side_do_not_touch_each_other() -> None:
    columns = [packets_of(replace(r, device=f"watch-{i}"), [10]) for i, r in enumerate(three())]
    packets = [p for row in zip(*columns, strict=True) for p in row]
    windows, _ = stream(packets, 11)
    assert_same(windows, batch_windows(*three()))


def test_a_packet_later_than_the_lateness_is_dropped_and_counted_and_holds_nothing_back_longer() -> None:
    """
    Packets of 10 samples (0.2 s); 20 comes when 27 is there, which is 1.4 s newer than its first sample::

        18 19 21 22 23 24 25 26 27 20 28
              ^ held ............^ given up, 21-26 go on
                                    ^ late
    """
    recording = three()[0]
    packets = packets_of(recording, [10])
    late = packets.pop(20)
    packets.insert(27, late)
    windows, counts = stream(packets, 1)
    assert (counts.late_packets, counts.late_samples, counts.missing_packets) == (1, 10, 1)
    # 0.2 s is short enough to be interpolated: the windows are all there, those around it with other values.
    expected = batch_windows(recording)
    assert windows.keys() == expected.keys()
    untouched = [k for k in expected if (k[1] * HOP >= 210 or k[1] * HOP + WINDOW <= 200)]
    assert untouched
    for key in untouched:
        assert np.array_equal(windows[key], expected[key])


def test_a_gap_of_two_seconds_restarts_the_window_under_the_number_it_would_have_had() -> None:
    """
    ::

        samples  0 ............ 299 |  gap 2 s  | 400 ............ 599
        windows  0 … 5 (125–275)                  16 (400–550), 17 (425–575)
    """
    recording = three()[0]
    packets = [p for p in packets_of(recording, [10]) if not 30 <= p.seq < 40]
    for seq, packet in enumerate(packets):
        packet.seq = seq
    windows, counts = stream(packets)
    assert sorted(k for _, k in windows) == [0, 1, 2, 3, 4, 5, 16, 17]
    assert counts.gaps == 1
    expected = batch_windows(recording)
    assert_same(windows, {key: expected[key] for key in windows})


def test_sessions_one_after_the_other_end_the_one_before_and_know_its_packets_when_they_come_again() -> None:
    first, second, _ = three()
    early = packets_of(first, [10])
    later = packets_of(second, [10], ORIGIN_US + 20_000_000)
    windows, counts = stream([*early, *later, *early, *later])
    assert_same(windows, batch_windows(first, second))
    assert counts.duplicate_packets == len(early) + len(later)


def test_the_session_before_gives_up_waiting_once_the_next_one_is_under_way() -> None:
    first, second, _ = three()
    early = [p for p in packets_of(first, [10]) if p.seq != 57]  # what follows is held, and no newer packet comes
    windows, counts = stream([*early, *packets_of(second, [10], ORIGIN_US + 20_000_000)])
    expected = batch_windows(first, second)
    assert windows.keys() == expected.keys()
    assert counts.missing_packets == 1


def test_what_was_predicted_before_a_restart_is_not_predicted_again() -> None:
    packets = packets_of(three()[0], [10])
    everything, _ = stream(packets)
    engine = Engine(WINDOW, HOP)
    partition = Partition(emit_from=40)
    done = engine.advance(packets, [partition] * len(packets), range(len(packets)), packet_values(packets), 0.0)
    before, _ = stream(packets[:40])
    assert {(s, k) for s, k in zip(done.session, done.index, strict=True)} == everything.keys() - before.keys()
    assert engine.counts.packets == len(packets) - 40


def test_a_silent_device_keeps_no_samples_and_goes_on_under_the_right_numbers() -> None:
    recording = three()[0]
    packets = packets_of(recording, [10])
    engine, partition = Engine(WINDOW, HOP), Partition()

    def feed(part: list[Packet], now_s: float) -> list[int]:
        return engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), now_s).index

    assert feed(packets[:30], now_s=0.0) == [0, 1, 2, 3, 4, 5]
    held = len(checkpoint.dump(partition, WINDOW, HOP))
    engine.release(partition, silent_since_s=100.0, forget_before_s=-1.0)
    assert partition.released
    assert len(checkpoint.dump(partition, WINDOW, HOP)) < held - 6 * 8 * 100
    # Samples 0–299 are gone: the next whole window starts at 300, number 12.
    assert feed(packets[30:], now_s=200.0) == [12, 13, 14, 15, 16, 17]
    engine.release(partition, silent_since_s=300.0, forget_before_s=300.0)
    assert not partition.devices


def test_memory_a_device_does_not_grow_with_the_length_of_its_session() -> None:
    recording = three()[0]
    engine, partition = Engine(WINDOW, HOP), Partition()
    sizes = []
    for lap in range(30):
        packets = packets_of(recording, [10], ORIGIN_US + lap * 12_000_000)
        for i, packet in enumerate(packets):
            packet.seq = lap * len(packets) + i
        engine.advance(packets, [partition] * len(packets), range(len(packets)), packet_values(packets), 0.0)
        sizes.append(len(checkpoint.dump(partition, WINDOW, HOP)))
    assert max(sizes[1:]) <= sizes[0] + 200


def test_a_checkpoint_of_another_hop_or_of_garbage_is_refused() -> None:
    data = checkpoint.dump(Partition(), WINDOW, HOP)
    with pytest.raises(MessageError, match="hop 25"):
        checkpoint.load(data, WINDOW, 50, 0.0)
    with pytest.raises(MessageError, match="cannot read"):
        checkpoint.load(b"\x00garbage", WINDOW, HOP, 0.0)
