"""From a plan to messages in the order in which they are due; pure.

A wearer's sessions become messages one after the other (`_SessionMessages`), each wearer's messages are brought into
the order in which they are due, and all wearers' are merged. A packet that a fault touches is made by itself.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from producer.faults.injector import Injector
from producer.faults.packets import Delivery, Signal
from producer.faults.parse import Fault
from producer.replay.encoding import Source, body_of, head_of, is_regular, packet_of
from producer.replay.labels import FaultySession, with_sent_labels
from producer.replay.plan import ReplayPlan, Wearer
from repstream.faults.signal import Interval, intervals_of
from repstream.messages.fields import encode
from repstream.messages.messages import LabelInterval
from repstream.messages.topics import LABELS, SAMPLES

# The JSON of an hour at 50 Hz is 23 MB; beyond this, packets are encoded each time (6 µs instead of 1).
_MAX_SHARED_BYTES = 256_000_000
_BYTES_PER_SAMPLE = 130


class Outgoing(NamedTuple):
    """A message and the event time at which it is due.

    ``n_samples`` counts those that a reader gets from it for the first time; ``timestamp_ms`` is
    the event time of the last sample, whatever faults did to the times within.
    """

    due_us: int
    order: int
    topic: str
    device: str
    session: str
    key: bytes
    value: bytes
    timestamp_ms: int
    n_samples: int


@dataclass
class ReplayState:
    """What became of a replay so far, for whoever watches it.

    Attributes
    ----------
    faults : Counter
        Packets touched, by kind of fault (of ``label-shift``: labels).
    started, finished : int
        Wearers that sent their first message, and that have nothing left.
    """

    faults: Counter[str] = field(default_factory=Counter)
    started: int = 0
    finished: int = 0


def messages(
    plan: ReplayPlan, state: ReplayState | None = None, faults: Callable[[], Sequence[Fault]] | None = None
) -> Iterator[Outgoing]:
    """Make all messages of a replay, in the order in which they are due.

    Made as they are asked for: one ahead per wearer, however long the replay.

    Parameters
    ----------
    plan : ReplayPlan
    state : ReplayState, optional
        Kept up to date.
    faults : callable, optional
        Returns the faults as they are asked for by now, in place of the plan's; the same object until
        that changes.
    """
    state = ReplayState() if state is None else state
    sources = _sources_of(plan)
    limit_us = plan.limit_us()
    streams = [_wearer_messages(plan, wearer, sources, state, faults) for wearer in plan.wearers]
    # Only the heads are compared, two wearers' by their number at the latest.
    merged: Iterator[Outgoing] = heapq.merge(*streams)
    return itertools.takewhile(lambda out: out.due_us <= limit_us, merged)


def _sources_of(plan: ReplayPlan) -> dict[int, Source]:
    """Make each recording ready for sending, once, by its identity."""
    uses = Counter(id(r) for wearer in plan.wearers for r in wearer.recordings)
    sources: dict[int, Source] = {}
    shared_bytes = 0
    for wearer in plan.wearers:
        for recording in wearer.recordings:
            if id(recording) not in sources:
                is_shared = uses[id(recording)] > 1 or plan.settings.loop
                shared_bytes += _BYTES_PER_SAMPLE * recording.n_samples if is_shared else 0
                sources[id(recording)] = Source(recording, is_shared and shared_bytes <= _MAX_SHARED_BYTES)
    return sources


def _wearer_messages(
    plan: ReplayPlan,
    wearer: Wearer,
    sources: Mapping[int, Source],
    state: ReplayState,
    faults: Callable[[], Sequence[Fault]] | None,
) -> Iterator[Outgoing]:
    """One wearer's messages in the order in which they are due.

    What is due later than it came up (labels, faults) is held until the others have got there.
    """
    settings = plan.settings
    origin_us = plan.timeline.origin_us
    injector = Injector(faults or settings.faults, settings.seed, wearer.device, origin_us, state.faults)
    held: list[tuple[int, int, Outgoing]] = []
    count = itertools.count()
    for number, (now_us, out) in enumerate(_as_they_come_up(plan, wearer, sources, injector)):
        if not number:
            state.started += 1
        while held and held[0][0] <= now_us:
            yield heapq.heappop(held)[2]
        if out.due_us <= now_us:
            yield out
        else:
            heapq.heappush(held, (out.due_us, next(count), out))
    while held:
        yield heapq.heappop(held)[2]
    state.finished += 1


def _as_they_come_up(
    plan: ReplayPlan, wearer: Wearer, sources: Mapping[int, Source], injector: Injector
) -> Iterator[tuple[int, Outgoing]]:
    """Yield packets and labels of a wearer, each with the event time at which it came up."""
    sessions = _faulty_sessions(plan, wearer, sources, injector)
    for faulty, labels in with_sent_labels(sessions, *injector.label_reach_us()):
        injector.count_labels(faulty.shifts, labels)
        source = sources[id(faulty.session.recording)]
        yield from _SessionMessages(plan, wearer, faulty, source, injector).with_labels(labels)


def _faulty_sessions(
    plan: ReplayPlan, wearer: Wearer, sources: Mapping[int, Source], injector: Injector
) -> Iterator[FaultySession]:
    """Yield a wearer's sessions with the faults that concern each."""
    for session in plan.sessions(wearer):
        source = sources[id(session.recording)]
        place = session.session, session.start_us, source.times_us
        signal = injector.on_session(session.recording, *place)
        yield FaultySession(session, source.times_us, source.labels, signal, injector.label_shifts(*place))


