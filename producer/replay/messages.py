"""From a plan to messages in the order in which they are due, and the wait for each; pure.

Copies of a recording differ in their ids and times only, so the JSON of a packet's values is made
once and shared. A packet that a fault touches is made by itself.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np

from producer.faults.injector import Injector
from producer.faults.packets import Delivery, Signal
from producer.faults.parse import Fault
from producer.replay.labels import Page, told
from producer.replay.pace import Pace
from producer.replay.plan import ReplayPlan, Session, Timeline, Wearer
from repstream.arrays import FloatArray, IntArray
from repstream.faults.signal import Interval, SessionSignal, intervals_of
from repstream.messages.fields import VERSION, encode
from repstream.messages.messages import LabelInterval
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recordings.recording import Recording

# Packets of an irregular clock list their times. As float64 epoch seconds and the grid's own
# tolerance (2 µs) leave room for it, 1 µs off the nominal instant still counts as regular.
_REGULAR_WITHIN_US = 1.0

# The JSON of an hour at 50 Hz is 23 MB; beyond this, packets are encoded each time (6 µs instead of 1).
_MAX_SHARED_BYTES = 256_000_000

# Sleeping less than this costs more than it brings: packets due within it go out together.
TICK_S = 0.005
# How long a sleep may keep a stop, or a progress line, waiting.
_SLICE_S = 0.05

_json = msgspec.json.Encoder()


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


class _Source:
    """A recording made ready for sending."""

    def __init__(self, recording: Recording, is_shared: bool) -> None:
        self.recording = recording
        self.times_us = recording.times_us
        self.times: list[int] = self.times_us.tolist()
        self.is_regular = is_regular(self.times_us, recording.rate_hz)
        self.labels = recording.label_intervals()
        self.rate = _json.encode(recording.rate_hz)
        self._bodies: dict[tuple[int, int], bytes] | None = {} if is_shared else None

    def body(self, first: int, stop: int) -> bytes:
        """Return the JSON of samples `first` to `stop` - 1, from the rate on."""
        if self._bodies is None:
            return self._encode(first, stop)
        body = self._bodies.get((first, stop))
        if body is None:
            body = self._bodies[first, stop] = self._encode(first, stop)
        return body

    def _encode(self, first: int, stop: int) -> bytes:
        return _body(self.rate, self.recording.values[first:stop])


def is_regular(times_us: IntArray, rate_hz: float) -> bool:
    """Whether all samples are where their rate puts them, counted from the first (1 µs)."""
    nominal = times_us[0] + np.arange(len(times_us)) * (1e6 / rate_hz)
    return bool((np.abs(times_us - nominal) <= _REGULAR_WITHIN_US).all())


def _body(rate: bytes, values: FloatArray) -> bytes:
    write = _json.encode
    if not np.isfinite(values).all():
        # msgspec writes null; this is to be what careless writers put: the bare word NaN.
        def write(x: object) -> bytes:
            return json.dumps(x, separators=(",", ":")).encode()

    return b'"rate_hz":%b,"accel":%b,"gyro":%b}' % (
        rate,
        write(values[:, :3].tolist()),
        write(values[:, 3:].tolist()),
    )


def _t0(time_us: int) -> bytes:
    # All six decimals: the reader's float64 is the one nearest to this very microsecond.
    return b'"t0":%d.%06d,' % divmod(time_us, 1_000_000)


def _t(times_us: IntArray) -> bytes:
    return b'"t":%b,' % _json.encode((times_us / 1e6).tolist())


def messages(
    plan: ReplayPlan, state: ReplayState | None = None, faults: Callable[[], Sequence[Fault]] | None = None
) -> Iterator[Outgoing]:
    """Make all messages of a replay, in the order in which they are due.

    Made as they are asked for: one ahead a wearer, however long the replay.

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
    uses = Counter(id(r) for wearer in plan.wearers for r in wearer.recordings)
    sources: dict[int, _Source] = {}
    shared_bytes = 0
    for wearer in plan.wearers:
        for recording in wearer.recordings:
            if id(recording) not in sources:
                is_shared = uses[id(recording)] > 1 or plan.settings.loop
                # About 130 characters a sample.
                shared_bytes += 130 * recording.n_samples if is_shared else 0
                sources[id(recording)] = _Source(recording, is_shared and shared_bytes <= _MAX_SHARED_BYTES)
    limit_us = plan.limit_us()
    streams = [_wearer_messages(plan, wearer, sources, state, faults) for wearer in plan.wearers]
    # Only the heads are compared, two wearers' by their number at the latest.
    merged: Iterator[Outgoing] = heapq.merge(*streams)
    return itertools.takewhile(lambda out: out.due_us <= limit_us, merged)


