"""Where a partition stands, kept in Kafka alone: its offset, and the state to start again from.

Services that must not lose or repeat anything keep their state so. A commit of offsets carries a short text; ours is a
`Pointer`: "to go on from the committed offset, load the checkpoint at that place of the state topic and read the
messages again from ``offset``". Checkpoints are cut into chunks, keyed by chunk number, so that compaction keeps the
newest.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import msgspec

from repstream.errors import BrokerUnavailableError
from repstream.kafka.connection import KafkaConnection, KafkaConsumer, TopicPartition, TransactionalProducer

log = logging.getLogger(__name__)

# Below the broker's default limit of a message (1 MB), with room for headers.
_CHUNK_BYTES = 900_000
# Small segments: compaction leaves the one in use alone, so what lies uncompacted stays small.
TOPIC_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.2",
}
_LOAD_TIMEOUT_S = 30.0


def topic_of(group: str) -> str:
    """Name the topic that holds a group's state."""
    return f"repstream-state.{group}"


class Pointer(msgspec.Struct, frozen=True):
    """The text that goes with a committed offset.

    ``offset``: where the checkpoint was taken. ``at``: the state topic's offset of its first chunk;
    ``id`` and ``chunks``: which ones belong to it.
    """

    offset: int
    at: int
    id: str
    chunks: int
    v: int = 1


_pointer_decoder = msgspec.json.Decoder(Pointer)


@dataclass(frozen=True)
class Stored:
    """A partition's state as it was at ``position``.

    Attributes
    ----------
    data : bytes or None
        None where there is no state: then all begins at ``position``.
    """

    data: bytes | None
    position: int
    pointer: Pointer | None


def write(producer: TransactionalProducer, topic: str, number: int, data: bytes, offset: int) -> Pointer:
    """Send a partition's state within the open transaction and return what points to it.

    Parameters
    ----------
    number : int
        Of the partition, and of the state topic's partition that it is kept in.
    offset : int
        Of the first message that is not part of the state.
    """
    name = f"{offset}-{time.time_ns()}"
    pieces = [data[i : i + _CHUNK_BYTES] for i in range(0, len(data), _CHUNK_BYTES)]
    futures = [
        producer.send(
            topic,
            value=piece,
            key=str(i).encode(),
            partition=number,
            headers=[("id", name.encode())],
        )
        for i, piece in enumerate(pieces)
    ]
    # The place of the first chunk is known only once the broker has it.
    producer.flush()
    return Pointer(offset, futures[0].get(timeout=_LOAD_TIMEOUT_S).offset, name, len(pieces))


def read(
    connection: KafkaConnection, topic: str, committed: dict[TopicPartition, tuple[int, str] | None]
) -> dict[TopicPartition, Stored]:
    """Load the state of partitions.

    Parameters
    ----------
    committed : mapping
        Of each partition the committed offset and the text with it, None where nothing was committed.
    """
    found: dict[TopicPartition, Stored] = {}
    pointers: dict[TopicPartition, Pointer] = {}
    for tp, commit in committed.items():
        if commit is None:
            found[tp] = Stored(None, 0, None)
            continue
        offset, text = commit
        try:
            pointers[tp] = _pointer_decoder.decode(text)
        except msgspec.MsgspecError:
            # Somebody moved the group's offsets by hand; that is how to skip or repeat on purpose.
            log.warning("%s: offset %d was committed without our state; starting there without state", tp, offset)
            found[tp] = Stored(None, offset, None)
    if pointers:
        consumer = connection.consumer()
        try:
            ends = _ends(connection, [TopicPartition(topic, tp.partition) for tp in pointers])
            for tp, pointer in pointers.items():
                data = _load(consumer, topic, tp, pointer, ends[TopicPartition(topic, tp.partition)])
                if data is None:
                    # The topic was deleted, or was not compacted and too old.
                    offset = committed[tp][0]  # type: ignore[index]
                    log.warning("%s: its state is gone from %s; starting at offset %d without state", tp, topic, offset)
                    found[tp] = Stored(None, offset, None)
                else:
                    found[tp] = Stored(data, pointer.offset, pointer)
        finally:
            consumer.close()
    return found


def _ends(connection: KafkaConnection, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where partitions end, with what no reader of committed messages gets yet."""
    consumer = connection.consumer(isolation_level="read_uncommitted")
    try:
        ends: dict[TopicPartition, int] = consumer.end_offsets(places)
        return ends
    finally:
        consumer.close()


def _load(consumer: KafkaConsumer, topic: str, tp: TopicPartition, pointer: Pointer, end: int) -> bytes | None:
    """Read a checkpoint; None where it is not in the topic, which ends at `end`, any more."""
    place = TopicPartition(topic, tp.partition)
    if pointer.at >= end:
        return None
    consumer.assign([place])
    consumer.seek(place, pointer.at)
    chunks: dict[int, bytes] = {}
    deadline = time.monotonic() + _LOAD_TIMEOUT_S
    while len(chunks) < pointer.chunks:
        if consumer.position(place) >= end:
            return None
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"the state of {tp.topic}-{tp.partition} at {topic} offset {pointer.at} was not read "
                f"within {_LOAD_TIMEOUT_S:g} s ({len(chunks)} of {pointer.chunks} chunks)"
            )
        for record in consumer.poll(timeout_ms=500).get(place, []):
            if dict(record.headers).get("id") == pointer.id.encode():
                chunks[int(record.key)] = record.value
    return b"".join(chunks[i] for i in range(pointer.chunks))
