"""What is measured, and how."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.backlog import fill
from repstream.broker.broker import EmbeddedBroker
from repstream.errors import RepstreamError
from repstream.features.sets import FEATURE_SETS
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages import messages
from repstream.messages.topics import PREDICTIONS
from repstream.processes.ports import free_port
from repstream.recognition.card import find_model
from repstream.recognition.model import installed_libraries
from repstream.recordings.catalogue import resolve
from repstream.windows.cut import cut
from training.division import divide_by_groups
from training.recipes import find_recipe
from training.train import train

Progress = Callable[[str], None]
Figures = dict[str, Any]

# The job that facts about other frameworks were measured with: naive-frequency, 100 boosted trees.
JOB_MODEL = "bench-job"
DEFAULT_MODEL = "spar"
HOP = 25
_PACKETS_PER_WEARER_S = 5.0  # 10 samples a packet at 50 Hz


def machine() -> Figures:
    """What it was measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "libraries": installed_libraries(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def throughput(progress: Progress, wearers: int = 400, seconds: float = 30.0, repeats: int = 3) -> Figures:
    """CPU a packet against a consumer that only polls the same packets from the same broker."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker.start() as broker:
        models = Path(folder)
        progress("throughput: training the job's model (gradient boosting of 100 trees)")
        recordings = [r for r in resolve(["spar/*"]) if r.subject in ("s01", "s02", "s03")]
        division = divide_by_groups(recordings, "subject", None, None)
        train(find_recipe("naive-boosting"), division, JOB_MODEL, "1", models, 151, 151, 0)
        connection = KafkaConnection(broker.bootstrap_servers)
        progress(f"throughput: a backlog of {seconds:g} s of {wearers} wearers")
        packets = fill(connection, recordings, wearers, seconds)
        rounds: dict[str, list[Figures]] = {"poll": [], "job": [], "default": []}
        for number in range(1, repeats + 1):  # taking turns, so that a noisy minute hits all alike
            progress(f"throughput: round {number} of {repeats}")
            rounds["poll"].append(_worker(broker, "poll", packets))
            rounds["job"].append(_worker(broker, "predict", packets, JOB_MODEL, models))
            rounds["default"].append(
                _worker(broker, "predict", packets, DEFAULT_MODEL, find_model(DEFAULT_MODEL).parents[1])
            )
    cost = {name: statistics.median(1e3 * f["cpu_s"] / f["packets"] for f in of) for name, of in rounds.items()}
    speed = {name: statistics.median(f["packets"] / f["wall_s"] for f in of) for name, of in rounds.items()}
    return {
        "wearers": wearers,
        "packets": packets,
        "repeats": repeats,
        "cpu_s_per_1000_packets": cost,
        "packets_per_s": speed,
        "job_over_poll": cost["job"] / cost["poll"],
        "default_over_poll": cost["default"] / cost["poll"],
        "default_over_job": cost["default"] / cost["job"],
        "wearers_per_core": {n: 1e3 / c / _PACKETS_PER_WEARER_S for n, c in cost.items() if n != "poll"},
    }


def scaling(progress: Progress, packets: int = 40_000) -> Figures:
    """CPU a packet from 10 to 2,000 wearers, the number of packets being the same."""
    cost = {}
    recordings = resolve(["spar/*"])
    for wearers in (10, 100, 500, 2_000):
        progress(f"scaling: {wearers} wearers")
        with EmbeddedBroker.start() as broker:
            # At least 20 s each: windows of a session's first 3 s are not made yet.
            n = fill(KafkaConnection(broker.bootstrap_servers), recordings, wearers, max(packets / wearers / 5.0, 20.0))
            figures = _worker(broker, "predict", n, DEFAULT_MODEL, find_model(DEFAULT_MODEL).parents[1])
        cost[wearers] = 1e3 * figures["cpu_s"] / figures["packets"]
    return {"cpu_s_per_1000_packets": cost, "most_over_least": max(cost.values()) / min(cost.values())}


def _worker(
    broker: EmbeddedBroker, what: str, packets: int, model: str = "", models_dir: Path | None = None
) -> Figures:
    command = [sys.executable, "-m", "bench.worker", what, broker.bootstrap_servers, str(packets), "--hop", str(HOP)]
    if models_dir is not None:
        command += ["--model", model, "--models-dir", str(models_dir)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parent.parent,
    )
    if done.returncode:
        raise RepstreamError(f"the measured process failed: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout))


def features(progress: Progress, repeats: int = 5) -> Figures:
    """µs per window, in a batch of 1,000 and one by one."""
    windows = np.concatenate([cut(r, 151, HOP).values for r in resolve(["spar/s01-*"])])[:1_000]
    sides = np.zeros(len(windows), dtype=np.int8)
    found: Figures = {}
    for name, features in FEATURE_SETS.items():
        progress(f"features: {name}")
        batch, single = [], []
        for _ in range(repeats):
            began = time.process_time()
            features.compute(windows, sides)
            batch.append((time.process_time() - began) / len(windows) * 1e6)
            began = time.process_time()
            for i in range(200):
                features.compute(windows[i : i + 1], sides[i : i + 1])
            single.append((time.process_time() - began) / 200 * 1e6)
        found[name] = {
            "batch_us": min(batch),
            "one_by_one_us": min(single),
            "one_by_one_over_batch": min(single) / min(batch),
            "features": len(features.names),
        }
    return found


def latency(progress: Progress, wearers: tuple[int, ...] = (1, 50, 200), seconds: float = 30.0) -> Figures:
    """From the newest sample in hand to the prediction readable by a read_committed consumer, at recorded pace."""
    found: Figures = {}
    for n in wearers:
        progress(f"latency: {n} wearers at recorded pace for {seconds:g} s")
        with EmbeddedBroker.start() as broker, _predictor(broker):
            waits = _observe(broker, n, seconds)
        found[str(n)] = {
            "predictions": len(waits),
            "ms": {f"p{p}": float(np.percentile([w[0] for w in waits], p) * 1e3) for p in (50, 95, 99)},
            "ms_from_window_end": {f"p{p}": float(np.percentile([w[1] for w in waits], p) * 1e3) for p in (50, 95, 99)},
        }
    return found


def _observe(broker: EmbeddedBroker, wearers: int, seconds: float) -> list[tuple[float, float]]:
    """Replay and note for each prediction how old its newest sample, and its window's last one, were."""
    with _reader(broker) as read, _service(
        "produce", "spar/*", "--wearers", str(wearers), "--loop", "--quiet", "--duration", str(seconds + 10.0),
        "--bootstrap-servers", broker.bootstrap_servers,
    ):  # fmt: skip
        waits = []
        first = None
        while first is None or time.monotonic() - first < seconds:
            for prediction, now in read():
                # The first seconds hold the connections' set-up on both sides.
                first = first or time.monotonic()
                if time.monotonic() - first > 3.0:
                    waits.append((now - prediction.sampled_at, now - prediction.end))
    return waits


def recovery(progress: Progress, repeats: int = 3) -> Figures:
    """From a kill -9 to the next prediction: the same predictor started again, and another taking over."""
    again, over = [], []
    for number in range(1, repeats + 1):
        progress(f"recovery: round {number} of {repeats}")
        with EmbeddedBroker.start() as broker, _reader(broker) as read, contextlib.ExitStack() as stack:
            first = stack.enter_context(_predictor(broker))
            stack.enter_context(
                _service(
                    "produce",
                    "spar/*",
                    "--wearers",
                    "20",
                    "--loop",
                    "--quiet",
                    "--duration",
                    "120",
                    "--bootstrap-servers",
                    broker.bootstrap_servers,
                )
            )
            _wait_for_prediction(read, time.time())
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            began = time.time()
            first = stack.enter_context(_predictor(broker, wait=False))
            again.append(_wait_for_prediction(read, began) - began)
            stack.enter_context(_predictor(broker))  # healthy means that it has its share of the partitions
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            began = time.time()
            # Only what the dead one's partitions bring counts: wait for every wearer to be predicted again.
            over.append(_wait_for_all(read, began, wearers=20) - began)
    return {
        "restarted_s": {"median": statistics.median(again), "most": max(again)},
        "taken_over_s": {"median": statistics.median(over), "most": max(over)},
        "repeats": repeats,
    }


def _wait_for_prediction(read: _Read, after: float, timeout_s: float = 60.0) -> float:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for prediction, now in read():
            if prediction.predicted_at > after:
                return now
    raise RepstreamError(f"no prediction within {timeout_s:g} s")


def _wait_for_all(read: _Read, after: float, wearers: int, timeout_s: float = 60.0) -> float:
    seen: set[str] = set()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for prediction, now in read():
            if prediction.predicted_at > after + 1.0:
                seen.add(prediction.device)
                if len(seen) == wearers:
                    return now
    raise RepstreamError(f"only {len(seen)} of {wearers} wearers predicted again within {timeout_s:g} s")


_Read = Callable[[], list[tuple[messages.Prediction, float]]]


@contextlib.contextmanager
def _reader(broker: EmbeddedBroker) -> Iterator[_Read]:
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection)
    consumer = connection.consumer(PREDICTIONS, group_id="bench-reader", fetch_max_wait_ms=100)

    def read() -> list[tuple[messages.Prediction, float]]:
        got = consumer.poll(timeout_ms=50)
        now = time.time()
        return [(messages.decode_prediction(r.value), now) for records in got.values() for r in records]

    try:
        read()
        yield read
    finally:
        consumer.close()


