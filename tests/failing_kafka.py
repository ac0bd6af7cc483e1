"""A Kafka in memory, as far as predictor, monitor and store see one, any of whose calls can fail; for tests of what that does.

It keeps Kafka's rules that exactly-once rests on: what is sent in a transaction, offsets included, becomes readable
when it commits and never where it does not, a new holder of a transactional id ends what the former one left open, and
a commit in the name of a membership that is not the newest is refused. Real brokers are in tests/broker.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kafka import errors as kafka_errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from repstream.kafka.connection import TopicPartition, TransactionalProducer


class Calls:
    """Counts the calls to Kafka and lets one of them fail.

    Parameters
    ----------
    nth : int or None
        The one that fails, from 0.
    error : callable
        Makes its error.
    is_answer_lost : bool
        Whether Kafka does what it is asked before the call fails.
    """

    def __init__(
        self, nth: int | None = None, error: Callable[[], Exception] = OSError, is_answer_lost: bool = False
    ) -> None:
        self._nth = nth
        self._error = error
        self._is_answer_lost = is_answer_lost
        self.names: list[str] = []

    def __call__(self, name: str, do: Callable[[], Any]) -> Any:
        """Do it, or fail, or both."""
        number = len(self.names)
        self.names.append(name)
        if number != self._nth:
            return do()
        if self._is_answer_lost:
            do()
        raise self._error()


@dataclass
class Log:
    """What a Kafka holds, over all connections to it."""

    partitions: dict[str, int]
    configs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    records: dict[TopicPartition, list[ConsumerRecord]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)
    generation: int = -1  # nobody has joined the group yet
    producer: int = 0

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Write a record; return its offset."""
        there = self.records[TopicPartition(topic, partition)]
        stamp_ms = 4_000_000_000_000 - 1  # later than any event time of a test
        there.append(
            ConsumerRecord(
                topic, partition, 0, len(there), stamp_ms, 0, key, value, list(headers), None, -1, len(value or b""), -1
            )
        )
        return len(there) - 1


class Connection:
    """What a `KafkaConnection` is to a service."""

    bootstrap_servers = "memory"
    security: Mapping[str, str] = {}

    def __init__(self, log: Log, calls: Calls) -> None:
        self.log = log
        self.calls = calls

    def consumer(self, *_topics: str, **options: Any) -> Consumer:
        """Return a consumer, of a group or of none."""
        made: Consumer = self.calls("consumer", lambda: Consumer(self.log, self.calls, options))
        return made

    def transactional_producer(self, *_: Any) -> Producer:
        """Return a producer that fences the one before it."""
        made: Producer = self.calls("init_transactions", lambda: Producer(self.log, self.calls))
        return made

    def admin(self) -> Admin:
        """Return an administration client."""
        made: Admin = self.calls("admin", lambda: Admin(self.log, self.calls))
        return made


class Admin:
    """The few questions that services ask."""

    def __init__(self, log: Log, calls: Calls) -> None:
        self._log = log
        self._calls = calls

    def list_topics(self) -> list[str]:
        return list(self._calls("list_topics", lambda: list(self._log.partitions)))

    def describe_cluster(self) -> dict[str, str]:
        return dict(self._calls("describe_cluster", lambda: {"cluster_id": "memory"}))

    def describe_topics(self, topics: Sequence[str] | None = None) -> list[dict[str, Any]]:
        def described() -> list[dict[str, Any]]:
            return [
                {"name": name, "partitions": [{"partition_index": p} for p in range(n)]}
                for name, n in self._log.partitions.items()
                if topics is None or name in topics
            ]

        return list(self._calls("describe_topics", described))

    def create_topics(self, new: Sequence[Any], **_: Any) -> None:
        def create() -> None:
            for topic in new:
                self._log.partitions.setdefault(topic.name, topic.num_partitions)
                self._log.configs.setdefault(topic.name, topic.topic_configs)

        self._calls("create_topics", create)

    def describe_configs(self, resources: Sequence[Any], **_: Any) -> dict[str, dict[str, Any]]:
        def described() -> dict[str, dict[str, Any]]:
            asked = {resource.name: self._log.configs.get(resource.name, {}) for resource in resources}
            return {"topic": {name: {k: {"value": v} for k, v in c.items()} for name, c in asked.items()}}

        return dict(self._calls("describe_configs", described))

    def wait_for_topics(self, _topics: Sequence[str], **_options: Any) -> None:
        self._calls("wait_for_topics", lambda: None)

    def describe_groups(self, groups: Sequence[str]) -> dict[str, Any]:
        def described() -> dict[str, Any]:
            held = [{"topic": topic, "partitions": list(range(n))} for topic, n in self._log.partitions.items()]
            member = {"member_assignment": {"assigned_partitions": held}}
            return {group: {"group_state": "Stable", "members": [member]} for group in groups}

        return dict(self._calls("describe_groups", described))

    def remove_group_members(self, _group: str, _members: Sequence[Any]) -> None:
        self._calls("remove_group_members", lambda: None)

    def close(self) -> None:
        pass


