"""The ledger of samples: each one that was sent has one fate, whatever happens to it on the way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.ledger_sums import Ledgers
from predictor.engine import checkpoint
from predictor.engine.engine import Engine
from predictor.engine.finished import FinishedWindows
from predictor.engine.ledger import Refused, refused_packet, session_key
from predictor.engine.partition import Partition, Shape
from repstream.errors import MessageError
from repstream.messages.fields import encode
from repstream.messages.messages import LEDGER_FATES, LedgerEntry, decode_ledger
from repstream.messages.packet import MAX_PACKET_BYTES, Packet, packet_values

WINDOW, HOP = 20, 8
ORIGIN_S = 1_763_700_000.0

Item = Packet | Refused


def packet(
    seq: int,
    first: int,
    n: int = 10,
    *,
    device: str = "watch",
    session: str = "one",
    rate_hz: float = 50.0,
    jitter_s: Sequence[float] | None = None,
) -> Packet:
    """Samples `first` to `first + n` of a session's clock; with `jitter_s` as irregular times without a rate."""
    rows = [(0.01 * (first + i), 0.5, -0.25) for i in range(n)]
    times = [ORIGIN_S + (first + i) / rate_hz + (jitter_s[i] if jitter_s else 0.0) for i in range(n)]
    return Packet(
        v=1,
        device=device,
        session=session,
        seq=seq,
        accel=rows,
        gyro=rows,
        t0=None if jitter_s else times[0],
        rate_hz=None if jitter_s else rate_hz,
        t=times if jitter_s else None,
    )


def steady(n: int, start: int = 0, session: str = "one") -> list[Packet]:
    """Return `n` packets of 10 samples one after the other."""
    return [packet(seq, 10 * seq, session=session) for seq in range(start, start + n)]


class Run:
    """A predictor's core with an account of its own of what it was given and what it gave."""

    def __init__(self, window: int = WINDOW, hop: int = HOP) -> None:
        self.engine, self.partition = Engine(window, hop), Partition()
        self.window, self.hop = window, hop
        self.offset = self.given = self.now_s = 0
        self.covered: set[tuple[str, str, int]] = set()
        self.windows: dict[tuple[str, str, int], bytes] = {}

    def feed(self, items: Sequence[Item]) -> dict[str, int]:
        packets = [item for item in items if isinstance(item, Packet)]
        refused = [
            (sum(isinstance(before, Packet) for before in items[:i]), self.partition, item)
            for i, item in enumerate(items)
            if isinstance(item, Refused)
        ]
        offsets = range(self.offset, self.offset + len(packets))
        self.offset += len(packets)
        self.given += sum(len(i.accel) if isinstance(i, Packet) else i.samples for i in items)
        done = self.engine.advance(
            packets, [self.partition] * len(packets), offsets, packet_values(packets), self.now_s, refused
        )
        return self.check(done)

    def release(self, forget: bool = False) -> dict[str, int]:
        """All devices fall silent."""
        self.now_s += 1
        return self.check(self.engine.release(self.partition, self.now_s, self.now_s if forget else -1.0))

    def restart(self) -> None:
        data = checkpoint.dump(self.partition, self.engine.shape)
        self.partition, shape = checkpoint.load(data, 0, self.now_s)
        assert shape == self.engine.shape

    def check(self, done: FinishedWindows) -> dict[str, int]:
        for device, session, index, values in zip(done.device, done.session, done.index, done.values, strict=True):
            assert (device, session, index) not in self.windows, "an id stands twice"
            self.windows[device, session, index] = values.tobytes()
            self.covered |= {(device, session, index * self.hop + i) for i in range(self.window)}
        fates = self.engine.ledger(self.partition)
        assert fates.keys() == {"sent", *LEDGER_FATES}
        assert fates["sent"] == sum(n for fate, n in fates.items() if fate != "sent"), fates
        assert fates["sent"] == self.given + fates["missing"]
        assert fates["used"] == len(self.covered)
        assert all(n >= 0 for fate, n in fates.items() if fate != "resampled"), fates
        return fates


def told(fates: dict[str, int]) -> dict[str, int]:
    """Only what is not 0."""
    return {fate: n for fate, n in fates.items() if n}


