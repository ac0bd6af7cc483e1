"""The producer service: a plan's messages into Kafka, each when due, until all are acknowledged."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from producer.control import Control, LiveFaults
from producer.metrics import ProducerMetrics
from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.pace import Pace, Timeline, paced
from producer.replay.plan import EMPTY_LOG, LogState, ReplayPlan, plan_replay, wearers_of
from producer.resume import read_log
from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings
from repstream.errors import BrokerError, BrokerUnavailableError, SettingsError
from repstream.kafka.connection import (
    DEFAULT_PARTITIONS,
    KafkaConnection,
    KafkaProducer,
    ensure_topics,
    translated,
    wait_for_broker,
)
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recordings.recording import Recording

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# A broker may be away for so long without a packet being lost or the command giving up: longer than
# a machine takes to restart. Until then the client keeps what is in flight and tries again.
_DELIVERY_TIMEOUT_MS = 600_000
# Messages handed to the client and not acknowledged: twice what four partitions have in batches,
# 13,000 packets. The client itself has no bound; a message costs it about 1 kB beside its bytes.
_MAX_IN_FLIGHT_BYTES = 16_000_000
_MESSAGE_OVERHEAD_BYTES = 1_000
# After a stop is asked for, Kafka has so long to acknowledge what was sent.
_STOP_TIMEOUT_S = 30.0
# Kafka's ordinary answers take milliseconds.
_SILENT_AFTER_S = 1.0
_STALLED_AFTER_S = 5.0
_REPORT_EVERY_S = 0.5
_REPORT_EVERY_N = 256
_WAIT_S = 0.002


@dataclass(frozen=True)
class ProduceProgress:
    """How a replay stands, given to whoever watches it.

    Attributes
    ----------
    active_wearers, wearers : int
        Those that have begun and not ended; all.
    packets_per_s : float
        Since the last report.
    behind_s : float
        How late the newest message went out (0 for as fast as possible), or for how long Kafka has
        acknowledged nothing of what it was sent.
    in_flight : int
        Messages not acknowledged yet.
    """

    active_wearers: int
    wearers: int
    packets: int
    packets_per_s: float
    behind_s: float
    in_flight: int
    seconds: float


@dataclass(frozen=True)
class ProduceSummary:
    """What a replay sent; all of it is acknowledged.

    Attributes
    ----------
    packets : int
        Messages on `samples`, faulty ones and repeats too.
    samples : int
        Samples sent for the first time, in readable packets.
    bytes : int
        Of keys and values.
    seconds : float
        Wall time.
    sessions : dict of (device, session) to int
        Samples of each session, counted as `samples`.
    faults : dict of kind to int
        Packets that a fault was put into.
    origin_s : float
        Event time at the start, epoch seconds.
    resumed, complete : int
        Sessions that went on from what the log held; sessions that it held in full.
    stopped : bool
        Whether something was left to send, because of a signal or --duration.
    touched : list of str
        Devices that a fault was put into while it ran.
    """

    packets: int
    samples: int
    labels: int
    bytes: int
    wearers: int
    seconds: float
    sessions: dict[tuple[str, str], int]
    faults: dict[str, int]
    origin_s: float
    resumed: int = 0
    complete: int = 0
    stopped: bool = False
    touched: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **{name: value for name, value in vars(self).items() if name != "sessions"},
            "sessions": [{"device": d, "session": s, "samples": n} for (d, s), n in self.sessions.items()],
        }


def steady_clock() -> Callable[[], float]:
    """Return a clock of epoch seconds that never steps, whatever is done to the machine's."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class _Outbox:
    """Messages on their way to Kafka: sent, acknowledged, failed."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self.sent = 0
        self.sent_bytes = 0
        self.acknowledged = 0
        self.acknowledged_at = time.monotonic()
        self.failed = 0
        self.failure: BaseException | None = None
        self._sent_load = 0
        self._acknowledged_load = 0

    @property
    def in_flight(self) -> int:
        return self.sent - self.acknowledged - self.failed

    @property
    def is_full(self) -> bool:
        return self._sent_load - self._acknowledged_load > _MAX_IN_FLIGHT_BYTES

    def send(self, out: Outgoing) -> None:
        if not self.in_flight:
            self.acknowledged_at = time.monotonic()
        future = self._producer.send(out.topic, out.value, out.key, timestamp_ms=out.timestamp_ms)
        n_bytes = len(out.value) + len(out.key)
        self.sent += 1
        self.sent_bytes += n_bytes
        self._sent_load += n_bytes + _MESSAGE_OVERHEAD_BYTES
        # Last: the client may call back at once, from its own thread, the only one that calls these.
        future.add_callback(self._on_acknowledged)
        future.add_errback(self._on_failed)

    def _on_acknowledged(self, metadata: Any) -> None:
        self._acknowledged_load += (
            metadata.serialized_value_size + metadata.serialized_key_size + _MESSAGE_OVERHEAD_BYTES
        )
        self.acknowledged_at = time.monotonic()
        self.acknowledged += 1

    def _on_failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed += 1

    def close(self) -> None:
        """Let the client go; where something is left to send, without it."""
        if self.in_flight or self.failed:
            # close() alone would wait for what cannot be delivered, and then raise.
            self._producer.abandon()
        else:
            self._producer.close(timeout=5.0)


class Producer:
    """A replay into Kafka.

    Parameters
    ----------
    settings : ProducerSettings
    connection : KafkaConnection
    recordings : sequence of Recording
    registry : CollectorRegistry, optional
        Where its metrics are registered.
    stopping : callable
        Whether to stop: nothing more is sent, what was sent is seen through.
    progress : callable, optional
        Called about twice a second.
    say : callable
        Takes sentences for the person at the keyboard.
    controllable : bool
        Whether it follows commands on the topic `control`; without, a replay is the same each time.
    """

    def __init__(
        self,
        settings: ProducerSettings,
        connection: KafkaConnection,
        recordings: Sequence[Recording],
        *,
        controllable: bool = False,
        registry: CollectorRegistry | None = None,
        stopping: Callable[[], bool] = lambda: False,
        progress: Callable[[ProduceProgress], None] | None = None,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._recordings = recordings
        if controllable and settings.speed == AS_FAST_AS_POSSIBLE:
            raise SettingsError("--controllable does not go with --speed max: nothing is due at any time")
        self._faults = LiveFaults(settings.faults) if controllable else None
        self._stopping = stopping
        self._progress = progress
        self._say = say
        self._metrics = None if registry is None else ProducerMetrics(registry)
        self._clock = steady_clock()
        self._outbox: _Outbox | None = None
        self._state = ReplayState()
        self._totals = _Totals()
        self._n_wearers = 0
        self._deadline_s = math.inf
        self._all_sent_s: Callable[[], float] = lambda: math.inf
        self._started_s = self._reported_s = 0.0
        self._reported_packets = 0
        self._behind_s = 0.0
        self._is_stalled = False

    def health(self) -> tuple[bool, str]:
        """Whether Kafka acknowledges what is sent, and a line about it."""
        outbox = self._outbox
        if outbox is None:
            return False, "waiting for Kafka"
        silent_s = self._silent_s(outbox)
        if silent_s > _STALLED_AFTER_S:
            return False, f"Kafka has acknowledged nothing for {silent_s:.0f} s"
        return True, f"{outbox.sent} messages sent, {outbox.in_flight} not acknowledged yet"

    def run(self) -> ProduceSummary:
        """Replay, and return when everything is acknowledged.

        Raises
        ------
        BrokerError
            Where Kafka refuses, or did not acknowledge something in time.
        SettingsError
            Where there is nothing to replay.
        """
        wearers = wearers_of(self._settings, self._recordings)
        there = self._prepared(lambda: self._read_log(wearers)) or EMPTY_LOG
        self._outbox = outbox = self._prepared(self._connect)
        self._started_s = self._reported_s = self._clock()
        plan = plan_replay(self._settings, self._recordings, int(self._started_s * 1e6), there)
        self._n_wearers = len(plan.wearers)
        if self._settings.duration_s is not None and (
            self._settings.speed == AS_FAST_AS_POSSIBLE or self._faults is not None
        ):
            # At any other speed the plan itself ends there, at the same packet each time; but for pauses.
            self._deadline_s = self._started_s + self._settings.duration_s
        resumed, complete = self._tell_of_what_is_there(plan)
        if outbox is None:
            return self._summary(plan, resumed, complete)
        try:
            self._send_all(plan, outbox)
            self._see_through(outbox)
        finally:
            outbox.close()
        self._report(self._behind_s, is_due=True)
        return self._summary(plan, resumed, complete)

    def _prepared(self, act: Callable[[], _T]) -> _T | None:
        """Do what needs an answer from Kafka, waiting for one; None where a stop came first."""
        while wait_for_broker(self._connection, self._stopping, say=self._say):
            try:
                return act()
            except BrokerUnavailableError as error:
                self._say(f"{error}; trying again")
                time.sleep(0.5)
        return None

    def _read_log(self, wearers: Any) -> LogState:
        ensure_topics(self._connection, self._settings.partitions or DEFAULT_PARTITIONS)
        return read_log(self._connection, wearers, self._settings, self._stopping, self._say)

    def _connect(self) -> _Outbox:
        with translated("connecting"):
            producer = self._connection.producer(
                delivery_timeout_ms=_DELIVERY_TIMEOUT_MS, max_block_ms=_DELIVERY_TIMEOUT_MS
            )
            # Looked up now, so that a send never has to wait for it.
            n = len(producer.partitions_for(SAMPLES))
            producer.partitions_for(LABELS)
        asked = self._settings.partitions
        if asked is not None and asked != n:
            self._say(f"the topic {SAMPLES} is there already, with {n} partitions, not {asked}; it stays so")
        return _Outbox(producer)

    def _tell_of_what_is_there(self, plan: ReplayPlan) -> tuple[int, int]:
        """Count the sessions that go on and those that are whole, and say so."""
        lengths = {
            (wearer.device, recording.session + self._settings.session_suffix): recording.n_samples
            for wearer in plan.wearers
            for recording in wearer.recordings
        }
        found = [(plan.there.sessions[name], n) for name, n in lengths.items() if name in plan.there.sessions]
        complete = sum(there.n_samples >= n for there, n in found)
        resumed = len(found) - complete
        if resumed:
            self._say(f"{_sessions(resumed)} of {len(lengths)} in the log in part: going on where it ends")
        if complete and not self._settings.loop:
            self._say(
                f"{_sessions(complete)} of {len(lengths)} in the log in full already, not sent again; "
                "--session-suffix TEXT replays as new sessions"
            )
        return resumed, complete

    def _send_all(self, plan: ReplayPlan, outbox: _Outbox) -> None:
        """Send what is due when it is due, until the end or a stop."""
        faults = self._faults
        if faults is None:
            self._send_paced(plan, outbox, messages(plan, self._state), plan.timeline)
            return
        pace = Pace(plan.timeline, self._clock)
        with Control(self._connection, pace, faults, plan.timeline.origin_us, self._clock):
            self._send_paced(plan, outbox, messages(plan, self._state, faults.all), pace)

    def _send_paced(
        self, plan: ReplayPlan, outbox: _Outbox, outgoing: Iterator[Outgoing], pace: Timeline | Pace
    ) -> None:
        shows_behind = plan.settings.speed != AS_FAST_AS_POSSIBLE
        if plan.duration_us:
            self._all_sent_s = lambda: pace.due_s(plan.timeline.origin_us + plan.duration_us)
        ready = paced(outgoing, pace, self._clock, time.sleep, self._must_stop, self._report)
        for out, behind_s in ready:
            outbox.send(out)
            self._totals.count(out)
            if shows_behind:
                self._behind_s = behind_s
            if outbox.sent % _REPORT_EVERY_N == 0:
                self._report(self._behind_s)
            while outbox.is_full and not self._must_stop():
                time.sleep(_WAIT_S)
                self._report(max(self._clock() - pace.due_s(out.due_us), 0.0) if shows_behind else 0.0)

    def _must_stop(self) -> bool:
        outbox = self._outbox
        return (
            self._stopping() or self._clock() >= self._deadline_s or (outbox is not None and outbox.failure is not None)
        )

    def _see_through(self, outbox: _Outbox) -> None:
        """Wait until all is acknowledged."""
        stopped_s: float | None = None
        while outbox.in_flight and outbox.failure is None:
            if self._stopping():
                stopped_s = self._clock() if stopped_s is None else stopped_s
                if self._clock() - stopped_s > _STOP_TIMEOUT_S:
                    break
            self._report(self._behind_s)
            time.sleep(_WAIT_S)
        n_lost = outbox.sent - outbox.acknowledged
        if n_lost:
            why = "no answer" if outbox.failure is None else f"{type(outbox.failure).__name__}: {outbox.failure}"
            raise BrokerError(
                f"Kafka at {self._connection.bootstrap_servers} did not acknowledge {n_lost} of "
                f"{outbox.sent} messages ({why}); run the same command again: it goes on where the log ends"
            )

    def _silent_s(self, outbox: _Outbox) -> float:
        return time.monotonic() - outbox.acknowledged_at if outbox.in_flight else 0.0

    def _watch(self, outbox: _Outbox) -> None:
        """Say when Kafka stops answering, and when it is back."""
        silent_s = self._silent_s(outbox)
        if not self._is_stalled and silent_s > _STALLED_AFTER_S:
            self._is_stalled = True
            self._say(
                f"Kafka at {self._connection.bootstrap_servers} has acknowledged nothing for "
                f"{silent_s:.0f} s; keeping {outbox.in_flight} messages and trying again"
            )
        elif self._is_stalled and silent_s < _SILENT_AFTER_S:
            self._is_stalled = False
            self._say(f"Kafka at {self._connection.bootstrap_servers} acknowledges again")

    def _report(self, behind_s: float, is_due: bool = False) -> None:
        """Tell metrics and progress how things stand, twice a second at most."""
        now_s = self._clock()
        since_s = now_s - self._reported_s
        if since_s < _REPORT_EVERY_S and not is_due:
            return
        outbox, totals, state = self._outbox, self._totals, self._state
        assert outbox is not None
        self._watch(outbox)
        # What was sent in time and is not acknowledged is late all the same.
        silent_s = self._silent_s(outbox)
        behind_s = max(behind_s, silent_s if silent_s >= _SILENT_AFTER_S else 0.0)
        active = state.started - state.finished
        if self._metrics is not None:
            self._metrics.update(
                packets=totals.packets,
                samples=totals.samples,
                labels=totals.labels,
                faults=state.faults,
                behind_s=behind_s,
                remaining_s=self._remaining_s(now_s),
                in_flight=outbox.in_flight,
                active_wearers=active,
            )
        if self._progress is not None:
            rate = (totals.packets - self._reported_packets) / max(since_s, 1e-3)
            self._progress(
                ProduceProgress(
                    active,
                    self._n_wearers,
                    totals.packets,
                    rate,
                    behind_s,
                    outbox.in_flight,
                    now_s - self._started_s,
                )
            )
        self._reported_s, self._reported_packets = now_s, totals.packets

    def _remaining_s(self, now_s: float) -> float:
        return max(min(self._all_sent_s(), self._deadline_s) - now_s, 0.0)

    def _summary(self, plan: ReplayPlan, resumed: int, complete: int) -> ProduceSummary:
        totals, outbox = self._totals, self._outbox
        return ProduceSummary(
            packets=totals.packets,
            samples=totals.samples,
            labels=totals.labels,
            bytes=0 if outbox is None else outbox.sent_bytes,
            wearers=len(plan.wearers),
            seconds=self._clock() - self._started_s,
            sessions=totals.sessions,
            faults=dict(self._state.faults),
            origin_s=plan.timeline.origin_us / 1e6,
            resumed=resumed,
            complete=complete,
            stopped=self._state.finished < len(plan.wearers),
            touched=[] if self._faults is None else self._faults.touched([w.device for w in plan.wearers]),
        )


@dataclass
class _Totals:
    """What was sent, counted as `ProduceSummary` says."""

    packets: int = 0
    samples: int = 0
    labels: int = 0
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, out: Outgoing) -> None:
        if out.topic == LABELS:
            self.labels += 1
            return
        self.packets += 1
        self.samples += out.n_samples
        name = out.device, out.session
        self.sessions[name] = self.sessions.get(name, 0) + out.n_samples


def _sessions(n: int) -> str:
    return f"{n} session{'' if n == 1 else 's'}"


def run_producer(
    settings: ProducerSettings,
    connection: KafkaConnection,
    recordings: Sequence[Recording],
    **options: Any,
) -> ProduceSummary:
    """Replay recordings into Kafka and return when everything is acknowledged; see `Producer`."""
    return Producer(settings, connection, recordings, **options).run()
