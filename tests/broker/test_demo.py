"""``repstream demo`` as a user runs it: what it prints, how it ends, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.broker.services import end, wait_until

pytestmark = pytest.mark.broker

KEYS = {"packets", "samples", "windows", "predictions", "wearers", "accuracy", "latency_ms", "lost", "duplicated"}


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demo whose temporary files lie in `folder`; it is ended with the block."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("REPSTREAM_") or k == "REPSTREAM_JAVA"}
    with (folder / "err.log").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "repstream", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env=variables | {"TMPDIR": str(folder)},
        )
    try:
        yield process
    finally:
        end(process)  # type: ignore[arg-type]
        assert process.stdout is not None
        process.stdout.close()


def said(folder: Path) -> str:
    return (folder / "err.log").read_text()


def left_over(folder: Path) -> list[Path]:
    return [*folder.glob("repstream-broker-*"), *folder.glob("repstream-demo-*")]


def finished(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Wait for the summary that `--json` prints, and see that all of it held and nothing stayed."""
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said(folder)
    assert left_over(folder) == []
    summary: dict[str, Any] = json.loads(out)
    assert summary.keys() >= KEYS
    assert (summary["lost"], summary["duplicated"], summary["differing"]) == (0, 0, 0)
    assert summary["predictions"] == summary["windows"]
    return summary


def wait_until_live(process: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    """Wait until the producer runs; return all processes of the demo but itself."""

    def producer_runs() -> bool:
        assert process.poll() is None, said(folder)
        running = services(psutil.Process(process.pid).children(recursive=True))
        assert running.keys() <= {"predict", "monitor", "produce"}
        return "produce" in running

    wait_until(producer_runs, "the producer runs", 90)
    return list(psutil.Process(process.pid).children(recursive=True))


def services(children: list[psutil.Process]) -> dict[str, psutil.Process]:
    """The demo's services among its processes, by their command."""
    found = {}
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            line = child.cmdline()
            if line[1:4] == ["-P", "-m", "repstream"]:
                found[line[4]] = child
    return found


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_demo_predicts_people_that_the_model_has_not_seen_and_ends_after_its_duration(tmp_path: Path) -> None:
    summary_file, picture = tmp_path / "new" / "summary.json", tmp_path / "demo.svg"
    with demo(
        tmp_path, "--duration", "6", "--json", "--summary", str(summary_file), "--picture", str(picture)
    ) as process:
        summary = finished(process, tmp_path)
    assert json.loads(summary_file.read_text()) == summary
    assert summary["wearers"] == 6  # both wrists of three people
    assert summary["packets"] == 6 * 6 * 5
    assert summary["samples"] == 6 * 6 * 50
    assert summary["windows"] == 6 * 6  # of 300 samples each
    assert summary["labelled_windows"] == 36
    assert 0 <= summary["accuracy"] <= 1
    latency = summary["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    drift = summary["drift"]
    assert (drift["rows"], drift["ledger_difference"]) == (36, 0)
    assert drift["accuracy"] is None  # labels come when their session is over
    assert 0 < drift["accuracy_estimate"] <= 1
    assert [a for a in drift["alarms"] if a["scope"] == "device"] == []
    assert "which has never seen s08, s09, s10" in picture.read_text().replace("&#160;", " ")


def test_faults_are_compared_with_what_stands_in_the_log(tmp_path: Path) -> None:
    arguments = ["spar/s08-*", "spar/s09-left-ROW-1", "--speed", "max", "--wearers", "4", "--json"]
    arguments += ["--inject", "drop:0.05@0-60/spar-s08-*", "--inject", "malformed:0.05@0/spar-s08-left~2"]
    with demo(tmp_path, *arguments) as process:
        summary = finished(process, tmp_path)
    assert summary["faults"].keys() == {"drop", "malformed"}
    assert summary["wearers"] == 4
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}


def test_turned_sensors_bring_their_alarms_and_the_others_none(tmp_path: Path) -> None:
    """
    ::

        event time, s       0 ......... 60 ====== 150 .......... 250
        both wrists of s08              turned
        right wrist of s10
    """
    arguments = [
        "spar/s08-*",
        "spar/s10-right-*",
        "--speed",
        "max",
        "--json",
        "--inject",
        "rotate:90,z@60-150/spar-s08-*",
    ]
    with demo(tmp_path, *arguments) as process:
        summary = finished(process, tmp_path)
    drift = summary["drift"]
    alarms = [a for a in drift["alarms"] if a["scope"] == "device"]
    assert sorted((a["cause"], a["device"]) for a in alarms) == [
        ("rotated", "spar-s08-left"),
        ("rotated", "spar-s08-right"),
    ]
    for alarm in alarms:
        assert 60 <= alarm["since_s"] <= alarm["raised_s"] <= 90, alarm
        assert 150 <= alarm["ended_s"] <= 190, alarm
        assert alarm["text"].startswith("The sensor is turned: ")
        assert alarm["advice"] == "Look how the sensor sits, and put it on as it was."
    assert drift["ledger_difference"] == 0


def test_ctrl_c_ends_it_in_order_with_its_summary(tmp_path: Path) -> None:
    with demo(tmp_path, "--json") as process:
        wait_until_live(process, tmp_path)
        # Its first lines can come before any wearer has sent a window's 3 s.
        wait_until(lambda: re.search(r"[1-9][\d,.]* predictions/s", said(tmp_path)) is not None, "it predicts", 60)
        process.send_signal(signal.SIGINT)
        summary = finished(process, tmp_path)
    assert summary["predictions"] > 0


def test_ctrl_c_before_anything_was_sent_is_no_failure(tmp_path: Path) -> None:
    with demo(tmp_path, "--json") as process:
        wait_until(lambda: "starting the predictor" in said(tmp_path), "it begins", 60)
        process.send_signal(signal.SIGINT)
        summary = finished(process, tmp_path)
    assert (summary["packets"], summary["windows"], summary["accuracy"]) == (0, 0, None)


def test_killed_it_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        children = wait_until_live(process, tmp_path)
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(lives, children)), "all processes of the demo end", 30)
    assert left_over(tmp_path) == []


def test_a_service_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        children = wait_until_live(process, tmp_path)
        services(children)["predict"].kill()
        process.wait(60)
    assert process.returncode == 1
    assert said(tmp_path).splitlines()[-1].startswith("Error: the predictor ended: ")


def kafka_of(children: list[psutil.Process]) -> psutil.Process:
    return next(child for child in children if child.name() == "java")


def test_a_kafka_that_dies_is_told_in_one_line_and_nothing_stays(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        children = wait_until_live(process, tmp_path)
        jvm = kafka_of(children)
        guard = jvm.parent()
        assert guard is not None
        guard.kill()
        jvm.kill()
        process.wait(60)  # the producer alone would try for 10 min
        assert process.returncode == 1
        assert said(tmp_path).splitlines()[-1].startswith("Error: Kafka ended unexpectedly")
        assert not any(map(lives, children))
    assert left_over(tmp_path) == []


def test_a_duration_is_kept_though_kafka_hangs(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "3") as process:
        children = wait_until_live(process, tmp_path)
        kafka_of(children).suspend()
        process.wait(120)
        assert process.returncode == 1
        assert said(tmp_path).splitlines()[-1].startswith("Error: the producer is still running 30 s after its 3 s")
        assert not any(map(lives, children))
    assert left_over(tmp_path) == []