def test_samples_are_buffered_until_their_window_is_full_and_then_used() -> None:
    run = Run()
    assert told(run.feed(steady(1))) == {"sent": 10, "buffered": 10}
    # Windows 0-19 and 8-27; 28 and 29 wait.
    assert told(run.feed(steady(2, 1))) == {"sent": 30, "used": 28, "buffered": 2}


def test_packets_that_wait_for_an_earlier_one_are_buffered() -> None:
    run = Run()
    run.feed(steady(2))
    assert told(run.feed(steady(3, 3))) == {"sent": 50, "used": 20, "buffered": 30}
    assert told(run.feed(steady(1, 2))) == {"sent": 60, "used": 60}


def test_a_repeated_packet_is_a_duplicate_also_after_its_session_has_ended() -> None:
    run = Run()
    assert run.feed([*steady(3), *steady(1)])["duplicate"] == 10
    later = [packet(seq, 1000 + 10 * seq, session="two") for seq in range(8)]
    assert run.feed([*later, *steady(1)])["duplicate"] == 20


def test_a_lost_packet_is_missing_as_long_as_the_hole_it_left_and_late_when_it_comes_after_all() -> None:
    """
    Packets of 10 samples; number 3, of 7, is lost, and given up once 1 s has come after it. A short hole is bridged::

        0 1 2 . 4 5 6 7 8 9 10
              ^ 7 samples, made up: 7 missing, -7 resampled
    """
    run = Run()
    after = [packet(seq, 10 * seq - 3) for seq in range(4, 11)]
    fates = run.feed([*steady(3), *after])
    assert (fates["missing"], fates["resampled"], fates["late"]) == (7, -7, 0)
    assert fates["sent"] == 107
    fates = run.feed([packet(3, 30, 7)])
    assert (fates["missing"], fates["resampled"], fates["late"]) == (0, -7, 7)
    assert fates["sent"] == 107
    assert run.feed([packet(3, 30, 7)])["duplicate"] == 7


def test_a_pause_beside_a_lost_packet_is_not_counted_as_lost() -> None:
    run = Run()
    assert run.feed([*steady(3), *[packet(seq, 500 + 10 * seq) for seq in range(4, 12)]])["missing"] == 10


def test_a_packet_that_comes_after_its_session_has_ended_is_late_and_no_longer_missing() -> None:
    run = Run()
    early = [p for p in steady(12) if p.seq != 4]
    later = [packet(seq, 1000 + 10 * seq, session="two") for seq in range(8)]
    assert run.feed([*early, *later])["missing"] == 10
    fates = run.feed(steady(1, 4))
    assert (fates["missing"], fates["late"], fates["duplicate"]) == (0, 10, 0)


def test_the_first_packets_of_a_session_are_missing_by_the_size_of_the_one_that_came() -> None:
    run = Run()
    assert run.feed(steady(8, 2))["missing"] == 20
    # No number, however wild, makes the sum more than a day.
    assert run.feed([packet(2**53, 0, session="wild"), *steady(20, 10)])["missing"] <= 20 + 86_400 * 50


def test_what_a_gap_cut_off_is_in_no_window_nor_what_came_before_the_next_ones_start() -> None:
    """
    Windows of 20 every 8; a gap from 35 to 60::

        0 ........ 27 | 28 ... 34 |      | 60 ... 63 | 64 ..... 83 | 84 ... 89
        used            gap, 7             gap, 4      used          buffered
    """
    run = Run()
    fates = run.feed([packet(0, 0, 35), packet(1, 60, 30)])
    assert told(fates) == {"sent": 65, "used": 48, "gap": 11, "buffered": 6}
    assert run.partition.ledger.gaps == 1


def test_what_a_session_had_left_when_it_ended_or_fell_silent_is_in_no_window() -> None:
    run = Run()
    run.feed(steady(3))
    fates = run.feed([packet(seq, 1000 + 10 * seq, session="two") for seq in range(8)])
    assert told(fates) == {"sent": 110, "used": 28 + 76, "ended": 2, "buffered": 4}
    assert told(run.release()) == {"sent": 110, "used": 104, "ended": 6}
    # It goes on at 80, where a window starts.
    assert run.feed([packet(8, 1080, 20, session="two")])["used"] == 124


