"""The predictor's pure core: whatever way packets come, the windows are the batch's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine import checkpoint
from predictor.engine.engine import Engine
from predictor.engine.partition import Partition, Shape
from predictor.engine.session import Counts
from repstream.errors import MessageError
from repstream.messages.packet import Packet, packet_values
from repstream.recordings.recording import Recording, nominal_rate_hz
from repstream.recordings.spar import recordings
from repstream.windows.cut import cut
from repstream.windows.grid import GRID_US

WINDOW, HOP = 151, 25
SHAPE = Shape(WINDOW, HOP, 1_000_000)
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


def restored(partition: Partition) -> Partition:
    """Through a checkpoint and back."""
    again, shape = checkpoint.load(checkpoint.dump(partition, SHAPE), 0, 0.0)
    assert shape == SHAPE
    return again


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
            partition = restored(partition)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


DRIFTS = [0.0, 6.5e-6, -4e-4, 1e-3, 2e-3, 5e-3]


@pytest.mark.slow
@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("ms", [False, True])
def test_windows_of_a_drifting_clock_are_the_batchs_and_say_when_they_were(drift: float, ms: bool) -> None:
    recording = three()[0]
    time_s = np.arange(600) * 0.02 * (1 + drift)
    time_s = np.floor(time_s * 1e3 + 1e-6) / 1e3 if ms else np.rint(time_s * 1e6) / 1e6
    times_us = np.rint(time_s * 1e6).astype(np.int64)
    recording = replace(recording, time_s=time_s, rate_hz=nominal_rate_hz(times_us))
    expected = cut(recording, WINDOW, HOP)
    assert len(expected.index) >= 17
    for sizes in ([1], [10], [7, 64]):
        engine, partition = Engine(WINDOW, HOP), Partition()
        found = []
        for i, packet in enumerate(packets_of(recording, sizes, with_t=True)):
            done = engine.advance([packet], [partition], [i], packet_values([packet]), 0.0)
            found += zip(done.index, done.start_us, done.end_us, done.values, strict=True)
            partition = restored(partition)
        assert [k for k, *_ in found] == expected.index.tolist()
        for i, (_, start_us, end_us, values) in enumerate(found):
            assert np.array_equal(values, expected.values[i])
            assert start_us - ORIGIN_US == round(expected.start_s[i] * 1e6)
            assert end_us - ORIGIN_US == round(expected.end_s[i] * 1e6)


def test_a_drifting_device_that_was_forgotten_and_comes_back_gets_no_number_twice() -> None:
    # A second early after 1,000 s: the grid is 50 positions further than the time says.
    step_us, n = 19_980, 50_000
    values = np.repeat(np.arange(n, dtype=float)[:, None] / n, 6, axis=1)
    recording = replace(three()[0], time_s=np.arange(n) * step_us / 1e6, values=values)
    packets = packets_of(recording, [100], with_t=True)
    engine, partition = Engine(WINDOW, HOP), Partition()
    found = []
    for part in (packets[:400], packets[400:]):
        done = engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), 0.0)
        found += [(k, us) for k, us in zip(done.index, done.start_us, strict=True)]
        engine.release(partition, silent_since_s=1.0, forget_before_s=1.0)
        partition = restored(partition)
        assert not partition.devices
    numbers = [k for k, _ in found]
    assert numbers == sorted(set(numbers))
    assert all(us == ORIGIN_US + k * HOP * step_us for k, us in found)
    assert numbers[-1] == (n - WINDOW) // HOP


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
    held = len(checkpoint.dump(partition, SHAPE))
    engine.release(partition, silent_since_s=100.0, forget_before_s=-1.0)
    assert partition.released
    assert len(checkpoint.dump(partition, SHAPE)) < held - 6 * 8 * 100
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
        sizes.append(len(checkpoint.dump(partition, SHAPE)))
    assert max(sizes[1:]) <= sizes[0] + 200


def test_a_checkpoint_of_this_format_is_read_and_written_the_same() -> None:
    data = (Path(__file__).parent / "data" / "checkpoint-v4.msgpack").read_bytes()
    partition, shape = checkpoint.load(data, 0, 0.0)
    assert shape == SHAPE
    # One device waits for a lost packet and has a session behind it, the other lists the times of a drifting clock.
    held = [(len(d.ended), [len(s.pending) for s in d.open.values()]) for d in partition.devices.values()]
    assert held == [(1, [5]), (0, [2])]
    assert checkpoint.dump(partition, shape) == data


def test_a_checkpoint_that_an_earlier_release_wrote_goes_on_where_it_stood() -> None:
    data = (Path(__file__).parent / "data" / "checkpoint-v3.msgpack").read_bytes()
    partition, shape = checkpoint.load(data, 0, 0.0)
    again, _ = checkpoint.load(checkpoint.dump(partition, shape), 0, 0.0)
    for one in (partition, again):
        for device in one.devices.values():
            for session in device.open.values():
                assert session.fast == (session.resampler.on_grid == session.end)
                assert session.time_us(session.end) == (session.resampler.origin_us or 0) + session.end * GRID_US
                assert session.resampler.on_grid is not None


def test_a_checkpoint_of_a_later_version_or_of_garbage_is_refused() -> None:
    later = msgspec.msgpack.decode(checkpoint.dump(Partition(), SHAPE))
    later[0] = 99
    with pytest.raises(MessageError, match="version 99"):
        checkpoint.load(msgspec.msgpack.encode(later), 0, 0.0)
    with pytest.raises(MessageError, match="cannot read"):
        checkpoint.load(b"\x00garbage", 0, 0.0)


def dated(packet: Packet, by_s: float) -> Packet:
    assert packet.t0 is not None
    return msgspec.structs.replace(packet, t0=packet.t0 + by_s)


HOUR_S = 3600.0


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(1, 58),
    by_s=st.sampled_from([2.0, HOUR_S, 70 * 365 * 24 * HOUR_S]),
    back=st.booleans(),
    alone=st.booleans(),
    batch=st.integers(1, 60),
    restart=st.booleans(),
)
def test_a_packet_with_a_wrong_date_costs_the_windows_that_touch_it_and_no_other(
    which: int, by_s: float, back: bool, alone: bool, batch: int, restart: bool
) -> None:
    first, second, _ = three()
    packets = packets_of(first, [10])
    packets[which] = dated(packets[which], -min(by_s, 20 * 365 * 24 * HOUR_S) if back else by_s)
    expected = batch_windows(first)
    if not alone:  # another session of the device goes on at the same time
        packets = [p for pair in zip(packets, packets_of(second, [10]), strict=True) for p in pair]
        expected |= batch_windows(second)
    windows, counts = stream(packets, batch, restart)
    # Its 0.2 s are interpolated, so that no window is missing at all.
    assert windows.keys() == expected.keys()
    assert counts.backwards_samples == 10
    for (session, k), values in expected.items():
        touched = session == first.session and k * HOP < 10 * which + 10 and k * HOP + WINDOW > 10 * which
        assert touched or np.array_equal(windows[session, k], values), (session, k)


def test_a_first_packet_dated_ahead_is_given_up_once_two_after_it_say_so() -> None:
    packets = packets_of(three()[0], [10])
    windows, counts = stream([dated(packets[0], HOUR_S), *packets[1:]], 1, restart=True)
    rest = replace(three()[0], time_s=three()[0].time_s[:-10], values=three()[0].values[10:])
    assert_same(windows, batch_windows(rest))
    assert counts.backwards_samples == 10


@pytest.mark.parametrize("size", [10, 500])
def test_a_pause_of_hours_in_a_session_restarts_the_window_and_keeps_the_numbers(size: int) -> None:
    recording = three()[0]
    pause = np.where(np.arange(600) < 300, 0.0, 3 * HOUR_S)
    paused = replace(recording, time_s=recording.time_s + pause)
    parts = [paused.values[:300], paused.values[300:]]
    packets = []
    for values, begin_s in zip(parts, (0.0, 3 * HOUR_S + 6.0), strict=True):
        part = replace(recording, values=values, time_s=recording.time_s[: len(values)])
        packets += [dated(p, begin_s) for p in packets_of(part, [size])]
    for seq, packet in enumerate(packets):
        packet.seq = seq
    engine, partition = Engine(WINDOW, HOP), Partition()
    done = engine.advance(packets, [partition] * len(packets), range(len(packets)), packet_values(packets), 0.0)
    end = engine.release(partition, 1.0, -1.0)  # the last packet may have nothing after it
    found = {(recording.session, k): v for part in (done, end) for k, v in zip(part.index, part.values, strict=True)}
    assert_same(found, batch_windows(paused))


def test_the_last_packet_after_a_gap_gives_its_windows_at_once_where_it_holds_any() -> None:
    recording = three()[0]
    paused = replace(recording, time_s=recording.time_s + np.where(np.arange(600) < 400, 0.0, 5.0))
    packets = packets_of(_part(recording, 0, 400), [500])
    packets += [dated(p, 13.0) for p in packets_of(_part(recording, 400, 600), [500])]
    packets[1].seq = 1
    engine, partition = Engine(WINDOW, HOP), Partition()
    done = engine.advance(packets, [partition] * len(packets), range(len(packets)), packet_values(packets), 0.0)
    found = {(recording.session, k): v for k, v in zip(done.index, done.values, strict=True)}
    assert_same(found, batch_windows(paused))


def _part(recording: Recording, first: int, after: int) -> Recording:
    return replace(recording, values=recording.values[first:after], time_s=recording.time_s[: after - first])


def test_a_session_met_in_its_midst_counts_from_the_epoch_so_that_no_id_stands_twice() -> None:
    """As where its device moved to another partition, or its first packets were lost."""
    recording = three()[0]
    packets = packets_of(recording, [10])
    here, _ = stream(packets[:33])
    there, _ = stream(packets[33:])
    assert (
        here.keys()
        == batch_windows(replace(recording, time_s=recording.time_s[:330], values=recording.values[:330])).keys()
    )
    rest = replace(recording, time_s=recording.time_s[:270], values=recording.values[330:])
    first = (ORIGIN_US + 330 * 20_000) // (HOP * 20_000)
    assert_same(there, {(s, first + k): v for (s, k), v in batch_windows(rest).items()})
    assert not here.keys() & there.keys()


@settings(max_examples=60, deadline=None)
@given(
    cut_at=st.integers(0, 60),
    shapes=st.tuples(*[st.sampled_from([(151, 25), (151, 50), (151, 10), (100, 25), (20, 31)])] * 2),
)
def test_another_hop_or_window_goes_on_with_the_samples_in_hand_and_repeats_no_id(
    cut_at: int, shapes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    recording = three()[0]
    packets = packets_of(recording, [10])
    (old_window, old_hop), (window, hop) = shapes
    engine, partition = Engine(old_window, old_hop), Partition()
    ids: list[int] = []
    begins: list[int] = []

    def feed(part: list[Packet]) -> None:
        done = engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), 0.0)
        for start_us, values in zip(done.start_us, done.values, strict=True):
            begin = (start_us - ORIGIN_US) // 20_000
            assert np.array_equal(values, recording.values[begin : begin + engine.window].T)
            begins.append(begin)
        ids.extend(done.index)

    feed(packets[:cut_at])
    n_before = len(ids)
    partition, former = checkpoint.load(checkpoint.dump(partition, engine.shape), 0, 0.0)
    engine = Engine(window, hop)
    engine.carry_over(partition, former)
    feed(packets[cut_at:])
    assert len(set(ids)) == len(ids), "an id stands twice"
    # All are there that begin in what was in hand or came after.
    in_hand = min(n_before * old_hop, 10 * cut_at)
    assert begins[n_before:] == [k * hop for k in range(600 // hop) if k * hop >= in_hand and k * hop + window <= 600]


def short(number: int) -> list[Packet]:
    """A session of one window, a minute after the one before."""
    recording = replace(
        three()[0], session=f"set-{number}", time_s=three()[0].time_s[:160], values=three()[0].values[:160]
    )
    return packets_of(recording, [10], ORIGIN_US + number * 60_000_000)


@pytest.mark.slow
def test_a_session_that_comes_again_after_hundreds_of_others_is_known() -> None:
    sessions = [short(i) for i in range(300)]
    windows, _ = stream([p for s in sessions for p in s], 100, restart=True)
    again, counts = stream([p for s in [*sessions, sessions[0], sessions[5]] for p in s], 100, restart=True)
    assert windows.keys() == again.keys()
    assert counts.duplicate_packets == 32


def test_a_forgotten_device_costs_a_few_numbers_and_its_sessions_are_known_and_go_on_under_the_right_numbers() -> None:
    recording = three()[0]
    packets = packets_of(recording, [10])
    engine, partition = Engine(WINDOW, HOP), Partition()
    found: list[int] = []

    def feed(part: list[Packet]) -> None:
        done = engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), 0.0)
        found.extend(done.index)

    feed([*short(0), *packets[:30]])
    engine.release(partition, silent_since_s=1.0, forget_before_s=1.0)
    assert not partition.devices
    empty = len(checkpoint.dump(Partition(), SHAPE))
    assert len(checkpoint.dump(partition, SHAPE)) <= empty + 2 * 40 + 60
    partition = restored(partition)
    feed([*short(0), *packets[:20]])
    assert found == [0, 0, 1, 2, 3, 4, 5]
    assert engine.counts.duplicate_packets == 36
    feed(packets[20:])
    assert found[7:] == [12, 13, 14, 15, 16, 17]


@pytest.mark.slow
def test_a_lost_packet_and_a_clock_that_stands_still_do_not_fill_the_memory() -> None:
    packets = [dated(p, 0.0) for p in packets_of(three()[0], [10])]
    endless = [msgspec.structs.replace(packets[i % 60], seq=i + (i > 0), t0=ORIGIN_US / 1e6) for i in range(5_000)]
    _, counts = stream(endless[:600])
    assert counts.missing_packets == 1
    partition = Partition()
    engine = Engine(WINDOW, HOP)
    for i in range(0, 5_000, 100):
        part = [p for p in endless[i : i + 100] if p.seq % 3]
        engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), 0.0)
        assert len(checkpoint.dump(partition, SHAPE)) < 8_192 * 56 + 512 * 40 + 20_000


@pytest.mark.slow
@pytest.mark.parametrize("lateness_s", [1.0, 600.0])
@pytest.mark.parametrize("step_s", [0.0, 0.2])
def test_a_device_that_begins_a_session_with_each_packet_does_not_fill_the_memory(
    step_s: float, lateness_s: float
) -> None:
    packet = packets_of(three()[0], [10])[0]
    endless = [dated(msgspec.structs.replace(packet, session=f"{i:0200}"), i * step_s) for i in range(2_000)]
    engine, partition = Engine(WINDOW, HOP, lateness_s), Partition()
    sizes = []
    for i in range(0, 2_000, 100):
        part = endless[i : i + 100]
        engine.advance(part, [partition] * len(part), range(len(part)), packet_values(part), 0.0)
        (device,) = partition.devices.values()
        assert len(device.open) <= 16
        sizes.append(len(checkpoint.dump(partition, SHAPE)))
    assert max(sizes) < 20_000


def test_a_session_beside_many_broken_ones_of_its_device_goes_on() -> None:
    good = packets_of(three()[0], [10])
    packets = []
    for i, packet in enumerate(good):
        broken = [
            msgspec.structs.replace(good[0], session=f"broken-{i}-{j}", accel=[(0, 0, 1)], gyro=[(0, 0, 0)])
            for j in range(20)
        ]
        packets += [packet, *broken]
    windows, _ = stream(packets, 50, restart=True)
    assert_same(windows, batch_windows(three()[0]))
