"""Real services as child processes, and what stands in their topics."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from predictor.verify import Part, Rows, expected_rows, verified
from repstream.kafka.connection import KafkaConnection
from repstream.messages import messages, topics
from repstream.recognition.model import Model
from repstream.recognition.scoring import score
from repstream.recordings.catalogue import resolve

MODEL = "spar"


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Ask again and again until it holds; fail with `what` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def start_service(*arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Run a command of repstream in the background; its output goes to `log`."""
    output = log.open("ab") if log else subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "repstream", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
    finally:
        if log:
            output.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def service(*arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the block runs; it is ended by its own pid."""
    process = start_service(*arguments, log=log)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, timeout_s: float = 30.0) -> int:
    """End a process and return its exit code; one that does not end writes into its log where it stands."""
    if process.poll() is None:
        os.kill(process.pid, how)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGABRT)  # faulthandler prints the stack of every thread
        process.wait(timeout_s)
        raise


def predict_arguments(bootstrap_servers: str, group: str = "test", *more: str) -> list[str]:
    return ["predict", "--bootstrap-servers", bootstrap_servers, "--model", MODEL, "--group", group, *more]


class Topic:
    """What stands in a topic; each look reads on from where the last one ended. Close it."""

    def __init__(self, bootstrap_servers: str, name: str, isolation: str = "read_committed") -> None:
        self._consumer = KafkaConnection(bootstrap_servers).consumer(isolation_level=isolation, fetch_max_wait_ms=10)
        self._name = name
        self._records: list[Any] = []

    def records(self) -> list[Any]:
        """All that stands there now."""
        partitions = self._consumer.partitions_of(self._name)
        if not partitions:
            return []  # nobody has made the topic yet
        if new := [tp for tp in partitions if tp not in self._consumer.assignment()]:
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*new)
        ends = self._consumer.end_offsets(partitions)
        deadline = time.monotonic() + 60
        while any(self._consumer.position(tp) < ends[tp] for tp in partitions):
            assert time.monotonic() < deadline, f"{self._name} could not be read to its end {ends}"
            for got in self._consumer.poll(timeout_ms=200, max_records=10_000).values():
                self._records += got
        return self._records

    def predictions(self) -> list[messages.Prediction]:
        """All that stands there now, decoded."""
        return [messages.decode_prediction(r.value) for r in self.records()]

    def close(self) -> None:
        self._consumer.close()


def read_topic(bootstrap_servers: str, topic: str, isolation: str = "read_committed") -> list[Any]:
    """Read all that stands in a topic now."""
    with contextlib.closing(Topic(bootstrap_servers, topic, isolation)) as there:
        return there.records()


def read_predictions(bootstrap_servers: str) -> list[messages.Prediction]:
    with contextlib.closing(Topic(bootstrap_servers, topics.PREDICTIONS)) as there:
        return there.predictions()


def expected_predictions(names: Sequence[str], model: Model, hop: int | None = None) -> Rows:
    """What `repstream score` says: each window's id and its probabilities."""
    parts = {(r.device, r.session): Part(r, r.n_samples) for r in resolve(names)}
    return expected_rows(parts, model, hop)


def expected_right(names: Sequence[str], model: Model) -> tuple[int, int]:
    """How many windows of labelled recordings `repstream score` recognises, and of how many."""
    right = windows = 0
    for recording in resolve(names):
        scores = score(recording, model)
        assert scores.windows.labels is not None
        answers = [model.labels[i] for i in scores.probabilities.argmax(axis=1)]
        right += sum(a == t for a, t in zip(answers, scores.windows.labels.tolist(), strict=True))
        windows += len(answers)
    return right, windows


def assert_stream_equals_batch(predictions: Sequence[messages.Prediction], expected: Rows, model: Model) -> None:
    """Same ids, each once, same labels, probabilities to 1e-9."""
    report = verified(predictions, expected, model.labels)
    assert report.is_whole, f"of {report.windows} windows, " + "; ".join(report.lines())


def wait_for_predictions(bootstrap_servers: str, n: int, timeout_s: float = 90.0) -> list[messages.Prediction]:
    """Wait until at least `n` predictions are readable, and return all there are."""
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(Topic(bootstrap_servers, topics.PREDICTIONS)) as there:
        while len(there.records()) < n and time.monotonic() < deadline:
            time.sleep(0.1)
        return there.predictions()  # the caller's comparison says what is missing


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def value_of(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