def test_samples_between_windows_that_do_not_touch_are_skipped() -> None:
    run = Run(window=10, hop=25)
    assert told(run.feed([packet(0, 0, 30)])) == {"sent": 30, "used": 10, "skipped": 15, "buffered": 5}
    assert told(run.feed([packet(1, 30, 100)])) == {"sent": 130, "used": 50, "skipped": 75, "buffered": 5}


def test_samples_whose_clock_ran_backwards_are_counted() -> None:
    run = Run()
    assert told(run.feed([*steady(2), packet(2, 15, 10)])) == {"sent": 30, "used": 20, "backwards": 5, "buffered": 5}


def test_going_down_from_a_higher_rate_thins_out_and_up_from_a_lower_one_fills_in() -> None:
    run = Run()
    fast = run.feed([packet(seq, 10 * seq, rate_hz=100.0) for seq in range(40)])
    # 4 s at 50 Hz, less the 0.12 s that the low-pass holds back.
    assert fast["resampled"] == 400 - 194
    run = Run()
    slow = run.feed([packet(seq, 10 * seq, rate_hz=25.0) for seq in range(10)])
    assert slow["resampled"] == 100 - 199


def test_a_dead_letter_is_rejected_and_its_place_in_the_numbering_is_not_missing_too() -> None:
    letter = Refused(10, "watch", "one", 3)
    before, after = steady(3), steady(8, 4)
    for order in ([*before, letter, *after], [*before, *after, letter], [letter, *before, *after]):
        fates = Run().feed(order)
        assert (fates["sent"], fates["rejected"], fates["missing"]) == (120, 10, 0), order
    # One that cannot be read leaves a hole like a lost one.
    fates = Run().feed([*before, Refused(), *after])
    assert (fates["sent"], fates["rejected"], fates["missing"]) == (120, 0, 10)


def test_a_dead_letter_that_took_nobodys_place_changes_no_other_fate() -> None:
    run = Run()
    clean = run.feed(steady(12))
    letters = [Refused(10, "watch", "one", 3), Refused(10, "watch", "none", 0), Refused(7)]
    fates = run.feed([*letters, *steady(0)])
    assert fates == clean | {"sent": clean["sent"] + 27, "rejected": 27}


@pytest.mark.parametrize(
    ("change", "samples", "placed"),
    [
        ({"v": 99}, 10, True),
        ({"rate_hz": -50}, 10, True),
        ({"gyro": []}, 10, True),
        ({"accel": [[1], None, "x"]}, 3, True),
        ({"device": "other"}, 10, False),
        ({"session": 7}, 10, False),
        ({"seq": 2**60}, 10, False),
        ({"accel": 5}, 0, False),
    ],
)
def test_as_much_of_a_dead_letter_is_counted_as_can_be_read(
    change: dict[str, object], samples: int, placed: bool
) -> None:
    data = msgspec.json.encode(msgspec.to_builtins(packet(3, 30)) | change)
    assert refused_packet(data, b"watch") == (Refused(samples, "watch", "one", 3) if placed else Refused(samples))


