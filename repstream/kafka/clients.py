"""kafka-python's consumer and producer with an end to every wait, and to what one message can do.

Some of the client's calls wait without a limit. Where Kafka goes away in the midst of one, or does not come back,
the service that called could neither go on nor stop; with a limit it fails, and begins a new life.

What the client gets wrong about joining a group (3.0.12) is mended here, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import kafka
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.partitioner.default import DefaultPartitioner

from repstream.kafka.records import read_guarded

# A broker that stalls longer than this is taken for gone; the service then starts afresh.
WAIT_MS = 10_000
_WAIT = f"{WAIT_MS / 1e3:g} s"
_ABANDON_S = 5.0


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]
    """A member of a group that goes on joining until it has joined.

    The client wants to join again when partitions were added, for example, but no longer once it has asked to. Where
    the answer comes after a poll's time, it is never looked at: the member keeps what it had, be it nothing, and sends
    no further heartbeat; six seconds later Kafka takes it for dead.
    """

    def need_rejoin(self) -> bool:
        """Whether it has to join; true until it has."""
        if super().need_rejoin():
            self.request_rejoin()
        return bool(self.rejoin_needed)


class KafkaConsumer(kafka.KafkaConsumer):  # type: ignore[misc]
    """A consumer whose questions about places and topics are answered within `WAIT_MS`, or fail.

    What it cannot read comes as an `UnreadableRecord` (`repstream.kafka.records`).

    Raises
    ------
    KafkaTimeoutError
        Where Kafka does not answer in time.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        read_guarded(self)
        self._coordinator.__class__ = _Coordinator  # the client has no option for it

    def subscribe(self, topics: Collection[str], listener: Any = None) -> None:
        """Subscribe to topics that are there, and wait until their partitions are known.

        The client would join its group at once, give out the partitions of topics that it has not heard of yet,
        which is none, and have to join again.
        """
        super().subscribe(topics, listener=listener)
        deadline = time.monotonic() + WAIT_MS / 1e3
        while unknown := [topic for topic in topics if not self._cluster.partitions_for_topic(topic)]:
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError(
                    f"Kafka did not return the partitions of {', '.join(unknown)} within {_WAIT}"
                )
            # An answer that was on its way already does not speak of them; a broker that starts may not know them yet.
            with contextlib.suppress(kafka_errors.RetriableError):
                self._refresh_topics()

    def committed(self, partition: TopicPartition, metadata: bool = False) -> Any:
        """Return what is committed of a partition.

        Kafka does not return it while a transaction that commits it is open.
        """
        try:
            return super().committed(partition, metadata=metadata, timeout_ms=WAIT_MS)
        except kafka_errors.KafkaTimeoutError as error:
            name = f"{partition.topic}-{partition.partition}"
            raise kafka_errors.KafkaTimeoutError(
                f"{name}: Kafka did not return the committed offset within {_WAIT}"
            ) from error

    def position(self, partition: TopicPartition) -> int:
        """Return where reading goes on; unlike the client's, never None.

        After a change of leader the client first asks the new one whether it still has this place.
        """
        began = time.monotonic()
        position = super().position(partition, timeout_ms=WAIT_MS)
        if position is None or time.monotonic() - began >= WAIT_MS / 1e3:
            name = f"{partition.topic}-{partition.partition}"
            raise kafka_errors.KafkaTimeoutError(f"{name}: Kafka did not confirm the position within {_WAIT}")
        return int(position)

    def partitions_of(self, *topics: str) -> list[TopicPartition]:
        """List the partitions of topics, in order; none for a topic that is not there."""
        return [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(self.partitions_for_topic(topic) or ())
        ]

    def _fetch_all_topic_metadata(self) -> None:
        # The client's, but for the limit.
        if self._cluster.metadata_refresh_in_progress:
            self._refresh_topics()
        stash, self._cluster.need_all_topic_metadata = self._cluster.need_all_topic_metadata, True
        try:
            self._refresh_topics()
        finally:
            self._cluster.need_all_topic_metadata = stash

    def _refresh_topics(self) -> None:
        self._net.run(self._manager.wait_for, self._cluster.request_update(), WAIT_MS)


