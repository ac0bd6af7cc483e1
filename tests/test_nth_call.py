"""Whichever call to Kafka fails, with whatever error, once or at the end for good: all that stands, stands once.

That is each window's prediction, each alarm's beginning and end, each row of the store. After SQLite, which lets each
allocation and each read or write of a file fail in turn (https://www.sqlite.org/testing.html).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import errors as kafka_errors
from prometheus_client import CollectorRegistry

from monitor.drift.reference import load_reference
from monitor.service import Monitor
from monitor.settings import MonitorSettings
from predictor.service import Predictor
from predictor.settings import PredictorSettings
from repstream.errors import BrokerError
from repstream.kafka.connection import TopicPartition
from repstream.messages import messages
from repstream.messages.fields import encode
from repstream.messages.messages import Alarm, LabelInterval, Prediction, decode_alarm
from repstream.messages.topics import ALARMS, DEAD_LETTER, LABELS, LEDGER, PREDICTIONS, SAMPLES
from repstream.recognition.model import Model, load_model
from repstream.recordings.catalogue import resolve
from repstream.recordings.recording import Recording
from store.interface import AlarmQuery, PredictionQuery
from store.open import open_store
from store.service import Sink
from store.settings import SinkSettings
from tests.broker.test_predictor import packets_of
from tests.drifting import drift_model, sent_for
from tests.failing_kafka import Calls, Clock, Connection, Log, log_of
from tests.support import spar_recordings

Errors = Sequence[Callable[[], Exception]]

# What a service treats each in its own way; of those that it treats alike, each call gets the next one.
RETRIABLE: dict[str, Errors] = {
    "no answer in time": [kafka_errors.KafkaTimeoutError],
    "fenced": [kafka_errors.ProducerFencedError, kafka_errors.FencedInstanceIdError],
    "refused": [
        kafka_errors.NotLeaderForPartitionError,
        kafka_errors.CoordinatorNotAvailableError,
        kafka_errors.UnknownMemberIdError,
        kafka_errors.IllegalGenerationError,
        kafka_errors.OutOfOrderSequenceNumberError,
        kafka_errors.InvalidTimestampError,
        kafka_errors.MessageSizeTooLargeError,
        kafka_errors.CorruptRecordError,
    ],
    "cut off": [partial(ConnectionResetError, "reset"), partial(TimeoutError, "timed out")],
}
FATAL: dict[str, Errors] = {
    "for good": [
        kafka_errors.TopicAuthorizationFailedError,
        kafka_errors.GroupAuthorizationFailedError,
        kafka_errors.SaslAuthenticationFailedError,
        kafka_errors.UnsupportedVersionError,
    ]
}

every_error = pytest.mark.parametrize("errors", [pytest.param(e, id=k) for k, e in {**RETRIABLE, **FATAL}.items()])
done_or_not = pytest.mark.parametrize("is_answer_lost", [False, True], ids=["not done", "answer lost"])


def each_failing(names: Sequence[str], errors: Errors, is_answer_lost: bool) -> Iterator[tuple[Calls, str]]:
    """Yield, for each call of an undisturbed run, what lets it fail, and its name."""
    for nth, name in enumerate(names):
        yield Calls(nth, errors[nth % len(errors)], is_answer_lost), f"call {nth}, {name}"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repstream.kafka.connection.time.sleep", lambda _s: None)


# The predictor


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


@pytest.fixture
def no_look_for_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes a fifth of a run's time, to no end here."""
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
        # A matrix product's last bits depend on how many windows there are at once.
        prediction.confidence = round(prediction.confidence, 12)
        prediction.probabilities = {label: round(p, 12) for label, p in prediction.probabilities.items()}
    return {p.id: encode(p) for p in found}


def letters(log: Log) -> int:
    return sum(len(log.records[TopicPartition(DEAD_LETTER, p)]) for p in range(2))


