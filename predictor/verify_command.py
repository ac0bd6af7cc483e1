"""``repstream verify``: whether the stream equals the batch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repstream.messages.topics import PREDICTIONS, SAMPLES
from repstream.service.options import (
    DEFAULT_BOOTSTRAP_SERVERS,
    DEFAULT_MODEL,
    BootstrapServers,
    Hop,
    JsonOutput,
    ModelName,
    ModelsDir,
    RecordingNames,
)

if TYPE_CHECKING:
    from predictor.verify import Report, SentSessions
    from repstream.kafka.connection import KafkaConnection

_KAFKA_TIMEOUT_S = 10.0
_LOOK_AGAIN_S = 0.5


def verify(
    recordings: RecordingNames,
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    hop: Hop = None,
    wearers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Devices that were replayed, as given to produce. Default: the recordings' own, and the copies of them "
            "that stand in the topic samples.",
            envvar="REPSTREAM_WEARERS",
            show_default=False,
        ),
    ] = None,
    session_suffix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Ending of the sessions' names, as given to produce.",
            envvar="REPSTREAM_SESSION_SUFFIX",
        ),
    ] = "",
    topic: Annotated[str, typer.Option(help="Topic that holds the predictions.")] = PREDICTIONS,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Longest time to wait for predictions that are missing, in seconds.")
    ] = 0.0,
    as_json: JsonOutput = False,
) -> None:
    """Compare predictions in Kafka with a batch score of the same recordings.

    Exits 0 when every window of these recordings was predicted once, with the label and the probabilities that
    repstream score gives it; 1 when not, with a list of what is missing, doubled, wrong or unexpected. Of a session
    that stands in the topic samples in part, that part counts. Faults put into a replay show as differences.
    """
    from predictor.verify import Verification, expected_rows, replayed_sessions
    from repstream.kafka.connection import KafkaConnection, wait_for_broker
    from repstream.kafka.records import decoded
    from repstream.messages.messages import decode_prediction
    from repstream.recognition.model import load_model
    from repstream.recordings.catalogue import resolve

    found = resolve(recordings)
    loaded = load_model(model, models_dir)
    connection = KafkaConnection.from_environment(bootstrap_servers)
    wait_for_broker(connection, timeout_s=_KAFKA_TIMEOUT_S)
    deadline = time.monotonic() + wait
    while True:
        sent = _sent(connection).n_samples()
        sessions = replayed_sessions(found, sent, wearers, session_suffix)
        verification = Verification(expected_rows(sessions, loaded, hop), loaded.labels)
        others = 0
        records = _records(connection, topic, needed=time.monotonic() >= deadline)
        for prediction in decoded(records, decode_prediction):
            if (prediction.device, prediction.session) in sessions and prediction.model == loaded.id:
                verification.take(prediction)
            else:
                others += 1
        report = verification.report()
        # Of a replay that goes on, more is predicted than had been sent a moment before.
        if not (report.missing or report.unexpected) or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_AGAIN_S)
    verdict = _Verdict(report, loaded.id, len(sessions), len(sessions.keys() - sent.keys()), others)
    typer.echo(json.dumps(verdict.as_json()) if as_json else verdict.in_words())
    if not report.is_whole:
        raise typer.Exit(1)


def _sent(connection: KafkaConnection) -> SentSessions:
    from predictor.verify import SentSessions

    sent = SentSessions()
    for record in _records(connection, SAMPLES):
        sent.take(record)
    return sent


def _records(connection: KafkaConnection, topic: str, needed: bool = False) -> Iterator[Any]:
    """Read a topic from its beginning to its present end, read committed."""
    from repstream.errors import BrokerError
    from repstream.kafka.connection import translated
    from repstream.kafka.reading import LARGE_FETCHES, read_to_end

    with (
        translated(f"reading {topic}"),
        contextlib.closing(connection.consumer(**LARGE_FETCHES)) as consumer,
    ):
        partitions = consumer.partitions_of(topic)
        if needed and not partitions:
            raise BrokerError(f"there is no topic {topic} at {connection.bootstrap_servers}; was anything predicted?")
        yield from read_to_end(consumer, partitions)


@dataclass(frozen=True)
class _Verdict:
    """What is said of a verification.

    Attributes
    ----------
    not_sent : int
        Sessions of which nothing stands in `samples`.
    others : int
        Predictions of other devices, sessions or models.
    """

    report: Report
    model: str
    sessions: int
    not_sent: int
    others: int

    def as_json(self) -> dict[str, Any]:
        report = asdict(self.report)
        named = {kind: [finding._asdict() for finding in findings] for kind, findings in self.report.named.items()}
        about = {"model": self.model, "sessions": self.sessions, "not_sent": self.not_sent, "others": self.others}
        return {"equal": self.report.is_whole, **about, **report, "named": named}

    def in_words(self) -> str:
        report = self.report
        about = f"{report.windows:,} windows of {self.sessions:,} sessions"
        if report.is_whole and not report.windows:
            return f"{about}: none of them holds as many samples as a window, so there is nothing to compare"
        if report.is_whole:
            return f"{about}: each was predicted once, as {self.model} scores it in batch"
        counts = f"{report.missing:,} missing, {report.doubled:,} doubled, {report.wrong:,} wrong"
        lines = [f"{about}: {counts}, {report.unexpected:,} unexpected", *report.lines()]
        if self.not_sent:
            lines.append(
                f"nothing of {self.not_sent:,} of these sessions stands in the topic {SAMPLES}; if produce replayed fewer "
                "devices than are named here, give its --wearers"
            )
        if self.others:
            lines.append(f"{self.others:,} predictions are of other devices, sessions or models than {self.model}")
        return "\n".join(lines)
