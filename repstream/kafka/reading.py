"""Reading topics outside of a group: to the end that they have now, and from a point in time.

Errors of the client are left to the caller's `repstream.kafka.connection.translated`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from repstream.errors import BrokerUnavailableError
from repstream.kafka.connection import KafkaConsumer, TopicPartition

LARGE_FETCHES = {"max_partition_fetch_bytes": 4_194_304, "fetch_max_wait_ms": 50}
"""Options of a consumer that reads whole topics; up to its end, Kafka need not wait for more."""

STALLED_S = 30.0
"""A topic of which nothing more comes for so long, though its end is not reached, is given up."""

_POLL_MS = 100
_POLL_RECORDS = 5_000


def read_to_end(
    consumer: KafkaConsumer,
    partitions: Collection[TopicPartition],
    stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda _n_read, _n_all: None,
) -> Iterator[Any]:
    """Yield all records of partitions, from their beginning to the end that they have now.

    Records are not decoded, so that one bad message stops no reader. Afterwards the consumer is still assigned to the
    partitions and stands where reading ended.

    Parameters
    ----------
    consumer : KafkaConsumer
        Its assignment is replaced.
    partitions : collection of TopicPartition
    stopping : callable
        Ends the reading early where it returns true.
    progress : callable
        Called after each poll with the offsets passed so far and those there are in all.

    Raises
    ------
    BrokerUnavailableError
        Where nothing more comes for `STALLED_S`.
    """
    partitions = sorted(partitions)
    if not partitions:
        return  # nobody has made the topic yet
    ends = consumer.end_offsets(partitions)
    begins = consumer.beginning_offsets(partitions)
    consumer.assign(partitions)
    for tp in partitions:
        consumer.seek(tp, begins[tp])
    n_all = sum(ends[tp] - begins[tp] for tp in partitions)
    left, moved_s = n_all, time.monotonic()
    while left > 0 and not stopping():
        for records in consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS).values():
            yield from records
        before, now_s = left, time.monotonic()
        # Positions, not the records' offsets: a partition can end with a transaction's marker.
        left = sum(max(ends[tp] - consumer.position(tp), 0) for tp in partitions)
        if left != before:
            moved_s = now_s
        elif now_s - moved_s > STALLED_S:
            topics = ", ".join(sorted({tp.topic for tp in partitions}))
            raise BrokerUnavailableError(f"nothing more of {topics} came within {STALLED_S:g} s, short of its end")
        progress(n_all - left, n_all)


def offsets_from(
    consumer: KafkaConsumer, partitions: Collection[TopicPartition], from_s: float
) -> dict[TopicPartition, int]:
    """Return where to start reading for all records stamped at or after `from_s` (epoch seconds).

    It is a partition's end where there are none. Kafka compares the records' timestamps, which need not be in order:
    older ones can follow.
    """
    found = consumer.offsets_for_times(dict.fromkeys(partitions, int(from_s * 1000)))
    ends = consumer.end_offsets(list(partitions))
    return {tp: start.offset if (start := found.get(tp)) else ends[tp] for tp in partitions}
