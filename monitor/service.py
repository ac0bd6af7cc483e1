"""The monitor's loop: predictions and labels in, metrics out; drift is worked out in another process.

It reads all partitions by itself (two monitors, of two groups, would each see everything). In one
transaction it sends the alarms that it has to tell, now and then what it knows of each device, and how far
it got, with a text that says from where its windows can be read again. A restart, and any failure of
Kafka, goes through that: no alarm is lost, repeated or invented, and nothing is kept elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from monitor.alarms.book import AlarmBook
from monitor.alarms.devices import DeviceWatch
from monitor.alarms.fleet import FleetWatch
from monitor.alarms.others import OtherModels
from monitor.drift.passes import PassResult, PassWorker
from monitor.drift.state import MonitoringSettings, MonitorState, Table
from monitor.ledger_sums import Ledgers, LedgerSums
from monitor.live.drift import DriftHistory
from monitor.live.feed import Feed
from monitor.metrics import MonitorMetrics
from repstream.alarms.files import DriftModel
from repstream.errors import BrokerUnavailableError, MessageError, SettingsError
from repstream.kafka import state_topic
from repstream.kafka.connection import (
    KafkaConnection,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
    TransactionalProducer,
    ensure_topics,
    keep_working,
    translated,
    wait_for_broker,
)
from repstream.kafka.records import decoded, reason_of
from repstream.kafka.state_topic import TOPIC_CONFIG, Pointer, topic_of
from repstream.messages import fields, messages
from repstream.messages.messages import Alarm, LabelInterval, Prediction
from repstream.messages.topics import ALARMS, LABELS, LEDGER, MONITOR_GROUP, PREDICTIONS, PREDICTOR_GROUP
from repstream.recognition.card import ModelCard

log = logging.getLogger(__name__)

_POLL_MS = 200
_POLL_RECORDS = 5_000
_COMMIT_EVERY_S = 2.0
# Alarms are told sooner than that, but not each by itself.
_TELL_EVERY_S = 0.2
# What is known of devices is written down no more often; what came since is read again.
_CHECKPOINT_S = 30.0
_TRANSACTION_TIMEOUT_MS = 30_000
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
    predictor_group : str
        The predictors whose ledger of samples is shown.
    """

    group: str = MONITOR_GROUP
    every_s: float = 5.0
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    predictor_group: str = PREDICTOR_GROUP

    def __post_init__(self) -> None:
        if self.every_s <= 0:
            raise SettingsError(f"every_s must be above 0, received {self.every_s}")
        if not self.group:
            raise SettingsError("group must not be empty")


class _Place(msgspec.Struct, omit_defaults=True):
    """The text that goes with a committed offset: from where the windows can be read again.

    Of predictions it also holds the `repstream.kafka.state_topic.Pointer` to what is known of the devices.
    """

    read_from: int
    offset: int | None = None
    at: int | None = None
    id: str | None = None
    chunks: int | None = None
    v: int = 1


_place_decoder = msgspec.json.Decoder(_Place)


@dataclass
class _Held:
    """One partition: how far it is committed, and what is known of its devices."""

    committed: int
    watch: DeviceWatch | None = None
    watched_from: int = 0  # messages before this are part of the state that was read back
    pointer: Pointer | None = None


