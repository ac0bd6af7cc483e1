"""The store's loop: predictions and alarms out of Kafka into the database, offsets committed after.

While the database is away, what was polled stays in hand, the partitions are paused and polling goes
on, so that the group keeps this member: nothing is lost, and Kafka keeps the rest. A kill between
writing and committing makes messages come again, and the store keeps one of each id.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from repstream.errors import BrokerUnavailableError, MessageError
from repstream.kafka.connection import (
    KafkaConnection,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
    keep_working,
    translated,
    wait_for_broker,
)
from repstream.kafka.lives import Assignment, Lag, OrphanWatch
from repstream.kafka.records import reason_of
from repstream.kafka.topics import ensure_topics
from repstream.messages import messages
from repstream.messages.messages import Alarm, Prediction
from repstream.messages.topics import ALARMS, PREDICTIONS
from store.interface import RefusedRowError, Store, StoreUnavailableError
from store.metrics import StoreMetrics
from store.settings import SinkSettings

log = logging.getLogger(__name__)

_TOPICS = (PREDICTIONS, ALARMS)

_POLL_MS = 200
_POLL_RECORDS = 2_000
# A prediction with its features is 2.5 kB; the default of 1 MB would make many small fetches.
_FETCH_BYTES = 4 * 1024 * 1024
# As the predictor's: the least that brokers allow, so that a killed one is soon replaced.
_SESSION_TIMEOUT_MS, _HEARTBEAT_MS = 6_000, 2_000
# A try on a database that is away takes up to 30 s, and none may cost the membership.
_MAX_POLL_INTERVAL_MS = 300_000

_RETRY_FIRST_S, _RETRY_MOST_S = 0.25, 10.0
_HOUSEKEEPING_S = 1.0
_LOOK_FOR_ORPHANS_S = 30.0
_SILENT_S = 60.0

# So many rows in one statement are deleted in a fraction of a second; a long one would hold up writing.
_EXPIRE_ROWS = 5_000
_EXPIRE_EVERY_S = 600.0


class _Taken(NamedTuple):
    """A message in hand, and where it came from."""

    partition: TopicPartition
    offset: int
    message: Prediction | Alarm


class Sink:
    """Keep what stands in `predictions` and `alarms` in a store.

    Parameters
    ----------
    store : Store
    connection : KafkaConnection
    settings : SinkSettings
    registry : CollectorRegistry
    stopping : callable
        True once the service is to write what it has, commit and leave.
    """

    def __init__(
        self,
        store: Store,
        connection: KafkaConnection,
        settings: SinkSettings,
        registry: CollectorRegistry,
        stopping: Callable[[], bool],
    ) -> None:
        self.store = store
        self.connection = connection
        self.settings = settings
        self.stopping = stopping
        self.metrics = StoreMetrics(registry)
        self._pending: list[_Taken] = []
        self._pending_since_s = 0.0
        self._assignment = Assignment()
        self._lag = Lag()
        self._prepared = False
        self._retry_at_s = 0.0
        self._pause_s = _RETRY_FIRST_S
        self._expire_at_s = 0.0
        self._polled_s = time.monotonic()
        self._behind = 0
        self._kafka_trouble = "starting"
        self._store_trouble = ""

    def health(self) -> tuple[bool, str]:
        """Tell whether Kafka and the database answer, and what is wrong where not."""
        trouble = self._kafka_trouble or self._store_trouble
        if trouble:
            return False, trouble
        if not self._prepared:
            return False, f"{self.store.name}: not connected yet"
        silent = time.monotonic() - self._polled_s
        if silent > _SILENT_S:
            return False, f"Kafka was not polled for {silent:.0f} s"
        return True, f"{self.store.name}: {self._behind} messages behind"

    def run(self) -> None:
        """Work until `stopping`; writes and commits what is in hand before it returns.

        Raises
        ------
        BrokerError, StoreError
            For what trying again cannot cure.
        """
        keep_working(self._work, self.stopping, self._failed)

    def _failed(self, error: BrokerUnavailableError) -> None:
        self._kafka_trouble = str(error)

    def _work(self) -> None:
        """One life: go on from what is committed, until stopping or until Kafka fails."""
        if not wait_for_broker(self.connection, self.stopping):
            return
        ensure_topics(self.connection)
        self._pending.clear()
        self._assignment = Assignment()
        with translated("working with Kafka"):
            consumer = self.connection.consumer(
                group_id=self.settings.group,
                session_timeout_ms=_SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
                max_poll_records=_POLL_RECORDS,
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            try:
                consumer.subscribe(list(_TOPICS), listener=self._assignment)
                self._loop(consumer)
            finally:
                with contextlib.suppress(Exception):  # a failed life is told by its first error
                    consumer.close(autocommit=False, timeout_ms=2_000)

    def _loop(self, consumer: KafkaConsumer) -> None:
        housekeeping_s = time.monotonic()
        orphans = OrphanWatch(self.connection, self.settings.group, _TOPICS, housekeeping_s)
        while True:
            last_round = self.stopping()
            self._pause_while_full(consumer)
            polled = consumer.poll(timeout_ms=0 if last_round else _POLL_MS)
            now = self._polled_s = time.monotonic()
            if self._assignment.has_changed:
                # What was in hand may be another's now; it is read again from what is committed.
                self._start_at_committed(consumer)
                polled = {}
            self._take(polled, now)
            if self._is_due(now, last_round):
                self._write(consumer)
            if last_round:
                if self._pending:
                    log.warning("%d messages stay in Kafka for the next start", len(self._pending))
                return
            self._expire(now)
            if now - housekeeping_s >= _HOUSEKEEPING_S:
                housekeeping_s = now
                self._show_lag(consumer, now)
            orphans.look(now, _LOOK_FOR_ORPHANS_S)

    def _pause_while_full(self, consumer: KafkaConsumer) -> None:
        """Fetch nothing while a whole batch waits; a paused consumer's polls still keep its place."""
        if len(self._pending) >= self.settings.batch:
            consumer.pause(*consumer.assignment())
        elif consumer.paused():
            consumer.resume(*consumer.paused())

    def _start_at_committed(self, consumer: KafkaConsumer) -> None:
        self._assignment.has_changed = False
        self._pending.clear()
        ours = sorted(consumer.assignment())
        for tp in ours:
            committed = consumer.committed(tp)
            if committed is None:
                consumer.seek_to_beginning(tp)
            else:
                consumer.seek(tp, committed)
        if ours:
            log.info("writing %d partitions of %s to %s", len(ours), " and ".join(_TOPICS), self.store.name)
        self._kafka_trouble = ""

    def _take(self, polled: Mapping[TopicPartition, Sequence[Any]], now: float) -> None:
        if polled and not self._pending:
            self._pending_since_s = now
        for tp, records in polled.items():
            decode: Callable[[bytes], Prediction | Alarm]
            decode = messages.decode_prediction if tp.topic == PREDICTIONS else messages.decode_alarm
            for record in records:
                try:
                    message = decode(record.value or b"")
                except MessageError as error:
                    self.metrics.rejected.labels("unreadable").inc()
                    place = f"{tp.topic}-{tp.partition} offset {record.offset}"
                    log.warning("skipping %s: %s", place, reason_of(record, error))
                    continue
                self._pending.append(_Taken(tp, record.offset, message))

    def _is_due(self, now: float, last_round: bool) -> bool:
        if last_round:
            return bool(self._pending)
        if now < self._retry_at_s:
            return False
        if not self._prepared:
            return True
        full = len(self._pending) >= self.settings.batch
        return full or (bool(self._pending) and now - self._pending_since_s >= self.settings.every_s)

    def _write(self, consumer: KafkaConsumer) -> None:
        """Write what is in hand and commit it; where the database is away, keep it for later."""
        began = time.monotonic()
        try:
            if not self._prepared:
                self.store.prepare()
                self._prepared = True
            if self._pending:
                self._save(self._pending)
        except StoreUnavailableError as error:
            self._retry_later(error)
            return
        if self._store_trouble:
            log.info("%s is available again", self.store.name)
        self._store_trouble, self._pause_s, self._retry_at_s = "", _RETRY_FIRST_S, 0.0
        if not self._pending:
            return
        self.metrics.seconds.observe(time.monotonic() - began)
        partitions = {taken.partition for taken in self._pending}
        self._pending.clear()
        consumer.commit({tp: OffsetAndMetadata(consumer.position(tp), "", -1) for tp in partitions}, timeout_ms=10_000)

    def _save(self, batch: Sequence[_Taken]) -> None:
        """Save messages; one that cannot be kept costs itself alone, and is found by halving."""
        predictions = [taken.message for taken in batch if isinstance(taken.message, Prediction)]
        alarms = [taken.message for taken in batch if isinstance(taken.message, Alarm)]
        try:
            self.store.save(predictions, alarms)
        except RefusedRowError as error:
            if len(batch) > 1:
                self._save(batch[: len(batch) // 2])
                self._save(batch[len(batch) // 2 :])
                return
            (tp, offset, _) = batch[0]
            self.metrics.rejected.labels("refused").inc()
            log.warning("skipping %s-%d offset %d: %s", tp.topic, tp.partition, offset, error)
            return
        self.metrics.predictions.inc(len(predictions))
        self.metrics.alarms.inc(len(alarms))

    def _retry_later(self, error: StoreUnavailableError) -> None:
        self.metrics.failures.inc()
        log.warning("%s; keeping %d messages, trying again in %.1f s", error, len(self._pending), self._pause_s)
        self._store_trouble = str(error)
        self._retry_at_s = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _RETRY_MOST_S)

    def _expire(self, now: float) -> None:
        """Delete some of what is too old; the rest is left for the next rounds."""
        if not self.settings.keep_days or self._store_trouble or not self._prepared or now < self._expire_at_s:
            return
        try:
            gone = self.store.delete_before(time.time() - self.settings.keep_days * 86_400, _EXPIRE_ROWS)
        except StoreUnavailableError as error:
            self._retry_later(error)
            return
        self.metrics.expired.inc(gone)
        if gone < _EXPIRE_ROWS:
            self._expire_at_s = now + _EXPIRE_EVERY_S

    def _show_lag(self, consumer: KafkaConsumer, now: float) -> None:
        positions = {tp: consumer.position(tp) for tp in consumer.assignment()}
        behind: dict[str, int] = defaultdict(int)
        for tp, lag in self._lag.behind(consumer, positions, now).items():
            behind[tp.topic] += lag
        for taken in self._pending:
            behind[taken.partition.topic] += 1
        for topic in _TOPICS:
            self.metrics.lag.labels(topic).set(behind[topic])
        self._behind = sum(behind.values())
