"""How much flows, how much waits, and which replays can be controlled; imports repstream.kafka.connection."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from repstream.errors import BrokerError, BrokerUnavailableError, MessageError
from repstream.kafka.connection import KafkaConnection, KafkaConsumer, KafkaProducer, TopicPartition, translated
from repstream.kafka.reading import offsets_from
from repstream.kafka.records import reason_of
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import ControlCommand, ProducerStatus, decode_control
from repstream.messages.topics import CONTROL, SAMPLES

log = logging.getLogger(__name__)

_EVERY_S = 0.5
_RETRY_S = 2.0
# Packets per second are those of the last few seconds.
_RATE_OVER_S = 4.0
# A replay says each second how it stands.
_GONE_AFTER_S = 4.0
_SEND_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Traffic:
    """What flows now.

    Attributes
    ----------
    trouble : str
        Why Kafka cannot be asked; empty where it can.
    packets : int or None
        On `samples`, ever; None before the first answer.
    packets_per_s : float
    silent_s : float or None
        For how long no packet has come; None where none has been seen to come.
    lag : int or None
        Packets that the predictors have not finished.
    producers : tuple of ProducerStatus
        Replays that can be controlled and run now.
    """

    trouble: str = "starting"
    packets: int | None = None
    packets_per_s: float = 0.0
    silent_s: float | None = None
    lag: int | None = None
    producers: tuple[ProducerStatus, ...] = ()


class TrafficWatch:
    """Asks Kafka twice a second, in a thread of its own, while there is somebody to look at.

    Parameters
    ----------
    connection : KafkaConnection
    predictor_group : str
        Whose committed offsets are compared with the log's end.
    """

    def __init__(self, connection: KafkaConnection, predictor_group: str) -> None:
        self._connection = connection
        self._group = predictor_group
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._wanted = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._traffic = Traffic()
        self._statuses: dict[str, tuple[float, ProducerStatus]] = {}
        self._counts: deque[tuple[float, int]] = deque()
        self._moved_s: float | None = None
        self._producer: KafkaProducer | None = None

    def watch(self, wanted: bool) -> None:
        """Begin to ask, or leave off."""
        with self._lock:
            self._wanted = wanted
            if wanted and self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
                self._thread.start()

    def now(self) -> Traffic:
        """Return the newest answer."""
        with self._lock:
            return self._traffic

    def send(self, command: ControlCommand) -> None:
        """Hand a command to a replay, and wait until Kafka has it.

        Raises
        ------
        BrokerError
            Where Kafka does not take it.
        """
        with self._send_lock, translated("sending a command to the producer"):
            if self._producer is None:
                self._producer = self._connection.producer(
                    linger_ms=0, delivery_timeout_ms=20_000, max_block_ms=int(_SEND_TIMEOUT_S * 1000)
                )
            self._producer.send(CONTROL, encode(command), command.producer.encode()).get(timeout=_SEND_TIMEOUT_S)

    def close(self) -> None:
        """Stop asking."""
        self._stopping.set()
        thread = self._thread
        if thread is not None:
            thread.join(5.0)
        with self._send_lock:
            if self._producer is not None:
                self._producer.close(timeout=2.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._wanted:
                self._stopping.wait(_EVERY_S)
                continue
            try:
                with translated("asking Kafka for the live page"):
                    self._ask()
            except BrokerError as error:
                log.warning("%s; trying again in %g s", error, _RETRY_S)
                with self._lock:
                    self._traffic = Traffic(trouble=str(error), packets=self._traffic.packets)
                self._stopping.wait(_RETRY_S)

    def _ask(self) -> None:
        ensure_topics(self._connection)
        consumer = self._connection.consumer(
            group_id=self._group,
            allow_auto_create_topics=False,
            fetch_max_wait_ms=100,
            isolation_level="read_committed",
        )
        try:
            samples = consumer.partitions_of(SAMPLES)
            control = consumer.partitions_of(CONTROL)
            if control:
                # From a minute ago: statuses come each second, and none is missed in between.
                consumer.assign(control)
                for tp, offset in offsets_from(consumer, control, time.time() - 2 * _GONE_AFTER_S).items():
                    consumer.seek(tp, offset)
            looked_s = time.monotonic()
            while self._wanted and not self._stopping.is_set():
                self._look(consumer, samples, control)
                if not control and time.monotonic() - looked_s > _RETRY_S:
                    return  # a producer may have made the topic since
                self._stopping.wait(_EVERY_S)
        finally:
            consumer.close(autocommit=False, timeout_ms=2_000)

    def _look(self, consumer: KafkaConsumer, samples: list[TopicPartition], control: list[TopicPartition]) -> None:
        if control:
            for records in consumer.poll(timeout_ms=50).values():
                for record in records:
                    self._note(record)
        ends = consumer.end_offsets(samples)
        if len(ends) != len(samples):
            raise BrokerUnavailableError("Kafka does not say how long the topic samples is")
        total = sum(ends.values())
        committed = [consumer.committed(tp) for tp in samples]
        lag = None
        if any(c is not None for c in committed):
            lag = sum(max(ends[tp] - (c or 0), 0) for tp, c in zip(samples, committed, strict=True))
        now = time.monotonic()
        if self._counts and total != self._counts[-1][1]:
            self._moved_s = now
        self._counts.append((now, total))
        while len(self._counts) > 2 and self._counts[1][0] <= now - _RATE_OVER_S:
            self._counts.popleft()
        (then, before), span = self._counts[0], now - self._counts[0][0]
        del then
        alive = [s for at, s in self._statuses.values() if now - at < _GONE_AFTER_S and not s.ended]
        self._statuses = {n: (at, s) for n, (at, s) in self._statuses.items() if now - at < 10 * _GONE_AFTER_S}
        traffic = Traffic(
            trouble="",
            packets=total,
            packets_per_s=max(total - before, 0) / span if span > 0 else 0.0,
            silent_s=None if self._moved_s is None else now - self._moved_s,
            lag=lag,
            producers=tuple(sorted(alive, key=lambda s: s.producer)),
        )
        with self._lock:
            self._traffic = traffic

    def _note(self, record: Any) -> None:
        try:
            message = decode_control(record.value or b"")
        except MessageError as error:
            log.warning("%s-%d offset %d: %s", CONTROL, record.partition, record.offset, reason_of(record, error))
            return
        if isinstance(message, ProducerStatus):
            # By its own clock: what was said long ago is no sign of life.
            age_s = max(time.time() - message.at, 0.0)
            self._statuses[message.producer] = (time.monotonic() - age_s, message)