@pytest.fixture(scope="module")
def undisturbed(model: Model, packets: list[tuple[int, bytes, bytes]]) -> tuple[list[str], dict[str, bytes]]:
    """The calls of a predictor that nothing happens to, and its answers."""
    log, calls = log_of({SAMPLES: packets}, 2), Calls()
    work_off(log, calls, model)
    assert letters(log) == 1
    assert {name.split()[-1] for name in calls.names} >= {"poll", "committed", PREDICTIONS, "commit_transaction"}
    return calls.names, answers(log)


@pytest.mark.slow
@done_or_not
@every_error
@pytest.mark.usefixtures("no_look_for_libraries")
def test_a_failing_call_costs_no_prediction_and_repeats_none(
    model: Model,
    packets: list[tuple[int, bytes, bytes]],
    undisturbed: tuple[list[str], dict[str, bytes]],
    errors: Errors,
    is_answer_lost: bool,
) -> None:
    names, expected = undisturbed
    for calls, which in each_failing(names, errors, is_answer_lost):
        log = log_of({SAMPLES: packets}, 2)
        with ends_in_words_where_trying_again_is_no_use(errors):
            work_off(log, calls, model)
        work_off(log, Calls(), model)
        assert answers(log) == expected, which
        assert letters(log) == 1, which


@contextlib.contextmanager
def ends_in_words_where_trying_again_is_no_use(errors: Errors) -> Iterator[None]:
    """Let a `BrokerError` be where it may; not every call is one that only credentials can cure."""
    try:
        yield
    except BrokerError:
        assert errors in FATAL.values()


# The monitor


class NoPasses:
    """Drift over all devices is worked out by the clock, in another process; here nothing comes of it."""

    def __init__(self, model: Model) -> None:
        self.reference = load_reference(model)

    def submit(self, _table: Any) -> Future[Any]:
        return Future()


@pytest.fixture(scope="module")
def watched(model: Model) -> dict[str, list[tuple[int, bytes, bytes]]]:
    """A device whose sensor is turned for a while, one without fault, and their labels."""
    turned = sent_for(spar_recordings("s08-left-*"), "rotate:90,z@20-50")
    well = sent_for(spar_recordings("s10-left-*"))
    predictions = [(0, p.device.encode(), encode(p)) for p in turned[:250] if p.signal]
    predictions += [(1, p.device.encode(), encode(p)) for p in well[:80] if p.signal]
    intervals = [
        LabelInterval(who[0].device, who[0].session, who[0].start, who[0].start + 20, who[0].label)
        for who in (turned, well)
    ]
    labels = [(i, label.device.encode(), encode(label)) for i, label in enumerate(intervals)]
    return {PREDICTIONS: predictions, LABELS: labels, ALARMS: [], LEDGER: []}


def watch(log: Log, calls: Calls, model: Model, worker: NoPasses) -> Monitor:
    """Let a monitor work until it has read and committed all, or gives up; return it."""
    ends = {TopicPartition(t, p): len(log.records[TopicPartition(t, p)]) for t in (PREDICTIONS, LABELS) for p in (0, 1)}
    n_predictions = sum(n for tp, n in ends.items() if tp.topic == PREDICTIONS)

    def is_done() -> bool:
        assert len(calls.names) < 2_000, calls.names[-40:]
        has_read = monitor.progress()["predictions"] == n_predictions
        return has_read and all(tp in log.offsets and log.offsets[tp].offset >= end for tp, end in ends.items())

    monitor = Monitor(
        model,
        Connection(log, calls),  # type: ignore[arg-type]
        MonitorSettings(group="test", every_s=1e9),
        worker,  # type: ignore[arg-type]
        CollectorRegistry(),
        is_done,
        drift_model(),
    )
    monitor.run()
    return monitor


def told(log: Log) -> list[Alarm]:
    return [decode_alarm(r.value) for p in range(2) for r in log.records[TopicPartition(ALARMS, p)]]


def joined(monitor: Monitor) -> Counter[tuple[str, str, float]]:
    """What accuracy is worked out of: each prediction with its label."""
    rows = monitor.intake.table(60).current
    return Counter(zip(rows.prediction.tolist(), rows.label.tolist(), rows.confidence.tolist(), strict=True))


