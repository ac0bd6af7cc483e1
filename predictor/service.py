"""The predictor's loop: poll, decode, windows, features, model, one transaction; then again.

Whatever fails in Kafka, the loop drops all it has and starts afresh from what is committed, by the
same path as a first start. Predictions, dead letters, checkpoints and offsets are one transaction,
so that each window's prediction is visible once or not yet.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

from predictor.engine.engine import Engine
from predictor.engine.finished import FinishedWindows
from predictor.engine.partition import Shape
from predictor.instance import Instance
from predictor.intake import decode_records, send_dead_letter
from predictor.metrics import PredictorMetrics
from predictor.predict import predict
from predictor.restore import Assigned, read_again, restore, write
from predictor.settings import PredictorSettings
from repstream.errors import BrokerUnavailableError, MessageError
from repstream.features.summary import every
from repstream.kafka.connection import (
    KafkaConnection,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
    TransactionalProducer,
    cluster_id,
    keep_working,
    translated,
    wait_for_broker,
    was_fenced,
)
from repstream.kafka.lives import Assignment, ConsumerGroupMetadata, Lag, OrphanWatch, leave_group, membership_of
from repstream.kafka.state_topic import TOPIC_CONFIG, topic_of
from repstream.kafka.topics import ensure_topics
from repstream.messages import fields, messages
from repstream.messages.messages import LedgerEntry, Prediction
from repstream.messages.topics import DEAD_LETTER, LEDGER, PREDICTIONS, SAMPLES
from repstream.recognition.model import Model
from repstream.service.log_limit import LimitedLog

log = logging.getLogger(__name__)

# Kafka's own least session time-out is 6 s by default; with a heartbeat a second, a dead predictor's
# partitions are with another one within 10 s, and one that is only busy is not taken for dead.
_SESSION_TIMEOUT_MS = 6_000
_HEARTBEAT_MS = 1_000
# The longest a rebalance waits for a member that does not come; a batch takes well under a second.
_MAX_POLL_INTERVAL_MS = 30_000
# A dead predictor's open transaction hides later predictions of its partitions until it is timed out;
# not longer, then, than its session.
_TRANSACTION_TIMEOUT_MS = 6_000
_POLL_MS = 200
# Looking for partitions that nobody has takes a tenth of a second, so those who have work look seldom.
_CHECK_IDLE_S, _CHECK_BUSY_S = 5.0, 60.0
# Housekeeping (silent devices, gauges) runs this often.
_HOUSEKEEPING_S = 1.0
# A partition's ledger is told no more often than this.
_LEDGER_S = 1.0
# Fetches tell where a partition ends; where none brought anything for so long, Kafka is asked: they may hang.
_ASK_END_S = 5.0
# Health: with packets waiting, the offset must move within this.
_STUCK_S = 20.0


class Predictor:
    """Consume samples, produce predictions.

    Parameters
    ----------
    model : Model
    connection : KafkaConnection
    settings : PredictorSettings
    registry : CollectorRegistry
        Where the metrics go.
    stopping : callable
        True once the service is to finish its batch and leave.
    """

    def __init__(
        self,
        model: Model,
        connection: KafkaConnection,
        settings: PredictorSettings,
        registry: CollectorRegistry,
        stopping: Callable[[], bool],
    ) -> None:
        self.model = model
        self.connection = connection
        self.settings = settings
        self.stopping = stopping
        self.metrics = PredictorMetrics(registry, model.labels, model.name, model.version)
        self._state_topic = topic_of(settings.group)
        self._state_partitions = 0
        self._hop = settings.hop or model.hop
        self._engine = Engine(model.window, self._hop, settings.lateness_s)
        self._signal_every = every(self._hop)
        self._assignment = Assignment()
        self._assigned: dict[TopicPartition, Assigned] = {}
        self._membership: ConsumerGroupMetadata | None = None
        self._progress_s = time.monotonic()
        self._newest_ms = -1  # newest Kafka timestamp of a packet so far
        self._lags = Lag(_ASK_END_S)
        self._lag = 0
        self._letters = LimitedLog(log, "dead letters")
        self._trouble = "starting"
        self._instance = Instance(settings.group, settings.instance)

    def run(self) -> None:
        """Work until `stopping`; returns after delivering, committing and leaving the group.

        Raises
        ------
        BrokerError
            For what trying again cannot cure (credentials, for example).
        SettingsError
            Where another predictor has the name that was given with ``--instance``.
        """
        # A batch makes a hundred thousand short-lived tuples; looking through them for cycles, which
        # they cannot form, every 700 allocations doubles the cost of decoding (docs/results.md).
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        with (
            threadpool_limits(limits=1),  # a second thread costs more than it brings on small batches
            contextlib.closing(self._instance),
        ):
            keep_working(self._work, self.stopping, self._failed)

    def _failed(self, error: BrokerUnavailableError) -> None:
        self._trouble = str(error)
        self.metrics.restarts.inc()
        if was_fenced(error):
            self._instance.fenced()

    def health(self) -> tuple[bool, str]:
        """Tell whether event time advances while there is lag, and why not."""
        if self._trouble:
            return False, self._trouble
        still = time.monotonic() - self._progress_s
        if self._lag and still > _STUCK_S:
            return False, f"{self._lag} packets are waiting, and none was processed for {still:.0f} s"
        return True, f"{len(self._assigned)} partitions, {self._lag} packets behind"

    def _work(self) -> None:
        """One life: connect, process until stopping or until Kafka fails."""
        if not wait_for_broker(self.connection, self.stopping):
            return
        instance = self._instance.hold(cluster_id(self.connection))
        ensure_topics(self.connection, self.settings.partitions, extra={self._state_topic: TOPIC_CONFIG})
        self._assignment = Assignment()
        self._assigned.clear()
        self.metrics.lag.clear()  # those of partitions that are not ours any more would go on counting
        self._lags = Lag(_ASK_END_S)
        self._engine = Engine(self.model.window, self._hop, self.settings.lateness_s)
        self.metrics.restart_counts()
        group = self.settings.group
        with translated("working with Kafka"):
            producer = self.connection.transactional_producer(
                f"{group}.{instance}",
                _TRANSACTION_TIMEOUT_MS,
                [PREDICTIONS, DEAD_LETTER, LEDGER, self._state_topic],
                group,
            )
            try:
                self._state_partitions = len(producer.partitions_for(self._state_topic))
                consumer = self.connection.consumer(
                    group_id=group,
                    group_instance_id=instance,
                    client_id=f"{group}.{instance}",
                    session_timeout_ms=_SESSION_TIMEOUT_MS,
                    heartbeat_interval_ms=_HEARTBEAT_MS,
                    max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
                    max_poll_records=self.settings.batch_packets,
                    max_partition_fetch_bytes=4 * 1024 * 1024,
                )
                try:
                    consumer.subscribe([SAMPLES], listener=self._assignment)
                    log.info("joined group %s as %s", group, instance)
                    self._loop(consumer, producer, instance)
                finally:
                    consumer.close(autocommit=False, timeout_ms=2_000)
            finally:
                producer.close(timeout=2)
        leave_group(self.connection, group, instance)

    def _loop(self, consumer: KafkaConsumer, producer: TransactionalProducer, instance: str) -> None:
        housekeeping_s = time.monotonic()
        orphans = OrphanWatch(self.connection, self.settings.group, [SAMPLES], housekeeping_s, instance)
        while not self.stopping():
            records = consumer.poll(timeout_ms=_POLL_MS)
            if self._assignment.has_changed:
                # What was polled stands after the committed offset; the state begins before it.
                self._restore(consumer)
                records = {}
            now = time.monotonic()
            if self._trouble and self._assigned and all(consumer.highwater(tp) is not None for tp in self._assigned):
                self._trouble = ""  # a fetch has come back of each
            if records:
                self._process(records, producer)
                self._progress_s = time.monotonic()
            if now - housekeeping_s >= _HOUSEKEEPING_S:
                housekeeping_s = now
                self._housekeeping(consumer, producer, now)
            all_have_a_member = orphans.look(now, _CHECK_BUSY_S if self._assigned else _CHECK_IDLE_S)
            if all_have_a_member and not self._assigned:
                self._trouble = ""  # others have them all
        untold = [tp for tp, held in self._assigned.items() if not held.ledger_told and not held.reading_again]
        if untold and not self._assignment.has_changed:
            self._commit(producer, untold, None, [], last=True)

    def _restore(self, consumer: KafkaConsumer) -> None:
        """Get the state of partitions that are newly ours, and drop that of those that are not.

        What is committed from now on is so in the name of the membership that this state was taken under. At the
        commit it would be too late to ask: a member that was frozen and lost its place has none by then, and Kafka
        lets anybody without one commit into a group that is empty.
        """
        self._assignment.has_changed = False
        self._membership = membership_of(consumer)
        ours = consumer.assignment()
        if any(tp.partition >= self._state_partitions for tp in ours):
            raise BrokerUnavailableError(f"partitions were added to {SAMPLES}, but not to {self._state_topic} yet")
        for tp in [tp for tp in self._assigned if tp not in ours]:
            del self._assigned[tp]
            self.metrics.lag.remove(str(tp.partition))
        committed: dict[TopicPartition, tuple[int, str] | None] = {}
        for tp in ours:
            commit = consumer.committed(tp, metadata=True)
            held = self._assigned.get(tp)
            # The offset alone is not enough: another one may have let go of silent devices at the same place.
            now_there = (commit.offset, commit.metadata or "") if commit else (0, "")
            if held is not None and (held.committed, held.text) == now_there:
                consumer.seek(tp, held.next_offset)  # nobody had it in between
                continue
            committed[tp] = now_there if commit else None
        restored = restore(self.connection, self._state_topic, committed, self._engine.shape)
        now = time.monotonic()
        for tp, found in restored.items():
            commit_offset = committed[tp][0] if committed[tp] else 0  # type: ignore[index]
            # A checkpoint is due at once: being killed again and again must not make what is read
            # again longer and longer.
            self._assigned[tp] = Assigned(
                found.partition,
                found.position,
                commit_offset,
                found.pointer,
                committed[tp][1] if committed[tp] else "",  # type: ignore[index]
                checkpoint_at_s=-math.inf,
                ledger_told=committed[tp] is None,  # else what was not told before the restart is now
            )
            if found.shape != self._engine.shape:
                self._carry_over(tp, found.shape)
            consumer.seek(tp, self._assigned[tp].next_offset)
            log.info(
                "partition %d: from offset %d, reading again from offset %d; %d devices",
                tp.partition,
                commit_offset,
                found.position,
                len(found.partition.devices),
            )
        self._progress_s = now

    def _carry_over(self, tp: TopicPartition, former: Shape) -> None:
        """Read up to what is committed with the settings that the state was made with; go on from there with ours."""
        held = self._assigned[tp]
        log.warning(
            "%s: %s instead of %s from offset %d on; if the hop has changed, sessions in progress number their windows "
            "from the epoch",
            tp,
            self._engine.shape,
            former,
            held.committed,
        )
        read_again(self.connection, tp, held, former, self.settings.batch_packets)
        self._engine.carry_over(held.partition, former)

    def _process(self, records: dict[TopicPartition, list[Any]], producer: TransactionalProducer) -> None:
        """Take one poll's packets to committed predictions."""
        began = time.monotonic()
        batch = decode_records(records, {tp: self._assigned[tp].partition for tp in records})
        finished = self._engine.advance(
            batch.packets, batch.partitions, batch.offsets, batch.values, began, batch.refused
        )
        self._lags.fetched(records, began)
        for tp, got in records.items():
            held = self._assigned[tp]
            held.next_offset = got[-1].offset + 1
            held.packets_since += len(got)
        moved = [tp for tp in records if self._assigned[tp].next_offset > self._assigned[tp].committed]
        if moved:  # else all of it was read again, to get the state back
            self._newest_ms = max(self._newest_ms, max(r.timestamp for got in records.values() for r in got))
            self._commit(producer, moved, finished, batch.rejected)
            self.metrics.batch.observe(time.monotonic() - began)

    def _commit(
        self,
        producer: TransactionalProducer,
        moved: Sequence[TopicPartition],
        finished: FinishedWindows | None,
        rejected: Sequence[tuple[Any, MessageError]],
        last: bool = False,
    ) -> None:
        """Predict, and deliver everything in one transaction; the `last` one tells every ledger."""
        predictions = self._predict(finished) if finished else []
        latest_ms = self._latest_ms()
        with producer.transaction():
            for prediction in predictions:
                producer.send(
                    PREDICTIONS,
                    key=prediction.device.encode(),
                    value=fields.encode(prediction),
                    timestamp_ms=min(int(prediction.end * 1e3), latest_ms),
                )
            for record, error in rejected:
                send_dead_letter(producer, record, error, latest_ms)
            offsets = {}
            for tp in moved:
                held = self._assigned[tp]
                if self._checkpoint_due(held):
                    held.pointer = write(
                        producer,
                        self._state_topic,
                        tp.partition,
                        held.partition,
                        held.next_offset,
                        self._engine.shape,
                    )
                    held.partition.released = False
                    held.packets_since, held.checkpoint_at_s = 0, time.monotonic()
                held.ledger_told = last or time.monotonic() - held.ledger_at_s >= _LEDGER_S
                if held.ledger_told:
                    self._send_ledger(producer, tp, held)
                text = fields.encode(held.pointer).decode() if held.pointer else ""
                offsets[tp] = OffsetAndMetadata(held.next_offset, text, -1)
            producer.send_offsets_to_transaction(offsets, self._membership)
        for tp in moved:
            self._assigned[tp].committed = self._assigned[tp].next_offset
            self._assigned[tp].text = offsets[tp].metadata
        self._count(predictions, rejected)

    def _latest_ms(self) -> int:
        """Return the latest Kafka timestamp to give, epoch ms.

        Kafka refuses those an hour ahead of its clock. It has taken the samples' own, and ours may run ahead of its.
        """
        now_ms = int(time.time() * 1e3)
        return now_ms if self._newest_ms < 0 else min(now_ms, self._newest_ms)

    def _send_ledger(self, producer: TransactionalProducer, tp: TopicPartition, held: Assigned) -> None:
        group = self.settings.group
        entry = LedgerEntry(
            group=group,
            partition=tp.partition,
            offset=held.next_offset,
            at=time.time(),
            samples=self._engine.ledger(held.partition),
            gaps=held.partition.ledger.gaps,
        )
        producer.send(LEDGER, key=messages.ledger_key(group, tp.partition), value=fields.encode(entry))
        held.ledger_at_s = time.monotonic()

    def _checkpoint_due(self, held: Assigned) -> bool:
        return (
            held.pointer is None
            or held.partition.released
            or held.packets_since >= self.settings.checkpoint_packets
            or time.monotonic() - held.checkpoint_at_s >= self.settings.checkpoint_s
        )

    def _predict(self, finished: FinishedWindows) -> list[Prediction]:
        return predict(self.model, finished, self._signal_every)

    def _count(self, predictions: Sequence[Prediction], rejected: Sequence[tuple[Any, MessageError]]) -> None:
        now = time.time()
        self.metrics.add(self._engine.counts)
        for prediction in predictions:
            self.metrics.predicted[prediction.label].inc()
            self.metrics.latency.observe(max(now - prediction.sampled_at, 0.0))
        for record, error in rejected:
            self.metrics.rejected.labels(error.reason).inc()
            self._letters.warning(
                "dead letter: %s-%d offset %d: %s", record.topic, record.partition, record.offset, error
            )

    def _housekeeping(self, consumer: KafkaConsumer, producer: TransactionalProducer, now: float) -> None:
        self._letters.flush()
        behind = self._lags.behind(consumer, {tp: held.next_offset for tp, held in self._assigned.items()}, now)
        for tp, lag in behind.items():
            self.metrics.lag.labels(str(tp.partition)).set(lag)
        self._lag = sum(behind.values())
        devices = sum(len(held.partition.devices) for held in self._assigned.values())
        self.metrics.active_devices.set(devices)
        if not self._lag:
            self._progress_s = now
        for tp, held in self._assigned.items():
            if held.reading_again:
                continue
            finished = self._engine.release(held.partition, now - self.settings.idle_s, now - self.settings.forget_s)
            if held.partition.released or (not held.ledger_told and now - held.ledger_at_s >= _LEDGER_S):
                self._commit(producer, [tp], finished, [])
