"""Whichever call to Kafka fails, with whatever error, once or at the end for good: each window stands exactly once.

After SQLite, which lets each allocation and each read or write of a file fail in turn
(https://www.sqlite.org/testing.html).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from kafka import errors as kafka_errors
from prometheus_client import CollectorRegistry

from predictor.service import Predictor, PredictorSettings
from repstream import messages
from repstream.catalogue import resolve
from repstream.errors import BrokerError
from repstream.kafka import TopicPartition
from repstream.messages import DEAD_LETTER, PREDICTIONS, SAMPLES, encode
from repstream.model import Model, load_model
from repstream.recording import Recording
from tests.broker.test_predictor import packets_of
from tests.failing_kafka import Calls, Connection, Log, log_of

RETRIABLE: list[Callable[[], Exception]] = [
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NotLeaderForPartitionError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.ProducerFencedError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.CorruptRecordError,
    partial(ConnectionResetError, "reset"),
    partial(TimeoutError, "timed out"),
]
FATAL: list[Callable[[], Exception]] = [
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedVersionError,
]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("spar")


@pytest.fixture(scope="module")
def packets() -> list[tuple[int, bytes, bytes]]:
    """Two devices on two partitions, with a lost packet, a repeated one, one late and one that is none."""

    def beginning(name: str, n: int) -> Recording:
        whole = resolve([name])[0]
        return Recording(**{**whole.__dict__, "time_s": whole.time_s[:n], "values": whole.values[:n], "labels": None})

    left = packets_of(beginning("spar/s08-left-ROW-1", 260))
    right = packets_of(beginning("spar/s09-right-PEN-1", 240))
    del left[20]
    left.insert(9, left[7])
    right[3], right[4] = right[4], right[3]
    sent = [(p, packet.device.encode(), encode(packet)) for p, who in enumerate((left, right)) for packet in who]
    sent.insert(10, (0, left[0].device.encode(), b"not JSON"))
    return sent


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repstream.kafka.time.sleep", lambda _s: None)
    # It looks for the machine's libraries, a fifth of a run's time.
    monkeypatch.setattr("predictor.service.threadpool_limits", lambda limits: contextlib.nullcontext())


# Checkpoints lie several commits apart, so that packets before a commit are read again.
SETTINGS = PredictorSettings(
    group="test", instance="one", hop=10, batch_packets=6, checkpoint_s=1e9, checkpoint_packets=10, partitions=2
)


def work_off(log: Log, calls: Calls, model: Model) -> None:
    """Let a predictor work until all is committed, or it gives up."""
    ends = {TopicPartition(SAMPLES, p): len(log.records[TopicPartition(SAMPLES, p)]) for p in (0, 1)}

    def is_done() -> bool:
        assert len(calls.names) < 2_000, calls.names[-40:]
        return all(tp in log.offsets and log.offsets[tp].offset >= end for tp, end in ends.items())

    connection = Connection(log, calls)
    Predictor(model, connection, SETTINGS, CollectorRegistry(), is_done).run()  # type: ignore[arg-type]


def answers(log: Log) -> dict[str, bytes]:
    """Each prediction by its id, without the time of its making; each must stand once."""
    found = [messages.decode_prediction(r.value) for p in range(2) for r in log.records[TopicPartition(PREDICTIONS, p)]]
    repeated = [i for i, n in Counter(p.id for p in found).items() if n > 1]
    assert not repeated, f"more than once: {repeated}"
    for prediction in found:
        prediction.predicted_at = 0.0
    return {p.id: encode(p) for p in found}


def letters(log: Log) -> int:
    return sum(len(log.records[TopicPartition(DEAD_LETTER, p)]) for p in range(2))


@pytest.fixture(scope="module")
def undisturbed(model: Model, packets: list[tuple[int, bytes, bytes]]) -> tuple[list[str], dict[str, bytes]]:
    """The calls of a predictor that nothing happens to, and its answers."""
    log, calls = log_of(packets, 2), Calls()
    work_off(log, calls, model)
    assert letters(log) == 1
    assert {name.split()[-1] for name in calls.names} >= {"poll", "committed", PREDICTIONS, "commit_transaction"}
    return calls.names, answers(log)


@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["not done", "answer lost"])
@pytest.mark.parametrize("error", RETRIABLE, ids=lambda e: str(getattr(e, "__name__", None) or e.func.__name__))
def test_a_failure_of_any_call_costs_nothing_and_repeats_nothing(
    model: Model,
    packets: list[tuple[int, bytes, bytes]],
    undisturbed: tuple[list[str], dict[str, bytes]],
    error: Callable[[], Exception],
    is_answer_lost: bool,
) -> None:
    names, expected = undisturbed
    for nth, name in enumerate(names):
        log = log_of(packets, 2)
        work_off(log, Calls(nth, error, is_answer_lost), model)
        assert answers(log) == expected, f"call {nth}, {name}"
        assert letters(log) == 1, f"call {nth}, {name}"


@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["not done", "answer lost"])
@pytest.mark.parametrize("error", FATAL, ids=lambda e: str(e.__name__))
def test_what_trying_again_cannot_cure_ends_in_words_and_the_next_start_goes_on(
    model: Model,
    packets: list[tuple[int, bytes, bytes]],
    undisturbed: tuple[list[str], dict[str, bytes]],
    error: Callable[[], Exception],
    is_answer_lost: bool,
) -> None:
    names, expected = undisturbed
    for nth, name in enumerate(names):
        log = log_of(packets, 2)
        with contextlib.suppress(BrokerError):
            work_off(log, Calls(nth, error, is_answer_lost), model)
        work_off(log, Calls(), model)
        assert answers(log) == expected, f"call {nth}, {name}"
        assert letters(log) == 1, f"call {nth}, {name}"