def _wearer_messages(
    plan: ReplayPlan,
    wearer: Wearer,
    sources: dict[int, _Source],
    state: ReplayState,
    faults: Callable[[], Sequence[Fault]] | None,
) -> Iterator[Outgoing]:
    """One wearer's messages in the order in which they are due.

    What is sent later than it came up (labels, faults) is held until the others have got there.
    """
    settings = plan.settings
    origin_us = plan.timeline.origin_us
    injector = Injector(faults or settings.faults, settings.seed, wearer.device, origin_us, state.faults)
    held: list[tuple[int, int, Outgoing]] = []
    count = itertools.count()
    for number, (now_us, out) in enumerate(_in_order_of_coming_up(plan, wearer, sources, injector)):
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


def _in_order_of_coming_up(
    plan: ReplayPlan, wearer: Wearer, sources: dict[int, _Source], injector: Injector
) -> Iterator[tuple[int, Outgoing]]:
    """Yield packets and labels of a wearer, each with the event time at which it came up."""
    label_delay_us = round(plan.settings.label_delay_s * 1e6)
    pages = _pages(plan, wearer, sources, injector)
    for page, intervals in told(pages, *injector.label_reach_us()):
        session, source = page.session, sources[id(page.session.recording)]
        injector.count_labels(page.shifts, intervals)
        labels = deque(
            interval
            for interval in intervals
            if (wearer.device, session.session, session.start_us + source.times[interval[0]]) not in plan.there.labels
        )
        lies = _Lies(page, injector)
        packets = _packets(plan, wearer, session, source, injector, lies)
        # Labels of what the log holds already come up first; each other one after its last packet.
        for n_sent, now_us, batch in itertools.chain([(session.first_sample, session.start_us, ())], packets):
            for out in batch:
                yield now_us, out
            if lies.moved_labels:
                labels = deque(lies.told_after(n_sent))
            while labels and labels[0][1] < n_sent:
                first, last, text = labels.popleft()
                start_us, end_us = (session.start_us + source.times[i] for i in (first, last))
                interval = LabelInterval(wearer.device, session.session, start_us / 1e6, end_us / 1e6, text)
                yield (
                    max(now_us, end_us),
                    Outgoing(
                        max(now_us, end_us + label_delay_us),
                        wearer.number,
                        LABELS,
                        wearer.device,
                        session.session,
                        wearer.device.encode(),
                        encode(interval),
                        end_us // 1000,
                        0,
                    ),
                )


def _pages(plan: ReplayPlan, wearer: Wearer, sources: dict[int, _Source], injector: Injector) -> Iterator[Page]:
    """Yield a wearer's sessions with the faults that lie on each."""
    for session in plan.sessions(wearer):
        source = sources[id(session.recording)]
        lies_on = session.session, session.start_us, source.times_us
        signal = injector.on_session(session.recording, *lies_on)
        yield Page(session, source.times_us, source.labels, signal, injector.label_shifts(*lies_on))


class _Lies:
    """What lies on a session that is being sent; made anew where faults come or go in the midst of it."""

    def __init__(self, page: Page, injector: Injector) -> None:
        self._page = page
        self._injector = injector
        self._moves_labels = page.signal is not None and page.signal.moves_labels
        self.signal = page.signal
        self.moved_labels = False

    def renew(self) -> None:
        """Look whether other faults are asked for by now."""
        if not self._injector.renew():
            return
        session = self._page.session
        self.signal = self._injector.on_session(
            session.recording, session.session, session.start_us, self._page.times_us
        )
        moves = self.signal is not None and self.signal.moves_labels
        # Labels that are shifted besides are told as they were.
        self.moved_labels = (self._moves_labels or moves) and not self._page.shifts
        self._moves_labels = moves

    def told_after(self, n_sent: int) -> list[Interval]:
        """Tell the labels whose last packet is not sent, now that what is done has changed."""
        self.moved_labels = False
        done = replace(self._page, signal=self.signal).done()
        return [interval for interval in intervals_of(done) if interval[1] >= n_sent]


