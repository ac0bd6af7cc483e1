"""Records out of the batches that Kafka returns, one by one: what cannot be read costs itself alone.

kafka-python raises where it cannot unpack a batch or parse a record, and raises again at the next poll, so that one
message stops its reader for good. It also unpacks whatever a batch unpacks to. Here such a record, or a whole batch
where nothing in it can be told apart, becomes an `UnreadableRecord` in its place in the log, and what a batch and a
poll may take is bounded. `read_guarded` makes a consumer do so.

The layout of batches and records: https://kafka.apache.org/documentation/#messageformat
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import cramjam
import lz4.frame
import zstandard
from kafka.consumer.fetcher import ConsumerRecord, Fetcher, IsolationLevel
from kafka.structs import TopicPartition

from repstream.errors import MessageError
from repstream.messages.fields import UNREADABLE
from repstream.messages.topics import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
Message = TypeVar("Message")

# The broker limits a batch's bytes on the wire (`MAX_MESSAGE_BYTES`); this limits what they unpack to. Producers hold
# their batches to a limit before they compress them (1 MB by default), so twice the largest on the wire is ample.
MAX_UNPACKED_BYTES = 2 * MAX_MESSAGE_BYTES
# What one poll hands out at most, beyond the record that goes over it.
_POLL_BYTES = MAX_MESSAGE_BYTES
# A record with more headers is no message of anybody's, but each costs a hundred times its two bytes here.
_MAX_HEADERS = 1_000
_OLDEST_FORMAT = 2
_NO_SIZE = -1


class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]
    """What stands in the place of a record, or of a batch of them, that cannot be read.

    Its value is empty. ``offset`` is the last one that it stands for, so that reading goes on behind it.

    Attributes
    ----------
    first_offset : int
        The first offset that it stands for.
    error : MessageError
        Why it cannot be read; its reason is `UNREADABLE`.
    """

    first_offset: int
    error: MessageError

    @classmethod
    def at(
        cls, tp: TopicPartition, first_offset: int, last_offset: int, timestamp_ms: int, why: str
    ) -> UnreadableRecord:
        """Stand for the offsets from first to last."""
        record = cls(
            tp.topic, tp.partition, -1, last_offset, timestamp_ms, 0, None, b"", [], None, _NO_SIZE, 0, _NO_SIZE
        )
        record.first_offset = first_offset
        record.error = MessageError(UNREADABLE, why)
        return record


def reason_of(record: Any, error: MessageError) -> MessageError:
    """Say why a record was refused: by what made it unreadable, else by `error` of its decoding."""
    return record.error if isinstance(record, UnreadableRecord) else error


def decoded(records: Iterable[Any], decode: Callable[[bytes], Message]) -> Iterator[Message]:
    """Decode the records that are what their topic carries, and log the place of those that are not."""
    for record in records:
        try:
            yield decode(record.value or b"")
        except MessageError as error:
            place = f"{record.topic}-{record.partition} offset {record.offset}"
            log.warning("skipping %s: %s", place, reason_of(record, error))


class _TooLargeError(ValueError):
    def __init__(self) -> None:
        super().__init__(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")


def _gunzip(data: bytes) -> bytes:
    pieces: list[bytes] = []
    left = MAX_UNPACKED_BYTES
    while data:  # a gzip stream may have several members
        stream = zlib.decompressobj(wbits=31)
        pieces.append(stream.decompress(data, left + 1))
        left -= len(pieces[-1])
        if left < 0:
            raise _TooLargeError
        if not stream.eof:
            raise ValueError("the gzip stream is cut off")
        data = stream.unused_data
    return b"".join(pieces)


_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


def _unsnap(data: bytes) -> bytes:
    """Unpack snappy, plain or in the blocks of Java's library (a header, then each block after its size)."""
    if not data.startswith(_XERIAL_MAGIC):
        return _unsnap_block(data, MAX_UNPACKED_BYTES)
    pieces: list[bytes] = []
    left = MAX_UNPACKED_BYTES
    start = _XERIAL_HEADER_BYTES
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            raise ValueError("a snappy block is cut off")
        pieces.append(_unsnap_block(data[start + 4 : end], left))
        left -= len(pieces[-1])
        start = end
    return b"".join(pieces)


