"""Where a predictor stands in its partitions, and how it gets back there (see `repstream.kafka.state_topic`)."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from predictor.engine import checkpoint
from predictor.engine.engine import Engine
from predictor.engine.partition import Partition, Shape
from predictor.intake import decode_records
from repstream.errors import BrokerUnavailableError, MessageError
from repstream.kafka import state_topic
from repstream.kafka.connection import WAIT_MS, KafkaConnection, TopicPartition, TransactionalProducer
from repstream.kafka.state_topic import Pointer

log = logging.getLogger(__name__)

_POLL_MS = 200


@dataclass
class Assigned:
    """A partition that is ours: its state and where in the log that state stands."""

    partition: Partition
    next_offset: int
    committed: int
    pointer: Pointer | None
    text: str  # what was committed with the offset
    checkpoint_at_s: float
    packets_since: int = 0
    ledger_at_s: float = -math.inf
    ledger_told: bool = True

    @property
    def reading_again(self) -> bool:
        """Whether it stands before what is committed, to get its state back."""
        return self.next_offset < self.committed


@dataclass(frozen=True)
class Restored:
    """A partition as it stood at ``position``; windows up to the committed offset are not repeated.

    ``shape`` is what its state was computed with: what is read again is to be read with that.
    """

    partition: Partition
    position: int
    pointer: Pointer | None
    shape: Shape


def write(
    producer: TransactionalProducer, topic: str, number: int, partition: Partition, offset: int, shape: Shape
) -> Pointer:
    """Send a checkpoint within the open transaction and return what points to it."""
    return state_topic.write(producer, topic, number, checkpoint.dump(partition, shape), offset)


def restore(
    connection: KafkaConnection,
    topic: str,
    committed: dict[TopicPartition, tuple[int, str] | None],
    shape: Shape,
) -> dict[TopicPartition, Restored]:
    """Load the state of partitions.

    Parameters
    ----------
    committed : mapping
        Of each partition the committed offset and the text with it, None where nothing was committed.
    shape : Shape
        Of this predictor.
    """
    found: dict[TopicPartition, Restored] = {}
    for tp, stored in state_topic.read(connection, topic, committed).items():
        partition, position, pointer, made_with = Partition(), stored.position, stored.pointer, shape
        if stored.data is not None:
            commit = committed[tp]
            assert commit is not None
            try:
                partition, made_with = checkpoint.load(stored.data, shape.lateness_us, time.monotonic())
                partition.emit_from = commit[0]
            except MessageError as error:
                log.warning("%s: %s; starting at offset %d without state", tp, error, commit[0])
                position, pointer = commit[0], None
        found[tp] = Restored(partition, position, pointer, made_with)
    return found


def read_again(
    connection: KafkaConnection, tp: TopicPartition, held: Assigned, shape: Shape, batch_packets: int
) -> None:
    """Bring a partition's state up to what is committed, with the settings that it was made with.

    Parameters
    ----------
    held : Assigned
        Stands before what is committed; changed in place.
    batch_packets : int
        Packets at a time.

    Raises
    ------
    BrokerUnavailableError
        Where Kafka does not return the packets.
    """
    engine = Engine(shape.window, shape.hop, shape.lateness_us / 1e6)
    reader = connection.consumer(max_poll_records=batch_packets)
    deadline = time.monotonic() + WAIT_MS / 1e3
    try:
        reader.assign([tp])
        reader.seek(tp, held.next_offset)
        while held.reading_again:
            records = [r for r in reader.poll(_POLL_MS).get(tp, []) if r.offset < held.committed]
            batch = decode_records({tp: records}, {tp: held.partition})
            engine.advance(
                batch.packets, batch.partitions, batch.offsets, batch.values, time.monotonic(), batch.refused
            )
            # The position, not the last record's: what is left can be a transaction's marker.
            before, held.next_offset = held.next_offset, min(reader.position(tp), held.committed)
            if held.next_offset > before:
                deadline = time.monotonic() + WAIT_MS / 1e3
            elif time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"{tp}: Kafka returned nothing from offset {before} on within {WAIT_MS / 1e3:g} s"
                )
    finally:
        reader.close()