def test_of_what_is_no_packet_at_all_nothing_is_counted() -> None:
    whole = encode(packet(3, 30))
    large = encode({"accel": [[0, 0, 0]] * (MAX_PACKET_BYTES // 8)})
    for data in (b"", b"not JSON", whole[:100], b"\xff\xfe", b"[" * 100_000, large):
        assert refused_packet(data, b"watch") == Refused()


Faults = st.fixed_dictionaries(
    {
        "drop": st.sampled_from([0.0, 0.05, 0.3]),
        "repeat": st.sampled_from([0.0, 0.2]),
        "delay": st.sampled_from([0.0, 0.5, 3.0]),
        "refuse": st.sampled_from([0.0, 0.1]),
        "gap": st.booleans(),
        "backwards": st.booleans(),
        "date": st.sampled_from([0.0, 0.05]),
    }
)


def network(
    seed: int, rates: Sequence[float | None], largest: int, faults: dict[str, float], sessions: int = 2
) -> list[Item]:
    """Packets of a device for each rate (None: jittered times without one), as a bad network delivers them."""
    rng = np.random.default_rng(seed)
    found: list[tuple[float, Item]] = []
    for device, rate_hz in enumerate(rates):
        first, clock = 0, rate_hz or 50.0
        for session in range(sessions):
            seq, end = 0, first + int(rng.integers(1, int(4 * clock)))
            while first < end:
                n = int(rng.integers(1, largest + 1))
                jitter = (rng.uniform(-0.004, 0.004, n)).tolist() if rate_hz is None else None
                name = {"device": f"watch-{device}", "session": f"session-{session}"}
                # Some packets are dated wrongly by hours, either way.
                wrong = int(rng.uniform(-1e6, 1e6)) if rng.random() < faults["date"] else 0
                item: Item = packet(seq, first + wrong, n, rate_hz=clock, jitter_s=jitter, **name)  # type: ignore[arg-type]
                if rng.random() < faults["refuse"]:
                    item = Refused(n, **name, seq=seq)
                copies = 0 if rng.random() < faults["drop"] else 1 + (rng.random() < faults["repeat"])
                for _ in range(copies):
                    # Not all are held up, so that some are later than the lateness.
                    delay = faults["delay"] * rng.random() * (rng.random() < 0.3)
                    found.append(((first + n) / clock + delay, item))
                seq, first = seq + 1, first + n
                if faults["gap"] and rng.random() < 0.05:
                    first += int(rng.uniform(0.1, 1.0) * clock)
                if faults["backwards"] and rng.random() < 0.1:
                    first = max(first - n // 2, 0)
            first += int(rng.uniform(0.0, 2.0) * clock)
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


RATES = st.lists(st.sampled_from([50.0, 50.0, 25.0, 62.5, 100.0, None]), min_size=1, max_size=3)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rates=RATES,
    largest=st.sampled_from([1, 10, 60]),
    faults=Faults,
    batch=st.integers(1, 60),
    shape=st.sampled_from([(20, 8), (20, 20), (5, 31), (151, 25)]),
    release=st.booleans(),
    restart=st.booleans(),
)
def test_after_every_batch_the_sent_are_the_used_and_all_whose_other_fate_is_known(
    seed: int,
    rates: list[float | None],
    largest: int,
    faults: dict[str, float],
    batch: int,
    shape: tuple[int, int],
    release: bool,
    restart: bool,
) -> None:
    run = Run(*shape)
    items = network(seed, rates, largest, faults)
    for i in range(0, len(items), batch):
        run.feed(items[i : i + batch])
        if release and i % (3 * batch) == 0:
            run.release()
        if restart:
            run.restart()
    fates = run.release(forget=True)
    assert fates["buffered"] == 0
    assert not run.partition.devices
    counts = run.engine.counts
    assert (fates["late"], fates["duplicate"], fates["backwards"]) == (
        counts.late_samples,
        counts.duplicate_samples,
        counts.backwards_samples,
    )
    assert run.partition.ledger.gaps == counts.gaps


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rates=RATES,
    faults=Faults,
    batch=st.integers(1, 60),
    shape=st.sampled_from([(20, 8), (5, 31)]),
    cut=st.floats(0, 0.999),
)
def test_the_ledger_depends_on_the_log_alone_and_not_on_batches_kills_and_what_was_read_again(
    seed: int, rates: list[float | None], faults: dict[str, float], batch: int, shape: tuple[int, int], cut: float
) -> None:
    items = network(seed, rates, 10, faults)
    assume(items)
    whole = Run(*shape)
    whole.feed(items)
    pieces = Run(*shape)
    at = int(cut * len(items)) // batch * batch  # a batch's first packet
    for i in range(0, len(items), batch):
        if i == at:
            saved = checkpoint.dump(pieces.partition, pieces.engine.shape)
        pieces.feed(items[i : i + batch])
    assert pieces.engine.ledger(pieces.partition) == whole.engine.ledger(whole.partition)
    assert pieces.windows == whole.windows
    # Killed at the very end, with all windows predicted: only the state comes back.
    again, _ = checkpoint.load(saved, 0, 0.0)
    again.emit_from = len(items)
    rest = [item for item in items[at:] if isinstance(item, Packet)]
    letters = [
        (sum(isinstance(b, Packet) for b in items[at : at + i]), again, item)
        for i, item in enumerate(items[at:])
        if isinstance(item, Refused)
    ]
    engine = Engine(*shape)
    engine.advance(rest, [again] * len(rest), range(len(rest)), packet_values(rest), 0.0, letters)
    assert engine.ledger(again) == whole.engine.ledger(whole.partition)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faults=Faults)
def test_whatever_the_network_does_what_was_sent_is_what_the_device_took(seed: int, faults: dict[str, float]) -> None:
    """Lost, late and refused samples are counted once, and each further copy as a duplicate."""
    rng = np.random.default_rng(seed)
    taken = steady(60)
    copies: list[tuple[float, Item]] = []
    repeated = 0
    for p in taken:
        item: Item = p
        n, delay = 1, 0.0
        # The last one comes: how much was lost after what came last nobody can know.
        if p is not taken[-1]:
            n = 0 if rng.random() < faults["drop"] else 1 + (rng.random() < faults["repeat"])
            item = Refused(10, p.device, p.session, p.seq) if rng.random() < faults["refuse"] else p
            delay = faults["delay"] * rng.random()
        copies += [(p.seq * 0.2 + delay, item)] * n
        repeated += 10 * max(n - 1, 0)
    run = Run()
    run.feed([item for _, item in sorted(copies, key=lambda pair: pair[0])])
    assert run.release()["sent"] == 600 + repeated


def test_a_checkpoint_of_before_the_ledger_goes_on_with_a_ledger_that_adds_up() -> None:
    run = Run()
    run.feed([*steady(3), *[packet(seq, 1000 + 10 * seq, session="two") for seq in range(8)], *steady(2, 12)])
    version, window, hop, devices, *_ = msgspec.msgpack.decode(
        checkpoint.dump(run.partition, run.engine.shape), strict=False, ext_hook=msgspec.msgpack.Ext
    )
    assert version == 4
    names = {session_key("watch", name): name for name in ("one", "two")}
    for device in devices:
        device[1] = [session[:-6] for session in device[1]]
        device[2] = {names[key]: ended[0] for key, ended in device[2].items()}
    old, shape = checkpoint.load(msgspec.msgpack.encode([1, window, hop, devices]), 1_000_000, 0.0)
    assert shape == run.engine.shape == Shape(WINDOW, HOP, 1_000_000)
    fates = run.engine.ledger(old)
    assert fates["sent"] == fates["buffered"] > 0
    more = [packet(seq, 1000 + 10 * seq, session="two") for seq in range(8, 12)]
    run.engine.advance(more, [old] * 4, range(4), packet_values(more), 0.0)
    fates = run.engine.ledger(old)
    assert fates["sent"] == sum(n for fate, n in fates.items() if fate != "sent")
    # A session that had ended before is still known.
    run.engine.advance(steady(1), [old], range(1), packet_values(steady(1)), 0.0)
    assert run.engine.ledger(old)["duplicate"] == 10


def entry(group: str, partition: int, **samples: int) -> LedgerEntry:
    return LedgerEntry(group=group, partition=partition, offset=5, at=ORIGIN_S + partition, samples=samples, gaps=1)


def test_the_newest_entries_of_one_groups_partitions_are_summed_and_tell_what_does_not_add_up() -> None:
    ledgers = Ledgers("ours")
    assert (ledgers.sums().samples["sent"], ledgers.sums().difference, ledgers.sums().at) == (0, 0, None)
    ledgers.add(entry("ours", 0, sent=10, used=10))
    ledgers.add(entry("ours", 0, sent=30, used=20, late=12, resampled=-2))
    ledgers.add(entry("ours", 1, sent=7, used=3, buffered=4))
    ledgers.add(entry("theirs", 1, sent=1000, used=3))
    sums = ledgers.sums()
    assert told(sums.samples) == {"sent": 37, "used": 23, "late": 12, "buffered": 4, "resampled": -2}
    assert (sums.partitions, sums.gaps, sums.at, sums.difference) == (2, 2, ORIGIN_S + 1, 0)
    ledgers.add(entry("ours", 1, sent=8, used=3, buffered=4))
    assert ledgers.sums().difference == 1


def test_a_ledger_entry_is_read_as_it_was_written_and_anything_else_is_refused_with_a_reason() -> None:
    good = entry("ours", 3, sent=10, used=10)
    assert decode_ledger(encode(good)) == good
    for data, reason in (
        (b"not JSON", "not-json"),
        (b"{}", "not-json"),
        (b"\xff", "not-json"),
        (encode(msgspec.structs.replace(good, v=2)), "version"),
        (encode(msgspec.structs.replace(good, samples={"used": 1})), "shape"),
    ):
        with pytest.raises(MessageError) as refused:
            decode_ledger(data)
        assert refused.value.reason == reason