@pytest.fixture
def quick_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few messages come at once, so that there is much to fail, and checkpoints lie some commits apart."""
    monkeypatch.setattr("monitor.service.time", Clock(0.5))
    monkeypatch.setattr("monitor.service._POLL_RECORDS", 20)
    monkeypatch.setattr("monitor.service._CHECKPOINT_S", 6.0)


@pytest.mark.slow
@done_or_not
@every_error
@pytest.mark.usefixtures("quick_monitor")
def test_with_a_failing_call_each_alarm_begins_once_and_ends_once_and_accuracy_is_as_without(
    model: Model, watched: dict[str, list[tuple[int, bytes, bytes]]], errors: Errors, is_answer_lost: bool
) -> None:
    worker = NoPasses(model)
    log, calls = log_of(watched, 2), Calls()
    rows = joined(watch(log, calls, model, worker))
    expected = told(log)
    assert [(a.device, a.cause, a.ended is not None) for a in expected] == [
        ("spar-s08-left", "rotated", False),
        ("spar-s08-left", "rotated", True),
    ]
    assert {label for _, label, _ in rows} > {""}, "some are labelled, some are not"
    for failing, which in each_failing(calls.names, errors, is_answer_lost):
        log = log_of(watched, 2)
        with ends_in_words_where_trying_again_is_no_use(errors):
            watch(log, failing, model, worker)
        assert joined(watch(log, Calls(), model, worker)) == rows, which
        assert told(log) == expected, which


# The store


def keep(log: Log, calls: Calls, url: str) -> tuple[list[Prediction], list[Alarm]]:
    """Let a store work until all is committed; return what it holds."""
    ends = {
        tp: len(log.records[tp]) for t in (PREDICTIONS, ALARMS) for tp in (TopicPartition(t, 0), TopicPartition(t, 1))
    }

    def is_done() -> bool:
        assert len(calls.names) < 2_000, calls.names[-40:]
        return all(not end or (tp in log.offsets and log.offsets[tp].offset >= end) for tp, end in ends.items())

    with contextlib.closing(open_store(url, writing=True)) as store:
        settings = SinkSettings(group="test", batch=12, every_s=0.0, keep_days=0)
        Sink(store, Connection(log, calls), settings, CollectorRegistry(), is_done).run()  # type: ignore[arg-type]
        return list(store.predictions(PredictionQuery())), list(store.alarms(AlarmQuery()))


@pytest.fixture
def quick_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.service.time", Clock(0.5))
    monkeypatch.setattr("store.service._POLL_RECORDS", 10)


@pytest.mark.slow
@done_or_not
@every_error
@pytest.mark.usefixtures("quick_store")
def test_with_a_failing_call_the_store_holds_each_prediction_and_alarm_once(
    tmp_path: Path, watched: dict[str, list[tuple[int, bytes, bytes]]], errors: Errors, is_answer_lost: bool
) -> None:
    alarm = Alarm("a/rotated/0", "device", "a", "rotated", [], "turned", "turn it back", 0.0, 1.0, 0.9, "spar/1")
    topics = {
        PREDICTIONS: [*watched[PREDICTIONS][:20], *watched[PREDICTIONS][-20:]],
        ALARMS: [(0, alarm.id.encode(), encode(alarm))],
    }
    log, calls = log_of(topics, 2), Calls()
    expected = keep(log, calls, f"sqlite:///{tmp_path}/undisturbed.db")
    assert ({p.id for p in expected[0]}, len(expected[1])) == (
        {messages.decode_prediction(value).id for _, _, value in topics[PREDICTIONS]},
        1,
    )
    for failing, which in each_failing(calls.names, errors, is_answer_lost):
        log, url = log_of(topics, 2), f"sqlite:///{tmp_path}/{len(list(tmp_path.iterdir()))}.db"
        with ends_in_words_where_trying_again_is_no_use(errors):
            keep(log, failing, url)
        assert keep(log, Calls(), url) == expected, which
