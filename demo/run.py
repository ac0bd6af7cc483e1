"""A demo from its start to its summary: broker, predictor, producer, and looking on.

The predictor is ready before the producer sends, so that the first packet waits for nobody. At the
end the producer stops first, the predictor finishes what is in the topic, and only then is it all
read back and compared.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live as LiveDisplay

from demo import table
from demo.ledger import Outcome, Rows, compare, expected_by_engine, expected_by_score
from demo.live import Live, Percentiles, Rate
from demo.roster import Roster
from demo.services import start
from demo.topics import Backlog, PredictionReader, ask, predictor_counts, read_all
from demo.verdicts import EVERY_S, found_by, verdicts
from producer.replay.plan import AS_FAST_AS_POSSIBLE, ProducerSettings
from repstream.broker.broker import EmbeddedBroker
from repstream.errors import RecordingError, RepstreamError
from repstream.kafka.connection import KafkaConnection, ensure_topics
from repstream.kafka.records import decoded
from repstream.messages.messages import decode_prediction
from repstream.messages.topics import PREDICTIONS, SAMPLES
from repstream.processes.children import Child
from repstream.processes.ports import HOST, free_port
from repstream.recognition.card import default_models_dir, find_model
from repstream.recognition.model import Model, load_model
from repstream.recordings.catalogue import catalogue, resolve

GROUP = "repstream-demo"
MONITOR_GROUP = "repstream-demo-monitor"
DEFAULT_PAGE_PORT = 8080
_LIVE = "live; Ctrl-C ends it"
LATENESS_S = 1.0

_FRAME_S = 0.25
_PLAIN_EVERY_S = 5.0
_METRICS_EVERY_S = 1.0
# The predictor takes 3 s on two idle cores; the rest is for a machine busy with other things.
_READY_TIMEOUT_S = 120.0
# At the end: so long without any packet being finished, and the rest is given up and counted as lost.
_DRAIN_TIMEOUT_S = 15.0
# From the end of the duration to where a producer that is not done is given up: on a starved machine it takes 10 s to
# start, and with a Kafka that hangs it would go on trying for 10 min.
_OVERTIME_S = 30.0
# The producer sees its last packets through for up to 30 s when it is stopped.
_PRODUCER_GRACE_S, _PREDICTOR_GRACE_S, _MONITOR_GRACE_S = 35.0, 15.0, 10.0
# A row whose newest prediction is older is drawn dim: the session has ended or the next one's first
# window fills. Windows come every half second of event time.
_FRESH_S = 2.0

_Service = TypeVar("_Service", Child, EmbeddedBroker)


@dataclass(frozen=True)
class DemoSettings:
    """What a demo is to be.

    Attributes
    ----------
    recordings : tuple of str
        Names; empty for the sessions of the people that the model has not seen.
    model : str
        ``NAME`` or ``NAME/VERSION``.
    producer : ProducerSettings
        Speed, wearers, duration, seed and faults.
    inject : tuple of str
        The faults as they were written.
    port : int or None
        Of the live page; None takes 8080, or a free one where that is taken.
    """

    recordings: tuple[str, ...]
    model: str
    models_dir: Path | None
    producer: ProducerSettings
    inject: tuple[str, ...] = ()
    port: int | None = None


@dataclass(frozen=True)
class Sent:
    """What the producer says that it sent; nothing, where it never began."""

    packets: int = 0
    samples: int = 0
    wearers: int = 0
    seconds: float = 0.0
    origin_s: float = 0.0
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)

    @classmethod
    def from_lines(cls, lines: Sequence[str]) -> Sent | None:
        """Read the summary that ``repstream produce --json`` ends with; None where there is none."""
        for line in reversed(lines):
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                sessions = {(s["device"], s["session"]): int(s["samples"]) for s in said["sessions"]}
                values = {name: said[name] for name in cls.__dataclass_fields__ if name != "sessions"}
                return cls(sessions=sessions, **values)
        return None


@dataclass(frozen=True)
class DemoResult:
    """How a demo went.

    Attributes
    ----------
    first_prediction_s : float or None
        From the start of the demo to the first prediction that could be read, s.
    frame : Frame
        The table as it stood before the end.
    drift : dict
        What the monitor found, as `demo.verdicts.verdicts` gives it.
    """

    outcome: Outcome
    sent: Sent
    latency_ms: Percentiles
    window_latency_ms: Percentiles
    first_prediction_s: float | None
    seconds: float
    model: str
    speed: float
    frame: table.Frame
    drift: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the summary of the contract, and more, as plain JSON values."""
        outcome, speed = self.outcome, self.speed
        is_paced = speed != AS_FAST_AS_POSSIBLE
        event_time = "its event time" if speed == 1 else f"when it was due at {speed:g} times the pace"
        return {
            "packets": self.sent.packets,
            "samples": self.sent.samples,
            "windows": outcome.windows,
            "predictions": outcome.predictions,
            "wearers": self.sent.wearers,
            "accuracy": None if outcome.accuracy is None else round(outcome.accuracy, 6),
            "labelled_windows": outcome.n_labelled,
            "latency_ms": vars(self.latency_ms),
            "window_latency_ms": vars(self.window_latency_ms),
            "latency_from": (
                f"latency_ms: the newest sample in hand when the window closed (sampled_at), {event_time}, to the "
                "prediction readable by a read_committed consumer; window_latency_ms: from the window's last sample"
                if is_paced
                else "not measured: as fast as possible, no sample is due at any time"
            ),
            "lost": outcome.lost,
            "duplicated": outcome.duplicated,
            "differing": outcome.differing,
            "drift": self.drift,
            "model": self.model,
            "speed": speed if is_paced else "max",
            "first_prediction_s": None if self.first_prediction_s is None else round(self.first_prediction_s, 3),
            "seconds": round(self.seconds, 3),
            "faults": self.sent.faults,
        }


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
        Where something cannot be started, Kafka or a service ends, or the producer is not done `_OVERTIME_S` after the
        duration.
    """
    started_s = time.time()
    # Only a folder that the user named is named to the services: they trust it with pickles, too.
    trusted = ["--models-dir", str(settings.models_dir.resolve())] if settings.models_dir else []
    model_id = "/".join(find_model(settings.model, settings.models_dir or default_models_dir()).parts[-2:])
    resolve(settings.recordings)  # wrong names are refused before anything starts
    with ExitStack() as stack:
        enter = _Started(stack).enter
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="repstream-demo-")))
        # All take seconds, so they start side by side: the predictor waits for its Kafka, this process for scikit-learn.
        kafka_port = free_port()
        port = free_port(other_than=kafka_port)
        arguments = ["--bootstrap-servers", f"{HOST}:{kafka_port}", "--model", model_id, "--group", GROUP]
        arguments += [*trusted, "--lateness", str(LATENESS_S), "--metrics-port", str(port)]
        say(f"starting the predictor, model {model_id}")
        predictor = enter(start("predict", arguments, logs / "predictor.log", _PREDICTOR_GRACE_S, logs))
        loading = stack.enter_context(ThreadPoolExecutor(1)).submit(
            load_model, model_id, settings.models_dir, predicts=False
        )
        broker = enter(EmbeddedBroker.start(port=kafka_port, progress=say))
        stack.callback(predictor.stop)  # while there is a Kafka to leave in order
        page_port = settings.port or _page_port(settings.port, kafka_port, port)
        arguments = ["--bootstrap-servers", broker.bootstrap_servers, "--model", model_id, "--group", MONITOR_GROUP]
        arguments += [*trusted, "--predictor-group", GROUP, "--port", str(page_port)]
        arguments += ["--every", str(EVERY_S), "--reports", str(logs / "reports")]
        monitor = enter(start("monitor", arguments, logs / "monitor.log", _MONITOR_GRACE_S, logs))
        stack.callback(monitor.stop)
        model = loading.result()
        names = settings.recordings or tuple(held_out_names(model))
        roster = Roster(settings.producer, resolve(names), model.labels, model.window, model.hop)
        live = Live(roster, settings.producer.speed, model.hop)
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection)
        reader = stack.enter_context(PredictionReader(connection, live.take))
        watch = _Watch(_about(model, settings), live, broker, predictor, monitor, reader, port)
        watch.wait_until_ready(stopping)
        say(f"Kafka {broker.bootstrap_servers} · predictor http://{HOST}:{port}/metrics · Ctrl-C ends it")
        page = f"http://{HOST}:{page_port}/"
        say(f"live page {page}")
        sent = Sent()
        if not stopping.is_set():
            arguments = ["--bootstrap-servers", broker.bootstrap_servers, *_producer_arguments(settings), "--", *names]
            producer = enter(start("produce", arguments, logs / "producer.log", _PRODUCER_GRACE_S))
            with _display(say) as show:
                opened(page)
                sent = watch.follow(producer, settings.producer.duration_s, connection, stopping, show)
        readable_s = time.time()
        predictor.stop()
        outcome = _compare(connection, roster, sent, model)
        drift = verdicts(found_by(monitor, page_port, outcome.predictions, readable_s), sent.origin_s)
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


def _page_port(wanted: int | None, *taken: int) -> int:
    """Choose 8080, or a free port where somebody has it or 0 was asked for."""
    if wanted is None:
        with socket.socket() as asking, contextlib.suppress(OSError):
            asking.bind((HOST, DEFAULT_PAGE_PORT))
            return DEFAULT_PAGE_PORT
    port = free_port()
    while port in taken:
        port = free_port()
    return port


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


def _producer_arguments(settings: DemoSettings) -> list[str]:
    producer = settings.producer
    speed = "max" if producer.speed == AS_FAST_AS_POSSIBLE else repr(producer.speed)
    arguments = ["--speed", speed, "--seed", str(producer.seed), "--quiet", "--json"]
    if producer.speed != AS_FAST_AS_POSSIBLE:
        arguments += ["--controllable"]
    if producer.wearers is not None:
        arguments += ["--wearers", str(producer.wearers)]
    if producer.duration_s is not None:
        arguments += ["--duration", repr(producer.duration_s)]
    for spec in settings.inject:
        arguments += ["--inject", spec]
    return arguments


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


class _Started:
    """What a demo has started: ended in order by the stack, but where the demo fails, at once.

    Then there is nothing left to deliver, or nobody to deliver it to, and who waits for a Kafka that is gone or hangs
    does so for long.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._all: list[Child | EmbeddedBroker] = []

    def enter(self, service: _Service) -> _Service:
        """Have a service ended with the stack."""
        self._stack.enter_context(service)
        self._all.append(service)
        self._stack.push(self._failed)  # the last to be pushed is called first
        return service

    def _failed(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if kind is not None:
            for service in self._all:
                service.kill()


class _Watch:
    """Looks on while it runs: asks the predictor, keeps the frame, sees that all are alive."""

    def __init__(
        self,
        about: str,
        live: Live,
        broker: EmbeddedBroker,
        predictor: Child,
        monitor: Child,
        reader: PredictionReader,
        port: int,
    ) -> None:
        self._about = about
        self._live = live
        self._broker = broker
        self._predictor = predictor
        self._monitor = monitor
        self._reader = reader
        self._port = port
        self._packets_rate, self._predictions_rate = Rate(), Rate()
        self._packets_per_s = 0.0
        self._lag: float | None = None
        self._asked_s = 0.0
        self._began_s = time.monotonic()
        self.last = self._frame("starting")

    def wait_until_ready(self, stopping: threading.Event) -> None:
        """Wait until the predictor has fetched from its partitions."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not stopping.is_set():
            answer = ask(self._port, "/healthz")
            if answer is not None and answer[0] == http.client.OK:
                return
            self._check()
            if time.monotonic() > deadline:
                why = "no answer" if answer is None else answer[1].strip()
                raise RepstreamError(f"the predictor is not ready after {_READY_TIMEOUT_S:g} s: {why}")
            stopping.wait(0.05)

    def follow(
        self,
        producer: Child,
        duration_s: float | None,
        connection: KafkaConnection,
        stopping: threading.Event,
        show: Callable[[table.Frame], None],
    ) -> Sent:
        """Watch until the producer has ended and the predictor has finished what is in the topic."""
        self._began_s = time.monotonic()
        while producer.is_running() and not stopping.is_set():
            if duration_s is not None and time.monotonic() - self._began_s > duration_s + _OVERTIME_S:
                raise RepstreamError(
                    f"the producer is not done {_OVERTIME_S:g} s after its {duration_s:g} s: Kafka hangs, or the machine "
                    "has no time for it; run the demo again with less beside it"
                )
            self._show(show, _LIVE)
            stopping.wait(_FRAME_S)
        self._show(show, "stopping the producer" if stopping.is_set() else "the recordings have ended")
        # What a picture is taken of: as it was while it ran.
        self.last = self._frame(_LIVE)
        producer.stop()
        said = producer.lines()
        # Told to stop before it had come so far as to listen to signals, it ends without a word, and has sent nothing.
        sent = Sent() if stopping.is_set() and not said else Sent.from_lines(said)
        if sent is None:
            raise RepstreamError(f"the producer failed: {producer.last_words()}")
        last = self.last
        backlog = Backlog(connection, GROUP)
        try:
            self._drain(backlog, show)
        finally:
            backlog.close()
        self._show(show, "ended")
        self.last = last
        return sent

    def _drain(self, backlog: Backlog, show: Callable[[table.Frame], None]) -> None:
        least, progress_s = backlog.packets(), time.monotonic()
        while least or not backlog.is_readable():
            now_s = time.monotonic()
            if now_s - progress_s > _DRAIN_TIMEOUT_S:
                return
            self._show(show, f"the predictor finishes {least:,} packets")
            time.sleep(_FRAME_S if least else 0.02)
            left = backlog.packets()
            if left < least:
                least, progress_s = left, now_s
        # The reader fetches at once; it is given the time of a slow poll.
        deadline, n = time.monotonic() + 1.0, -1
        while time.monotonic() < deadline and n != self._live.n_predictions:
            n = self._live.n_predictions
            time.sleep(_FRAME_S)

    def _check(self) -> None:
        if not self._broker.is_alive():
            raise RepstreamError("Kafka has ended, killed or for want of memory or disk space; run the demo again")
        if not self._predictor.is_running():
            raise RepstreamError(f"the predictor ended: {self._predictor.last_words()}")
        if not self._monitor.is_running():
            raise RepstreamError(f"the monitor ended: {self._monitor.last_words()}")
        if self._reader.failure is not None:
            raise RepstreamError(f"the predictions cannot be followed: {self._reader.failure}")

    def _show(self, show: Callable[[table.Frame], None], phase: str) -> None:
        self._check()
        now_s = time.monotonic()
        if now_s - self._asked_s >= _METRICS_EVERY_S:
            self._asked_s = now_s
            counts = predictor_counts(self._port)
            self._lag = None if counts is None else counts.lag
            if counts is not None:
                self._packets_per_s = self._packets_rate.update(now_s, counts.packets)
        self.last = self._frame(phase)
        show(self.last)

    def _frame(self, phase: str) -> table.Frame:
        live, now_s = self._live, time.monotonic()
        fresh_from_s = time.time() - _FRESH_S
        rows = [
            table.Row(
                wearer=w.device,
                truth=w.truth,
                label=w.label,
                is_right=w.is_right,
                confidence=w.confidence,
                latency_s=w.latency_s,
                accuracy=w.n_right / w.n_labelled if w.n_labelled else None,
                is_fresh=w.label is None or w.seen_s >= fresh_from_s,
            )
            for w in live.wearers.values()
        ]
        return table.Frame(
            about=self._about,
            phase=phase,
            rows=rows,
            elapsed_s=now_s - self._began_s,
            packets_per_s=self._packets_per_s,
            predictions_per_s=self._predictions_rate.update(now_s, live.n_predictions),
            lag=self._lag,
            n_labelled=live.n_labelled,
            accuracy=live.n_right / live.n_labelled if live.n_labelled else None,
            latency_ms=live.recent(),
        )


def _display(say: Callable[[str], None]) -> AbstractContextManager[Callable[[table.Frame], None]]:
    """Show frames on stderr: a table on a terminal, else a line every 5 s."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _table_on(console)
    shown_s = time.monotonic()

    def show(frame: table.Frame) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= _PLAIN_EVERY_S:
            shown_s = time.monotonic()
            say(table.as_line(frame))

    return nullcontext(show)


@contextmanager
def _table_on(console: Console) -> Any:
    with LiveDisplay(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as display:
        yield lambda frame: display.update(table.render(frame, *console.size), refresh=True)
