"""The predictor's checkpoints in its state topic (see `repstream.kafka.state_topic`)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from predictor.engine import checkpoint
from predictor.engine.partition import Partition, Shape
from repstream.errors import MessageError
from repstream.kafka import state_topic
from repstream.kafka.connection import KafkaConnection, TopicPartition, TransactionalProducer
from repstream.kafka.state_topic import Pointer

log = logging.getLogger(__name__)


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
                log.warning("%s: %s; windows start anew at offset %d", tp, error, commit[0])
                position, pointer = commit[0], None
        found[tp] = Restored(partition, position, pointer, made_with)
    return found
