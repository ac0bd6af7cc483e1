"""What Kafka returns, record by record: all that is readable is read, and nothing else stops the reader."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from kafka.consumer.fetcher import ConsumerRecord, IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from repstream.kafka.records import (
    MAX_UNPACKED_BYTES,
    UnreadableRecord,
    _GuardedFetcher,
    _GuardedRecords,
    records_of,
    unpack,
)

TP = TopicPartition("samples", 3)
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = [NONE, GZIP, SNAPPY, LZ4, ZSTD]

Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def batch_bytes(messages: list[Message], codec: int = NONE, base: int = 0) -> bytes:
    """A batch as kafka-python's producer writes it and a broker numbers it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=100_000_000,
    )
    for i, (key, value, headers) in enumerate(messages):
        builder.append(i, 1_000 + i, key, value, headers)
    return struct.pack(">q", base) + bytes(builder.build())[8:]


def raw_batch(records: bytes, n: int, codec: int = NONE, base: int = 0) -> bytes:
    """A batch of `n` records that are written by hand, its checksum right."""
    packed = {NONE: bytes, GZIP: gzip_encode, SNAPPY: snappy_encode, LZ4: lz4_encode, ZSTD: zstd_encode}[codec](records)
    from crc32c import crc32c

    tail = struct.pack(">hiqqqhii", codec, n - 1, 1_000, 1_000 + n, -1, -1, -1, n) + packed
    return struct.pack(">qiibI", base, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def read(data: bytes) -> list[ConsumerRecord]:
    batch = DefaultRecordBatch(data)
    return list(records_of(batch, unpack(batch), TP))


class Fetched:
    """A fetch response of some batches, and the consumer that reads it poll by poll."""

    def __init__(self, data: bytes, at: int = 0, max_poll_records: int = 500) -> None:
        self.fetcher = _GuardedFetcher.__new__(_GuardedFetcher)
        self.fetcher.config = {"max_poll_records": max_poll_records}
        self.fetcher.suspects = {}
        self.data = data
        self.position = at

    def fetch(self) -> _GuardedRecords:
        records: _GuardedRecords = self.fetcher.PartitionRecords(
            self.position, TP, MemoryRecords(self.data), isolation_level=IsolationLevel.READ_COMMITTED
        )
        return records

    def polls(self, part: _GuardedRecords, bytes_left: int = 10**9) -> list[list[Any]]:
        got = []
        while part:
            self.fetcher.bytes_left = bytes_left
            got.append(part.take())
            self.position = part.next_fetch_offset
        return got


messages = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=40),
        st.none() | st.binary(max_size=2_000),
        st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=20)), max_size=3),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.slow
@given(messages, st.sampled_from(CODECS), st.integers(0, 2**40))
def test_every_record_is_read_as_it_was_written_whatever_compressed_it(
    sent: list[Message], codec: int, base: int
) -> None:
    got = read(batch_bytes(sent, codec, base))
    assert [(r.key, r.value, r.headers) for r in got] == sent
    assert [r.offset for r in got] == [base + i for i in range(len(sent))]
    assert [r.timestamp for r in got] == [1_000 + i for i in range(len(sent))]
    assert {(r.topic, r.partition) for r in got} == {TP}


@pytest.mark.slow
@given(messages, st.sampled_from(CODECS), st.integers(0, 2**20))
def test_kafka_pythons_own_reader_finds_the_same(sent: list[Message], codec: int, base: int) -> None:
    data = batch_bytes(sent, codec, base)
    theirs = [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers) for r in DefaultRecordBatch(data)]
    assert [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers) for r in read(data)] == theirs


def good(value: bytes, delta: int) -> bytes:
    fields = bytes([0, 0, delta * 2, 1]) + varint(len(value)) + value + b"\0"
    return varint(len(fields)) + fields


def varint(n: int) -> bytes:
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


BAD_HEADER_KEY = bytes([0, 0, 2, 1, 2]) + b"x" + varint(1) + varint(2) + b"\xff\xfe" + varint(-1)
MANY_HEADERS = bytes([0, 0, 2, 1, 2]) + b"x" + varint(100_000) + (varint(0) + varint(-1)) * 100_000
LONG_VALUE = bytes([0, 0, 2, 1]) + varint(1_000_000) + b"short"
NO_FIELDS = b""
ENDLESS = b"\xff" * 40


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "fields",
    [BAD_HEADER_KEY, MANY_HEADERS, LONG_VALUE, NO_FIELDS, ENDLESS],
    ids=["header key not UTF-8", "100,000 headers", "value longer than the record", "empty", "endless numbers"],
)
def test_a_record_that_cannot_be_parsed_costs_itself_alone(fields: bytes, codec: int) -> None:
    got = read(raw_batch(good(b"before", 0) + varint(len(fields)) + fields + good(b"after", 2), 3, codec, base=70))
    assert [(r.offset, r.value) for r in got] == [(70, b"before"), (71, b""), (72, b"after")]
    assert isinstance(got[1], UnreadableRecord)
    assert (got[1].first_offset, got[1].error.reason) == (71, "unreadable-record")


