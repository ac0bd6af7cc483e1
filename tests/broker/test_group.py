"""A consumer's membership in a group on a real Kafka: what it is given, it gets, however busy the machine."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import closing

import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection, KafkaConsumer, TopicPartition
from repstream.kafka.topics import ensure_topics
from tests.broker.services import wait_until

pytestmark = pytest.mark.broker


def member(connection: KafkaConnection) -> KafkaConsumer:
    """A static member of a group of its own, as a predictor is one."""
    return connection.consumer(
        group_id=uuid.uuid4().hex, group_instance_id="one", session_timeout_ms=6_000, heartbeat_interval_ms=1_000
    )


def new_topic(connection: KafkaConnection) -> tuple[str, int]:
    """Make a topic; return its name and how many partitions it has."""
    name = f"group-{uuid.uuid4().hex}"
    ensure_topics(connection, extra={name: {}})
    with closing(connection.consumer()) as consumer:
        return name, len(consumer.partitions_of(name))


def partitions(topic: str, n: int) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for number in range(n)}


def test_partitions_that_were_added_reach_a_member_whose_poll_was_over_before_kafka_answered(
    broker: EmbeddedBroker,
) -> None:
    """
    ::

        partitions  n | n + 1
        polls        =   |   ====...     |: so short that it asks to join and does not hear the answer
    """
    connection = KafkaConnection(broker.bootstrap_servers)
    topic, n = new_topic(connection)
    with closing(member(connection)) as consumer:
        consumer.subscribe([topic])
        wait_until(lambda: consumer.poll(timeout_ms=200) == {} and consumer.assignment() == partitions(topic, n), "all")
        with closing(connection.admin()) as admin:
            admin.create_partitions({topic: n + 1})

        def known() -> bool:
            consumer._refresh_topics()
            return consumer.partitions_for_topic(topic) == set(range(n + 1))

        wait_until(known, "the client hears of the new partition")
        consumer.poll(timeout_ms=1)
        time.sleep(0.5)  # the answer comes and nobody polls
        wait_until(
            lambda: consumer.poll(timeout_ms=200) == {} and consumer.assignment() == partitions(topic, n + 1),
            "the new one is the member's, too",
            timeout_s=30,
        )


def test_a_member_alone_has_all_partitions_at_its_first_joining(
    broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    connection = KafkaConnection(broker.bootstrap_servers)
    topic, n = new_topic(connection)
    with caplog.at_level(logging.INFO, "kafka.coordinator"), closing(member(connection)) as consumer:
        consumer.subscribe([topic])
        wait_until(lambda: consumer.poll(timeout_ms=200) == {} and bool(consumer.assignment()), "an assignment")
        assert consumer.assignment() == partitions(topic, n)
        given = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Setting newly assigned")]
    assert len(given) == 1, given
