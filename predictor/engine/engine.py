"""The predictor's pure core: packets in log order to finished windows; no clock, no Kafka.

What comes out depends on the order of the packets in their partition and on nothing else, so a
restart that reads the same packets again arrives at the same windows.

A packet that continues its session on an unbroken 50 Hz clock, nearly all of them, takes a path of
a few comparisons; its samples are not touched one by one. Everything else (new sessions, lost or
shuffled packets, other clocks) goes through `Session.admit` and the session's `GridResampler`.

Two rules keep a window's id its own. A session whose packet 0 came counts its windows from 0. One that is
met in its midst (its first packets were lost, went to another partition or are forgotten; or the hop was
changed) counts them from the Unix epoch instead: no session lasts long enough to count up to there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predictor.engine.finished import ClosedWindow, FinishedWindows, finished_windows
from predictor.engine.ledger import Refused, session_key
from predictor.engine.partition import Device, Partition, Shape, buffered_samples
from predictor.engine.session import ENDED, NO_SAMPLES, Counts, Ended, Past, Pending, Segment, Session, drop, fill_hole
from repstream.arrays import FloatArray
from repstream.messages.messages import LEDGER_FATES
from repstream.messages.packet import Packet
from repstream.recordings.axes import SIDE_CODES, known_side
from repstream.windows.clock import SNAP_US
from repstream.windows.cut import first_index, gather
from repstream.windows.grid import GRID_HZ, GRID_US, Run

# Ended sessions of a device that are remembered, so that their packets are known when they come again.
_REMEMBERED_SESSIONS = 64
# What a device may have open, whatever its clock says; an honest one has a session or two. Beyond it, one is ended.
_MOST_OPEN_SESSIONS = 16


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
        self._closed: list[ClosedWindow] = []
        self._touched: list[Session] = []
        self._segments: list[Segment] = []

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
                device = partition.devices[packet.device] = Device()
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
        device = partition.devices.get(letter.device, Device())
        session = device.open.get(letter.session)
        key = session_key(letter.device, letter.session)
        known = session or device.ended.get(key)
        if known is not None and fill_hole(known, letter.seq, letter.samples, partition.ledger):
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
                    session.tail = NO_SAMPLES
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
                partition.remember(key, ENDED)
        for session in device.open.values():
            origin_us, last_us = session.resampler.origin_us, session.last_us()
            if session.next_index and origin_us is not None and last_us is not None:
                past = Past(origin_us, last_us, session.next_seq, session.renumbered, session.resampler.offset_us)
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
        device: Device,
        session: Session | None,
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

    def _begin(self, partition: Partition, device: Device, packet: Packet, n: int, counts: Counts) -> Session | None:
        """Make a session that is not open; None where it is over, or its packet had come already."""
        key = session_key(packet.device, packet.session)
        known = device.ended.get(key)
        past = partition.past.get(key)
        if known is None and past is not None and packet.seq < past.next_seq:
            known = Ended(past.next_seq, [], 0, predicted=True)
        if known is not None:
            drop(known, packet.seq, n, counts, partition.ledger)
            return None
        side = SIDE_CODES[known_side(packet.side)]
        session = Session(packet.device, packet.session, side, packet.rate_hz, partition.ledger)
        if past is not None:
            session.go_on_from(partition.past.pop(key))
        return session

    def _append(self, session: Session, ready: list[Pending], live: bool, last: bool = False) -> None:
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
                session.doubted.append(Pending(packet.times_us, packet.values.copy()))
            else:
                self._push(session, packet, counts)
        if last:
            right, session.doubted = session.doubted, []
            for doubted in right:
                self._push(session, doubted, counts)
        session.update_fast()
        self._close_windows(session, live)

    def _push(self, session: Session, packet: Pending, counts: Counts) -> None:
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

    def _append_run(self, session: Session, run: Run, counts: Counts) -> None:
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
            segment = session.segment = Segment(run.start, [])
            self._segments.append(segment)
            session.next_index = max(session.next_index, first_index(run.start, self.hop))
        segment.blocks.append(run.values)
        session.extend_line(run.line)
        session.end = run.start + len(run.values)

    def _open_segment(self, session: Session) -> Segment:
        segment = session.segment = Segment(session.end - len(session.tail), [session.tail])
        self._segments.append(segment)
        self._touched.append(session)
        return segment

    def _close_windows(self, session: Session, live: bool) -> None:
        segment = session.segment
        first = session.next_index
        while session.next_index * self.hop + self.window <= session.end:
            if live:
                assert segment is not None
                self._closed.append(ClosedWindow(segment, session, session.next_index, session.newest_us))
            session.next_index += 1
        if session.next_index > first:
            session.counted = session.ledger.close(
                session.counted, first, session.next_index - first, self.hop, self.window
            )

    def _pass_over(self, session: Session) -> None:
        """Count the samples before the next window's start that none before it held."""
        start = min(session.next_index * self.hop, session.end)
        if start > session.counted:
            session.ledger.pass_over(start - session.counted, self.hop, self.window)
            session.counted = start

    def _end_run(self, session: Session) -> None:
        """Count the samples that no window will hold any more."""
        self._pass_over(session)
        session.ledger.ended += session.end - session.counted
        session.counted = session.end

    def _end_quiet(self, partition: Partition, device: Device, active: Session, advanced_us: int, live: bool) -> None:
        """End the sessions that got nothing while another one of their device went on."""
        active.quiet_us = 0
        for other in list(device.open.values()):
            if other is active:
                continue
            other.quiet_us += advanced_us
            if other.quiet_us > self.lateness_us:
                self._end(partition, device, other, live)

    def _end(self, partition: Partition, device: Device, session: Session, live: bool) -> None:
        """End a session, and remember that it was."""
        self._append(session, session.give_up(self.counts if live else self._uncounted), live, last=True)
        self._end_run(session)
        del device.open[session.name]
        key = session_key(session.device, session.name)
        device.ended[key] = Ended(session.next_seq, session.holes, session.missing, session.next_index > 0)
        while len(device.ended) > _REMEMBERED_SESSIONS:
            oldest = next(iter(device.ended))
            if device.ended.pop(oldest).predicted:
                partition.remember(oldest, ENDED)

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
        flat = np.concatenate(blocks) if blocks else NO_SAMPLES
        closed = self._closed
        hop = self.hop
        starts = [c.segment.base + c.index * hop - c.segment.start for c in closed]
        finished = finished_windows(closed, gather(flat, starts, self.window), hop, self.window)
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
            session.shorten_line(keep)
        self._closed, self._touched, self._segments = [], [], []
        return finished