class KafkaProducer(kafka.KafkaProducer):  # type: ignore[misc]
    """A producer that can always be closed."""

    _sender: Any

    def close(self, timeout: float | None = None, **options: Any) -> None:
        """Close, with what can be delivered within `timeout` (s), without the rest."""
        try:
            super().close(timeout, **options)
        except kafka_errors.KafkaError:
            self.abandon()

    def abandon(self) -> None:
        """Close without what is left to send."""
        self._sender.force_close()
        self._sender.join(_ABANDON_S)
        with contextlib.suppress(kafka_errors.KafkaError):  # that something was left is why it is abandoned
            super().close(_ABANDON_S)


class TransactionalProducer(KafkaProducer):
    """A producer whose transactions get on within `WAIT_MS` a step, or fail.

    A transaction that failed so stays open until the next `init_transactions` or Kafka's time-out ends it.
    """

    _transaction_manager: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sent: list[Any] = []

    def send(self, *arguments: Any, **options: Any) -> Any:
        """Hand over a record; `send_offsets_to_transaction` sees to it that it was delivered."""
        future = super().send(*arguments, **options)
        self._sent.append(future)
        return future

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is sent while the block runs; where that fails, abort."""
        self._sent.clear()
        self.begin_transaction()
        try:
            yield
            self.commit_transaction()
        except kafka_errors.KafkaTimeoutError:
            raise  # an abort would not be answered either
        except Exception:
            with contextlib.suppress(Exception):  # the first failure is the one to tell
                self.abort_transaction()
            raise

    def end_former(self, topics: Sequence[str], group: str) -> None:
        """End what a former holder of the id left open, in every partition of `topics` and in the offsets of `group`.

        `init_transactions` makes Kafka end it, but a broker that is still coming up forgets the partitions that it
        does not lead yet (4.3.1; in its log: "likely deleted already and hence can be skipped"). Nothing behind would
        ever become readable, or what was aborted would, with the next commit. An empty transaction, aborted, ends it.
        """
        self.begin_transaction()
        for topic in topics:
            self._sender.add_topic(topic)  # so that one look at the metadata finds all
        partitions = [TopicPartition(topic, p) for topic in topics for p in self.partitions_for(topic)]
        for tp in partitions:
            self._transaction_manager.maybe_add_partition_to_transaction(tp)
        self.send_offsets_to_transaction({}, group)
        deadline = time.monotonic() + WAIT_MS / 1e3
        while not all(map(self._transaction_manager.is_partition_added, partitions)):
            if self._transaction_manager.has_error():
                raise self._transaction_manager.last_error
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError(f"Kafka did not accept an empty transaction within {_WAIT}")
            time.sleep(0.01)
        self.abort_transaction()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent is delivered."""
        super().flush(WAIT_MS / 1e3 if timeout is None else timeout)

    def send_offsets_to_transaction(self, offsets: Any, group_metadata: Any) -> None:
        """Make offsets part of the transaction, once all that was sent in it is delivered.

        Raises
        ------
        KafkaError
            What one of the sends failed with: the client lets a transaction commit without a batch that it gave up.
        """
        self.flush()
        for future in self._sent:
            if not future.succeeded():
                raise future.exception or kafka_errors.KafkaTimeoutError("a record was not delivered in time")
        self._finish(
            self._transaction_manager.send_offsets_to_transaction(offsets, group_metadata), "accept the offsets"
        )

    def commit_transaction(self) -> None:
        """Commit the open transaction."""
        self._finish(self._transaction_manager.begin_commit(), "commit the transaction")

    def abort_transaction(self) -> None:
        """Abort the open transaction."""
        self._finish(self._transaction_manager.begin_abort(), "abort the transaction")

    def _finish(self, result: Any, what: str) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=WAIT_MS):
            raise kafka_errors.KafkaTimeoutError(f"Kafka did not {what} within {_WAIT}")


class RememberingPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """Kafka's own rule, remembered a key: murmur2 costs 5 µs in Python, a fifth of a send."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, bytes, int], int] = {}

    def partition(
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: Any, cluster: Any
    ) -> int:
        """Return the partition of a key."""
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        known = (topic, serialized_key, len(cluster.partitions_for_topic(topic)))
        chosen = self._memory.get(known)
        if chosen is None:
            if len(self._memory) > 100_000:
                self._memory.clear()
            chosen = int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
            self._memory[known] = chosen
        return chosen
