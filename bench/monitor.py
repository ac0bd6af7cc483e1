"""What a monitor takes in a second, and whether its memory stays flat, on a topic full of predictions."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from repstream.broker.broker import EmbeddedBroker
from repstream.errors import RepstreamError
from repstream.features.summary import every, summarise
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages import fields
from repstream.messages.messages import Prediction, prediction_id
from repstream.messages.topics import PREDICTIONS
from repstream.processes.ports import free_port
from repstream.recognition.model import Model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording

Progress = Callable[[str], None]
Figures = dict[str, Any]

_TIMEOUT_S = 900.0
_PREDICTIONS_A_WEARER_S = 2.0  # at a hop of half a second
_SAMPLES_A_PREDICTION = 25


def monitor(progress: Progress, model: Model, recordings: Sequence[Recording], wearers: int, total: int) -> Figures:
    """Let a monitor work off `total` predictions of `wearers`; CPU, rate, memory at each tenth, time of a pass."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker.start() as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        progress(f"monitor: {total:,} predictions of {wearers} wearers")
        written = fill(connection, model, recordings, wearers, total)
        progress("monitor: working them off")
        with _monitor(broker, model, Path(folder)) as (pid, port):
            marks: list[Figures] = []
            deadline = time.monotonic() + _TIMEOUT_S
            first: tuple[float, float, float] | None = None
            while True:
                values = _metrics(port)
                done = values.get("repstream_monitor_predictions_total", 0.0)
                now, cpu = time.monotonic(), _cpu_s(pid)
                if done and first is None:
                    first = (done, now, cpu)
                if done >= written * (len(marks) + 1) / 10:
                    marks.append({"predictions": int(done), "rss_mb": _rss_mb(pid)})
                    progress(f"monitor: {done:,.0f} predictions, {marks[-1]['rss_mb']:.0f} MB")
                if done >= written:
                    break
                if now > deadline:
                    raise RepstreamError(f"the monitor took in {done:,.0f} of {written:,} within {_TIMEOUT_S:g} s")
                time.sleep(0.1)
            assert first is not None
            taken, wall, cpu = written - first[0], now - first[1], cpu - first[2]
            time.sleep(8.0)  # a pass over all that came
            seconds = _metrics(port)["repstream_monitor_run_seconds"]
    return {
        "predictions": written,
        "samples": written * _SAMPLES_A_PREDICTION,
        "wearers": wearers,
        "predictions_per_s": taken / wall,
        "cpu_s_per_1000_predictions": cpu / taken * 1000.0,
        "wearers_per_core": taken / cpu / _PREDICTIONS_A_WEARER_S,
        "memory": marks,
        "pass_s": seconds,
    }


def fill(connection: KafkaConnection, model: Model, recordings: Sequence[Recording], wearers: int, total: int) -> int:
    """Write predictions of `wearers`, in the order of event time, that ends now; return how many."""
    ensure_topics(connection)
    producer = connection.producer(linger_ms=20)
    stories = [list(_story(r, model)) for r in recordings[:wearers]]
    steps = total // wearers
    origin_s = time.time() - steps / _PREDICTIONS_A_WEARER_S - 10.0
    for step in range(steps):
        for wearer in range(wearers):
            story = stories[wearer % len(stories)]
            lap, k = divmod(step, len(story))
            device = f"bench-{wearer:05d}"
            session = f"{device}-{lap}"
            start = origin_s + step / _PREDICTIONS_A_WEARER_S
            end = start + (model.window - 1) / 50.0
            prediction = msgspec.structs.replace(
                story[k],
                id=prediction_id(device, session, k),
                device=device,
                session=session,
                start=start,
                end=end,
                sampled_at=end,
                predicted_at=end,
            )
            producer.send(
                PREDICTIONS, key=device.encode(), value=fields.encode(prediction), timestamp_ms=int(end * 1e3)
            )
    producer.flush()
    producer.close()
    return steps * wearers


def _story(recording: Recording, model: Model) -> Iterator[Prediction]:
    """A recording's predictions, as the predictor makes them."""
    scores = score(recording, model)
    windows = scores.windows
    signals = summarise(windows.values, windows.sides).astype(np.float64).round(5).tolist()
    for i, (features, row) in enumerate(zip(scores.features.tolist(), scores.probabilities.tolist(), strict=True)):
        top = int(np.argmax(row))
        yield Prediction(
            fields.VERSION,
            "",
            recording.device,
            recording.session,
            i,
            0.0,
            0.0,
            model.labels[top],
            row[top],
            dict(zip(model.labels, row, strict=True)),
            features,
            model.id,
            0.0,
            0.0,
            signals[i] if i % every(model.hop) == 0 else None,
        )


@contextmanager
def _monitor(broker: EmbeddedBroker, model: Model, folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    arguments = ["--bootstrap-servers", broker.bootstrap_servers, "--model", model.id, "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "repstream", "monitor", *arguments, "--reports", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60.0
        while not _metrics(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RepstreamError("the monitor does not answer")
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.kill()  # nothing is measured any more
        process.wait()


def _metrics(port: int) -> dict[str, float]:
    """Values of the metrics without labels; none where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return {s.name: s.value for s in samples if not s.labels}


def _cpu_s(pid: int) -> float:
    """CPU of a process, all its threads, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(figures: Figures) -> str:
    """Figures as Markdown, for docs/results.md."""
    f = figures
    memory = ", ".join(f"{m['predictions']:,}: {m['rss_mb']:.0f}" for m in f["memory"])
    return (
        f"Monitor: {f['predictions']:,} predictions ({f['samples']:,} samples) of {f['wearers']} wearers, "
        f"{f['predictions_per_s']:,.0f} a second, {f['cpu_s_per_1000_predictions']:.4f} CPU-s per 1,000, "
        f"{f['wearers_per_core']:,.0f} wearers per core; a pass {f['pass_s']:.2f} s; "
        f"memory, MB, after so many predictions: {memory}.\n"
    )
