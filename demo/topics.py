"""What a demo reads from Kafka and from its predictor's metrics; imports repstream.kafka.connection."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from repstream.errors import RepstreamError
from repstream.kafka.connection import KafkaConnection, translated
from repstream.kafka.reading import LARGE_FETCHES, read_to_end
from repstream.kafka.records import decoded
from repstream.messages.messages import Prediction, decode_prediction
from repstream.messages.topics import PREDICTIONS, SAMPLES
from repstream.processes.ports import HOST

_POLL_MS = 100


class PredictionReader:
    """Follows the topic predictions, read committed, in a thread of its own.

    Parameters
    ----------
    take : callable
        Called with each prediction and the clock when it had become readable (epoch seconds).

    Attributes
    ----------
    failure : Exception or None
        What ended it, if anything did.
    """

    def __init__(self, connection: KafkaConnection, take: Callable[[Prediction, float], None]) -> None:
        self._take = take
        self._stopping = threading.Event()
        self.failure: Exception | None = None
        with translated("following the predictions"):
            self._consumer = connection.consumer()
            partitions = self._consumer.partitions_of(PREDICTIONS)
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*partitions)
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                polled = self._consumer.poll(timeout_ms=_POLL_MS, max_records=5_000)
                now_s = time.time()
                for records in polled.values():
                    for prediction in decoded(records, decode_prediction):
                        self._take(prediction, now_s)
        except Exception as error:
            self.failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()


def read_all(connection: KafkaConnection, topic: str) -> Iterator[Any]:
    """Read a topic from its beginning to its present end, read committed.

    Raises
    ------
    BrokerError
        Where it cannot be read to its end.
    """
    with translated(f"reading {topic}"):
        consumer = connection.consumer(**LARGE_FETCHES)
        try:
            yield from read_to_end(consumer, consumer.partitions_of(topic))
        finally:
            consumer.close()


class Backlog:
    """How much of the topic samples a group has not committed yet, and whether all of its answers are readable."""

    def __init__(self, connection: KafkaConnection, group: str) -> None:
        with translated("asking how far the predictor is"):
            self._consumer = connection.consumer(group_id=group)
            self._uncommitted = connection.consumer(isolation_level="read_uncommitted")
            self._samples = self._consumer.partitions_of(SAMPLES)
            self._predictions = self._consumer.partitions_of(PREDICTIONS)

    def packets(self) -> int:
        """Count packets whose predictions are not committed."""
        with translated("asking how far the predictor is"):
            ends = self._consumer.end_offsets(self._samples)
            return sum(end - (self._consumer.committed(tp) or 0) for tp, end in ends.items())

    def is_readable(self) -> bool:
        """Whether no transaction is open on predictions: a commit's markers come just after its offsets."""
        with translated("asking how far the predictor is"):
            committed = self._consumer.end_offsets(self._predictions)
            return bool(committed == self._uncommitted.end_offsets(self._predictions))

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()
        self._uncommitted.close()


@dataclass(frozen=True)
class PredictorCounts:
    """What the predictor's metrics say: packets consumed so far, packets waiting."""

    packets: float
    lag: float


def ask(port: int, path: str, timeout_s: float = 1.0) -> tuple[int, str] | None:
    """Ask a service of this machine; (status, text), or None where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None


def predictor_counts(port: int) -> PredictorCounts | None:
    """Look at the predictor's metrics; None where it does not answer."""
    answer = ask(port, "/metrics", timeout_s=0.5)
    if answer is None or answer[0] != http.client.OK:
        return None
    sums = {"repstream_packets_consumed_total": 0.0, "repstream_consumer_lag": 0.0}
    try:
        for family in text_string_to_metric_families(answer[1]):
            for sample in family.samples:
                if sample.name in sums:
                    sums[sample.name] += sample.value
    except ValueError as error:
        raise RepstreamError(f"the predictor's metrics cannot be read: {error}") from None
    return PredictorCounts(*sums.values())
