"""Messages on their way to Kafka: sent, acknowledged, failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from producer.replay.messages import Outgoing
from repstream.errors import BrokerError
from repstream.kafka.connection import KafkaConnection, KafkaProducer, translated
from repstream.messages.topics import LABELS, SAMPLES

# A broker may be away for so long without a packet being lost or the command giving up: longer than
# a machine takes to restart. Until then the client keeps what is in flight and tries again.
_DELIVERY_TIMEOUT_MS = 600_000
# Messages handed to the client and not acknowledged: twice what four partitions have in batches,
# 13,000 packets. The client itself has no bound; a message costs it about 1 kB beside its bytes.
_MAX_IN_FLIGHT_BYTES = 16_000_000
_MESSAGE_OVERHEAD_BYTES = 1_000
# Kafka's ordinary answers take milliseconds.
SILENT_AFTER_S = 1.0
STALLED_AFTER_S = 5.0


class Outbox:
    """Sends messages and keeps count of what became of them.

    Parameters
    ----------
    producer : KafkaProducer
        Closed with it.
    address : str
        Kafka's, for messages to people.
    say : callable
        Takes sentences for the person at the keyboard.

    Attributes
    ----------
    sent, acknowledged, failed : int
        Messages.
    sent_bytes : int
        Of their keys and values.
    failure : BaseException or None
        Why the first of those that failed did.
    """

    def __init__(self, producer: KafkaProducer, address: str, say: Callable[[str], None]) -> None:
        self._producer = producer
        self._address = address
        self._say = say
        self.sent = 0
        self.sent_bytes = 0
        self.acknowledged = 0
        self.failed = 0
        self.failure: BaseException | None = None
        self._acknowledged_s = time.monotonic()
        self._sent_load = 0
        self._acknowledged_load = 0
        self._is_stalled = False

    @classmethod
    def connect(cls, connection: KafkaConnection, partitions: int | None, say: Callable[[str], None]) -> Outbox:
        """Connect to Kafka.

        Parameters
        ----------
        partitions : int or None
            As asked for; topics that have others keep them, and `say` is told.

        Raises
        ------
        BrokerUnavailableError
            Where Kafka does not answer.
        """
        with translated("connecting"):
            producer = connection.producer(delivery_timeout_ms=_DELIVERY_TIMEOUT_MS, max_block_ms=_DELIVERY_TIMEOUT_MS)
            # Looked up now, so that a send never has to wait for it.
            n = len(producer.partitions_for(SAMPLES))
            producer.partitions_for(LABELS)
        if partitions is not None and partitions != n:
            say(f"the topic {SAMPLES} is there already, with {n} partitions, not {partitions}; it stays so")
        return cls(producer, connection.bootstrap_servers, say)

    @property
    def in_flight(self) -> int:
        """Messages that are neither acknowledged nor failed yet."""
        return self.sent - self.acknowledged - self.failed

    @property
    def is_full(self) -> bool:
        """Whether so much is in flight that nothing more should be sent."""
        return self._sent_load - self._acknowledged_load > _MAX_IN_FLIGHT_BYTES

    @property
    def silent_s(self) -> float:
        """For how long Kafka has acknowledged nothing of what is in flight, s."""
        return time.monotonic() - self._acknowledged_s if self.in_flight else 0.0

    def send(self, out: Outgoing) -> None:
        """Hand a message to the client."""
        if not self.in_flight:
            self._acknowledged_s = time.monotonic()
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
        self._acknowledged_s = time.monotonic()
        self.acknowledged += 1

    def _on_failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed += 1

    def report_stall(self) -> None:
        """Say when Kafka stops answering, and when it is back; to be called now and then."""
        silent_s = self.silent_s
        if not self._is_stalled and silent_s > STALLED_AFTER_S:
            self._is_stalled = True
            self._say(
                f"Kafka at {self._address} has not acknowledged anything for {silent_s:.0f} s; "
                f"holding {self.in_flight} messages and trying again"
            )
        elif self._is_stalled and silent_s < SILENT_AFTER_S:
            self._is_stalled = False
            self._say(f"Kafka at {self._address} acknowledges again")

    def check_delivered(self) -> None:
        """See that all is acknowledged.

        Raises
        ------
        BrokerError
            Where something is not.
        """
        n_lost = self.sent - self.acknowledged
        if n_lost:
            why = "no answer" if self.failure is None else f"{type(self.failure).__name__}: {self.failure}"
            raise BrokerError(
                f"Kafka at {self._address} did not acknowledge {n_lost} of {self.sent} messages ({why}); "
                "run the same command again to resume where the log ends"
            )

    def close(self) -> None:
        """Let the client go; where something is left to send, without it."""
        if self.in_flight or self.failed:
            # close() alone would wait for what cannot be delivered, and then raise.
            self._producer.abandon()
        else:
            self._producer.close(timeout=5.0)
