"""What waits in Kafka is told, also where nothing is fetched; a predictor is ready once it can fetch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from predictor.service import Predictor
from predictor.settings import PredictorSettings
from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection, KafkaConsumer
from repstream.messages.fields import encode
from repstream.recognition.model import load_model
from repstream.recordings.catalogue import resolve
from tests.broker.services import MODEL, read_predictions, value_of, wait_until
from tests.broker.test_predictor import packets_of, send

pytestmark = pytest.mark.broker


@dataclass(frozen=True)
class _Connection(KafkaConnection):
    """A connection that lets the test reach the consumers made with it."""

    made: list[KafkaConsumer] = field(default_factory=list)

    def consumer(self, *topics: str, **options: Any) -> KafkaConsumer:
        self.made.append(super().consumer(*topics, **options))
        return self.made[-1]


@dataclass
class _Running:
    predictor: Predictor
    registry: CollectorRegistry
    connection: _Connection

    def is_ready(self) -> bool:
        return self.predictor.health()[0]

    def lag(self) -> float:
        return value_of(generate_latest(self.registry).decode(), "repstream_consumer_lag")

    @property
    def consumer(self) -> KafkaConsumer:
        return self.connection.made[0]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A Kafka of the test's own: topics have fixed names."""
    with EmbeddedBroker.start(tmp_path / "kafka") as running:
        yield running


@contextlib.contextmanager
def predicting(broker: EmbeddedBroker, partitions: int = 4) -> Iterator[_Running]:
    """Run a predictor in this process."""
    stopping = threading.Event()
    connection, registry = _Connection(broker.bootstrap_servers), CollectorRegistry()
    settings = PredictorSettings(partitions=partitions)
    predictor = Predictor(load_model(MODEL), connection, settings, registry, stopping.is_set)
    thread = threading.Thread(target=predictor.run)
    thread.start()
    try:
        yield _Running(predictor, registry, connection)
    finally:
        stopping.set()
        thread.join(30)
    assert not thread.is_alive()


def test_packets_that_are_not_fetched_count_as_waiting(broker: EmbeddedBroker) -> None:
    packets = packets_of(resolve(["spar/s08-left-ROW-1"])[0])
    with predicting(broker) as running:
        wait_until(running.is_ready, "it is ready")
        running.consumer.pause(*running.consumer.assignment())
        send(broker, [(p.device.encode(), encode(p)) for p in packets])
        wait_until(lambda: running.lag() == len(packets), f"a lag of {len(packets)}", timeout_s=30)
        assert f"{len(packets)} packets behind" in running.predictor.health()[1]
        running.consumer.resume(*running.consumer.assignment())
        wait_until(lambda: running.lag() == 0, "no lag")
        assert len(read_predictions(broker.bootstrap_servers)) > 0


def test_a_predictor_is_ready_once_it_has_fetched_from_each_of_its_partitions(broker: EmbeddedBroker) -> None:
    with predicting(broker) as running:
        wait_until(lambda: bool(running.connection.made), "it has a consumer")
        deadline = time.monotonic() + 60
        while not running.is_ready():
            assert time.monotonic() < deadline, running.predictor.health()
        consumer = running.consumer
        fetched = {tp.partition for tp in consumer.assignment() if consumer.highwater(tp) is not None}
        assert fetched == {0, 1, 2, 3}


def test_a_predictor_for_which_no_partition_is_left_is_ready_too(broker: EmbeddedBroker) -> None:
    with predicting(broker, partitions=1) as first:
        wait_until(first.is_ready, "the first is ready")
        with predicting(broker, partitions=1) as second:
            wait_until(lambda: first.is_ready() and second.is_ready(), "both are ready")
            assert len(first.consumer.assignment()) + len(second.consumer.assignment()) == 1
