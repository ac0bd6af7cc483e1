"""Kafka is killed under the services: none hangs, each goes on once it is back and stops when told, back or not."""

from __future__ import annotations

import random
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from repstream.broker import config as embedded_config
from repstream.broker.broker import EmbeddedBroker
from repstream.broker.config import _SERVER_PROPERTIES
from repstream.errors import BrokerUnavailableError
from repstream.kafka import clients as kafka_clients
from repstream.kafka.connection import KafkaConnection, OffsetAndMetadata, TopicPartition, translated, wait_for_broker
from repstream.kafka.topics import ensure_topics
from repstream.messages.topics import LEDGER, PREDICTIONS, SAMPLES
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    expected_right,
    metrics,
    predict_arguments,
    read_topic,
    service,
    value_of,
    wait_for_predictions,
    wait_until,
)

NAMES = ["spar/s08-*", "spar/s09-left-*"]
# Short ones, and one that is longer than any wait for Kafka: it has to end in a new life.
OUTAGES_S = (0.5, 2.5, 0.0, 14.0, 1.0, 2.0)


def test_no_question_to_a_kafka_that_is_gone_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = TopicPartition(SAMPLES, 0)
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection)
        consumer = connection.consumer(group_id="g")
        consumer.assign([samples])
        producers = [connection.transactional_producer(f"t{i}", 30_000, [PREDICTIONS], "g") for i in range(4)]
        for producer in producers:
            producer.begin_transaction()
            producer.send(PREDICTIONS, b"a prediction")
        producers[0].flush()
        offsets = {samples: OffsetAndMetadata(1, "", -1)}
        questions: dict[str, Callable[[], object]] = {
            "the place of a partition": lambda: consumer.position(samples),
            "what is committed": lambda: consumer.committed(samples),
            "the partitions of a topic not heard of yet": lambda: consumer.partitions_of("nowhere"),
            "offsets in a transaction": lambda: producers[0].send_offsets_to_transaction(offsets, "g"),
            "commit": producers[1].commit_transaction,
            "abort": producers[2].abort_transaction,
            "flush": lambda: (producers[3].send(PREDICTIONS, b"another"), producers[3].flush()),
            "a new transactional producer": lambda: connection.transactional_producer("t5", 30_000, [PREDICTIONS], "g"),
        }
        monkeypatch.setattr(kafka_clients, "WAIT_MS", 1_000)
        broker.kill()
        for what, ask in questions.items():
            began = time.monotonic()
            with pytest.raises(BrokerUnavailableError), translated(what):
                ask()
            assert time.monotonic() - began < 20, what
        began = time.monotonic()
        for producer in producers:
            producer.close(timeout=0.5)
        consumer.close(autocommit=False, timeout_ms=500)
        assert time.monotonic() - began < 60


