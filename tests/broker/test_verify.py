"""``repstream verify`` on a real Kafka: what produce wrote is whole, and what was tampered with is found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import Prediction
from tests.broker.services import predict_arguments, read_predictions, service
from tests.broker.test_predictor import produce
from tests.support import cli

pytestmark = pytest.mark.broker

NAMES = ["spar/s08-left-ROW-1", "spar/s08-right-PEN-1"]
AGAIN = "-again"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A Kafka in which two recordings were replayed as they are, and again by three wearers."""
    folder = tmp_path_factory.mktemp("verify")
    with EmbeddedBroker.start(folder / "kafka") as broker:
        servers = broker.bootstrap_servers
        with service(*predict_arguments(servers), log=folder / "predictor.log"):
            produce(broker, *NAMES, "--speed", "max")
            produce(broker, *NAMES, "--speed", "max", "--wearers", "3", "--session-suffix", AGAIN)
            # Of the third replay, a part: it is stopped half-way.
            produce(broker, NAMES[0], "--speed", "20", "--session-suffix", "-part", "--duration", "1")
            for more in ([], ["--session-suffix", AGAIN, "--wearers", "3"]):
                code, out, err = verify(broker, *NAMES, *more, "--wait", "60")
                assert code == 0, out + err
        yield broker


def verify(broker: EmbeddedBroker, *arguments: str) -> tuple[int, str, str]:
    done = cli("verify", *arguments, "--bootstrap-servers", broker.bootstrap_servers)
    return done.code, done.out, done.err


def verdict(broker: EmbeddedBroker, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = verify(broker, *arguments, "--json")
    return code, json.loads(out)


def copied(broker: EmbeddedBroker, topic: str, predictions: Sequence[Prediction]) -> str:
    """Write predictions to a topic of their own."""
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection, extra={topic: {}})
    producer = connection.producer()
    for prediction in predictions:
        producer.send(topic, key=prediction.device.encode(), value=encode(prediction))
    producer.flush()
    producer.close()
    return topic


def test_a_replay_is_whole_and_says_so(kafka: EmbeddedBroker) -> None:
    code, out, _ = verify(kafka, *NAMES)
    assert code == 0
    assert "windows of 2 sessions: each was predicted once, as spar/1 scores it in batch" in out
    code, found = verdict(kafka, *NAMES)
    assert (code, found["equal"], found["sessions"], found["not_sent"]) == (0, True, 2, 0)
    assert found["windows"] == found["predictions"] > 0
    assert found["others"] > 0, "those of the other replays"


def test_copies_of_the_devices_are_found_or_named(kafka: EmbeddedBroker) -> None:
    code, found = verdict(kafka, *NAMES, "--session-suffix", AGAIN)
    assert (code, found["sessions"]) == (0, 3)
    assert verdict(kafka, *NAMES, "--session-suffix", AGAIN, "--wearers", "3") == (code, found)
    code, found = verdict(kafka, *NAMES, "--session-suffix", AGAIN, "--wearers", "4")
    assert (code, found["sessions"], found["not_sent"]) == (1, 4, 1)
    assert found["missing"] > 0


def test_of_a_replay_that_was_stopped_the_part_that_was_sent_counts(kafka: EmbeddedBroker) -> None:
    code, whole = verdict(kafka, NAMES[0])
    code, part = verdict(kafka, NAMES[0], "--session-suffix", "-part", "--wait", "30")
    assert code == 0
    assert 0 < part["windows"] < whole["windows"]


def test_a_prediction_removed_doubled_or_changed_is_found_and_named(kafka: EmbeddedBroker) -> None:
    told = [p for p in read_predictions(kafka.bootstrap_servers) if "-part" not in p.session and AGAIN not in p.session]
    first, *rest = told
    label = first.label
    changed = msgspec.structs.replace(first, probabilities={**first.probabilities, label: first.confidence - 1e-6})
    assert verdict(kafka, *NAMES, "--topic", copied(kafka, "as-it-was", told))[0] == 0
    for topic, those, kind in (
        ("removed", rest, "missing"),
        ("twice", [*told, first], "doubled"),
        ("changed", [changed, *rest], "wrong"),
    ):
        code, found = verdict(kafka, *NAMES, "--topic", copied(kafka, topic, those))
        assert (code, found["equal"]) == (1, False)
        assert {k: found[k] for k in ("missing", "doubled", "wrong", "unexpected") if found[k]} == {kind: 1}
        assert [finding["id"] for finding in found["named"][kind]] == [first.id]
        code, out, _ = verify(kafka, *NAMES, "--topic", topic)
        assert code == 1
        assert f"1 {kind}" in out
        assert f"{kind}: {first.id}" in out


def test_what_cannot_be_verified_is_said_in_a_line(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    code, _, err = verify(kafka, *NAMES, "--topic", "not-there")
    assert (code, "there is no topic not-there" in err) == (1, True)
    code, found = verdict(kafka, "spar/s09-left-ROW-1")
    assert (code, found["not_sent"], found["missing"]) == (1, 1, found["windows"])
