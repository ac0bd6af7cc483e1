"""Reads the samples of the wearers that somebody looks at, and of no others; imports repstream.kafka.connection."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from monitor.live.samples import KEPT_S, SampleRings, strip_of
from repstream.errors import BrokerError, MessageError
from repstream.kafka.connection import KafkaConnection, KafkaConsumer, TopicPartition, translated
from repstream.kafka.reading import offsets_from
from repstream.messages.packet import decode_packet
from repstream.messages.topics import SAMPLES

log = logging.getLogger(__name__)

_POLL_MS = 100
_POLL_RECORDS = 2_000
_IDLE_S = 0.2
_RETRY_S = 2.0


class SampleTap:
    """Follows `samples` in a thread of its own while there is somebody to look at.

    It commits nothing and is in no group. A wearer's packets are all in one partition; until the first
    of them has shown which, all are read, and after that only those that are needed. A packet of anyone
    else costs a comparison of its key.

    Parameters
    ----------
    connection : KafkaConnection
    newest_event_s : callable
        Event time of the newest sample known of a device, epoch s, None where nothing is known.

    Attributes
    ----------
    rings : SampleRings
    trouble : str
        Why Kafka cannot be read; empty where it can.
    """

    def __init__(self, connection: KafkaConnection, newest_event_s: Callable[[str], float | None]) -> None:
        self._connection = connection
        self._newest_event_s = newest_event_s
        self._wanted: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.rings = SampleRings()
        self.trouble = ""

    def watch(self, devices: set[str]) -> None:
        """Follow these devices from now on; none lets Kafka go."""
        with self._lock:
            self._wanted = set(devices)
            if devices and self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        thread = self._thread
        if thread is not None:
            thread.join(5.0)

    def _devices(self) -> set[str]:
        with self._lock:
            return self._wanted

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._devices():
                self.rings.watch(set())
                self._stopping.wait(_IDLE_S)
                continue
            try:
                with translated("reading samples for the live page"):
                    self._follow()
            except BrokerError as error:
                self.trouble = str(error)
                log.warning("%s; trying again in %g s", error, _RETRY_S)
                self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        """Read until nobody looks any more, or Kafka fails."""
        consumer = self._connection.consumer(fetch_max_wait_ms=_POLL_MS, allow_auto_create_topics=False)
        try:
            everything = consumer.partitions_of(SAMPLES)
            if not everything:
                self._stopping.wait(_IDLE_S)
                return
            homes: dict[str, TopicPartition] = {}
            keys: dict[bytes, str] = {}
            while not self._stopping.is_set() and (devices := self._devices()):
                if devices != set(keys.values()):
                    keys = {device.encode(): device for device in devices}
                    self._assign(consumer, everything, self.rings.watch(devices), homes)
                for tp, records in consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS).items():
                    for record in records:
                        device = keys.get(record.key)
                        if device is not None:
                            homes[device] = tp
                            self._take(device, record)
                self.trouble = ""
                needed = {homes[device] for device in devices if device in homes}
                if devices <= homes.keys() and needed != consumer.assignment():
                    _keep_places(consumer, needed)
        finally:
            consumer.close(autocommit=False, timeout_ms=2_000)

    def _assign(
        self,
        consumer: KafkaConsumer,
        everything: list[TopicPartition],
        new: set[str],
        homes: dict[str, TopicPartition],
    ) -> None:
        """Add the partitions of devices newly looked at, from half a minute ago on."""
        there = {tp: consumer.position(tp) for tp in consumer.assignment()}
        wanted = {homes[d] for d in new} if new <= homes.keys() else set(everything)
        if not wanted:
            return
        known = [s for s in (self._newest_event_s(d) for d in new) if s is not None]
        from_s = min(known, default=time.time()) - KEPT_S
        consumer.assign(sorted(there.keys() | wanted))
        for tp, position in there.items():
            consumer.seek(tp, position)
        for tp, offset in offsets_from(consumer, wanted, from_s).items():
            consumer.seek(tp, min(offset, there.get(tp, offset)))

    def _take(self, device: str, record: Any) -> None:
        try:
            strip = strip_of(decode_packet(record.value or b"", record.key, record.timestamp))
        except MessageError:
            return  # the predictor counts it, says why, and sets it aside
        if strip is not None:
            self.rings.add(device, strip, record.offset)


def _keep_places(consumer: KafkaConsumer, needed: set[TopicPartition]) -> None:
    places = {tp: consumer.position(tp) for tp in needed if tp in consumer.assignment()}
    consumer.assign(sorted(needed))
    for tp, position in places.items():
        consumer.seek(tp, position)