class Monitor:
    """Consume predictions and labels, compare with the reference, expose metrics.

    Parameters
    ----------
    model : ModelCard
    connection : KafkaConnection
    settings : MonitorSettings
    worker : PassWorker
        Where drift is worked out.
    registry : CollectorRegistry
    stopping : callable
        True once the service is to commit and end.
    drift : DriftModel or None
        Without it there are no alarms about single devices.
    on_alarm : callable
        Told of each alarm that begins.
    """

    def __init__(
        self,
        model: ModelCard,
        connection: KafkaConnection,
        settings: MonitorSettings,
        worker: PassWorker,
        registry: CollectorRegistry,
        stopping: Callable[[], bool],
        drift: DriftModel | None = None,
        on_alarm: Callable[[Alarm], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.connection = connection
        self.settings = settings
        self.stopping = stopping
        self.metrics = MonitorMetrics(registry, model.features.names, model.labels)
        self.metrics.reference_rows.set(len(worker.reference))
        self.last_pass: PassResult | None = None
        self.reference = worker.reference
        self.feed = Feed(model.labels, settings.monitoring.label_share)
        self.drift_history = DriftHistory(model.features.names)
        self._worker = worker
        self._drift = drift
        self._on_alarm = on_alarm
        self._book = AlarmBook()
        self._fleet = self._new_fleet()
        self._held: dict[TopicPartition, _Held] = {}
        self._untold: list[Alarm] = []
        self._state_topic = topic_of(settings.group)
        self._checkpoint_at_s = -float("inf")
        self._lock = threading.Lock()  # the web server's threads read the state
        self._state = self._new_state()
        self._ledgers = Ledgers(settings.predictor_group)
        self._others = OtherModels(model.id)
        self._firsts: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
        self._pass: Future[PassResult] | None = None
        self._pass_at_s = -float("inf")
        self._polled_s = time.monotonic()
        self._trouble = "starting"

    def _new_state(self) -> MonitorState:
        model = self.model
        return MonitorState(model.id, len(model.features.names), model.labels, self.settings.monitoring)

    def _new_fleet(self) -> FleetWatch:
        reference = self.reference
        accuracy = float((reference.prediction == reference.label).mean())
        return FleetWatch(self.model.id, accuracy, self._book.open())

    def progress(self) -> dict[str, int]:
        """How many predictions were taken in, and alarms are still to be told; for any thread."""
        with self._lock:
            return {"predictions": self._state.predictions, "alarms_to_tell": len(self._untold)}

    def other_models(self) -> list[str]:
        """Models whose predictions stand in the topic, too, and are set aside here; for any thread."""
        with self._lock:
            return self._others.names()

    def alarms(self) -> list[Alarm]:
        """Alarms that are on, then those that are over, each the newest first; for any thread."""
        with self._lock:
            return self._book.all()

    def table(self, n: int) -> Table:
        """Rows of the newest `n` monitoring windows; for any thread."""
        with self._lock:
            return self._state.table(n)

    def ledger(self) -> LedgerSums:
        """What became of all samples; for any thread."""
        with self._lock:
            return self._ledgers.sums()

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
        ensure_topics(self.connection, extra={self._state_topic: TOPIC_CONFIG})
        with translated("working with Kafka"):
            producer = self.connection.transactional_producer(
                self.settings.group, _TRANSACTION_TIMEOUT_MS, [ALARMS, self._state_topic], self.settings.group
            )
            try:
                consumer = self.connection.consumer(group_id=self.settings.group, max_poll_records=_POLL_RECORDS)
                try:
                    self._restore(consumer)
                    self._trouble = ""
                    self._loop(consumer, producer)
                finally:
                    with contextlib.suppress(Exception):  # a failed life is told by its first error
                        consumer.close(autocommit=False, timeout_ms=2_000)
            finally:
                with contextlib.suppress(Exception):
                    producer.close(timeout=2)

    def _restore(self, consumer: KafkaConsumer) -> None:
        """Take all partitions and seek to where the windows began, or the devices' state, whichever is first.

        Ledgers are read from their beginning, and no offset of theirs is committed: the topic is compacted.
        """
        alarms_read = self._read_alarms(consumer)
        partitions, ledgers = consumer.partitions_of(PREDICTIONS, LABELS), consumer.partitions_of(LEDGER)
        consumer.assign(partitions + ledgers + list(alarms_read))
        if ledgers:
            consumer.seek_to_beginning(*ledgers)
        for tp, position in alarms_read.items():
            consumer.seek(tp, position)
        commits = {tp: consumer.committed(tp, metadata=True) for tp in partitions}
        self._held = {tp: _Held(commit.offset if commit else 0) for tp, commit in commits.items()}
        if self._drift is not None:
            self._restore_watches(self._drift, {tp: c for tp, c in commits.items() if tp.topic == PREDICTIONS})
        for tp, commit in commits.items():
            held = self._held[tp]
            if commit is None:
                consumer.seek_to_beginning(tp)
                continue
            try:
                start = _place_decoder.decode(commit.metadata or "").read_from
            except msgspec.MsgspecError:
                log.warning("%s: offset %d was committed without our text; windows begin there", tp, commit.offset)
                start = commit.offset
            consumer.seek(tp, min(start, held.watched_from) if held.watch else start)
        with self._lock:
            self._state = self._new_state()
            self._ledgers = Ledgers(self.settings.predictor_group)
            self._others = OtherModels(self.model.id)
        self._untold = []
        self._fleet = self._new_fleet()
        self._firsts.clear()
        self.feed.clear()
        self.metrics.forget_counts(self._state)
        log.info("reading %d partitions of %s and %s", len(partitions), PREDICTIONS, LABELS)

    def _restore_watches(self, drift: DriftModel, commits: Mapping[TopicPartition, Any]) -> None:
        """Read back what was known of the devices."""
        texts = {tp: (commit.offset, commit.metadata or "") if commit else None for tp, commit in commits.items()}
        for tp, stored in state_topic.read(self.connection, self._state_topic, texts).items():
            held = self._held[tp]
            held.watch = DeviceWatch(drift, self.model.id)
            held.watched_from, held.pointer = stored.position, stored.pointer
            if stored.data is not None:
                try:
                    held.watch.load(stored.data)
                except MessageError as error:
                    log.warning("%s: %s; devices are watched anew from offset %d", tp, error, held.committed)
                    held.watched_from, held.pointer = held.committed, None

    def _read_alarms(self, consumer: KafkaConsumer) -> dict[TopicPartition, int]:
        """Read what has been told so far; return how far."""
        partitions = consumer.partitions_of(ALARMS)
        book = AlarmBook()
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(tp) < ends[tp] for tp in partitions) and not self.stopping():
            for records in consumer.poll(timeout_ms=_POLL_MS).values():
                for alarm in decoded(records, messages.decode_alarm):
                    book.add(alarm)
        with self._lock:
            self._book = book
        self.metrics.show_alarms(book)
        return {tp: consumer.position(tp) for tp in partitions}

    def _loop(self, consumer: KafkaConsumer, producer: TransactionalProducer) -> None:
        committed_s = looked_s = shown_s = time.monotonic()
        dirty = False
        while True:
            last_round = self.stopping()
            polled = consumer.poll(timeout_ms=0 if last_round else _POLL_MS)
            now = self._polled_s = time.monotonic()
            for tp, records in polled.items():
                if tp.topic == LEDGER:
                    self._take_ledger(records)
                elif tp.topic == ALARMS:
                    self._take_alarms(records)
                else:
                    dirty = True
                    self._take(tp, records)
            self._run_passes(consumer, now)
            due = now - committed_s >= (_TELL_EVERY_S if self._untold else _COMMIT_EVERY_S)
            if (dirty or self._untold) and (last_round or due):
                self._commit(consumer, producer, now)
                committed_s, dirty = now, False
            if last_round:
                return
            if now - shown_s >= _COMMIT_EVERY_S:
                shown_s = now
                self._show_lag(consumer)
            if now - looked_s >= _LOOK_AROUND_S:
                looked_s = now
                self._look_around(consumer)

    def _look_around(self, consumer: KafkaConsumer) -> None:
        if set(consumer.partitions_of(PREDICTIONS, LABELS)) != set(self._held):
            raise BrokerUnavailableError("the topics have other partitions than before")
        for held in self._held.values():
            if held.watch is not None:
                self._untold += held.watch.forget()
        # Partitions that are read at different paces would make a model look silent.
        if not self._is_reading_again(consumer) and not any(self._lag(consumer).values()):
            self._untold += self._others.ended(self._book.open())

    def _is_reading_again(self, consumer: KafkaConsumer) -> bool:
        """Tell whether messages come that were counted and told in an earlier life."""
        return any(consumer.position(tp) < held.committed for tp, held in self._held.items())

    def _take(self, tp: TopicPartition, records: list[Any]) -> None:
        """Add one partition's messages to the state; those before what is committed were counted and told already."""
        committed = self._held[tp].committed
        again = [r for r in records if r.offset < committed]
        if again:
            self._add(tp, again)
            self.metrics.forget_counts(self._state)
        if len(records) > len(again):
            self._untold += self._add(tp, records[len(again) :])
            self.metrics.count(self._state)

    def _take_alarms(self, records: list[Any]) -> None:
        with self._lock:
            for alarm in decoded(records, messages.decode_alarm):
                self._book.add(alarm)
        self.metrics.show_alarms(self._book)

    def _take_ledger(self, records: list[Any]) -> None:
        with self._lock:
            for record in records:
                try:
                    self._ledgers.add(messages.decode_ledger(record.value or b""))
                except MessageError as error:
                    self._state.odd["unreadable"] += 1
                    log.warning(
                        "%s-%d offset %d: %s", LEDGER, record.partition, record.offset, reason_of(record, error)
                    )
        self.metrics.count(self._state)
        self.metrics.show_ledger(self.ledger())

    def _add(self, tp: TopicPartition, records: list[Any]) -> list[Alarm]:
        """Add messages to the state; return the alarms that they make begin or end."""
        wall = time.time()
        held = self._held[tp]
        watched: list[Prediction] = []
        stamped_s: list[float] = []
        window_s = self.settings.monitoring.window_s
        firsts = self._firsts[tp]
        predictions: list[Prediction] = []
        labels: list[LabelInterval] = []
        with self._lock:
            for record in records:
                try:
                    if tp.topic == PREDICTIONS:
                        prediction = messages.decode_prediction(record.value or b"")
                        end, reason = prediction.end, self._state.add_prediction(prediction, wall)
                        if reason is None:
                            predictions.append(prediction)
                        if self._others.hear(prediction.model, record.timestamp / 1e3, tp.partition):
                            log.warning(
                                "%s-%d offset %d: predictions of model %s come, too; this monitor watches %s alone",
                                *(tp.topic, tp.partition, record.offset, prediction.model, self.model.id),
                            )
                        # Not what depends on the clock or on what came before: it must be the same when read again.
                        if reason not in ("other-model", "features") and record.offset >= held.watched_from:
                            watched.append(prediction)
                            stamped_s.append(record.timestamp / 1e3)
                    else:
                        label = messages.decode_label(record.value or b"")
                        end, reason = label.end, self._state.add_label(label, wall)
                        if reason in (None, "unknown-label"):  # a page shows what the model cannot know, too
                            labels.append(label)
                except MessageError as error:
                    self._state.odd["unreadable"] += 1
                    place = f"{tp.topic}-{tp.partition} offset {record.offset}"
                    log.warning("%s: %s", place, reason_of(record, error))
                    continue
                if reason is None:
                    firsts.setdefault(int(end // window_s), record.offset)
            horizon = self._state.horizon_s
        self.feed.add(predictions, labels, wall)
        for number in [n for n in firsts if n * window_s < horizon]:
            del firsts[number]
        return held.watch.add(watched, stamped_s) if held.watch is not None else []

    def _commit(self, consumer: KafkaConsumer, producer: TransactionalProducer, now: float) -> None:
        """Tell alarms and commit, in one transaction."""
        told = self._untold
        wall = time.time()
        with producer.transaction():
            for alarm in told:
                producer.send(
                    ALARMS,
                    key=alarm.id.encode(),
                    value=fields.encode(alarm),
                    # Kafka refuses what is dated more than an hour ahead, as a device's clock can be.
                    timestamp_ms=int(min(alarm.ended or alarm.raised, wall) * 1e3),
                )
            if now - self._checkpoint_at_s >= _CHECKPOINT_S or self.stopping():
                self._checkpoint(consumer, producer)
                self._checkpoint_at_s = now
            offsets = {tp: self._offset(consumer, tp, held) for tp, held in self._held.items()}
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        for tp, held in self._held.items():
            held.committed = max(held.committed, consumer.position(tp))
        self._untold = []
        for alarm in told:
            log.info("alarm %s %s: %s", alarm.id, "ended" if alarm.ended else "begins", alarm.text)
            if alarm.ended is None:
                self.metrics.alarms_total.labels(alarm.cause, alarm.scope).inc()
                self._on_alarm(alarm)

    def _checkpoint(self, consumer: KafkaConsumer, producer: TransactionalProducer) -> None:
        """Write down what is known of devices, of the partitions that are not being read again."""
        for tp, held in self._held.items():
            position = consumer.position(tp)
            if held.watch is not None and position >= held.committed:
                held.pointer = state_topic.write(producer, self._state_topic, tp.partition, held.watch.dump(), position)

    def _offset(self, consumer: KafkaConsumer, tp: TopicPartition, held: _Held) -> OffsetAndMetadata:
        position = consumer.position(tp)
        place = _Place(min([*self._firsts[tp].values(), position]))
        if held.pointer is not None:
            p = held.pointer
            place = _Place(place.read_from, p.offset, p.at, p.id, p.chunks)
        # While the windows are being read again, what was committed stays so.
        return OffsetAndMetadata(max(position, held.committed), msgspec.json.encode(place).decode(), -1)

    def _lag(self, consumer: KafkaConsumer) -> dict[str, int]:
        # Asked for: fetches, which tell it otherwise, may hang.
        ends = consumer.end_offsets(list(consumer.assignment()))
        lag: dict[str, int] = defaultdict(int)
        for tp, end in ends.items():
            lag[tp.topic] += max(end - consumer.position(tp), 0)
        return lag

    def _show_lag(self, consumer: KafkaConsumer) -> None:
        for topic, behind in self._lag(consumer).items():
            self.metrics.lag.labels(topic).set(behind)

    def _run_passes(self, consumer: KafkaConsumer, now: float) -> None:
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
                self.drift_history.add(self.last_pass)
                self._look_at_all(consumer, self.last_pass)
        if now - self._pass_at_s >= self.settings.every_s:
            self._pass_at_s = now
            self._pass = self._worker.submit(self.table(self.settings.monitoring.current))

    def _look_at_all(self, consumer: KafkaConsumer, result: PassResult) -> None:
        """See what holds for all devices; not while what was told already is being read again."""
        if not result.rows or self._is_reading_again(consumer):
            return
        newest = self._state.newest_window
        assert newest is not None
        newest_s = (newest + 1) * self.settings.monitoring.window_s
        watches = [held.watch for held in self._held.values() if held.watch is not None]
        n_devices = sum(map(len, watches))
        self._untold += self._fleet.add(result, [a for w in watches for a in w.open()], n_devices, newest_s)
        since_s = newest_s - self.settings.monitoring.window_s * self.settings.monitoring.current
        self.metrics.show_devices(n_devices, [w.suspects(since_s) for w in watches])