@contextlib.contextmanager
def _service(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "repstream", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()  # nothing is measured any more
        process.wait()


@contextlib.contextmanager
def _predictor(broker: EmbeddedBroker, wait: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ("predict", "--bootstrap-servers", broker.bootstrap_servers, "--model", DEFAULT_MODEL)
    port = free_port()
    with _service(*arguments, "--group", "bench", "--hop", str(HOP), "--metrics-port", str(port)) as process:
        deadline = time.monotonic() + 60.0
        while wait and not _healthy(port):
            if time.monotonic() > deadline:
                raise RepstreamError("the predictor did not become healthy within 60 s")
            time.sleep(0.05)
        yield process


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def report(figures: Figures) -> str:
    """Figures as Markdown, for docs/results.md."""
    where = figures["machine"]
    lines = [f"{where['processor']}, {where['cores']} cores, Python {where['python']}", ""]
    if "throughput" in figures:
        t = figures["throughput"]
        cost, speed, per_core = t["cpu_s_per_1000_packets"], t["packets_per_s"], t["wearers_per_core"]
        lines += [
            f"Throughput, exactly-once, {t['packets']:,} packets of {t['wearers']} wearers, median of {t['repeats']}:",
            "",
            "| what | CPU-s per 1,000 packets | × poll-only | packets/s | wearers per core |",
            "| --- | --- | --- | --- | --- |",
            f"| poll only | {cost['poll']:.4f} | 1 | {speed['poll']:,.0f} | |",
            f"| naive-frequency, gradient boosting of 100 trees | {cost['job']:.4f} | {t['job_over_poll']:.1f} | "
            f"{speed['job']:,.0f} | {per_core['job']:,.0f} |",
            f"| default model | {cost['default']:.4f} | {t['default_over_poll']:.1f} | "
            f"{speed['default']:,.0f} | {per_core['default']:,.0f} |",
            "",
        ]
    if "scaling" in figures:
        s = figures["scaling"]
        each = ", ".join(f"{n} wearers {c:.4f}" for n, c in s["cpu_s_per_1000_packets"].items())
        lines += [f"CPU-s per 1,000 packets, default model: {each}; most ÷ least {s['most_over_least']:.2f}", ""]
    if "features" in figures:
        lines += [
            "| feature set | features | µs per window, batch of 1,000 | one by one |",
            "| --- | --- | --- | --- |",
        ]
        for name, f in figures["features"].items():
            lines.append(f"| {name} | {f['features']} | {f['batch_us']:.1f} | {f['one_by_one_us']:.0f} |")
        lines.append("")
    if "latency" in figures:
        lines += [
            "Latency at recorded pace, ms from the newest sample in hand to the readable prediction "
            "(in brackets: from the window's last sample, which waits for its packet to fill):",
            "",
            "| wearers | predictions | p50 | p95 | p99 |",
            "| --- | --- | --- | --- | --- |",
        ]
        for n, f in figures["latency"].items():
            cells = " | ".join(f"{f['ms'][p]:.0f} ({f['ms_from_window_end'][p]:.0f})" for p in ("p50", "p95", "p99"))
            lines.append(f"| {n} | {f['predictions']:,} | {cells} |")
        lines.append("")
    if "recovery" in figures:
        r = figures["recovery"]
        lines += [
            f"Recovery from kill -9, median (most) of {r['repeats']}: started again, the next prediction is readable "
            f"after {r['restarted_s']['median']:.1f} ({r['restarted_s']['most']:.1f}) s; taken over by another, every "
            f"wearer is predicted again after {r['taken_over_s']['median']:.1f} ({r['taken_over_s']['most']:.1f}) s.",
            "",
        ]
    return "\n".join(lines)
