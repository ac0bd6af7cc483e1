"""The predictor's pure core: packets in log order to finished windows; no clock, no Kafka.

What comes out depends on the order of the packets in their partition and on nothing else, so a
restart that reads the same packets again arrives at the same windows.

A packet that continues its session on an unbroken 50 Hz clock, nearly all of them, takes a path of
a few comparisons; its samples are not touched one by one. Everything else (new sessions, lost or
shuffled packets, other clocks) goes through `_Session.admit` and the session's `GridResampler`.

Two rules keep a window's id its own. A session whose packet 0 came counts its windows from 0. One that is
met in its midst (its first packets were lost, went to another partition or are forgotten; or the hop was
changed) counts them from the Unix epoch instead: no session lasts long enough to count up to there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from predictor.engine.ledger import Ledger, Refused, missing_samples, session_key
from repstream.arrays import FloatArray, IntArray, SideArray
from repstream.messages.messages import LEDGER_FATES
from repstream.messages.packet import MAX_SEQ, Packet, known_side, packet_times_us
from repstream.recordings.axes import SIDE_CODES
from repstream.windows.cut import first_index, gather
from repstream.windows.grid import GRID_HZ, GRID_US, SNAP_US, GridResampler, Run

# Ended sessions of a device that are remembered, so that their packets are known when they come again;
# of older ones a few numbers are, as many as this in a partition.
_REMEMBERED_SESSIONS = 64
_REMEMBERED_PAST = 32_768
# What a device may have open, and a session hold back, whatever its clock says; an honest one has a session
# or two, and less than the lateness waiting. Beyond it, what waits is given up waiting for, and a session ended.
_MOST_OPEN_SESSIONS = 16
_MOST_WAITING_PACKETS, _MOST_WAITING_SAMPLES = 512, 8_192
# A packet that reaches further ahead than its own samples last by this waits for the next to bear it out.
_JUMP_US = 1_000_000
# One that holds whole windows may be a session's last, which nothing ever bears out: a pause of so long is believed.
_PAUSE_US = 600_000_000
# Holes in the numbering that are remembered a session, to tell a late packet from a repeated one.
_REMEMBERED_HOLES = 32
_NO_SAMPLES = np.empty((0, 6))


@dataclass
class Counts:
    """How many packets and samples came, and what became of those that were not used."""

    packets: int = 0
    samples: int = 0
    duplicate_packets: int = 0
    duplicate_samples: int = 0
    late_packets: int = 0
    late_samples: int = 0
    backwards_samples: int = 0
    missing_packets: int = 0
    gaps: int = 0


@dataclass(slots=True)
class _Pending:
    """A packet that waits for those before it."""

    times_us: IntArray
    values: FloatArray
    first_us: int = field(init=False)
    last_us: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_us, self.last_us = int(self.times_us[0]), int(self.times_us[-1])


@dataclass(slots=True, eq=False)
class _Segment:
    """Unbroken grid samples of one session in the batch at hand: its tail, then what came."""

    start: int
    blocks: list[FloatArray]
    base: int = 0  # where it stands in the batch's one array


class _Session:
    """One session of one device: what came, in order, and the grid samples that open windows need.

    ``end`` is the grid position after the last sample; ``tail`` holds the samples before it that the
    next window, ``next_index``, still needs. Grid samples before ``counted`` stand in the ledger;
    ``missing`` are the ledger's samples in the ``holes``. ``doubted`` packets, two at most, are next in order
    but may be wrongly dated. Where ``renumbered``, windows count from the epoch.
    """

    __slots__ = (
        "counted",
        "device",
        "doubted",
        "end",
        "end_us",
        "fast",
        "holes",
        "largest",
        "last_value",
        "ledger",
        "missing",
        "name",
        "newest_us",
        "next_index",
        "next_seq",
        "pending",
        "quiet_us",
        "renumbered",
        "resampler",
        "segment",
        "side",
        "tail",
    )

    def __init__(self, device: str, name: str, side: int, rate_hz: float | None, ledger: Ledger) -> None:
        self.ledger = ledger
        self.device = device
        self.name = name
        self.side = side
        self.resampler = GridResampler(rate_hz)
        self.next_seq = 0
        self.holes: list[tuple[int, int]] = []
        self.missing = 0
        self.largest = 0  # samples of the largest packet that did not take the fast path, so of the first
        self.pending: dict[int, _Pending] = {}
        self.doubted: list[_Pending] = []
        self.renumbered = False
        self.newest_us = 0  # of the samples whose turn came
        self.quiet_us = 0
        self.fast = False
        self.end = 0
        self.counted = 0
        self.end_us = 0  # event time of grid position `end`, while `fast`
        self.next_index = 0
        self.tail = _NO_SAMPLES
        self.last_value = np.zeros(6)
        self.segment: _Segment | None = None

    def admit(self, packet: Packet, values: FloatArray, lateness_us: int, counts: Counts) -> list[_Pending] | None:
        """Take a packet and return those whose turn has come, in order; None where it is not wanted."""
        seq = packet.seq
        if seq < self.next_seq or seq in self.pending:
            _drop(self, seq, len(values), counts, self.ledger)
            return None
        times = np.array(packet_times_us(packet), dtype=np.int64)
        self.largest = max(self.largest, len(values))
        self.pending[seq] = _Pending(times, values.copy() if seq != self.next_seq else values)
        ready = self._contiguous()
        # All that a missing packet can hold is older than the packet after the hole. Once that one is older than
        # the lateness, so is what is missing.
        while self.pending and self._waiting_us() > lateness_us:
            self._give_up_before(min(self.pending), ready, counts)
            ready += self._contiguous()
        if self._waits_for_more_than(_MOST_WAITING_PACKETS, _MOST_WAITING_SAMPLES):
            # Down to half of it, so that not every packet from here on comes to this.
            while self._waits_for_more_than(_MOST_WAITING_PACKETS // 2, _MOST_WAITING_SAMPLES // 2):
                self._give_up_before(min(self.pending), ready, counts)
                ready += self._contiguous()
        return ready

    def _waiting_us(self) -> int:
        """Event time that what waits spans, µs; of the newest, two must say so, as one may be wrongly dated."""
        waiting = self.pending.values()
        newest = sorted([p.last_us for p in waiting])[-2:][0]
        return newest - min([p.first_us for p in waiting])

    def _waits_for_more_than(self, packets: int, samples: int) -> bool:
        return len(self.pending) > packets or sum([len(p.values) for p in self.pending.values()]) > samples

    def give_up(self, counts: Counts) -> list[_Pending]:
        """Wait for nothing any more; return all that was held back, in order."""
        ready: list[_Pending] = []
        while self.pending:
            self._give_up_before(min(self.pending), ready, counts)
            ready += self._contiguous()
        return ready

    def _give_up_before(self, seq: int, ready: list[_Pending], counts: Counts) -> None:
        """Wait no longer for what comes before `seq` and after `ready`."""
        packets = seq - self.next_seq
        counts.missing_packets += packets
        if not self.next_seq:
            self.renumbered = True
        before_us = ready[-1].last_us if ready else self.last_us()
        hole_us = None if before_us is None else self.pending[seq].first_us - before_us
        # A rate that is not known yet is as good as any: such sessions have sent less than 50 samples.
        rate_hz = self.resampler.rate_hz or GRID_HZ
        missing = missing_samples(packets, hole_us, rate_hz, self.largest)
        if self.ledger.refused:
            key = session_key(self.device, self.name)
            missing = max(missing - self.ledger.refused_between(key, self.next_seq, seq), 0)
        self.ledger.miss(missing)
        self.missing += missing
        self.holes = [*self.holes, (self.next_seq, seq)][-_REMEMBERED_HOLES:]
        self.next_seq = seq

    def _contiguous(self) -> list[_Pending]:
        ready = []
        while (packet := self.pending.pop(self.next_seq, None)) is not None:
            ready.append(packet)
            self.next_seq += 1
        return ready

    def last_us(self) -> int | None:
        """Event time of the last sample whose turn came; None where there is none."""
        if self.doubted:
            return self.doubted[-1].last_us
        return self.end_us - GRID_US if self.fast else self.resampler.last_us

    def is_doubtful(self, packet: _Pending, window: int) -> bool:
        """Tell whether a packet, next in order, may be wrongly dated, so that the next one must bear it out."""
        if self.doubted:
            return True
        rate_hz = self.resampler.rate_hz or GRID_HZ
        own_us = len(packet.values) * 1e6 / rate_hz
        last_us = self.resampler.last_us
        if last_us is None:  # nothing tells yet; waiting costs nothing where it is no window by itself
            return own_us < window * GRID_US or packet.last_us - packet.first_us > own_us + _JUMP_US
        ahead_us = packet.last_us - last_us - own_us
        return ahead_us > (_JUMP_US if own_us < window * GRID_US else _PAUSE_US)

    def settle(self, packet: _Pending) -> tuple[list[_Pending], _Pending | None]:
        """Decide by the packet after them on those in doubt; return the right ones, and one that is wrongly dated."""
        doubted = self.doubted
        if not doubted:
            return [], None
        borne_out = packet.last_us > doubted[0].last_us
        if self.resampler.last_us is None and len(doubted) == 1 and not borne_out:
            return [], None  # of a session's first two either may be wrong: the third decides
        self.doubted = []
        return (doubted, None) if borne_out else (doubted[1:], doubted[0])

    def go_on_from(self, past: _Past) -> None:
        """Begin where a session that was forgotten stood."""
        self.next_seq, self.renumbered = past.next_seq, bool(past.renumbered)
        self.resampler.origin_us, self.resampler.last_us = past.origin_us, past.last_us

    def sync(self) -> None:
        """Tell the resampler what went past it on the fast path."""
        if self.fast:
            block = self.segment.blocks[-1] if self.segment and len(self.segment.blocks[-1]) else None
            self.resampler.skip_to(self.end - 1, self.last_value if block is None else block[-1].copy())

    def update_fast(self) -> None:
        """See whether the next sample of an unbroken clock goes to the grid as it is."""
        self.fast = self.resampler.on_grid == self.end and self.end > 0 and not self.doubted
        if self.fast:
            assert self.resampler.origin_us is not None
            self.end_us = self.resampler.origin_us + self.end * GRID_US


def _drop(known: _Session | _Ended, seq: int, n: int, counts: Counts, ledger: Ledger) -> None:
    """Count a packet that is not wanted: late where its turn is over and it had not come, else a repeat."""
    given_up = _fill_hole(known, seq, n, ledger)
    if given_up or (isinstance(known, _Ended) and seq >= known.next_seq):
        counts.late_packets += 1
        counts.late_samples += n
        ledger.late += n
    else:
        counts.duplicate_packets += 1
        counts.duplicate_samples += n
        ledger.duplicate += n


def _fill_hole(known: _Session | _Ended, seq: int, n: int, ledger: Ledger) -> bool:
    """Take samples that came after all off those missing; tell whether they had been given up waiting for."""
    if not any(a <= seq < b for a, b in known.holes):
        return False
    known.holes = [h for old in known.holes for h in _without(old, seq)]
    found = min(n, known.missing)
    known.missing -= found
    ledger.miss(-found)
    return True


def _without(hole: tuple[int, int], seq: int) -> list[tuple[int, int]]:
    a, b = hole
    if not a <= seq < b:
        return [hole]
    return [piece for piece in ((a, seq), (seq + 1, b)) if piece[0] < piece[1]]


@dataclass(slots=True)
class _Ended:
    """What is remembered of a session that ended: which of its packets came."""

    next_seq: int
    holes: list[tuple[int, int]]
    missing: int
    predicted: bool


class _Past(NamedTuple):
    """What is remembered of a session for longer, so that no id of its windows is given twice.

    Packets before ``next_seq`` came; where one after them comes, it goes on on its old grid.
    """

    origin_us: int
    last_us: int
    next_seq: int
    renumbered: int


# No packet can continue a session that has ended.
_ENDED = _Past(0, 0, MAX_SEQ + 1, 0)


@dataclass(slots=True)
class _Device:
    """A device's sessions; those that ended by their `session_key`."""

    open: dict[str, _Session] = field(default_factory=dict)
    ended: dict[int, _Ended] = field(default_factory=dict)
    seen_s: float = 0.0