def test_what_kafka_forgets_to_abort_while_it_starts_is_never_read_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ::

        predictions     good  aborted |           next
        offsets of g       1        7 |
        Kafka          ===============X   ========      ends what timed out before it leads its partitions again
    """
    often = _SERVER_PROPERTIES.replace("cleanup.interval.ms=5000", "cleanup.interval.ms=50")
    assert often != _SERVER_PROPERTIES
    monkeypatch.setattr(embedded_config, "_SERVER_PROPERTIES", often)
    samples = TopicPartition(SAMPLES, 0)
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection)
        first = connection.transactional_producer("t", 1_000, [PREDICTIONS, LEDGER], "g")
        with closing(first), first.transaction():
            first.send(PREDICTIONS, b"good", partition=0)
            first.send_offsets_to_transaction({samples: OffsetAndMetadata(1, "", -1)}, "g")
        # It is a race within Kafka, which it mostly loses on an idle machine and often wins on a busy one.
        assert any(_is_forgotten(broker, connection, samples) for _ in range(6))
        wait_for_broker(connection)
        ensure_topics(connection)
        with closing(connection.transactional_producer("t", 1_000, [PREDICTIONS, LEDGER], "g")) as producer:
            with producer.transaction():
                producer.send(PREDICTIONS, b"next", partition=0)
            with closing(connection.consumer(group_id="g")) as consumer:
                assert consumer.committed(samples) == 1
        assert [r.value for r in read_topic(broker.bootstrap_servers, PREDICTIONS)] == [b"good", b"next"]


def _is_forgotten(broker: EmbeddedBroker, connection: KafkaConnection, samples: TopicPartition) -> bool:
    """Kill Kafka in a transaction that times out meanwhile; tell whether it forgot to abort it."""
    wait_for_broker(connection)
    ensure_topics(connection)
    producer = connection.transactional_producer("t", 1_000, [PREDICTIONS, LEDGER], "g")
    producer.begin_transaction()
    producer.send(PREDICTIONS, b"aborted", partition=0)
    producer.flush()
    producer.send_offsets_to_transaction({samples: OffsetAndMetadata(7, "", -1)}, "g")
    broker.kill()
    time.sleep(1.5)  # longer than the transaction may last
    broker.restart()
    producer.abandon()
    deadline = time.monotonic() + 10.0
    while "hence can be skipped" not in broker.log_file.read_text():
        if time.monotonic() > deadline:
            return False
        if _is_readable_to_its_end(connection, PREDICTIONS):  # aborted; the word of a place that was forgotten is said
            deadline = min(deadline, time.monotonic() + 0.5)
        time.sleep(0.1)
    return True


def _is_readable_to_its_end(connection: KafkaConnection, topic: str) -> bool:
    """Tell whether no transaction is open on a topic; false while Kafka is still starting."""
    with suppress(BrokerUnavailableError), translated("asking for the end"):
        ends = []
        for isolation in ("read_committed", "read_uncommitted"):
            with closing(connection.consumer(isolation_level=isolation)) as consumer:
                ends.append(consumer.end_offsets(consumer.partitions_of(topic)))
        return bool(ends[0]) and ends[0] == ends[1]
    return False


def is_well(port: int, path: str) -> bool:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
        return True
    return False


def test_predictor_monitor_and_store_go_on_after_every_outage_and_stop_during_one(tmp_path: Path) -> None:
    """
    ::

        producer   |== replay ==...==|
        Kafka      ====X ===X  ===X===X              ===X ===X  =======X   (X: kill -9)
        services   =============================================== well ==| told to stop
    """
    model = load_model(MODEL)
    expected = expected_predictions(NAMES, model)
    right, windows = expected_right(NAMES, model)
    moments = random.Random(11)
    log, database = tmp_path / "services.log", tmp_path / "store.db"
    predict_port, monitor_port, store_port = free_port(), free_port(), free_port()
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        address = broker.bootstrap_servers
        monitor = ["monitor", "--bootstrap-servers", address, "--port", str(monitor_port), "--no-alarm-reports"]
        monitor += ["--current", "60", "--reports", str(tmp_path / "reports")]
        store = ["store", "--bootstrap-servers", address, "--store", f"sqlite:///{database}", "--every", "0.1"]
        store += ["--metrics-port", str(store_port), "--keep-days", "0"]
        predict = predict_arguments(address, "g", "--metrics-port", str(predict_port))
        produce = ["produce", *NAMES, "--bootstrap-servers", address, "--speed", "3"]
        asked = {predict_port: "/healthz", monitor_port: "/readyz", store_port: "/healthz"}

        def all_well() -> bool:
            return all(is_well(port, path) for port, path in asked.items())

        def stored() -> int:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])

        with (
            service(*predict, log=log) as predicting,
            service(*monitor, log=log) as monitoring,
            service(*store, log=log) as storing,
            service(*produce, log=log) as producing,
        ):
            wait_until(all_well, "all are well at the start")
            for i, outage_s in enumerate(OUTAGES_S):
                time.sleep(moments.uniform(1.5, 4.0))  # in the midst of work
                broker.kill()
                time.sleep(outage_s)  # the outage itself
                broker.restart()
                wait_until(all_well, f"all are well after outage {i} of {outage_s} s\n{log.read_text()[-3000:]}", 90)
            assert producing.wait(180) == 0, log.read_text()[-3000:]
            assert_stream_equals_batch(wait_for_predictions(address, len(expected)), expected, model)
            wait_until(lambda: stored() == len(expected), f"{len(expected)} predictions are stored")
            wait_until(
                lambda: (
                    value_of(metrics(monitor_port), "repstream_accuracy") == pytest.approx(right / windows, abs=1e-12)
                ),
                "the accuracy that score has",
            )
            broker.kill()
            for process in (predicting, monitoring, storing):
                assert end(process) == 0, log.read_text()[-3000:]
