"""One session of a device: which of its packets came, in which order, and the samples that its windows need.

What is remembered of sessions that are over stands here too, as does the state that a checkpoint keeps of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from predictor.engine.ledger import Ledger, missing_samples, session_key
from repstream.arrays import FloatArray, IntArray
from repstream.messages.packet import MAX_PACKET_SAMPLES, MAX_SEQ, Packet, packet_times_us
from repstream.windows.grid import GRID_HZ, GRID_US, GridResampler, piece_at

# What a session may hold back, whatever its clock says; an honest one has less than the lateness waiting.
# Beyond it, what waits is given up waiting for.
_MOST_WAITING_PACKETS, _MOST_WAITING_SAMPLES = 512, 8_192
# A packet that reaches further ahead than its own samples last by this waits for the next to bear it out.
_JUMP_US = 1_000_000
# One that holds whole windows may be a session's last, which nothing ever bears out: a pause of so long is believed.
_PAUSE_US = 600_000_000
# Holes in the numbering that are remembered per session, to tell a late packet from a repeated one.
_REMEMBERED_HOLES = 32
NO_SAMPLES = np.empty((0, 6))


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
class Pending:
    """A packet that waits for those before it."""

    times_us: IntArray
    values: FloatArray
    first_us: int = field(init=False)
    last_us: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_us, self.last_us = int(self.times_us[0]), int(self.times_us[-1])


@dataclass(slots=True, eq=False)
class Segment:
    """Unbroken grid samples of one session in the batch at hand: its tail, then what came."""

    start: int
    blocks: list[FloatArray]
    base: int = 0  # where it stands in the batch's one array


class SessionState(msgspec.Struct, array_like=True):
    """A session as a checkpoint keeps it; the order of the fields is the format, so new ones go to the end.

    Those with a default are missing from checkpoints of earlier releases.
    """

    name: str
    side: int
    resampler: dict[str, Any]
    next_seq: int
    holes: list[tuple[int, int]]
    pending: dict[int, tuple[Any, Any]]
    newest_us: int
    quiet_us: int
    end: int
    next_index: int
    tail: Any
    last_value: Any
    counted: int | None = None
    missing: int = 0
    largest: int = MAX_PACKET_SAMPLES
    doubted: list[tuple[Any, Any]] = []
    renumbered: bool = False
    line: list[tuple[int, int]] = msgspec.field(default_factory=lambda: [(0, 0)])


# Written down in another form than the session has them in.
_CONVERTED = ("resampler", "pending", "doubted")
_AS_THEY_ARE = tuple(name for name in SessionState.__struct_fields__ if name not in _CONVERTED)


class Session:
    """One session of one device: what came, in order, and the grid samples that open windows need.

    ``end`` is the grid position after the last sample; ``tail`` holds the samples before it that the
    next window, ``next_index``, still needs. Grid samples before ``counted`` stand in the ledger;
    ``missing`` are the ledger's samples in the ``holes``. ``doubted`` packets, two at most, are next in order
    but may be wrongly dated. Where ``renumbered``, windows count from the epoch. ``line`` says where the grid
    stands in event time (see `Run`), from the next window's start on.
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
        "line",
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
        self.pending: dict[int, Pending] = {}
        self.doubted: list[Pending] = []
        self.renumbered = False
        self.line: list[tuple[int, int]] = [(0, 0)]
        self.newest_us = 0  # of the samples whose turn came
        self.quiet_us = 0
        self.fast = False
        self.end = 0
        self.counted = 0
        self.end_us = 0  # event time of grid position `end`, while `fast`
        self.next_index = 0
        self.tail = NO_SAMPLES
        self.last_value = np.zeros(6)
        self.segment: Segment | None = None

    def admit(self, packet: Packet, values: FloatArray, lateness_us: int, counts: Counts) -> list[Pending] | None:
        """Take a packet and return those whose turn has come, in order; None where it is not wanted."""
        seq = packet.seq
        if seq < self.next_seq or seq in self.pending:
            drop(self, seq, len(values), counts, self.ledger)
            return None
        times = np.array(packet_times_us(packet), dtype=np.int64)
        self.largest = max(self.largest, len(values))
        self.pending[seq] = Pending(times, values.copy() if seq != self.next_seq else values)
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

    def give_up(self, counts: Counts) -> list[Pending]:
        """Wait for nothing any more; return all that was held back, in order."""
        ready: list[Pending] = []
        while self.pending:
            self._give_up_before(min(self.pending), ready, counts)
            ready += self._contiguous()
        return ready

    def _give_up_before(self, seq: int, ready: list[Pending], counts: Counts) -> None:
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

    def _contiguous(self) -> list[Pending]:
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

    def is_doubtful(self, packet: Pending, window: int) -> bool:
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

    def settle(self, packet: Pending) -> tuple[list[Pending], Pending | None]:
        """Decide by the packet after them on those in doubt; return the right ones, and one that is wrongly dated."""
        doubted = self.doubted
        if not doubted:
            return [], None
        borne_out = packet.last_us > doubted[0].last_us
        if self.resampler.last_us is None and len(doubted) == 1 and not borne_out:
            return [], None  # of a session's first two either may be wrong: the third decides
        self.doubted = []
        return (doubted, None) if borne_out else (doubted[1:], doubted[0])

    def go_on_from(self, past: Past) -> None:
        """Begin where a session that was forgotten stood."""
        self.next_seq, self.renumbered = past.next_seq, bool(past.renumbered)
        self.resampler.go_on_from(past.origin_us, past.offset_us, past.last_us)
        self.line = [(0, past.offset_us)]

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
            self.end_us = self.resampler.origin_us + self.resampler.offset_us + self.end * GRID_US

    def extend_line(self, line: Sequence[tuple[int, int]]) -> None:
        """Take note of where the next run of samples stands in event time."""
        for piece in line:
            if piece[1] != self.line[-1][1]:
                self.line.append(piece)

    def shorten_line(self, position: int) -> None:
        """Forget where the grid stood before a position."""
        if len(self.line) > 1:
            del self.line[: piece_at(self.line, position)]

    def time_us(self, position: int) -> int:
        """Event time of a grid position that an open or just finished window holds."""
        line = self.line
        offset_us = line[0][1] if len(line) == 1 else line[piece_at(line, position)][1]
        return (self.resampler.origin_us or 0) + position * GRID_US + offset_us

    def state(self) -> SessionState:
        """Return all that `from_state` needs to go on from here, between two batches."""
        self.sync()
        return SessionState(
            resampler=self.resampler.state(),
            pending={seq: (p.times_us, p.values) for seq, p in self.pending.items()},
            doubted=[(p.times_us, p.values) for p in self.doubted],
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
        )

    @classmethod
    def from_state(cls, device: str, state: SessionState, ledger: Ledger) -> Session:
        """Go on from what `state` returned."""
        self = cls(device, state.name, state.side, None, ledger)
        for name in _AS_THEY_ARE:
            setattr(self, name, getattr(state, name))
        if state.counted is None:  # written before there was a ledger
            self.counted = state.end - len(state.tail)
        self.resampler = GridResampler.from_state(state.resampler)
        self.pending = {seq: Pending(times, values) for seq, (times, values) in state.pending.items()}
        self.doubted = [Pending(times, values) for times, values in state.doubted]
        self.update_fast()
        return self


def drop(known: Session | Ended, seq: int, n: int, counts: Counts, ledger: Ledger) -> None:
    """Count a packet that is not wanted: late where its turn is over and it had not come, else a repeat."""
    given_up = fill_hole(known, seq, n, ledger)
    if given_up or (isinstance(known, Ended) and seq >= known.next_seq):
        counts.late_packets += 1
        counts.late_samples += n
        ledger.late += n
    else:
        counts.duplicate_packets += 1
        counts.duplicate_samples += n
        ledger.duplicate += n


def fill_hole(known: Session | Ended, seq: int, n: int, ledger: Ledger) -> bool:
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


class Ended(msgspec.Struct, array_like=True):
    """What is remembered of a session that ended: which of its packets came. Its order is that of checkpoints."""

    next_seq: int
    holes: list[tuple[int, int]]
    missing: int
    predicted: bool = True


class Past(NamedTuple):
    """What is remembered of a session for longer, so that no id of its windows is given twice.

    Packets before ``next_seq`` came; where one after them comes, it goes on on its old grid.
    """

    origin_us: int
    last_us: int
    next_seq: int
    renumbered: int
    offset_us: int = 0


# No packet can continue a session that has ended.
ENDED = Past(0, 0, MAX_SEQ + 1, 0)