class Shape(NamedTuple):
    """What a state depends on besides the packets: window and hop in grid samples, lateness in µs."""

    window: int
    hop: int
    lateness_us: int


@dataclass
class Partition:
    """All that is known of one partition's devices.

    Attributes
    ----------
    past : mapping of `session_key` to what is remembered
        Sessions that had windows, of devices that are forgotten or had many since; the oldest first.
    emit_from : int
        Windows completed by a packet before this offset were predicted already.
    released : bool
        The clock, not the log, changed this state (`Engine.release`): it must be written down with
        whatever it caused, as reading the log again would not repeat it.
    ledger : Ledger
        What became of all samples so far; not only of those that are live.
    """

    devices: dict[str, _Device] = field(default_factory=dict)
    past: OrderedDict[int, _Past] = field(default_factory=OrderedDict)
    ledger: Ledger = field(default_factory=Ledger)
    emit_from: int = 0
    released: bool = False

    def remember(self, key: int, past: _Past) -> None:
        """Remember a session for longer; the oldest is forgotten where they are too many."""
        self.past[key] = past
        if len(self.past) > _REMEMBERED_PAST:
            self.past.popitem(last=False)


def buffered_samples(partition: Partition) -> int:
    """Count the samples in hand that are in no window yet: of waiting packets, and on the grid."""
    return sum(
        session.end - session.counted + sum(len(p.values) for p in (*session.pending.values(), *session.doubted))
        for device in partition.devices.values()
        for session in device.open.values()
    )


