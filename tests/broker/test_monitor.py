"""The monitor on a real Kafka: what it shows is what the topics hold, and a kill changes nothing."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from repstream.recordings.catalogue import resolve
from tests.broker.services import (
    MODEL,
    end,
    expected_right,
    predict_arguments,
    service,
    value_of,
    wait_for_predictions,
    wait_until,
)

NAMES = ["spar/s08-left-*", "spar/s09-right-*"]


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=150) as answer:
            return int(answer.status), str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return 0, ""


def shown(port: int, name: str) -> float:
    text = fetch(port, "/metrics")[1]
    return value_of(text, name) if name in text else float("nan")


def test_accuracy_is_that_of_score_and_stands_again_after_a_kill_and_reports_are_served(tmp_path: Path) -> None:
    model = load_model(MODEL)
    right, windows = expected_right(NAMES, model)
    port = free_port()
    log = tmp_path / "services.log"
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        address = broker.bootstrap_servers
        watch = ["monitor", "--bootstrap-servers", address, "--port", str(port), "--every", "1"]
        watch += ["--current", "60", "--reports", str(tmp_path / "reports")]
        with (
            service(*watch, log=log) as monitor,
            service(*predict_arguments(address), log=log),
            service("produce", *NAMES, "--bootstrap-servers", address, "--speed", "max", log=log),
        ):
            assert len(wait_for_predictions(address, windows)) == windows
            wait_until(
                lambda: shown(port, "repstream_accuracy") == pytest.approx(right / windows, abs=1e-12),
                f"the accuracy that score has, {right} of {windows}\n{fetch(port, '/metrics')[1][:3000]}",
            )
            assert shown(port, "repstream_labels_waiting") == 0
            assert shown(port, "repstream_monitor_predictions_total") == windows
            assert shown(port, "repstream_monitor_labels_total") == len(resolve(NAMES))
            assert fetch(port, "/readyz")[0] == 200
            # Offsets are committed every 2 s; what a kill finds uncommitted is simply read again.
            children = psutil.Process(monitor.pid).children(recursive=True)
            assert children, "passes are worked out in another process"
            end(monitor, signal.SIGKILL)
            wait_until(lambda: not any(c.is_running() for c in children), "nothing is left behind", 20)
            with service(*watch, log=log) as again:
                wait_until(
                    lambda: shown(port, "repstream_accuracy") == pytest.approx(right / windows, abs=1e-12),
                    "the same accuracy after a kill",
                )
                status, page = fetch(port, "/report?n=60")
                assert status == 200, page
                assert page.lstrip().lower().startswith(("<!doctype", "<html"))
                (saved,) = json.loads(fetch(port, "/reports/")[1])
                assert fetch(port, f"/reports/{saved['name']}")[0] == 200
                for path in ("/reports/..%2fkafka", "/reports/none.html", "/nowhere"):
                    assert fetch(port, path)[0] == 404, path
                for query in ("n=0", "n=abc", "n=1000000", "n=-1"):
                    assert fetch(port, f"/report?{query}")[0] == 400, query
                found = json.loads(fetch(port, "/monitoring")[1])
                assert found["last_pass"]["labelled"] == windows
                assert end(again) == 0