class Consumer:
    """A member of the group, or a reader of some partitions."""

    def __init__(self, log: Log, calls: Calls, options: Mapping[str, Any]) -> None:
        self._log = log
        self._calls = calls
        self._most = options.get("max_poll_records", 500)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._listener: Any = None
        self._generation = -1
        self._polls = 0

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        def join() -> None:
            self._log.generation += 1
            self._generation = self._log.generation
            self._listener = listener
            for topic in topics:
                for number in range(self._log.partitions[topic]):
                    tp = TopicPartition(topic, number)
                    commit = self._log.offsets.get(tp)
                    self._positions[tp] = commit.offset if commit else 0

        self._calls("subscribe", join)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def partitions_of(self, *topics: str) -> list[TopicPartition]:
        return [TopicPartition(t, n) for t in topics for n in range(self._log.partitions.get(t, 0))]

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("test", self._generation, f"member-{self._generation}", "one")

    def committed(self, tp: TopicPartition, metadata: bool = False) -> Any:
        commit = self._calls("committed", lambda: self._log.offsets.get(tp))
        return commit if metadata or commit is None else commit.offset

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self._positions.update(dict.fromkeys(partitions, 0))

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], **_: Any) -> None:
        def commit() -> None:
            if self._generation != self._log.generation:
                raise kafka_errors.IllegalGenerationError
            self._log.offsets.update(offsets)

        self._calls("commit", commit)

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused.difference_update(partitions)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def end_offsets(self, partitions: Sequence[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        ends = self._calls("end_offsets", lambda: {tp: len(self._log.records[tp]) for tp in partitions})
        return dict(ends)

    def beginning_offsets(self, partitions: Sequence[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        return dict(self._calls("beginning_offsets", lambda: dict.fromkeys(partitions, 0)))

    def highwater(self, tp: TopicPartition) -> int:
        return len(self._log.records[tp])

    def poll(self, **_: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
        def poll() -> dict[TopicPartition, list[ConsumerRecord]]:
            if self._listener is not None:
                self._listener.on_partitions_assigned(self.assignment())
                self._listener = None
            # Of sizes that differ, so that what is read again is cut otherwise than it was the first time.
            most = max(self._most - (self._polls + self._log.generation) % 4, 1)
            self._polls += 1
            got = {}
            for tp, position in self._positions.items():
                records = self._log.records[tp][position : position + most]
                if records and tp not in self._paused:
                    got[tp] = records
                    self._positions[tp] = records[-1].offset + 1
            return got

        return dict(self._calls("poll", poll))

    def close(self, **_: Any) -> None:
        pass


class Producer:
    """A producer whose transactions are Kafka's; `TransactionalProducer.transaction` itself drives them."""

    transaction = TransactionalProducer.transaction

    def __init__(self, log: Log, calls: Calls) -> None:
        self._log = log
        self._calls = calls
        log.producer += 1
        self._number = log.producer
        self._sent: list[Any] = []
        self._offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self._in_flight: list[tuple[str, int, bytes | None, bytes | None, Any]] = []
        self._state_places: Iterator[int] = itertools.count()

    def partitions_for(self, topic: str) -> set[int]:
        return set(self._calls("partitions_for", lambda: range(self._log.partitions[topic])))

    def begin_transaction(self) -> None:
        self._in_flight, self._offsets = [], {}

    def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int = 0, **options: Any
    ) -> Any:
        def send() -> Any:
            self._in_flight.append((topic, partition, key, value, options.get("headers", ())))
            before = sum(place[:2] == (topic, partition) for place in self._in_flight[:-1])
            place = len(self._log.records[TopicPartition(topic, partition)]) + before
            return SimpleNamespace(get=lambda timeout=0: SimpleNamespace(offset=place))

        return self._calls(f"send {topic}", send)

    def flush(self) -> None:
        self._calls("flush", lambda: None)

    def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], membership: ConsumerGroupMetadata
    ) -> None:
        def send() -> None:
            if membership.generation_id != self._log.generation:
                raise kafka_errors.IllegalGenerationError
            self._offsets.update(offsets)

        self._calls("send_offsets_to_transaction", send)

    def commit_transaction(self) -> None:
        def commit() -> None:
            if self._number != self._log.producer:
                raise kafka_errors.ProducerFencedError
            for topic, partition, key, value, headers in self._in_flight:
                self._log.append(topic, partition, key, value, headers)
            self._log.offsets.update(self._offsets)
            self._in_flight = []

        self._calls("commit_transaction", commit)

    def abort_transaction(self) -> None:
        def abort() -> None:
            self._in_flight = []

        self._calls("abort_transaction", abort)

    def close(self, **_: Any) -> None:
        pass


class Clock:
    """What a service takes for the module `time`: each look at it takes a while, so that what is due comes in turn."""

    time = staticmethod(time.time)

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._now_s = 0.0

    def monotonic(self) -> float:
        self._now_s += self._step_s
        return self._now_s


def log_of(topics: Mapping[str, Sequence[tuple[int, bytes, bytes]]], partitions: int) -> Log:
    """Return a Kafka whose topics hold messages: each its partition, key and value."""
    log = Log(dict.fromkeys(topics, partitions))
    for topic, sent in topics.items():
        for partition, key, value in sent:
            log.append(topic, partition, key, value)
    return log
