"""Reading a topic to its end, and from a point in time, whatever stands in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from repstream.errors import BrokerUnavailableError
from repstream.kafka import reading
from repstream.kafka.connection import TopicPartition
from repstream.kafka.reading import offsets_from, read_to_end
from repstream.kafka.records import decoded
from repstream.messages.fields import encode
from repstream.messages.messages import LabelInterval, decode_label
from tests.failing_kafka import Calls, Clock, Connection, Consumer, Log, log_of

LABEL = LabelInterval("d", "s", 1.0, 2.0, "ROW")
PLACES = [TopicPartition("labels", 0), TopicPartition("labels", 1)]


def log_with(*values: bytes) -> Log:
    return log_of({"labels": [(0, b"d", value) for value in values]}, 2)


def consumer_of(log: Log) -> Consumer:
    return Connection(log, Calls()).consumer(max_poll_records=3)


def test_a_bad_message_stops_no_reader() -> None:
    consumer = consumer_of(log_with(encode(LABEL), b"not JSON", b"", encode(LABEL)))
    assert list(decoded(read_to_end(consumer, PLACES), decode_label)) == [LABEL, LABEL]
    assert [consumer.position(tp) for tp in PLACES] == [4, 0]


def test_what_is_written_meanwhile_is_not_waited_for() -> None:
    log = log_with(*[b"x"] * 10)
    read = 0
    for _ in read_to_end(consumer_of(log), PLACES):
        read += 1
        log.append("labels", 1, b"d", b"later")
    assert 10 <= read < 20 + 3


def test_progress_is_told_and_a_stop_is_heard() -> None:
    told: list[tuple[int, int]] = []
    records = read_to_end(
        consumer_of(log_with(*[b"x"] * 30)), PLACES, lambda: len(told) >= 2, lambda *now: told.append(now)
    )
    assert 0 < len(list(records)) < 30
    assert [n_all for _, n_all in told] == [30, 30]
    assert 0 < told[0][0] < told[1][0] < 30


def test_nobody_has_made_the_topic_yet() -> None:
    assert list(read_to_end(consumer_of(Log({})), [])) == []


def test_a_kafka_that_hands_out_nothing_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Consumer):
        def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
            return {}

    monkeypatch.setattr(reading, "time", Clock(5.0))
    with pytest.raises(BrokerUnavailableError, match="nothing more of labels came within 30 s"):
        list(read_to_end(Silent(log_with(b"x"), Calls(), {}), PLACES))  # type: ignore[arg-type]


def test_a_point_in_time_is_the_first_record_from_then_on_or_the_end() -> None:
    class Stamped(Consumer):
        def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
            assert set(times.values()) == {1_500}
            return {PLACES[0]: SimpleNamespace(offset=2), PLACES[1]: None}

    log = log_with(*[b"x"] * 5)
    log.append("labels", 1, b"d", b"older")
    found = offsets_from(Stamped(log, Calls(), {}), PLACES, 1.5)  # type: ignore[arg-type]
    assert found == {PLACES[0]: 2, PLACES[1]: 1}
