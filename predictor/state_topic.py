"""Where a partition stands, kept in Kafka alone: its offset, and the checkpoint to start again from.

A commit of offsets carries a short text; ours is a `Pointer`: "to go on from the committed offset,
load the checkpoint at that place of the state topic and read the samples again from ``offset``".
Checkpoints are cut into chunks, keyed by chunk number, so that compaction keeps the newest.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import msgspec

from predictor import checkpoint
from predictor.engine import Partition
from repstream.errors import BrokerUnavailableError, MessageError
from repstream.kafka import KafkaConnection, KafkaConsumer, KafkaProducer, TopicPartition
from repstream.messages import SAMPLES

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


def state_topic(group: str) -> str:
    """Name the topic that holds a group's checkpoints."""
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
class Restored:
    """A partition as it stood at ``position``; windows up to the committed offset are not repeated."""

    partition: Partition
    position: int
    pointer: Pointer | None


def write(
    producer: KafkaProducer, topic: str, number: int, partition: Partition, offset: int, window: int, hop: int
) -> Pointer:
    """Send a checkpoint within the open transaction and return what points to it."""
    data = checkpoint.dump(partition, window, hop)
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


def restore(
    connection: KafkaConnection,
    topic: str,
    committed: dict[TopicPartition, tuple[int, str] | None],
    window: int,
    hop: int,
) -> dict[TopicPartition, Restored]:
    """Load the state of partitions.

    Parameters
    ----------
    committed : mapping
        Of each partition the committed offset and the text with it, None where nothing was committed.
    """
    found: dict[TopicPartition, Restored] = {}
    pointers: dict[TopicPartition, tuple[int, Pointer]] = {}
    for tp, commit in committed.items():
        if commit is None:
            found[tp] = Restored(Partition(), 0, None)
            continue
        offset, text = commit
        try:
            pointers[tp] = (offset, _pointer_decoder.decode(text))
        except msgspec.MsgspecError:
            # Somebody moved the group's offsets by hand; that is how to skip or repeat on purpose.
            log.warning("%s: offset %d was committed without our state; windows start anew there", tp, offset)
            found[tp] = Restored(Partition(), offset, None)
    if pointers:
        consumer = connection.consumer()
        try:
            for tp, (offset, pointer) in pointers.items():
                found[tp] = _load(consumer, topic, tp, offset, pointer, window, hop)
        finally:
            consumer.close()
    return found


def _load(
    consumer: KafkaConsumer, topic: str, tp: TopicPartition, offset: int, pointer: Pointer, window: int, hop: int
) -> Restored:
    place = TopicPartition(topic, tp.partition)
    consumer.assign([place])
    consumer.seek(place, pointer.at)
    chunks: dict[int, bytes] = {}
    deadline = time.monotonic() + _LOAD_TIMEOUT_S
    while len(chunks) < pointer.chunks:
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"the checkpoint of {SAMPLES}-{tp.partition} at {topic} offset {pointer.at} did not come "
                f"within {_LOAD_TIMEOUT_S:g} s ({len(chunks)} of {pointer.chunks} chunks)"
            )
        for record in consumer.poll(timeout_ms=500).get(place, []):
            if dict(record.headers).get("id") == pointer.id.encode():
                chunks[int(record.key)] = record.value
    data = b"".join(chunks[i] for i in range(pointer.chunks))
    try:
        partition = checkpoint.load(data, window, hop, time.monotonic())
    except MessageError as error:
        log.warning("%s: %s; windows start anew at offset %d", tp, error, offset)
        return Restored(Partition(), offset, None)
    partition.emit_from = offset
    return Restored(partition, pointer.offset, pointer)