@dataclass(frozen=True, eq=False)
class FinishedWindows:
    """Windows that a batch of packets completed, in the order of completion.

    Attributes
    ----------
    values : ndarray, shape (n_windows, 6, window)
    sides : ndarray of int8, shape (n_windows,)
        `SIDE_CODES` of the wrists.
    device, session : lists of str
    index : list of int
        As in their ids: from 0, or from the epoch.
    start_us, end_us : lists of int
        Event times of the first and last sample.
    sampled_us : list of int
        Event time of the newest sample in hand when the window closed.
    """

    values: FloatArray
    sides: SideArray
    device: list[str]
    session: list[str]
    index: list[int]
    start_us: list[int]
    end_us: list[int]
    sampled_us: list[int]


@dataclass(slots=True)
class _Closed:
    """Bookkeeping of one finished window until the batch's samples lie in one array."""

    segment: _Segment
    session: _Session
    index: int
    sampled_us: int


class Engine:
    """Windows of many devices at once.

    Parameters
    ----------
    window, hop : int
        Samples of the 50 Hz grid.
    lateness_s : float
        How much older than the newest packet of its session one may be and still be put in order.
    """

    def __init__(self, window: int, hop: int, lateness_s: float = 1.0) -> None:
        self.window = window
        self.hop = hop
        self.lateness_us = round(lateness_s * 1e6)
        self.shape = Shape(window, hop, self.lateness_us)
        self.counts = Counts()
        self._uncounted = Counts()
        self._closed: list[_Closed] = []
        self._touched: list[_Session] = []
        self._segments: list[_Segment] = []

    def advance(
        self,
        packets: Sequence[Packet],
        partitions: Sequence[Partition],
        offsets: Sequence[int],
        values: FloatArray,
        now_s: float,
        refused: Sequence[tuple[int, Partition, Refused]] = (),
    ) -> FinishedWindows:
        """Process packets in log order.

        Parameters
        ----------
        packets : sequence of Packet, length n_packets
        partitions, offsets : sequences, length n_packets
            Where each came from; offsets increase within a partition.
        values : ndarray, shape (n_samples, 6)
            Their samples one after the other; finite.
        now_s : float
            Any clock, for telling silent devices (`release`).
        refused : sequence of (int, Partition, Refused)
            Dead letters, for the ledger: each with how many of `packets` stand before it; increasing.

        Returns
        -------
        FinishedWindows
            Without those that were predicted before `Partition.emit_from`.
        """
        done = position = 0
        for before, partition, letter in refused:
            position = self._take(
                packets[done:before], partitions[done:before], offsets[done:before], values, position, now_s
            )
            self._refuse(partition, letter)
            done = before
        if done:
            packets, partitions, offsets = packets[done:], partitions[done:], offsets[done:]
        self._take(packets, partitions, offsets, values, position, now_s)
        return self._finish()

    def _take(
        self,
        packets: Sequence[Packet],
        partitions: Sequence[Partition],
        offsets: Sequence[int],
        values: FloatArray,
        position: int,
        now_s: float,
    ) -> int:
        """Process packets whose samples begin at row `position`; return the row after them."""
        hop, window = self.hop, self.window
        for packet, partition, offset in zip(packets, partitions, offsets, strict=True):
            n = len(packet.accel)
            block = values[position : position + n]
            position += n
            live = offset >= partition.emit_from
            counts = self.counts if live else self._uncounted
            counts.packets += 1
            counts.samples += n
            partition.ledger.sent += n
            device = partition.devices.get(packet.device)
            if device is None:
                device = partition.devices[packet.device] = _Device()
            device.seen_s = now_s
            session = device.open.get(packet.session)
            if (
                session is not None
                and session.fast
                and packet.seq == session.next_seq
                and not session.pending
                and packet.t is None
                and packet.rate_hz == GRID_HZ
                and abs(packet.t0 * 1e6 - session.end_us) <= SNAP_US  # type: ignore[operator]
            ):
                segment = session.segment or self._open_segment(session)
                segment.blocks.append(block)
                session.next_seq += 1
                session.end += n
                session.end_us += n * GRID_US
                session.newest_us = session.end_us - GRID_US
                if session.next_index * hop + window <= session.end:
                    self._close_windows(session, live)
                if len(device.open) > 1:
                    self._end_quiet(partition, device, session, n * GRID_US, live)
            else:
                self._admit(partition, device, session, packet, block, live)
        return position

    def _refuse(self, partition: Partition, letter: Refused) -> None:
        """Count a dead letter; its place in the numbering, where known, is not missing too."""
        partition.ledger.reject(letter.samples)
        if not letter.session or not letter.samples:
            return
        device = partition.devices.get(letter.device, _Device())
        session = device.open.get(letter.session)
        key = session_key(letter.device, letter.session)
        known = session or device.ended.get(key)
        if known is not None and _fill_hole(known, letter.seq, letter.samples, partition.ledger):
            return
        waited_for = session is not None and letter.seq >= session.next_seq and letter.seq not in session.pending
        if known is None or waited_for:
            partition.ledger.expect_hole(key, letter.seq, letter.samples)

    def release(self, partition: Partition, silent_since_s: float, forget_before_s: float) -> FinishedWindows:
        """Let go of devices that fell silent.

        Parameters
        ----------
        silent_since_s : float
            Devices last seen before this keep no samples: what they held back is given up waiting
            for, and windows it completes are returned.
        forget_before_s : float
            Devices last seen before this are forgotten, but for where their sessions stood (`Partition.past`).
        """
        forgotten = []
        for name, device in partition.devices.items():
            if device.seen_s >= silent_since_s:
                continue
            for session in device.open.values():
                if session.pending or session.doubted or len(session.tail):
                    self._append(session, session.give_up(self.counts), live=True, last=True)
                    self._end_run(session)
                    session.next_index = max(session.next_index, first_index(session.end, self.hop))
                    session.tail = _NO_SAMPLES
                    partition.released = True
            if device.seen_s < forget_before_s:
                forgotten.append(name)
        finished = self._finish()
        for name in forgotten:
            self._forget(partition, name)
            partition.released = True
        return finished

    def _forget(self, partition: Partition, name: str) -> None:
        device = partition.devices.pop(name)
        for key, ended in device.ended.items():
            if ended.predicted:
                partition.remember(key, _ENDED)
        for session in device.open.values():
            origin_us, last_us = session.resampler.origin_us, session.last_us()
            if session.next_index and origin_us is not None and last_us is not None:
                past = _Past(origin_us, last_us, session.next_seq, session.renumbered)
                partition.remember(session_key(name, session.name), past)

    def ledger(self, partition: Partition) -> dict[str, int]:
        """Tell what became of all samples of a partition, between two batches.

        Returns
        -------
        dict of str to int
            "sent" and each of `LEDGER_FATES`.
        """
        ledger = partition.ledger
        fates = {fate: getattr(ledger, fate) for fate in ("sent", *LEDGER_FATES) if fate != "buffered"}
        return fates | {"buffered": buffered_samples(partition)}

    def _admit(
        self,
        partition: Partition,
        device: _Device,
        session: _Session | None,
        packet: Packet,
        values: FloatArray,
        live: bool,
    ) -> None:
        counts = self.counts if live else self._uncounted
        if session is None:
            session = self._begin(partition, device, packet, len(values), counts)
            if session is None:
                return
            device.open[packet.session] = session
            if len(device.open) > _MOST_OPEN_SESSIONS:
                # The one that got least, and of those the latest: not one that is well under way.
                others = list(device.open.values())[-2::-1]
                self._end(partition, device, min(others, key=lambda other: other.next_seq), live)
        ready = session.admit(packet, values, self.lateness_us, counts)
        if ready is None:
            return
        if ready:
            self._append(session, ready, live)
        if len(device.open) > 1:
            # By how much came, not by what its clock says: one packet with a wrong date must not end the others.
            rate_hz = packet.rate_hz or session.resampler.rate_hz or GRID_HZ
            self._end_quiet(partition, device, session, round(len(values) * 1e6 / rate_hz), live)

    def _begin(self, partition: Partition, device: _Device, packet: Packet, n: int, counts: Counts) -> _Session | None:
        """Make a session that is not open; None where it is over, or its packet had come already."""
        key = session_key(packet.device, packet.session)
        known = device.ended.get(key)
        past = partition.past.get(key)
        if known is None and past is not None and packet.seq < past.next_seq:
            known = _Ended(past.next_seq, [], 0, predicted=True)
        if known is not None:
            _drop(known, packet.seq, n, counts, partition.ledger)
            return None
        side = SIDE_CODES[known_side(packet.side)]
        session = _Session(packet.device, packet.session, side, packet.rate_hz, partition.ledger)
        if past is not None:
            session.go_on_from(partition.past.pop(key))
        return session

    def _append(self, session: _Session, ready: list[_Pending], live: bool, last: bool = False) -> None:
        """Put packets whose turn has come on the grid; the `last` ones of a session wait for no other."""
        counts = self.counts if live else self._uncounted
        session.sync()
        for packet in ready:
            right, wrong = session.settle(packet)
            for doubted in right:
                self._push(session, doubted, counts)
            if wrong is not None:
                counts.backwards_samples += len(wrong.values)
                session.ledger.backwards += len(wrong.values)
            if session.is_doubtful(packet, self.window):
                session.doubted.append(_Pending(packet.times_us, packet.values.copy()))
            else:
                self._push(session, packet, counts)
        if last:
            right, session.doubted = session.doubted, []
            for doubted in right:
                self._push(session, doubted, counts)
        session.update_fast()
        self._close_windows(session, live)

    def _push(self, session: _Session, packet: _Pending, counts: Counts) -> None:
        ledger = session.ledger
        session.newest_us = max(session.newest_us, packet.last_us)
        ledger.resampled += len(packet.values)
        for run in session.resampler.push(packet.times_us, packet.values):
            ledger.resampled -= len(run.values)
            self._append_run(session, run, counts)
        backwards, session.resampler.n_backwards = session.resampler.n_backwards, 0
        counts.backwards_samples += backwards
        ledger.backwards += backwards
        ledger.resampled -= backwards

    def _append_run(self, session: _Session, run: Run, counts: Counts) -> None:
        segment = session.segment or self._open_segment(session)
        if run.start != session.end:
            if session.end:
                counts.gaps += 1
                session.ledger.gaps += 1
                # What was complete before the gap must be cut out of the old segment first.
                self._close_windows(session, live=counts is self.counts)
                self._pass_over(session)
                session.ledger.gap += session.end - session.counted
            session.counted = run.start
            segment = session.segment = _Segment(run.start, [])
            self._segments.append(segment)
            session.next_index = max(session.next_index, first_index(run.start, self.hop))
        segment.blocks.append(run.values)
        session.end = run.start + len(run.values)

    def _open_segment(self, session: _Session) -> _Segment:
        segment = session.segment = _Segment(session.end - len(session.tail), [session.tail])
        self._segments.append(segment)
        self._touched.append(session)
        return segment

    def _close_windows(self, session: _Session, live: bool) -> None:
        segment = session.segment
        first = session.next_index
        while session.next_index * self.hop + self.window <= session.end:
            if live:
                assert segment is not None
                self._closed.append(_Closed(segment, session, session.next_index, session.newest_us))
            session.next_index += 1
        if session.next_index > first:
            session.counted = session.ledger.close(
                session.counted, first, session.next_index - first, self.hop, self.window
            )

    def _pass_over(self, session: _Session) -> None:
        """Count the samples before the next window's start that none before it held."""
        start = min(session.next_index * self.hop, session.end)
        if start > session.counted:
            session.ledger.pass_over(start - session.counted, self.hop, self.window)
            session.counted = start

    def _end_run(self, session: _Session) -> None:
        """Count the samples that no window will hold any more."""
        self._pass_over(session)
        session.ledger.ended += session.end - session.counted
        session.counted = session.end

    def _end_quiet(self, partition: Partition, device: _Device, active: _Session, advanced_us: int, live: bool) -> None:
        """End the sessions that got nothing while another one of their device went on."""
        active.quiet_us = 0
        for other in list(device.open.values()):
            if other is active:
                continue
            other.quiet_us += advanced_us
            if other.quiet_us > self.lateness_us:
                self._end(partition, device, other, live)

    def _end(self, partition: Partition, device: _Device, session: _Session, live: bool) -> None:
        """End a session, and remember that it was."""
        self._append(session, session.give_up(self.counts if live else self._uncounted), live, last=True)
        self._end_run(session)
        del device.open[session.name]
        key = session_key(session.device, session.name)
        device.ended[key] = _Ended(session.next_seq, session.holes, session.missing, session.next_index > 0)
        while len(device.ended) > _REMEMBERED_SESSIONS:
            oldest = next(iter(device.ended))
            if device.ended.pop(oldest).predicted:
                partition.remember(oldest, _ENDED)

    def carry_over(self, partition: Partition, former: Shape) -> None:
        """Go on with a state that was made with other settings; between two batches.

        With another hop, windows of the sessions that have had some count from the epoch from here on, so that
        no number stands for two windows. The samples in hand stay, and each session its grid.
        """
        if former.hop == self.hop:
            return
        for device in partition.devices.values():
            for session in device.open.values():
                if session.next_index:
                    session.renumbered = True
                    session.next_index = first_index(session.end - len(session.tail), self.hop)
        for key, past in partition.past.items():
            partition.past[key] = past._replace(renumbered=1)

    def _finish(self) -> FinishedWindows:
        """Lay the batch's samples into one array, cut the windows, keep each session's tail."""
        blocks: list[FloatArray] = []
        base = 0
        for segment in self._segments:
            segment.base = base
            blocks += segment.blocks
            base += sum(map(len, segment.blocks))
        flat = np.concatenate(blocks) if blocks else _NO_SAMPLES
        closed = self._closed
        hop = self.hop
        starts = [c.segment.base + c.index * hop - c.segment.start for c in closed]
        finished = _finished(closed, gather(flat, starts, self.window), hop, self.window)
        for session in self._touched:
            current = session.segment
            assert current is not None
            keep = min(max(session.next_index * hop, current.start), session.end)
            self._pass_over(session)
            first = current.base + keep - current.start
            last = current.base + session.end - current.start
            session.tail = flat[first:last].copy()
            if last > current.base:
                session.last_value = flat[last - 1].copy()
            session.segment = None
        self._closed, self._touched, self._segments = [], [], []
        return finished


def _finished(closed: list[_Closed], values: FloatArray, hop: int, window: int) -> FinishedWindows:
    origins = [c.session.resampler.origin_us or 0 for c in closed]
    # As many hops as lie between the epoch and the session's first sample.
    numbers = [
        c.index + (origin // (hop * GRID_US) if c.session.renumbered else 0)
        for c, origin in zip(closed, origins, strict=True)
    ]
    starts = [origin + c.index * hop * GRID_US for origin, c in zip(origins, closed, strict=True)]
    return FinishedWindows(
        values=values,
        sides=np.array([c.session.side for c in closed], dtype=np.int8),
        device=[c.session.device for c in closed],
        session=[c.session.name for c in closed],
        index=numbers,
        start_us=starts,
        end_us=[start + (window - 1) * GRID_US for start in starts],
        sampled_us=[c.sampled_us for c in closed],
    )