def test_where_a_record_ends_is_not_told_the_rest_of_its_batch_is_left_out() -> None:
    got = read(raw_batch(good(b"before", 0) + varint(9_999) + b"what?", 5, base=70))
    assert [r.offset for r in got] == [70, 74]
    assert (got[1].first_offset, got[1].error.detail) == (
        71,
        "the rest of its batch: ValueError: a record of 9999 bytes where 5 are left",
    )


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.parametrize("harm", ["cut off", "junk"])
def test_a_batch_that_cannot_be_unpacked_is_stepped_over(codec: int, harm: str) -> None:
    payload = random.Random(1).randbytes(5_000)
    bad = raw_batch(good(payload, 0) + good(b"x", 1), 2, codec, base=10)
    body = bad[61:-40] if harm == "cut off" else b"junk" * 20
    from crc32c import crc32c

    tail = bad[21:61] + body
    bad = bad[:8] + struct.pack(">iibI", 9 + len(tail), 0, 2, crc32c(tail)) + tail
    fetched = Fetched(bad + batch_bytes([(b"k", b"good", [])], base=12), at=10)
    got = [r for poll in fetched.polls(fetched.fetch()) for r in poll]
    # What a cut-off stream gives before its end may be read; the place behind the batch is reached in any case.
    assert [(r.offset, r.value) for r in got if not isinstance(r, UnreadableRecord)][-1] == (12, b"good")
    assert [r.offset for r in got if isinstance(r, UnreadableRecord)] == [11]
    assert fetched.position == 13


def test_a_wrong_checksum_is_fetched_again_once_and_then_stepped_over() -> None:
    broken = bytearray(batch_bytes([(b"k", b"value", [])] * 3, base=5))
    broken[-4] ^= 1
    fetched = Fetched(bytes(broken) + batch_bytes([(b"k", b"good", [])], base=8), at=5)
    assert fetched.polls(fetched.fetch()) == [[]]
    assert fetched.position == 5  # perhaps the network's fault, not the disk's
    got = [r for poll in fetched.polls(fetched.fetch()) for r in poll]
    assert [(r.offset, r.value) for r in got] == [(7, b""), (8, b"good")]
    assert got[0].first_offset == 5
    assert got[0].error.detail == "the checksum is wrong"


def test_a_checksum_that_was_wrong_only_on_the_way_costs_nothing() -> None:
    whole = batch_bytes([(b"k", b"value", [])], base=5)
    broken = bytearray(whole)
    broken[-4] ^= 1
    fetched = Fetched(bytes(broken), at=5)
    fetched.polls(fetched.fetch())
    fetched.data = whole
    assert [[r.value for r in poll] for poll in fetched.polls(fetched.fetch())] == [[b"value"]]


def test_reading_on_from_the_midst_of_a_batch_gives_what_is_left_of_it() -> None:
    fetched = Fetched(batch_bytes([(b"k", b"%d" % i, []) for i in range(9)], GZIP, base=100), at=104)
    assert [r.offset for poll in fetched.polls(fetched.fetch()) for r in poll] == [104, 105, 106, 107, 108]


def test_a_poll_hands_out_no_more_bytes_than_it_may_and_loses_none() -> None:
    batches = [batch_bytes([(b"k", bytes(1_000_000), [])] * 2, ZSTD, base=2 * i) for i in range(20)]
    fetched = Fetched(b"".join(batches))
    polls = fetched.polls(fetched.fetch(), bytes_left=5_000_000)
    assert [r.offset for poll in polls for r in poll] == list(range(40))
    assert max(sum(len(r.value) for r in poll) for poll in polls) <= 7_000_000


def test_a_poll_that_unpacked_all_that_is_allowed_in_vain_ends() -> None:
    bomb = raw_batch(bytes(MAX_UNPACKED_BYTES + 1_000), 1, ZSTD)
    fetched = Fetched(b"".join(struct.pack(">q", i) + bomb[8:] for i in range(5)))
    polls = fetched.polls(fetched.fetch(), bytes_left=16_000_000)
    assert [len(poll) for poll in polls if poll] == [1, 1, 1, 1, 1]


_BOMB = """
import resource, sys
from tests.test_kafka_records import *
codec = int(sys.argv[1])
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fetched = Fetched(data)
got = [r for poll in fetched.polls(fetched.fetch()) for r in poll]
assert [type(r).__name__ for r in got] == ["UnreadableRecord"], got
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def bomb(codec: int) -> bytes:
    """A batch that unpacks to gigabytes, or as much as its codec's library lets one write at once."""
    pieces = b"".join
    if codec == GZIP:
        one = gzip_encode(bytes(256 * 2**20))
        body = pieces([one] * 12)
    elif codec == ZSTD:
        body = pieces([zstd_encode(bytes(256 * 2**20))] * 12)
    elif codec == LZ4:
        body = lz4_encode(bytes(512 * 2**20))
    else:
        body = snappy_encode(bytes(512 * 2**20), xerial_blocksize=16 * 2**20)
    from crc32c import crc32c

    tail = struct.pack(">hiqqqhii", codec, 0, 1_000, 1_000, -1, -1, -1, 1) + body
    return struct.pack(">qiibI", 0, 9 + len(tail), 0, 2, crc32c(tail)) + tail


@pytest.mark.slow
@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD], ids=["gzip", "snappy", "lz4", "zstd"])
def test_what_unpacks_to_gigabytes_takes_less_than_200_megabytes(codec: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BOMB, str(codec)], input=bomb(codec), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < 200e6
