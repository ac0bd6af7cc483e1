"""The store's sink on a real Kafka: whatever is killed or away, the database holds each prediction once."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import Alarm, Prediction
from repstream.messages.topics import ALARMS, PREDICTIONS
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from store.interface import AlarmQuery, PredictionQuery
from store.open import open_store
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    metrics,
    predict_arguments,
    read_predictions,
    service,
    value_of,
    wait_for_predictions,
    wait_until,
)
from tests.test_store import alarm, prediction

NAMES = ["spar/s08-left-*"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A Kafka of the test's own: topics have fixed names."""
    with EmbeddedBroker.start(tmp_path / "kafka") as running:
        ensure_topics(KafkaConnection(running.bootstrap_servers))
        yield running


class Sink:
    """A sink's arguments, its store, and what it shows."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, *more: str) -> None:
        self.path = folder / "store.db"
        self.url = f"sqlite:///{self.path}"
        self.port = free_port()
        self.log = folder / "sink.log"
        self.arguments = ["store", "--bootstrap-servers", broker.bootstrap_servers, "--store", self.url]
        self.arguments += ["--metrics-port", str(self.port), "--every", "0.1", *more]

    def stored(self) -> list[Prediction]:
        if not self.path.exists():
            return []
        with closing(open_store(self.url)) as store:
            return list(store.predictions(PredictionQuery()))

    def alarms(self) -> list[Alarm]:
        with closing(open_store(self.url)) as store:
            return list(store.alarms(AlarmQuery()))

    def shown(self, name: str) -> float:
        return value_of(metrics(self.port), f"repstream_{name}")

    def wait_for(self, n: int, timeout_s: float = 60.0) -> None:
        def count() -> int:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as database:
                return int(database.execute("SELECT count(*) FROM predictions").fetchone()[0])

        wait_until(lambda: healthy(self.port), f"the sink is well\n{self.log_text()}", timeout_s)
        wait_until(lambda: count() >= n, f"{n} predictions in the store", timeout_s)

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def made_up(n: int, device: str = "d") -> list[Prediction]:
    """Predictions of the last minutes, of ten devices."""
    now = time.time()
    return [
        prediction(f"{device}{i % 10}", "s", i // 10, end=now - 100 + i * 0.001, signal=[float(i)]) for i in range(n)
    ]


def send(broker: EmbeddedBroker, topic: str, values: Sequence[tuple[str, bytes]]) -> None:
    producer = KafkaConnection(broker.bootstrap_servers).producer()
    for key, value in values:
        producer.send(topic, key=key.encode(), value=value)
    producer.flush()
    producer.close()


def send_predictions(broker: EmbeddedBroker, predictions: Sequence[Prediction]) -> None:
    send(broker, PREDICTIONS, [(p.device, encode(p)) for p in predictions])


def kept(predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    """What a store without features has of them."""
    return {p.id: msgspec.structs.replace(p, features=[]) for p in predictions}


def by_id(predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    found = {p.id: p for p in predictions}
    assert len(found) == len(predictions)
    return found


def test_what_is_stored_is_what_predictions_holds_and_what_score_says(broker: EmbeddedBroker, tmp_path: Path) -> None:
    model = load_model(MODEL)
    expected = expected_predictions(NAMES, model)
    address = broker.bootstrap_servers
    sink = Sink(broker, tmp_path, "--features", "--keep-days", "0")
    begun, over = alarm(1, raised=time.time()), alarm(1, raised=time.time(), ended=time.time() + 5)
    with (
        service(*sink.arguments, log=sink.log) as running,
        service(*predict_arguments(address), log=tmp_path / "predictor.log"),
        service("produce", *NAMES, "--bootstrap-servers", address, "--speed", "max"),
    ):
        send(broker, ALARMS, [(begun.id, encode(begun)), (over.id, encode(over))])
        assert len(wait_for_predictions(address, len(expected))) == len(expected)
        sink.wait_for(len(expected))
        wait_until(lambda: sink.alarms() == [over], "the alarm is stored")
        wait_until(lambda: sink.shown("store_lag") == 0, "nothing is left to store")
        assert sink.shown("stored_predictions_total") == len(expected)
        assert sink.shown("stored_alarms_total") == 2
        assert sink.shown("store_rejected_total") == 0
        assert end(running) == 0
    stored = sink.stored()
    assert by_id(stored) == by_id(read_predictions(address))
    assert_stream_equals_batch(stored, expected, model)


def test_a_sink_killed_again_and_again_loses_and_doubles_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    sent = made_up(20_000)
    send_predictions(broker, sent)
    sink = Sink(broker, tmp_path, "--batch", "50")
    for reached in (500, 5_000, 10_000):
        with service(*sink.arguments, log=sink.log) as running:
            sink.wait_for(reached)
            end(running, signal.SIGKILL)
        assert len(sink.stored()) < len(sent), "it was killed in the middle"
    with service(*sink.arguments, log=sink.log) as running:
        sink.wait_for(len(sent))
        wait_until(lambda: sink.shown("store_lag") == 0, "nothing is left to store")
        assert end(running) == 0
    assert by_id(sink.stored()) == kept(sent)


def test_a_database_away_for_longer_than_a_membership_lasts_costs_nothing(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    sent = made_up(9_000)
    sink = Sink(broker, tmp_path, "--batch", "1000")
    with service(*sink.arguments, log=sink.log) as running:
        send_predictions(broker, sent[:1_000])
        sink.wait_for(1_000)
        joined = sink.log_text().count("writing 8 partitions")
        with closing(sqlite3.connect(sink.path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            send_predictions(broker, sent[1_000:])
            wait_until(lambda: not healthy(sink.port), "the sink says that the database is away")
            wait_until(lambda: sink.shown("store_lag") == 8_000, "what waits is shown")
            until = time.monotonic() + 8.0  # a member that does not poll or beat is put out after 6 s
            wait_until(lambda: time.monotonic() > until, "the database was away for long")
            assert sink.shown("store_failures_total") >= 2
            assert sink.shown("stored_predictions_total") == 1_000
        sink.wait_for(len(sent))
        wait_until(lambda: sink.shown("store_lag") == 0, "nothing is left to store")
        assert sink.log_text().count("writing 8 partitions") == joined == 1  # it never had to join again
        assert sink.shown("stored_predictions_total") == len(sent)  # nor to read anything twice
        assert end(running) == 0
    assert by_id(sink.stored()) == kept(sent)


def test_a_sink_told_to_stop_while_the_database_is_away_leaves_the_rest_in_kafka(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    sent = made_up(500)
    sink = Sink(broker, tmp_path)
    with service(*sink.arguments, log=sink.log) as running:
        # Before it has joined it is not well either.
        wait_until(lambda: healthy(sink.port), "a sink")
        with closing(sqlite3.connect(sink.path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            send_predictions(broker, sent)
            wait_until(lambda: not healthy(sink.port), "the sink says that the database is away")
            assert end(running) == 0
    assert sink.stored() == []
    assert re.search(r"\d+ messages stay in Kafka for the next start", sink.log_text())
    with service(*sink.arguments, log=sink.log):
        sink.wait_for(len(sent))
    assert by_id(sink.stored()) == kept(sent)


def test_a_message_that_cannot_be_read_or_kept_costs_itself_alone(broker: EmbeddedBroker, tmp_path: Path) -> None:
    sent = made_up(200)
    huge = prediction("d1", "huge", 2**63, end=time.time())
    junk = [("d1", b"{"), ("d2", b""), ("d3", encode(huge)), ("d4", b'{"v":1}')]
    values = [(p.device, encode(p)) for p in sent]
    send(broker, PREDICTIONS, [*values[:100], *junk, *values[100:]])
    sink = Sink(broker, tmp_path)
    with service(*sink.arguments, log=sink.log) as running:
        sink.wait_for(len(sent))
        wait_until(lambda: sink.shown("store_lag") == 0, "nothing is left to store")
        text = metrics(sink.port)
        assert 'repstream_store_rejected_total{reason="unreadable"} 3.0' in text
        assert 'repstream_store_rejected_total{reason="refused"} 1.0' in text
        assert sink.shown("stored_predictions_total") == len(sent)
        assert end(running) == 0
    assert by_id(sink.stored()) == kept(sent)


def test_two_sinks_share_the_work_and_what_is_too_old_is_deleted(broker: EmbeddedBroker, tmp_path: Path) -> None:
    sent = made_up(2_000)
    old = [prediction("d1", "old", i, end=time.time() - 40 * 86_400) for i in range(300)]
    first, second = Sink(broker, tmp_path), Sink(broker, tmp_path)
    with service(*first.arguments, log=first.log), service(*second.arguments, log=first.log):
        wait_until(lambda: first.log_text().count("writing 4 partitions") >= 2, "both have a half")
        send_predictions(broker, sent)
        wait_until(lambda: len(first.stored()) == len(sent), "all is stored")
        shares = [sink.shown("stored_predictions_total") for sink in (first, second)]
        assert sum(shares) == len(sent)
        assert min(shares) > 0
    send_predictions(broker, old)
    with service(*first.arguments, log=first.log):
        wait_until(lambda: healthy(first.port) and first.shown("stored_predictions_total") == 300, "the old ones came")
    with service(*first.arguments, log=first.log):  # looked for at each start, and every ten minutes
        wait_until(lambda: healthy(first.port) and first.shown("store_expired_total") == 300, "the old ones went")
    assert by_id(first.stored()) == kept(sent)
