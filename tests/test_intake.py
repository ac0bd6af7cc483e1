"""From records to packets: what is wrong costs itself alone, is counted in its place, and is set aside once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from predictor.engine.partition import Partition
from predictor.intake import decode_records, send_dead_letter
from repstream.errors import MessageError
from repstream.kafka.connection import TopicPartition
from repstream.kafka.records import UnreadableRecord
from repstream.messages.fields import encode
from repstream.messages.packet import Packet
from repstream.messages.topics import DEAD_LETTER

PLACE = TopicPartition("samples", 0)


@dataclass
class _Record:
    value: bytes | None
    offset: int = 0
    key: bytes | None = b"watch"
    timestamp: int = -1
    topic: str = "samples"
    partition: int = 0


def packet(seq: int, size: float = 1.0, n: int = 2) -> Packet:
    rows = [(size, 0.0, 0.0)] * n
    return Packet(1, "watch", "one", seq, accel=rows, gyro=rows, t0=1_763_700_000.0 + seq, rate_hz=50.0)


def records(*those: Packet | bytes | None) -> list[_Record]:
    return [_Record(encode(that) if isinstance(that, Packet) else that, offset) for offset, that in enumerate(those)]


def test_good_packets_come_in_order_with_their_samples_one_after_the_other() -> None:
    partition = Partition()
    batch = decode_records({PLACE: records(packet(0, 1.0), packet(1, 2.0, n=3))}, {PLACE: partition})
    assert [p.seq for p in batch.packets] == [0, 1]
    assert batch.partitions == [partition] * 2
    assert batch.offsets == [0, 1]
    assert batch.values[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert (batch.rejected, batch.refused) == ([], [])


def test_what_is_wrong_is_refused_in_its_place_whatever_is_wrong_with_it() -> None:
    sent = records(b"junk", packet(0), packet(1, size=1e6), packet(2), None, packet(3, size=1e6, n=5), packet(4))
    batch = decode_records({PLACE: sent}, {PLACE: Partition()})
    assert [p.seq for p in batch.packets] == [0, 2, 4]
    assert np.abs(batch.values).max() == 1.0
    assert [(before, letter.seq, letter.samples) for before, _, letter in batch.refused] == [
        (0, 0, 0),  # nobody can read more of it
        (1, 1, 2),
        (2, 0, 0),
        (2, 3, 5),
    ]
    assert sorted(record.offset for record, _ in batch.rejected) == [0, 2, 4, 5]
    assert {error.reason for _, error in batch.rejected} == {"not-json", "range"}


def test_what_was_set_aside_before_a_restart_is_counted_again_and_not_set_aside_again() -> None:
    partition = Partition(emit_from=2)
    sent = records(b"junk", packet(0, size=1e6), b"more junk", packet(1))
    batch = decode_records({PLACE: sent}, {PLACE: partition})
    assert [before for before, _, _ in batch.refused] == [0, 0, 0]
    assert [record.offset for record, _ in batch.rejected] == [2]


@dataclass
class _Producer:
    sent: list[dict[str, Any]] = field(default_factory=list)

    def send(self, topic: str, **message: Any) -> None:
        assert topic == DEAD_LETTER
        self.sent.append({**message, "headers": {name: text.decode() for name, text in message["headers"]}})


def letter(record: Any, error: MessageError, latest_ms: int = 10**15) -> dict[str, Any]:
    producer = _Producer()
    send_dead_letter(producer, record, error, latest_ms)  # type: ignore[arg-type]
    return producer.sent[0]


def test_a_dead_letter_is_the_record_as_it_came_with_its_place_and_reason() -> None:
    told = letter(_Record(b"junk", 7, timestamp=5), MessageError("not-json", "junk"))
    assert (told["key"], told["value"], told["timestamp_ms"]) == (b"watch", b"junk", 5)
    assert told["headers"] == {
        "reason": "not-json", "detail": "junk", "topic": "samples", "partition": "0", "offset": "7",
    }  # fmt: skip


@pytest.mark.parametrize(("key", "kept"), [(b"watch", 999_995), (b"k" * 600_000, 400_000), (b"k" * 2_000_000, 0)])
def test_of_a_large_record_the_beginning_is_kept_and_its_size_told(key: bytes, kept: int) -> None:
    told = letter(_Record(b"v" * 1_500_000, key=key), MessageError("too-large", ""))
    assert len(told["key"] or b"") + len(told["value"]) == 1_000_000
    assert len(told["value"]) == kept
    assert told["headers"]["truncated"] == "true"
    assert told["headers"]["size"] == str(1_500_000 + len(key))


def test_a_date_in_the_future_is_not_given_to_the_letter() -> None:
    assert letter(_Record(b"junk", timestamp=99), MessageError("time", ""), latest_ms=50)["timestamp_ms"] == 50
    assert letter(_Record(b"junk", timestamp=-1), MessageError("time", ""), latest_ms=50)["timestamp_ms"] == 50


def test_of_a_batch_that_cannot_be_read_the_place_alone_is_told() -> None:
    record = UnreadableRecord.at(PLACE, 3, 8, 5, "the checksum is wrong")
    told = letter(record, record.error)
    assert (told["key"], told["value"]) == (None, b"")
    assert (told["headers"]["offset"], told["headers"]["last-offset"]) == ("3", "8")
    assert told["headers"]["reason"] == "unreadable-record"
