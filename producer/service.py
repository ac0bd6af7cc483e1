"""The producer service: a plan's messages into Kafka, each when due, until all are acknowledged."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry

from producer.control import Control, LiveFaults
from producer.metrics import ProducerMetrics
from producer.outbox import SILENT_AFTER_S, STALLED_AFTER_S, Outbox
from producer.replay.messages import Outgoing, ReplayState, messages
from producer.replay.pace import Pace, Timeline, paced
from producer.replay.plan import EMPTY_LOG, LogState, ReplayPlan, Wearer, plan_replay, wearers_of
from producer.resume import read_log
from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings
from producer.summary import ProduceProgress, ProduceSummary, Totals
from repstream.errors import BrokerUnavailableError, SettingsError
from repstream.kafka.connection import KafkaConnection, wait_for_broker
from repstream.kafka.topics import ensure_topics
from repstream.messages.topics import DEFAULT_PARTITIONS
from repstream.recordings.recording import Recording

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# After a stop is asked for, Kafka has so long to acknowledge what was sent.
_STOP_TIMEOUT_S = 30.0
_REPORT_EVERY_S = 0.5
_REPORT_EVERY_N = 256
_WAIT_S = 0.002


def steady_clock() -> Callable[[], float]:
    """Return a clock of epoch seconds that never steps, whatever is done to the machine's."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


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
        self._outbox: Outbox | None = None
        self._state = ReplayState()
        self._totals = Totals()
        self._n_wearers = 0
        self._deadline_s = math.inf
        self._all_sent_s: Callable[[], float] = lambda: math.inf
        self._started_s = self._reported_s = 0.0
        self._reported_packets = 0
        self._behind_s = 0.0

    def health(self) -> tuple[bool, str]:
        """Whether Kafka acknowledges what is sent, and a line about it."""
        outbox = self._outbox
        if outbox is None:
            return False, "waiting for Kafka"
        if (silent_s := outbox.silent_s) > STALLED_AFTER_S:
            return False, f"Kafka has not acknowledged anything for {silent_s:.0f} s"
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
        self._outbox = outbox = self._prepared(
            lambda: Outbox.connect(self._connection, self._settings.partitions, self._say)
        )
        self._started_s = self._reported_s = self._clock()
        plan = plan_replay(self._settings, self._recordings, int(self._started_s * 1e6), there)
        self._n_wearers = len(plan.wearers)
        if self._settings.duration_s is not None and (
            self._settings.speed == AS_FAST_AS_POSSIBLE or self._faults is not None
        ):
            # At any other speed the plan itself ends there, at the same packet each time; but for pauses.
            self._deadline_s = self._started_s + self._settings.duration_s
        resumed, complete = self._count_known_sessions(plan)
        if outbox is None:
            return self._summary(plan, resumed, complete)
        try:
            self._send_all(plan, outbox)
            self._await_delivery(outbox)
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

    def _read_log(self, wearers: Sequence[Wearer]) -> LogState:
        ensure_topics(self._connection, self._settings.partitions or DEFAULT_PARTITIONS)
        return read_log(self._connection, wearers, self._settings, self._stopping, self._say)

    def _count_known_sessions(self, plan: ReplayPlan) -> tuple[int, int]:
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
            self._say(f"resuming {resumed} of {len(lengths)} sessions, which are partly in the log")
        if complete and not self._settings.loop:
            self._say(
                f"skipping {complete} of {len(lengths)} sessions, which are in the log already; "
                "--session-suffix TEXT replays them as new ones"
            )
        return resumed, complete

    def _send_all(self, plan: ReplayPlan, outbox: Outbox) -> None:
        """Send what is due when it is due, until the end or a stop."""
        faults = self._faults
        if faults is None:
            self._send_paced(plan, outbox, messages(plan, self._state), plan.timeline)
            return
        pace = Pace(plan.timeline, self._clock)
        with Control(self._connection, pace, faults, plan.timeline.origin_us, self._clock):
            self._send_paced(plan, outbox, messages(plan, self._state, faults.all), pace)

    def _send_paced(
        self, plan: ReplayPlan, outbox: Outbox, outgoing: Iterator[Outgoing], pace: Timeline | Pace
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

    def _await_delivery(self, outbox: Outbox) -> None:
        """Wait until all is acknowledged."""
        stopped_s: float | None = None
        while outbox.in_flight and outbox.failure is None:
            if self._stopping():
                stopped_s = self._clock() if stopped_s is None else stopped_s
                if self._clock() - stopped_s > _STOP_TIMEOUT_S:
                    break
            self._report(self._behind_s)
            time.sleep(_WAIT_S)
        outbox.check_delivered()

    def _report(self, behind_s: float, is_due: bool = False) -> None:
        """Tell metrics and progress how things stand, twice a second at most."""
        now_s = self._clock()
        since_s = now_s - self._reported_s
        if since_s < _REPORT_EVERY_S and not is_due:
            return
        outbox, totals, state = self._outbox, self._totals, self._state
        assert outbox is not None
        outbox.report_stall()
        # What was sent in time and is not acknowledged is late all the same.
        silent_s = outbox.silent_s
        behind_s = max(behind_s, silent_s if silent_s >= SILENT_AFTER_S else 0.0)
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
