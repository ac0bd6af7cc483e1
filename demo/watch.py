"""Looking on while a demo runs: its services, its backlog, and the table on the terminal."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.live import Live as LiveDisplay

from demo import table
from demo.live import Live, Rate
from demo.result import Sent
from demo.services import Services
from demo.settings import GROUP
from demo.topics import Backlog, PredictionReader, ask, predictor_counts
from repstream.errors import RepstreamError
from repstream.kafka.connection import KafkaConnection
from repstream.processes.children import Child

_LIVE = "live; Ctrl-C ends it"
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
# A row whose newest prediction is older is drawn dim: the session has ended or the next one's first
# window fills. Windows come every half second of event time.
_FRESH_S = 2.0


class Watch:
    """Looks on while it runs: asks the predictor, keeps the frame, sees that all are alive.

    Parameters
    ----------
    about : str
        The model, and whom it has never seen.
    live : Live
        What has been predicted.
    services : Services
    reader : PredictionReader
        Feeds `live`.

    Attributes
    ----------
    last : Frame
        As it stood last.
    """

    def __init__(self, about: str, live: Live, services: Services, reader: PredictionReader) -> None:
        self._about = about
        self._live = live
        self._services = services
        self._reader = reader
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
            answer = ask(self._services.metrics_port, "/healthz")
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
                    f"the producer is still running {_OVERTIME_S:g} s after its {duration_s:g} s: Kafka hangs, or the machine "
                    "is overloaded; run the demo again with less load"
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
        if not self._services.broker.is_alive():
            raise RepstreamError(
                "Kafka ended unexpectedly (killed, or out of memory or disk space); run the demo again"
            )
        if not self._services.predictor.is_running():
            raise RepstreamError(f"the predictor ended: {self._services.predictor.last_words()}")
        if not self._services.monitor.is_running():
            raise RepstreamError(f"the monitor ended: {self._services.monitor.last_words()}")
        if self._reader.failure is not None:
            raise RepstreamError(f"the predictions cannot be read: {self._reader.failure}")

    def _show(self, show: Callable[[table.Frame], None], phase: str) -> None:
        self._check()
        now_s = time.monotonic()
        if now_s - self._asked_s >= _METRICS_EVERY_S:
            self._asked_s = now_s
            counts = predictor_counts(self._services.metrics_port)
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


def display(say: Callable[[str], None]) -> AbstractContextManager[Callable[[table.Frame], None]]:
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
def _table_on(console: Console) -> Iterator[Callable[[table.Frame], None]]:
    with LiveDisplay(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as display:
        yield lambda frame: display.update(table.render(frame, *console.size), refresh=True)