class _SessionMessages:
    """The packets and labels of one session of a wearer."""

    def __init__(
        self, plan: ReplayPlan, wearer: Wearer, faulty: FaultySession, source: Source, injector: Injector
    ) -> None:
        session = faulty.session
        self._wearer = wearer
        self._session = session
        self._faulty = faulty
        self._source = source
        self._injector = injector
        self._key = wearer.device.encode()
        self._head = head_of(wearer.device, session.session, session.recording.side)
        self._step = plan.settings.packet_samples
        self._label_delay_us = round(plan.settings.label_delay_s * 1e6)
        self._labels_in_log = plan.there.labels
        self._labels: deque[Interval] = deque()
        # These two change where faults come or go while it is sent.
        self._signal = faulty.signal
        self._moves_labels = faulty.signal is not None and faulty.signal.moves_labels

    def with_labels(self, labels: Sequence[Interval]) -> Iterator[tuple[int, Outgoing]]:
        """Yield packets and labels, each with the event time at which it came up."""
        session, times = self._session, self._source.times
        self._labels.extend(label for label in labels if not self._is_in_log(label))
        # Labels of what the log holds already come up first; each other one after its last packet.
        yield from self._due_labels(session.first_sample, session.start_us)
        n = session.recording.n_samples
        for seq, first in enumerate(range(session.first_sample, n, self._step), session.first_seq):
            stop = min(first + self._step, n)
            last_us = session.start_us + times[stop - 1]
            labels_changed = self._renew_faults()
            if self._injector:
                for delivery in self._faulty_packet(seq, first, stop):
                    yield last_us, self._packet(delivery.due_us, delivery.value, last_us, delivery.n_samples)
            else:
                yield last_us, self._packet(last_us, self._plain_packet(seq, first, stop), last_us, stop - first)
            if labels_changed:
                self._relabel(stop)
            yield from self._due_labels(stop, last_us)

    def _packet(self, due_us: int, value: bytes, last_us: int, n_samples: int) -> Outgoing:
        order, device, session = self._wearer.number, self._wearer.device, self._session.session
        return Outgoing(due_us, order, SAMPLES, device, session, self._key, value, last_us // 1000, n_samples)

    def _plain_packet(self, seq: int, first: int, stop: int) -> bytes:
        """Encode samples `first` to `stop` - 1 as they are."""
        source, start_us = self._source, self._session.start_us
        is_regular = source.is_regular
        times_us = start_us + source.times[first] if is_regular else start_us + source.times_us[first:stop]
        return packet_of(self._head, seq, times_us, source.body(first, stop))

    def _faulty_packet(self, seq: int, first: int, stop: int) -> list[Delivery]:
        """Encode samples `first` to `stop` - 1 on a device that has faults; return what goes out in the end."""
        session, injector = self._session, self._injector
        first_us, last_us = (session.start_us + self._source.times[i] for i in (first, stop - 1))
        kinds = self._signal.touching(first, stop) if self._signal else []
        armed = injector.on_signal(first_us, last_us)
        if kinds or armed:
            injector.counts.update(kinds)
            signal = injector.distort(self._measured(first, stop, bool(kinds)), armed, session.session, seq)
            if not len(signal.times_us):
                return []
            packet, n_readable = self._encode(signal, seq)
        else:
            packet, n_readable = self._plain_packet(seq, first, stop), stop - first
        return injector.deliver(Delivery(last_us, packet, n_readable), first_us, session.session, seq)

    def _measured(self, first: int, stop: int, is_touched: bool) -> Signal:
        """Return what the sensor measures in samples `first` to `stop` - 1."""
        recording = self._session.recording
        event_us = self._session.start_us + self._source.times_us[first:stop]
        values = self._signal.values(first, stop) if self._signal and is_touched else recording.values[first:stop]
        index = np.arange(first, stop)
        return Signal(event_us, event_us, values, index, recording.rate_hz, recording.side, recording)

    def _encode(self, signal: Signal, seq: int) -> tuple[bytes, int]:
        """Encode a packet's samples as faults left them; return how many of them can be read, too."""
        times_us = signal.times_us
        regular = self._source.is_regular and is_regular(times_us, signal.rate_hz)
        body = body_of(signal.rate_hz, signal.values)
        packet = packet_of(self._head, seq, int(times_us[0]) if regular else times_us, body)
        return packet, len(times_us) if np.isfinite(signal.values).all() else 0

    def _renew_faults(self) -> bool:
        """Look whether other faults are asked for by now; whether that changes the labels still to be sent."""
        if not self._injector.renew():
            return False
        session, source = self._session, self._source
        self._signal = self._injector.on_session(session.recording, session.session, session.start_us, source.times_us)
        moved, self._moves_labels = self._moves_labels, self._signal is not None and self._signal.moves_labels
        # Labels that are shifted besides are sent as they were.
        return (moved or self._moves_labels) and not self._faulty.shifts

    def _relabel(self, n_sent: int) -> None:
        """Make the labels anew whose last packet is not sent yet."""
        labels = replace(self._faulty, signal=self._signal).true_labels()
        self._labels = deque(interval for interval in intervals_of(labels) if interval[1] >= n_sent)

    def _is_in_log(self, label: Interval) -> bool:
        start_us = self._session.start_us + self._source.times[label[0]]
        return (self._wearer.device, self._session.session, start_us) in self._labels_in_log

    def _due_labels(self, n_sent: int, now_us: int) -> Iterator[tuple[int, Outgoing]]:
        """Yield the labels of which all samples are among the first `n_sent`."""
        wearer, session = self._wearer, self._session
        while self._labels and self._labels[0][1] < n_sent:
            first, last, text = self._labels.popleft()
            start_us, end_us = (session.start_us + self._source.times[i] for i in (first, last))
            value = encode(LabelInterval(wearer.device, session.session, start_us / 1e6, end_us / 1e6, text))
            due_us = max(now_us, end_us + self._label_delay_us)
            number, device = wearer.number, wearer.device
            out = Outgoing(due_us, number, LABELS, device, session.session, self._key, value, end_us // 1000, 0)
            yield max(now_us, end_us), out