def _packets(
    plan: ReplayPlan,
    wearer: Wearer,
    session: Session,
    source: _Source,
    injector: Injector,
    lies: _Lies,
) -> Iterator[tuple[int, int, tuple[Outgoing, ...] | list[Outgoing]]]:
    """Yield a session's packets as (samples up to here, event time, messages)."""
    device, name, recording = wearer.device, session.session, session.recording
    key, times, start_us = device.encode(), source.times, session.start_us
    side = b"" if recording.side == "unknown" else b'"side":%b,' % _json.encode(recording.side)
    head = b'{"v":%d,"device":%b,"session":%b,%b"seq":' % (
        VERSION,
        _json.encode(device),
        _json.encode(name),
        side,
    )
    step, n, order = plan.settings.packet_samples, recording.n_samples, wearer.number
    for seq, first in enumerate(range(session.first_sample, n, step), session.first_seq):
        stop = min(first + step, n)
        first_us, last_us = start_us + times[first], start_us + times[stop - 1]
        lies.renew()
        if injector:
            batch = _faulty(head, seq, session, source, slice(first, stop), injector, lies.signal)
            yield (
                stop,
                last_us,
                [
                    Outgoing(d.due_us, order, SAMPLES, device, name, key, d.value, last_us // 1000, d.n_samples)
                    for d in batch
                ],
            )
            continue
        clock = _t0(first_us) if source.is_regular else _t(start_us + source.times_us[first:stop])
        value = b"%b%d,%b%b" % (head, seq, clock, source.body(first, stop))
        yield (
            stop,
            last_us,
            (Outgoing(last_us, order, SAMPLES, device, name, key, value, last_us // 1000, stop - first),),
        )


def _faulty(
    head: bytes,
    seq: int,
    session: Session,
    source: _Source,
    part: slice,
    injector: Injector,
    sensed: SessionSignal | None,
) -> list[Delivery]:
    """One packet's deliveries on a device that has faults."""
    recording = session.recording
    event_us = session.start_us + source.times_us[part]
    first_us, last_us = int(event_us[0]), int(event_us[-1])
    kinds = sensed.touching(part.start, part.stop) if sensed else []
    armed = injector.on_signal(first_us, last_us)
    if kinds or armed:
        injector.counts.update(kinds)
        signal = injector.distort(
            Signal(
                event_us,
                event_us,
                sensed.values(part.start, part.stop) if sensed and kinds else recording.values[part],
                np.arange(part.start, part.stop),
                recording.rate_hz,
                recording.side,
                recording,
            ),
            armed,
            session.session,
            seq,
        )
        n, times_us = len(signal.times_us), signal.times_us
        if not n:
            return []
        regular = source.is_regular and is_regular(times_us, signal.rate_hz)
        clock = _t0(int(times_us[0])) if regular else _t(times_us)
        body = _body(_json.encode(signal.rate_hz), signal.values)
        n_readable = n if np.isfinite(signal.values).all() else 0
    else:
        n_readable = part.stop - part.start
        clock = _t0(first_us) if source.is_regular else _t(event_us)
        body = source.body(part.start, part.stop)
    value = b"%b%d,%b%b" % (head, seq, clock, body)
    return injector.deliver(Delivery(last_us, value, n_readable), first_us, session.session, seq)


def paced(
    outgoing: Iterator[Outgoing],
    timeline: Timeline | Pace,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    stopping: Callable[[], bool] = lambda: False,
    idle: Callable[[float], None] = lambda _behind_s: None,
) -> Iterator[tuple[Outgoing, float]]:
    """Hand out each message when it is due, with how far behind that is (s).

    The due time of each comes from the timeline alone. After a stall, all that is due by now comes
    in one go, and the next ones at their own times: lateness is neither kept nor made up for.

    Parameters
    ----------
    clock : callable
        Epoch seconds, never stepping back.
    sleep : callable
        Waits for the seconds given.
    stopping : callable
        Ends the iteration where it is true.
    idle : callable
        Called between messages at least every 0.05 s while waiting, with how far behind it is.
    """
    for out in outgoing:
        # Asked anew after each sleep: a pace may change meanwhile.
        while (now_s := clock()) < (due_s := timeline.due_s(out.due_us)):
            if stopping():
                return
            idle(0.0)
            sleep(min(max(due_s - now_s, TICK_S), _SLICE_S))
        if stopping():
            return
        yield out, now_s - due_s
