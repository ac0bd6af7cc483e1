"""The monitor's loop: predictions and labels in, metrics out; drift is worked out in another process.

It reads all partitions by itself (two monitors, of two groups, would each see everything). In one
transaction it sends the alarms that it has to tell, now and then what it knows of each device, and how far
it got, with a text that says from where its windows can be read again. A restart, and any failure of
Kafka, goes through that: no alarm is lost, repeated or invented, and nothing is kept elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from monitor.alarms.book import AlarmBook
from monitor.alarms.devices import DeviceWatch
from monitor.alarms.fleet import FleetWatch
from monitor.drift.passes import PassResult, PassWorker
from monitor.intake import Intake
from monitor.metrics import MonitorMetrics
from monitor.places import Places, lag_of
from monitor.settings import MonitorSettings
from repstream.alarms.files import DriftModel
from repstream.errors import BrokerUnavailableError
from repstream.kafka.connection import (
    KafkaConnection,
    KafkaConsumer,
    TopicPartition,
    TransactionalProducer,
    keep_working,
    translated,
    wait_for_broker,
)
from repstream.kafka.reading import read_to_end
from repstream.kafka.records import decoded
from repstream.kafka.state_topic import TOPIC_CONFIG
from repstream.kafka.topics import ensure_topics
from repstream.messages import fields, messages
from repstream.messages.messages import Alarm, LabelInterval, Prediction
from repstream.messages.topics import ALARMS, LABELS, LEDGER, PREDICTIONS
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


class Observer(Protocol):
    """Whoever looks on while the monitor works, such as the live page; called from its loop."""

    def forget(self) -> None:
        """Forget all: what follows is read from Kafka again."""

    def add(self, predictions: Sequence[Prediction], labels: Sequence[LabelInterval], now_s: float) -> None:
        """Take messages that the monitor took, at `now_s` by the clock (epoch seconds)."""

    def add_pass(self, result: PassResult) -> None:
        """Take what a pass found."""


class Monitor:
    """Consume predictions and labels, compare with the reference, expose metrics.

    What has come in is in its `intake`.

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
    observers : sequence of Observer
        Told of all that it takes in and finds.
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
        observers: Sequence[Observer] = (),
    ) -> None:
        self.model = model
        self.connection = connection
        self.settings = settings
        self.stopping = stopping
        self.metrics = MonitorMetrics(registry, model.features.names, model.labels)
        self.metrics.reference_rows.set(len(worker.reference))
        self.last_pass: PassResult | None = None
        self.reference = worker.reference
        self._observers = observers
        self._worker = worker
        self._on_alarm = on_alarm
        self.intake = Intake(model, settings, self.metrics)
        self._fleet = self._new_fleet()
        new_watch = None if drift is None else lambda: DeviceWatch(drift, model.id)
        self._places = Places(connection, settings.group, new_watch)
        self._untold: list[Alarm] = []
        self._checkpoint_at_s = -float("inf")
        self._pass: Future[PassResult] | None = None
        self._pass_at_s = -float("inf")
        self._polled_s = time.monotonic()
        self._trouble = "starting"

    def _new_fleet(self) -> FleetWatch:
        reference = self.reference
        accuracy = float((reference.prediction == reference.label).mean())
        return FleetWatch(self.model.id, accuracy, self.intake.open_alarms())

    def progress(self) -> dict[str, int]:
        """How many predictions were taken in, and alarms are still to be told; for any thread."""
        return {"predictions": self.intake.predictions, "alarms_to_tell": len(self._untold)}

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
        ensure_topics(self.connection, extra={self._places.state_topic: TOPIC_CONFIG})
        with translated("working with Kafka"):
            producer = self.connection.transactional_producer(
                self.settings.group, _TRANSACTION_TIMEOUT_MS, [ALARMS, self._places.state_topic], self.settings.group
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
        """Take all partitions, each from where it is to be read again.

        Ledgers are read from their beginning, and no offset of theirs is committed: the topic is compacted.
        """
        alarms = consumer.partitions_of(ALARMS)
        book = AlarmBook()
        for alarm in decoded(read_to_end(consumer, alarms, self.stopping), messages.decode_alarm):
            book.add(alarm)
        told_to = {tp: consumer.position(tp) for tp in alarms}
        partitions, ledgers = consumer.partitions_of(PREDICTIONS, LABELS), consumer.partitions_of(LEDGER)
        consumer.assign(partitions + ledgers + alarms)
        if ledgers:
            consumer.seek_to_beginning(*ledgers)
        for tp, position in told_to.items():
            consumer.seek(tp, position)
        self._places.restore(consumer, partitions)
        self.intake.begin(book)
        self._untold = []
        self._fleet = self._new_fleet()
        for observer in self._observers:
            observer.forget()
        log.info("reading %d partitions of %s and %s", len(partitions), PREDICTIONS, LABELS)

    def _loop(self, consumer: KafkaConsumer, producer: TransactionalProducer) -> None:
        committed_s = looked_s = shown_s = time.monotonic()
        dirty = False
        while True:
            last_round = self.stopping()
            polled = consumer.poll(timeout_ms=0 if last_round else _POLL_MS)
            now = self._polled_s = time.monotonic()
            for tp, records in polled.items():
                if tp.topic == LEDGER:
                    self.intake.take_ledgers(records)
                elif tp.topic == ALARMS:
                    self.intake.take_alarms(records)
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
        if set(consumer.partitions_of(PREDICTIONS, LABELS)) != self._places.partitions():
            raise BrokerUnavailableError("the topics have other partitions than before")
        for watch in self._places.watches():
            self._untold += watch.forget()
        # Partitions that are read at different paces would make a model look silent.
        if not self._places.is_reading_again(consumer) and not any(lag_of(consumer).values()):
            self._untold += self.intake.other_models_ended()

    def _take(self, tp: TopicPartition, records: list[Any]) -> None:
        """Take one partition's messages; those before what is committed were counted and told already."""
        committed = self._places[tp].committed
        again = [r for r in records if r.offset < committed]
        if again:
            self._add(tp, again)
            self.intake.count(is_again=True)
        if len(records) > len(again):
            self._untold += self._add(tp, records[len(again) :])
            self.intake.count(is_again=False)

    def _add(self, tp: TopicPartition, records: list[Any]) -> list[Alarm]:
        """Add predictions or labels; return the alarms that they make begin or end."""
        wall, place = time.time(), self._places[tp]
        predictions: list[Prediction] = []
        labels: list[LabelInterval] = []
        alarms: list[Alarm] = []
        if tp.topic == PREDICTIONS:
            predictions, watched = self.intake.take_predictions(place, records, wall)
            if place.watch is not None:
                alarms = place.watch.add([p for p, _ in watched], [stamped_s for _, stamped_s in watched])
        else:
            labels = self.intake.take_labels(place, records, wall)
        for observer in self._observers:
            observer.add(predictions, labels, wall)
        return alarms

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
                self._places.store_watches(consumer, producer)
                self._checkpoint_at_s = now
            producer.send_offsets_to_transaction(self._places.offsets(consumer), consumer.group_metadata())
        self._places.note_commit(consumer)
        self._untold = []
        for alarm in told:
            log.info("alarm %s %s: %s", alarm.id, "ended" if alarm.ended else "begins", alarm.text)
            if alarm.ended is None:
                self.metrics.alarms_total.labels(alarm.cause, alarm.scope).inc()
                self._on_alarm(alarm)

    def _show_lag(self, consumer: KafkaConsumer) -> None:
        for topic, behind in lag_of(consumer).items():
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
                for observer in self._observers:
                    observer.add_pass(self.last_pass)
                self._look_at_all(consumer, self.last_pass)
        if now - self._pass_at_s >= self.settings.every_s:
            self._pass_at_s = now
            self._pass = self._worker.submit(self.intake.table(self.settings.monitoring.current))

    def _look_at_all(self, consumer: KafkaConsumer, result: PassResult) -> None:
        """See what holds for all devices; not while what was told already is being read again."""
        if not result.rows or self._places.is_reading_again(consumer):
            return
        newest = self.intake.newest_window
        assert newest is not None
        newest_s = (newest + 1) * self.settings.monitoring.window_s
        watches = self._places.watches()
        n_devices = sum(map(len, watches))
        self._untold += self._fleet.add(result, [a for w in watches for a in w.open()], n_devices, newest_s)
        since_s = newest_s - self.settings.monitoring.window_s * self.settings.monitoring.current
        self.metrics.show_devices(n_devices, [w.suspects(since_s) for w in watches])