def _unsnap_block(block: bytes, most: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > most:
        raise _TooLargeError
    return bytes(cramjam.snappy.decompress_raw(block))


def _unlz4(data: bytes) -> bytes:
    stream = lz4.frame.LZ4FrameDecompressor()
    unpacked: bytes = stream.decompress(data, MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise _TooLargeError
    if not stream.eof:
        raise ValueError("the lz4 frame is cut off")
    return unpacked


def _unzstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise _TooLargeError
    return unpacked


_UNPACK: dict[int, Callable[[bytes], bytes]] = {0: bytes, 1: _gunzip, 2: _unsnap, 3: _unlz4, 4: _unzstd}


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read a zigzag varint; return it and the position behind it."""
    byte = data[pos]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), pos + 1
    value, shift = byte & 0x7F, 7
    while True:
        pos += 1
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), pos + 1
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")


def _sized(data: bytes, pos: int) -> tuple[bytes | None, int]:
    """Read bytes that follow their length; a length below 0 is None."""
    n, pos = _varint(data, pos)
    return (None, pos) if n < 0 else (data[pos : pos + n], pos + n)


def _extent(data: bytes, pos: int) -> tuple[int, int]:
    """Return where the record whose length stands at `pos` begins and ends."""
    n, begin = _varint(data, pos)
    if not 0 <= n <= len(data) - begin:
        raise ValueError(f"a record of {n} bytes where {len(data) - begin} are left")
    return begin, begin + n


def _contents(data: bytes, pos: int, end: int) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Read key, value and headers, which take up all that is left of a record."""
    key, pos = _sized(data, pos)
    value, pos = _sized(data, pos)
    headers, pos = _headers(data, pos)
    if pos != end:
        raise ValueError(f"its fields end {pos - end} bytes behind its own end")
    return key, value, headers


def _headers(data: bytes, pos: int) -> tuple[list[tuple[str, bytes | None]], int]:
    n, pos = _varint(data, pos)
    if not n:
        return [], pos
    if not 0 < n <= _MAX_HEADERS:
        raise ValueError(f"{n} headers")
    headers = []
    for _ in range(n):
        key, pos = _sized(data, pos)
        value, pos = _sized(data, pos)
        headers.append(((key or b"").decode(), value))
    return headers, pos


def unpack(batch: Any) -> bytes:
    """Return a batch's records as bytes.

    Parameters
    ----------
    batch : kafka.record.default_records.DefaultRecordBatch
        Not yet read from.

    Raises
    ------
    Exception
        Of whatever library the codec has, where it does not unpack; `ValueError` where it unpacks to more than
        `MAX_UNPACKED_BYTES`.
    """
    return _UNPACK[batch.compression_type](bytes(memoryview(batch._buffer)[batch.HEADER_STRUCT.size :]))


def records_of(batch: Any, data: bytes, tp: TopicPartition) -> Iterator[ConsumerRecord]:
    """Take a batch apart.

    Parameters
    ----------
    batch : kafka.record.default_records.DefaultRecordBatch
        Neither a transaction's marker nor aborted.
    data : bytes
        Its records (`unpack`).
    tp : TopicPartition
        Where it stands.

    Yields
    ------
    ConsumerRecord
        In order; an `UnreadableRecord` for what cannot be read.
    """
    base, last, first_ms, epoch = batch.base_offset, batch.last_offset, batch.first_timestamp, batch.leader_epoch
    stamp_type, newest_ms = batch.timestamp_type, batch.max_timestamp
    after, pos = base, 0
    for _ in range(batch.records_count):
        try:
            pos, end = _extent(data, pos)
        except (ValueError, IndexError) as error:
            yield UnreadableRecord.at(tp, after, last, newest_ms, f"the rest of its batch: {told(error)}")
            return
        offset, stamp_ms = after, newest_ms  # until the record has told its own
        try:
            delta_ms, at = _varint(data, pos + 1)  # behind a byte of attributes that nobody uses
            delta, at = _varint(data, at)
            # Compaction leaves holes, but nothing stands before what came before it.
            offset = min(max(base + delta, after), last)
            if not stamp_type:
                stamp_ms = first_ms + delta_ms
            key, value, headers = _contents(data, at, end)
        except (ValueError, IndexError) as error:
            yield UnreadableRecord.at(tp, offset, offset, stamp_ms, told(error))
        else:
            yield ConsumerRecord(
                tp.topic,
                tp.partition,
                epoch,
                offset,
                stamp_ms,
                stamp_type,
                key,
                value,
                headers,
                None,
                _NO_SIZE if key is None else len(key),
                _NO_SIZE if value is None else len(value),
                _NO_SIZE,
            )
        after, pos = offset + 1, end


def told(error: Exception) -> str:
    """Name an error and what it says."""
    return f"{type(error).__name__}: {error}"


class _GuardedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """One fetch's records of a partition."""

    fetcher: _GuardedFetcher

    def _unpack_records(self, tp: TopicPartition, records: Any, *_deserializers: Any) -> Iterator[ConsumerRecord]:
        batch = records.next_batch()
        while batch is not None:
            broken = batch.magic == _OLDEST_FORMAT and not batch.validate_crc()
            if broken and self.fetcher.suspects.get(tp) != batch.base_offset:
                # The network may have done it, not the disk: it is fetched once more.
                self.fetcher.suspects[tp] = batch.base_offset
                self.drain()
                return
            if not self._is_hidden(batch):
                for record in self._readable(batch, tp, broken):
                    self.next_fetch_offset = record.offset + 1
                    yield record
            if batch.magic == _OLDEST_FORMAT:
                # A batch knows where it ended even where compaction has taken its last record.
                self.next_fetch_offset = batch.next_offset
            batch = records.next_batch()
        self.drain()

    def _is_hidden(self, batch: Any) -> bool:
        """Tell whether a batch holds a transaction's end, or records that were aborted."""
        if batch.magic != _OLDEST_FORMAT:
            return False
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _readable(self, batch: Any, tp: TopicPartition, broken: bool) -> Iterator[ConsumerRecord]:
        first = int.from_bytes(batch._buffer[:8], "big")
        if batch.magic != _OLDEST_FORMAT:
            yield UnreadableRecord.at(tp, first, first, -1, f"message format {batch.magic}, of Kafka before 0.11")
            return
        if broken:
            yield UnreadableRecord.at(tp, first, batch.last_offset, batch.max_timestamp, "the checksum is wrong")
            return
        try:
            data = unpack(batch)
        except Exception as error:  # each codec's library has errors of its own
            # As much work as unpacking all that is allowed: a poll must not do it for thousands.
            self.fetcher.bytes_left -= MAX_UNPACKED_BYTES
            why = f"its batch cannot be unpacked: {told(error)}"
            yield UnreadableRecord.at(tp, first, batch.last_offset, batch.max_timestamp, why)
            return
        self.fetcher.bytes_left -= len(data)
        self.bytes_read += len(data)
        yield from records_of(batch, data, tp)

    def take(self, n: int | None = None) -> list[ConsumerRecord]:
        """Return up to `n` records, or fewer where the poll has handed out enough bytes."""
        fetcher = self.fetcher
        most = fetcher.config["max_poll_records"] if n is None else n
        records: list[ConsumerRecord] = []
        for record in self.record_iterator:
            records.append(record)
            if fetcher.bytes_left <= 0 or len(records) >= most:
                break
        return records


class _GuardedFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose records are `_GuardedRecords`."""

    suspects: dict[TopicPartition, int]
    bytes_left: int

    def PartitionRecords(self, *arguments: Any, **options: Any) -> _GuardedRecords:  # noqa: N802 — the client's name
        records = _GuardedRecords(*arguments, **options)
        records.fetcher = self
        return records

    def fetched_records(self, max_records: int | None = None, update_offsets: bool = True) -> Any:
        self.bytes_left = _POLL_BYTES
        return super().fetched_records(max_records, update_offsets)

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        taken = int(super()._append(drained, part, max_records, update_offsets))
        # To have handed out `max_records` ends the poll; what is left comes with the next one.
        return max_records if self.bytes_left <= 0 else taken


def read_guarded(consumer: Any) -> None:
    """Make a consumer of kafka-python that has just been made read as this module says."""
    consumer._fetcher.__class__ = _GuardedFetcher
    consumer._fetcher.suspects = {}
