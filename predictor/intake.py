"""From Kafka's records to packets that can be used, and what becomes of those that cannot."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.engine.ledger import Refused, refused_packet
from predictor.engine.partition import Partition
from predictor.engine.session import NO_SAMPLES
from repstream.arrays import FloatArray
from repstream.errors import MessageError
from repstream.kafka.connection import TopicPartition, TransactionalProducer
from repstream.kafka.records import UnreadableRecord, reason_of
from repstream.messages.packet import Packet, check_values, decode_packet, packet_values, plausible
from repstream.messages.topics import DEAD_LETTER

# Of a record that is set aside, key and value together.
_MOST_LETTER_BYTES = 1_000_000


@dataclass
class Batch:
    """What one poll brought, decoded.

    Attributes
    ----------
    packets, partitions, offsets : lists, length n_packets
        Packets in log order, and where each came from.
    values : ndarray, shape (n_samples, 6)
        Their samples one after the other; finite.
    rejected : list of (record, MessageError)
        Records to set aside, each with what is wrong with it; not those that were set aside before a restart.
    refused : list of (int, Partition, Refused)
        All records that are no good, for the ledger: each with how many of `packets` stand before it; increasing.
    """

    packets: list[Packet] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    values: FloatArray = field(default_factory=lambda: NO_SAMPLES)
    rejected: list[tuple[Any, MessageError]] = field(default_factory=list)
    refused: list[tuple[int, Partition, Refused]] = field(default_factory=list)


def decode_records(
    records: Mapping[TopicPartition, Sequence[Any]], partitions: Mapping[TopicPartition, Partition]
) -> Batch:
    """Decode what a poll brought; what is wrong costs itself alone.

    Parameters
    ----------
    records : mapping
        As the consumer's poll returns them.
    partitions : mapping
        The state of each partition in `records`.
    """
    batch = Batch()
    sources: list[Any] = []
    # Names of their own: this runs for every packet.
    decode, packets, partitions_of, offsets = decode_packet, batch.packets, batch.partitions, batch.offsets
    for tp, got in records.items():
        partition = partitions[tp]
        for record in got:
            try:
                packets.append(decode(record.value or b"", record.key, record.timestamp))
            except MessageError as failed:
                error = reason_of(record, failed)
                batch.refused.append((len(packets), partition, refused_packet(record.value or b"", record.key)))
                if record.offset >= partition.emit_from:
                    batch.rejected.append((record, error))
                continue
            partitions_of.append(partition)
            offsets.append(record.offset)
            sources.append(record)
    batch.values = packet_values(packets)
    # One look at all values: nearly always, all are plausible.
    return batch if plausible(batch.values) else _without_implausible(batch, sources)


def _without_implausible(batch: Batch, sources: Sequence[Any]) -> Batch:
    """Take out the packets whose values cannot be; `sources` are their records."""
    keep = []
    rejected, refused = list(batch.rejected), list(batch.refused)
    position = 0
    for i, (packet, partition, offset) in enumerate(zip(batch.packets, batch.partitions, batch.offsets, strict=True)):
        n = len(packet.accel)
        try:
            check_values(batch.values[position : position + n])
            keep.append(i)
        except MessageError as error:
            refused.append((i, partition, Refused(n, packet.device, packet.session, packet.seq)))
            if offset >= partition.emit_from:
                rejected.append((sources[i], error))
        position += n
    packets = [batch.packets[i] for i in keep]
    refused.sort(key=lambda letter: letter[0])
    return Batch(
        packets,
        [batch.partitions[i] for i in keep],
        [batch.offsets[i] for i in keep],
        packet_values(packets),
        rejected,
        [(bisect.bisect_left(keep, i), partition, letter) for i, partition, letter in refused],
    )


def send_dead_letter(producer: TransactionalProducer, record: Any, error: MessageError, latest_ms: int) -> None:
    """Set a record aside: as it came, or the beginning of it, with its place and what was wrong with it.

    Parameters
    ----------
    latest_ms : int
        The latest Kafka timestamp to give, epoch ms.
    """
    first = record.first_offset if isinstance(record, UnreadableRecord) else record.offset
    # Kafka takes no record without key and value.
    value = b"" if record.value is None and record.key is None else record.value
    key = record.key and record.key[:_MOST_LETTER_BYTES]
    kept = value and value[: _MOST_LETTER_BYTES - len(key or b"")]
    headers = [
        ("reason", error.reason.encode()),
        ("detail", error.detail[:1000].encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(first).encode()),
    ]
    if record.offset != first:
        headers.append(("last-offset", str(record.offset).encode()))
    if (key, kept) != (record.key, value):
        size = len(record.key or b"") + len(value or b"")
        headers += [("truncated", b"true"), ("size", str(size).encode())]
    stamp_ms = min(record.timestamp, latest_ms) if record.timestamp >= 0 else latest_ms
    producer.send(DEAD_LETTER, key=key, value=kept, headers=headers, timestamp_ms=stamp_ms)
