"""The monitor's loop: predictions and labels in, metrics out; drift is worked out in another process.

It reads all partitions by itself (two monitors would each see everything) and commits how far it
got, with a text that says from where its windows can be read again. A restart, and any failure of
Kafka, goes through that: nothing is kept elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from monitor.metrics import MonitorMetrics
from monitor.passes import PassResult, PassWorker
from monitor.state import MonitoringSettings, MonitorState, Table
from repstream import messages
from repstream.errors import BrokerUnavailableError, MessageError, SettingsError
from repstream.kafka import (
    KafkaConnection,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
    ensure_topics,
    keep_working,
    translated,
    wait_for_broker,
)
from repstream.messages import LABELS, PREDICTIONS
from repstream.model import Model

log = logging.getLogger(__name__)

_POLL_MS = 200
_POLL_RECORDS = 5_000
_COMMIT_EVERY_S = 2.0
# New partitions of a topic are noticed within this.
_LOOK_AROUND_S = 30.0
_SILENT_S = 30.0


@dataclass(frozen=True)
class MonitorSettings:
    """How a monitor runs.

    Attributes
    ----------
    group : str
        Under which its offsets are committed.
    every_s : float
        Wall time between two passes, s.
    monitoring : MonitoringSettings
    """

    group: str = "repstream-monitor"
    every_s: float = 5.0
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)

    def __post_init__(self) -> None:
        if self.every_s <= 0:
            raise SettingsError(f"every_s must be above 0, received {self.every_s}")
        if not self.group:
            raise SettingsError("group must not be empty")


class _Place(msgspec.Struct):
    """The text that goes with a committed offset: from where the windows can be read again."""

    read_from: int
    v: int = 1


_place_decoder = msgspec.json.Decoder(_Place)


class Monitor:
    """Consume predictions and labels, compare with the reference, expose metrics.

    Parameters
    ----------
    model : Model
    connection : KafkaConnection
    settings : MonitorSettings
    worker : PassWorker
        Where drift is worked out.
    registry : CollectorRegistry
    stopping : callable
        True once the service is to commit and end.
    """

    def __init__(
        self,
        model: Model,
        connection: KafkaConnection,
        settings: MonitorSettings,
        worker: PassWorker,
        registry: CollectorRegistry,
        stopping: Callable[[], bool],
    ) -> None:
        self.model = model
        self.connection = connection
        self.settings = settings
        self.stopping = stopping
        self.metrics = MonitorMetrics(registry, model.features.names, model.labels)
        self.metrics.reference_rows.set(len(worker.reference))
        self.last_pass: PassResult | None = None
        self.reference = worker.reference
        self._worker = worker
        self._lock = threading.Lock()  # the web server's threads read the state
        self._state = self._new_state()
        self._firsts: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
        self._pass: Future[PassResult] | None = None
        self._pass_at_s = -float("inf")
        self._polled_s = time.monotonic()
        self._trouble = "starting"

    def _new_state(self) -> MonitorState:
        model = self.model
        return MonitorState(model.id, len(model.features.names), model.labels, self.settings.monitoring)

    def table(self, n: int) -> Table:
        """Rows of the newest `n` monitoring windows; for any thread."""
        with self._lock:
            return self._state.table(n)

    def ready(self) -> tuple[bool, str]:
        """Tell whether all that it needs answers."""
        if self._trouble:
            return False, self._trouble
        silent = time.monotonic() - self._polled_s
        if silent > _SILENT_S:
            return False, f"Kafka was not asked for {silent:.0f} s"
        return True, "Kafka answers, the reference is loaded"

    def run(self) -> None:
        """Work until `stopping`; commits before it returns.

        Raises
        ------
        BrokerError
            For what trying again cannot cure.
        """
        keep_working(self._work, self.stopping, self._failed)

    def _failed(self, error: BrokerUnavailableError) -> None:
        self._trouble = str(error)

    def _work(self) -> None:
        """One life: read back the windows, then go on until stopping or until Kafka fails."""
        if not wait_for_broker(self.connection, self.stopping):
            return
        ensure_topics(self.connection)
        with translated("working with Kafka"):
            consumer = self.connection.consumer(group_id=self.settings.group, max_poll_records=_POLL_RECORDS)
            try:
                committed = self._restore(consumer)
                self._trouble = ""
                self._loop(consumer, committed)
            finally:
                with contextlib.suppress(Exception):  # a failed life is told by its first error
                    consumer.close(autocommit=False, timeout_ms=2_000)

    def _restore(self, consumer: KafkaConsumer) -> dict[TopicPartition, int]:
        """Take all partitions and seek to where the windows began; return what was committed."""
        partitions = _partitions(consumer)
        consumer.assign(partitions)
        committed: dict[TopicPartition, int] = {}
        for tp in partitions:
            commit = consumer.committed(tp, metadata=True, timeout_ms=10_000)
            if commit is None:
                committed[tp] = 0
                consumer.seek_to_beginning(tp)
                continue
            committed[tp] = commit.offset
            try:
                start = _place_decoder.decode(commit.metadata or "").read_from
            except msgspec.MsgspecError:
                log.warning("%s: offset %d was committed without our text; windows begin there", tp, commit.offset)
                start = commit.offset
            consumer.seek(tp, start)
        with self._lock:
            self._state = self._new_state()
        self._firsts.clear()
        self.metrics.forget_counts(self._state)
        log.info("reading %d partitions of %s and %s", len(partitions), PREDICTIONS, LABELS)
        return committed

    def _loop(self, consumer: KafkaConsumer, committed: dict[TopicPartition, int]) -> None:
        partitions = set(committed)
        committed_s = looked_s = time.monotonic()
        dirty = False
        while True:
            last_round = self.stopping()
            polled = consumer.poll(timeout_ms=0 if last_round else _POLL_MS)
            now = self._polled_s = time.monotonic()
            for tp, records in polled.items():
                dirty = True
                self._take(tp, records, committed[tp])
            self._run_passes(now)
            if dirty and (last_round or now - committed_s >= _COMMIT_EVERY_S):
                consumer.commit(self._offsets(consumer, committed), timeout_ms=10_000)
                self._show_lag(consumer)
                committed_s, dirty = now, False
            if last_round:
                return
            if now - looked_s >= _LOOK_AROUND_S:
                looked_s = now
                if set(_partitions(consumer)) != partitions:
                    raise BrokerUnavailableError("the topics have other partitions than before")

    def _take(self, tp: TopicPartition, records: list[Any], committed: int) -> None:
        """Add one partition's messages to the state; those before `committed` were counted already."""
        again = [r for r in records if r.offset < committed]
        if again:
            self._add(tp, again)
            self.metrics.forget_counts(self._state)
        if len(records) > len(again):
            self._add(tp, records[len(again) :])
            self.metrics.count(self._state)

    def _add(self, tp: TopicPartition, records: list[Any]) -> None:
        wall = time.time()
        window_s = self.settings.monitoring.window_s
        firsts = self._firsts[tp]
        with self._lock:
            for record in records:
                try:
                    if tp.topic == PREDICTIONS:
                        prediction = messages.decode_prediction(record.value or b"")
                        end, reason = prediction.end, self._state.add_prediction(prediction, wall)
                    else:
                        label = messages.decode_label(record.value or b"")
                        end, reason = label.end, self._state.add_label(label, wall)
                except MessageError as error:
                    self._state.odd["unreadable"] += 1
                    log.warning("%s-%d offset %d: %s", tp.topic, tp.partition, record.offset, error)
                    continue
                if reason is None:
                    firsts.setdefault(int(end // window_s), record.offset)
            horizon = self._state.horizon_s
        for number in [n for n in firsts if n * window_s < horizon]:
            del firsts[number]

    def _offsets(self, consumer: KafkaConsumer, committed: dict[TopicPartition, int]) -> dict[Any, Any]:
        offsets = {}
        for tp in committed:
            position = consumer.position(tp)
            # While the windows are being read again, what was committed stays so.
            reached = max(position, committed[tp])
            oldest = min([*self._firsts[tp].values(), position])
            text = msgspec.json.encode(_Place(oldest)).decode()
            offsets[tp] = OffsetAndMetadata(reached, text, -1)
        return offsets

    def _show_lag(self, consumer: KafkaConsumer) -> None:
        lag: dict[str, int] = defaultdict(int)
        for tp in consumer.assignment():
            lag[tp.topic] += max((consumer.highwater(tp) or 0) - consumer.position(tp), 0)
        for topic, behind in lag.items():
            self.metrics.lag.labels(topic).set(behind)

    def _run_passes(self, now: float) -> None:
        """Start a pass when one is due, and show what the last one found."""
        if self._pass is not None:
            if not self._pass.done():
                return
            done, self._pass = self._pass, None
            try:
                self.last_pass = done.result()
            except Exception:
                # The worker's process may be killed or run out of memory; consuming goes on without it.
                log.exception("a pass over the current windows failed; trying again in %g s", self.settings.every_s)
            else:
                self.metrics.show(self.last_pass)
        if now - self._pass_at_s >= self.settings.every_s:
            self._pass_at_s = now
            self._pass = self._worker.submit(self.table(self.settings.monitoring.current))


def _partitions(consumer: KafkaConsumer) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number)
        for topic in (PREDICTIONS, LABELS)
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
