"""A demo from its start to its summary: broker, predictor, producer, and looking on.

The predictor is ready before the producer sends, so that the first packet waits for nobody. At the
end the producer stops first, the predictor finishes what is in the topic, and only then is it all
read back and compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from demo.ledger import Outcome, compare, expected_by_engine, expected_by_score
from demo.live import Live
from demo.result import DemoResult, Sent
from demo.roster import Roster
from demo.services import ServiceStack, start_producer, start_services
from demo.settings import LATENESS_S, DemoSettings
from demo.topics import PredictionReader, read_all
from demo.verdicts import found_by, verdicts
from demo.watch import Watch, display
from predictor.verify import Rows
from producer.settings import AS_FAST_AS_POSSIBLE
from repstream.errors import RecordingError, RepstreamError
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.records import decoded
from repstream.kafka.topics import ensure_topics
from repstream.messages.messages import decode_prediction
from repstream.messages.topics import PREDICTIONS, SAMPLES
from repstream.processes.ports import HOST
from repstream.recognition.model import Model
from repstream.recordings.catalogue import catalogue, resolve


def run(
    settings: DemoSettings,
    stopping: threading.Event,
    say: Callable[[str], None],
    opened: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Run a demo until the recordings or the duration end, or `stopping` is set.

    Parameters
    ----------
    say : callable
        Takes sentences for the person at the keyboard.
    opened : callable
        Told the live page's address once there is something to see.

    Raises
    ------
    RepstreamError
        Where something cannot be started, Kafka or a service ends, or the producer is not done 30 s after the duration.
    """
    started_s = time.time()
    resolve(settings.recordings)  # wrong names are refused before anything starts
    with ServiceStack() as stack:
        services = start_services(settings, stack, say)
        model = services.model.result()
        names = settings.recordings or tuple(held_out_names(model))
        roster = Roster(settings.producer, resolve(names), model.labels, model.window, model.hop, model.label_share)
        live = Live(roster, settings.producer.speed, model.hop)
        connection = KafkaConnection(services.broker.bootstrap_servers)
        ensure_topics(connection)
        reader = stack.enter_context(PredictionReader(connection, live.take))
        watch = Watch(_about(model, settings), live, services, reader)
        watch.wait_until_ready(stopping)
        metrics = f"http://{HOST}:{services.metrics_port}/metrics"
        say(f"Kafka {services.broker.bootstrap_servers} · predictor {metrics} · Ctrl-C ends it")
        say(f"live page {services.page}")
        sent = Sent()
        if not stopping.is_set():
            producer = start_producer(services, settings, names, stack)
            with display(say) as show:
                opened(services.page)
                sent = watch.follow(producer, settings.producer.duration_s, connection, stopping, show)
        readable_s = time.time()
        services.predictor.stop()
        outcome = _compare(connection, roster, sent, model)
        found = found_by(services.monitor, services.page_port, outcome.predictions, readable_s)
        drift = verdicts(found, sent.origin_s)
    latency, window_latency = live.latencies(sent.origin_s)
    return DemoResult(
        outcome=outcome,
        sent=sent,
        latency_ms=latency,
        window_latency_ms=window_latency,
        first_prediction_s=None if live.first_s is None else live.first_s - started_s,
        seconds=sent.seconds,
        model=model.id,
        speed=settings.producer.speed,
        frame=watch.last,
        drift=drift,
    )


def held_out_names(model: Model) -> list[str]:
    """Name the catalogue's recordings of the people that a model has not been trained on."""
    subjects = set(model.card.get("subjects", {}).get("held_out", []))
    names = [recording.name for recording in catalogue() if recording.subject in subjects]
    if not names:
        raise RecordingError(
            f"the model {model.id} has no held-out subjects in the catalogue; name recordings: repstream demo FILE…"
        )
    return names


def _about(model: Model, settings: DemoSettings) -> str:
    speed = settings.producer.speed
    pace = "as fast as possible" if speed == AS_FAST_AS_POSSIBLE else f"at {speed:g} times the pace"
    held_out = model.card.get("subjects", {}).get("held_out", [])
    unseen = f", which has never seen {', '.join(held_out)}" if held_out and not settings.recordings else ""
    return f"model {model.id}{unseen} · {pace if speed != 1 else 'live pace'}"


def write_file(path: Path, text: str) -> None:
    """Write a file that was asked for, making its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RepstreamError(f"{path} cannot be written ({error.strerror}); choose another file") from None


def _compare(connection: KafkaConnection, roster: Roster, sent: Sent, model: Model) -> Outcome:
    # Faults and recordings that came in by the page while it ran are not in the plan.
    devices = {record.key for record in read_all(connection, SAMPLES) if record.key is not None}
    uploaded = {key.decode(errors="replace") for key in devices} - set(roster.devices)
    touched = roster.touched | uploaded | set(sent.touched)
    required = expected_by_score(roster, sent.sessions, model, but=touched)
    optional: Rows = {}
    if touched:
        made, optional = expected_by_engine(read_all(connection, SAMPLES), model, touched, LATENESS_S)
        required |= made
    predictions = decoded(read_all(connection, PREDICTIONS), decode_prediction)
    return compare(predictions, required, optional, model.labels, roster)
