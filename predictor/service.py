"""The predictor's loop: poll, decode, windows, features, model, one transaction; then again.

Whatever fails in Kafka, the loop drops all it has and starts afresh from what is committed, by the
same path as a first start. Predictions, dead letters, checkpoints and offsets are one transaction,
so that each window's prediction is visible once or not yet.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

from predictor import restore as state_topic
from predictor.engine.engine import Engine, FinishedWindows, Partition, Shape
from predictor.engine.ledger import Refused, refused_packet
from predictor.instance import Instance
from predictor.metrics import PredictorMetrics
from repstream.arrays import FloatArray
from repstream.errors import BrokerUnavailableError, MessageError, SettingsError
from repstream.features.summary import every, summarise
from repstream.kafka.connection import (
    WAIT_MS,
    ConsumerGroupMetadata,
    ConsumerRebalanceListener,
    KafkaConnection,
    KafkaConsumer,
    MemberToRemove,
    OffsetAndMetadata,
    TopicPartition,
    TransactionalProducer,
    cluster_id,
    ensure_topics,
    keep_working,
    membership_of,
    translated,
    unassigned_partitions,
    wait_for_broker,
    was_fenced,
)
from repstream.kafka.records import UnreadableRecord, reason_of
from repstream.kafka.state_topic import TOPIC_CONFIG, Pointer, topic_of
from repstream.messages import fields, messages
from repstream.messages.messages import LedgerEntry, Prediction
from repstream.messages.packet import Packet, check_values, decode_packet, packet_values, plausible
from repstream.messages.topics import DEAD_LETTER, LEDGER, PREDICTIONS, PREDICTOR_GROUP, SAMPLES
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
# A static member that comes back gets the assignment it had, be it nothing because its leader had not
# heard of the partitions yet (a broker just started). Nobody would ever mend that but us.
# It takes a tenth of a second, so those who have work look seldom.
_CHECK_IDLE_S, _CHECK_BUSY_S = 5.0, 60.0
# Housekeeping (silent devices, gauges) runs this often.
_HOUSEKEEPING_S = 1.0
# A partition's ledger is told no more often than this.
_LEDGER_S = 1.0
# Fetches tell where a partition ends; where none brought anything for so long, Kafka is asked: they may hang.
_ASK_END_S = 5.0
# Of a signal's summary: more would say nothing, and be longer.
_DECIMALS = 5
# Of a record that is set aside, key and value together.
_MOST_LETTER_BYTES = 1_000_000
# Health: with packets waiting, the offset must move within this.
_STUCK_S = 20.0


@dataclass(frozen=True)
class PredictorSettings:
    """How a predictor runs.

    Attributes
    ----------
    group : str
        Consumer group; predictors of one group share the partitions.
    hop : int
        Samples between the starts of two windows.
    lateness_s : float
        How late a packet may come and still be put in order, s of event time.
    batch_packets : int
        Most packets in a transaction.
    checkpoint_s, checkpoint_packets : float, int
        A partition's state is written down after so many seconds or packets, whichever is first: it
        bounds what a restart reads again.
    idle_s : float
        A device that sent nothing for so long keeps no buffer.
    forget_s : float
        A device that sent nothing for so long is forgotten, but for where its sessions stood.
    instance : str or None
        Name within the group; None takes the first that is free on this host.
    """

    group: str = PREDICTOR_GROUP
    hop: int = 25
    lateness_s: float = 1.0
    batch_packets: int = 4_000
    checkpoint_s: float = 5.0
    checkpoint_packets: int = 20_000
    idle_s: float = 900.0
    forget_s: float = 3_600.0
    instance: str | None = None
    partitions: int = 4

    def __post_init__(self) -> None:
        for name, least in (("hop", 1), ("batch_packets", 1), ("checkpoint_packets", 1), ("partitions", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, received {getattr(self, name)}")
        for name in ("lateness_s", "checkpoint_s", "idle_s", "forget_s"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, received {getattr(self, name)}")
        if not self.group:
            raise SettingsError("group must not be empty")


@dataclass
class _Assigned:
    """A partition that is ours: its state and where in the log that state stands."""

    partition: Partition
    next_offset: int
    committed: int
    pointer: Pointer | None
    text: str  # what was committed with the offset
    checkpoint_at_s: float
    packets_since: int = 0
    ledger_at_s: float = -math.inf
    ledger_told: bool = True
    end: int = 0  # of the log, when Kafka was last asked
    end_known_at_s: float = -math.inf

    @property
    def reading_again(self) -> bool:
        """Whether it stands before what is committed, to get its state back."""
        return self.next_offset < self.committed


@dataclass
class _Batch:
    """What one poll brought, decoded."""

    packets: list[Packet]
    partitions: list[Partition]
    offsets: list[int]
    values: FloatArray
    rejected: list[tuple[Any, MessageError]]
    refused: list[tuple[int, Partition, Refused]]


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
        self._engine = Engine(model.window, settings.hop, settings.lateness_s)
        self._signal_every = every(settings.hop)
        self._assigned: dict[TopicPartition, _Assigned] = {}
        self._assignment_changed = False
        self._membership: ConsumerGroupMetadata | None = None
        self._progress_s = time.monotonic()
        self._newest_ms = -1  # newest Kafka timestamp of a packet so far
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
            return False, f"{self._lag} packets wait and nothing was processed for {still:.0f} s"
        return True, f"{len(self._assigned)} partitions, {self._lag} packets behind"

    def _work(self) -> None:
        """One life: connect, process until stopping or until Kafka fails."""
        if not wait_for_broker(self.connection, self.stopping):
            return
        instance = self._instance.hold(cluster_id(self.connection))
        ensure_topics(self.connection, self.settings.partitions, extra={self._state_topic: TOPIC_CONFIG})
        self._assigned.clear()
        self.metrics.lag.clear()  # those of partitions that are not ours any more would go on counting
        self._engine = Engine(self.model.window, self.settings.hop, self.settings.lateness_s)
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
                    consumer.subscribe([SAMPLES], listener=_Listener(self))
                    log.info("joined group %s as %s", group, instance)
                    self._loop(consumer, producer, instance)
                finally:
                    consumer.close(autocommit=False, timeout_ms=2_000)
            finally:
                producer.close(timeout=2)
        self._leave(group, instance)

    def _leave(self, group: str, instance: str) -> None:
        """Leave at once: a static member's closing alone would hold its partitions until time-out."""
        with translated(f"leaving group {group}"):
            admin = self.connection.admin()
            try:
                admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance)])
            finally:
                admin.close()
        log.info("left group %s", group)

    def _loop(self, consumer: KafkaConsumer, producer: TransactionalProducer, instance: str) -> None:
        housekeeping_s = checked_s = time.monotonic()
        orphans: set[int] = set()
        while not self.stopping():
            records = consumer.poll(timeout_ms=_POLL_MS)
            if self._assignment_changed:
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
                self._keep_house(consumer, producer, now)
            if now - checked_s >= (_CHECK_BUSY_S if self._assigned else _CHECK_IDLE_S):
                checked_s = now
                before, orphans = orphans, unassigned_partitions(self.connection, self.settings.group, SAMPLES)
                if before & orphans:
                    self._leave(self.settings.group, instance)
                    raise BrokerUnavailableError(f"partitions {sorted(orphans)} are assigned to nobody")
                if not self._assigned and not orphans:
                    self._trouble = ""  # others have them all
        untold = [tp for tp, held in self._assigned.items() if not held.ledger_told and not held.reading_again]
        if untold and not self._assignment_changed:
            self._commit(producer, untold, None, [], last=True)

    def _restore(self, consumer: KafkaConsumer) -> None:
        """Get the state of partitions that are newly ours, and drop that of those that are not.

        What is committed from now on is so in the name of the membership that this state was taken under. At the
        commit it would be too late to ask: a member that was frozen and lost its place has none by then, and Kafka
        lets anybody without one commit into a group that is empty.
        """
        self._assignment_changed = False
        self._membership = membership_of(consumer)
        ours = consumer.assignment()
        if any(tp.partition >= self._state_partitions for tp in ours):
            raise BrokerUnavailableError(f"{SAMPLES} has more partitions than before, {self._state_topic} not yet")
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
        restored = state_topic.restore(self.connection, self._state_topic, committed, self._engine.shape)
        now = time.monotonic()
        for tp, found in restored.items():
            commit_offset = committed[tp][0] if committed[tp] else 0  # type: ignore[index]
            # A checkpoint is due at once: being killed again and again must not make what is read
            # again longer and longer.
            self._assigned[tp] = _Assigned(
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
                "partition %d: from offset %d, reading again from %d, %d devices",
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
            "%s: goes on with %s, not %s, from offset %d; with another hop, sessions that are under way number "
            "their windows from the epoch (docs/explanation/failures.md)",
            tp,
            self._engine.shape,
            former,
            held.committed,
        )
        engine = Engine(former.window, former.hop, former.lateness_us / 1e6)
        reader = self.connection.consumer(max_poll_records=self.settings.batch_packets)
        deadline = time.monotonic() + WAIT_MS / 1e3
        try:
            reader.assign([tp])
            reader.seek(tp, held.next_offset)
            while held.reading_again:
                records = [r for r in reader.poll(_POLL_MS).get(tp, []) if r.offset < held.committed]
                batch = self._decode({tp: records})
                engine.advance(
                    batch.packets, batch.partitions, batch.offsets, batch.values, time.monotonic(), batch.refused
                )
                # The position, not the last record's: what is left can be a transaction's marker.
                before, held.next_offset = held.next_offset, min(reader.position(tp), held.committed)
                if held.next_offset > before:
                    deadline = time.monotonic() + WAIT_MS / 1e3
                elif time.monotonic() > deadline:
                    raise BrokerUnavailableError(f"{tp}: Kafka does not give what stands from offset {before} on")
        finally:
            reader.close()
        self._engine.carry_over(held.partition, former)

    def _process(self, records: dict[TopicPartition, list[Any]], producer: TransactionalProducer) -> None:
        """Take one poll's packets to committed predictions."""
        began = time.monotonic()
        batch = self._decode(records)
        finished = self._engine.advance(
            batch.packets, batch.partitions, batch.offsets, batch.values, began, batch.refused
        )
        for tp, got in records.items():
            held = self._assigned[tp]
            held.next_offset = got[-1].offset + 1
            held.end_known_at_s = began
            held.packets_since += len(got)
        moved = [tp for tp in records if self._assigned[tp].next_offset > self._assigned[tp].committed]
        if moved:  # else all of it was read again, to get the state back
            self._newest_ms = max(self._newest_ms, max(r.timestamp for got in records.values() for r in got))
            self._commit(producer, moved, finished, batch.rejected)
            self.metrics.batch.observe(time.monotonic() - began)

    def _decode(self, records: dict[TopicPartition, list[Any]]) -> _Batch:
        packets: list[Packet] = []
        partitions: list[Partition] = []
        offsets: list[int] = []
        sources: list[Any] = []
        rejected: list[tuple[Any, MessageError]] = []
        refused: list[tuple[int, Partition, Refused]] = []
        decode = decode_packet
        for tp, got in records.items():
            held = self._assigned[tp]
            for record in got:
                try:
                    packets.append(decode(record.value or b"", record.key, record.timestamp))
                except MessageError as failed:
                    error = reason_of(record, failed)
                    refused.append((len(packets), held.partition, refused_packet(record.value or b"", record.key)))
                    if record.offset >= held.partition.emit_from:
                        rejected.append((record, error))
                    continue
                partitions.append(held.partition)
                offsets.append(record.offset)
                sources.append(record)
        values = packet_values(packets)
        if not plausible(values):
            keep = []
            position = 0
            for i, packet in enumerate(packets):
                n = len(packet.accel)
                try:
                    check_values(values[position : position + n])
                    keep.append(i)
                except MessageError as error:
                    refused.append((i, partitions[i], Refused(n, packet.device, packet.session, packet.seq)))
                    if offsets[i] >= partitions[i].emit_from:
                        rejected.append((sources[i], error))
                position += n
            packets = [packets[i] for i in keep]
            partitions = [partitions[i] for i in keep]
            offsets = [offsets[i] for i in keep]
            values = packet_values(packets)
            refused.sort(key=lambda letter: letter[0])
            refused = [(bisect.bisect_left(keep, i), partition, letter) for i, partition, letter in refused]
        return _Batch(packets, partitions, offsets, values, rejected, refused)

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
                _send_dead_letter(producer, record, error, latest_ms)
            offsets = {}
            for tp in moved:
                held = self._assigned[tp]
                if self._checkpoint_due(held):
                    held.pointer = state_topic.write(
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

    def _send_ledger(self, producer: TransactionalProducer, tp: TopicPartition, held: _Assigned) -> None:
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

    def _checkpoint_due(self, held: _Assigned) -> bool:
        return (
            held.pointer is None
            or held.partition.released
            or held.packets_since >= self.settings.checkpoint_packets
            or time.monotonic() - held.checkpoint_at_s >= self.settings.checkpoint_s
        )

    def _predict(self, finished: FinishedWindows) -> list[Prediction]:
        features = self.model.features.compute(finished.values, finished.sides)
        signals = self._signals(finished)
        probabilities = self.model.predict(features)
        best = probabilities.argmax(axis=1).tolist() if len(features) else []
        now = time.time()
        labels = self.model.labels
        return [
            Prediction(
                v=fields.VERSION,
                id=messages.prediction_id(device, session, index),
                device=device,
                session=session,
                index=index,
                start=start / 1e6,
                end=end / 1e6,
                label=labels[top],
                confidence=row[top],
                probabilities=dict(zip(labels, row, strict=True)),
                features=values,
                model=self.model.id,
                sampled_at=sampled / 1e6,
                predicted_at=now,
                signal=signal,
            )
            for device, session, index, start, end, sampled, top, row, values, signal in zip(
                finished.device,
                finished.session,
                finished.index,
                finished.start_us,
                finished.end_us,
                finished.sampled_us,
                best,
                probabilities.tolist(),
                features.tolist(),
                signals,
                strict=True,
            )
        ]

    def _signals(self, finished: FinishedWindows) -> list[list[float] | None]:
        """Summarise the signal of some windows, for the monitor; it is not worth it for every one."""
        signals: list[list[float] | None] = [None] * len(finished.index)
        chosen = [i for i, index in enumerate(finished.index) if index % self._signal_every == 0]
        if chosen:
            rows = summarise(finished.values[chosen], finished.sides[chosen]).astype(np.float64).round(_DECIMALS)
            for i, row in zip(chosen, rows.tolist(), strict=True):
                signals[i] = row
        return signals

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

    def _keep_house(self, consumer: KafkaConsumer, producer: TransactionalProducer, now: float) -> None:
        quiet = [tp for tp, held in self._assigned.items() if now - held.end_known_at_s >= _ASK_END_S]
        for tp, end in (consumer.end_offsets(quiet) if quiet else {}).items():
            self._assigned[tp].end, self._assigned[tp].end_known_at_s = end, now
        self._letters.flush()
        self._lag = 0
        devices = 0
        for tp, held in self._assigned.items():
            lag = max(held.end - held.next_offset, (consumer.highwater(tp) or 0) - held.next_offset, 0)
            self.metrics.lag.labels(str(tp.partition)).set(lag)
            self._lag += lag
            devices += len(held.partition.devices)
        self.metrics.active_devices.set(devices)
        if not self._lag:
            self._progress_s = now
        for tp, held in self._assigned.items():
            if held.reading_again:
                continue
            finished = self._engine.release(held.partition, now - self.settings.idle_s, now - self.settings.forget_s)
            if held.partition.released or (not held.ledger_told and now - held.ledger_at_s >= _LEDGER_S):
                self._commit(producer, [tp], finished, [])


def _send_dead_letter(producer: TransactionalProducer, record: Any, error: MessageError, latest_ms: int) -> None:
    """Set a record aside: as it came, or the beginning of it, with its place and what was wrong with it."""
    first = record.first_offset if isinstance(record, UnreadableRecord) else record.offset
    # Kafka takes no record without key and value.
    value = b"" if record.value is None and record.key is None else record.value
    key = record.key and record.key[:_MOST_LETTER_BYTES]
    kept = value and value[: _MOST_LETTER_BYTES - len(key or b"")]
    headers = [
        ("reason", error.reason.encode()),
        ("detail", error.detail[:1000].encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(first).encode()),
    ]
    if record.offset != first:
        headers.append(("last-offset", str(record.offset).encode()))
    if (key, kept) != (record.key, value):
        size = len(record.key or b"") + len(value or b"")
        headers += [("truncated", b"true"), ("size", str(size).encode())]
    stamp_ms = min(record.timestamp, latest_ms) if record.timestamp >= 0 else latest_ms
    producer.send(DEAD_LETTER, key=key, value=kept, headers=headers, timestamp_ms=stamp_ms)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Note that the assignment changed; the loop acts on it between two batches."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._predictor._assignment_changed = True

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._predictor._assignment_changed = True
