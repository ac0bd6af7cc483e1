"""A real Prometheus scrapes the real services during a replay: every question of dashboards and rules has an answer."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from repstream.broker.broker import EmbeddedBroker
from repstream.processes.ports import free_port
from tests.broker.services import end, predict_arguments, service, wait_until
from tests.promql import (
    PROMETHEUS,
    Question,
    annotation_questions,
    exposed,
    panel_questions,
    rule_questions,
    rules,
    tool,
    variable_queries,
)

SCRAPE_S = 1
# What Grafana puts in for its variables: "All" of each, and four scrapes for rates.
VARIABLES = {
    "$__rate_interval": f"{4 * SCRAPE_S}s",
    "$__range": "60s",
    "$label": ".*",
    "$feature": ".*",
    "$instance": ".*",
}
# The longest wait of any answer: labels come when a recording is over, after 20 to 50 s.
DEADLINE_S = 100.0
# The replay has no end here, and this says so.
ENDLESS = "repstream_producer_remaining_seconds"
ENDED = "repstream:replay:ended_as_told"


@dataclass(frozen=True)
class Watched:
    """A Prometheus, asked over HTTP."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        data = urllib.parse.urlencode(query)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{data}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query or path}: {error.read().decode()}") from None

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def answered(self, question: Question) -> bool:
        """Tell whether a query has an answer that is a number, now or (asked over time) in the last minute."""
        expr = question.expr
        for name, value in VARIABLES.items():
            expr = re.sub(rf"{re.escape(name)}\b", value, expr)
        assert "$__" not in expr, f"{question.where}: unknown variable in {expr}"
        if question.instant:
            series = self.get("query", query=expr)["result"]
            values = [row["value"][1] for row in series]
        else:
            now = time.time()
            found = self.get("query_range", query=expr, start=str(now - 60), end=str(now), step="1")
            values = [value for row in found["result"] for _, value in row["values"]]
        if expr.startswith(ENDLESS):
            return bool(values) and all(float(value) == math.inf for value in values)
        return any(math.isfinite(float(value)) for value in values)

    def names(self) -> set[str]:
        return set(self.get("label/__name__/values"))


@contextlib.contextmanager
def prometheus(folder: Path, ports: dict[str, int]) -> Iterator[Watched]:
    """Run Prometheus with the configuration for one machine, its ports and its haste changed."""
    settings = yaml.safe_load((PROMETHEUS / "local.yml").read_text(encoding="utf-8"))
    port = free_port()
    settings["global"] = dict.fromkeys(settings["global"], f"{SCRAPE_S}s")
    settings["rule_files"] = [str(PROMETHEUS / pattern) for pattern in settings["rule_files"]]
    for job in settings["scrape_configs"]:
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{(ports | {'prometheus': port})[job['job_name']]}"]
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        watched = Watched(f"http://127.0.0.1:{port}")
        wait_until(
            lambda: watched.ready() or process.poll() is not None, "Prometheus answers or says why it does not", 30
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield watched
    finally:
        end(process)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Replay twelve wearers, all turned by 90° after ten seconds, on a bad network, and watch."""
    tool("prometheus")  # before half a minute of starting services
    folder = tmp_path_factory.mktemp("watched")
    log = folder / "services.log"
    ports = {name: free_port() for name in ("producer", "predictor", "store", "monitor")}
    faults = ("rotate:90@10", "malformed:0.05@0", "duplicate:0.1@0", "drop:0.1@0", "late:3@0")
    with EmbeddedBroker.start(folder / "kafka") as broker:
        address = broker.bootstrap_servers
        watch = ["monitor", "--bootstrap-servers", address, "--port", str(ports["monitor"]), "--every", "1"]
        watch += ["--window", "10", "--no-alarm-reports", "--reports", str(folder / "reports")]
        keep = ["store", "--bootstrap-servers", address, "--store", f"sqlite:///{folder / 'store.db'}"]
        keep += ["--metrics-port", str(ports["store"])]
        replay = ["produce", "spar/s08-*", "spar/s09-*", "--bootstrap-servers", address, "--wearers", "12", "--loop"]
        replay += ["--metrics-port", str(ports["producer"]), *(x for fault in faults for x in ("--inject", fault))]
        with (
            service(*watch, log=log),
            service(*keep, log=log),
            service(
                *predict_arguments(address, "repstream-predictor", "--metrics-port", str(ports["predictor"])), log=log
            ),
            service(*replay, log=log),
            prometheus(folder / "prometheus", ports) as running,
        ):
            yield running


def assert_all_answered(watched: Watched, questions: Iterable[Question]) -> None:
    """Ask until each question has been answered once; every single asking must be understood."""
    open_ = list(questions)
    assert open_
    deadline = time.monotonic() + DEADLINE_S
    while open_ := [q for q in open_ if not watched.answered(q)]:
        assert time.monotonic() < deadline, "no answer to\n" + "\n".join(f"{q.where}: {q.expr}" for q in open_)
        time.sleep(0.5)


def compared(expr: str) -> str:
    """Ask for what an alert compares, as 0 or 1, where the alert itself is silent while all is well."""
    expr = re.sub(r" (>=|<=|==|!=|>|<) ", r" \1 bool ", expr)
    expr = expr.replace(f" unless on () {ENDED}", "")  # what keeps an alert silent, not what it compares
    return re.sub(r"\babsent\(", "(", expr).replace(" unless ", " and ")


def test_every_panel_has_data_during_a_replay(watched: Watched) -> None:
    assert_all_answered(watched, panel_questions())


def test_every_recorded_series_is_there_and_every_number_that_an_alert_compares(watched: Watched) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert ENDED in recorded
    assert_all_answered(watched, (Question(f"record {name}", name, True) for name in recorded - {ENDED}))
    assert not watched.get("query", query=ENDED)["result"]  # an endless replay never does
    assert_all_answered(watched, (Question(q.where, compared(q.expr), q.instant) for q in rule_questions()))


def test_the_rules_are_evaluated_without_errors(watched: Watched) -> None:
    evaluated = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(list(rules()))
    assert not [(rule["name"], rule["lastError"]) for rule in evaluated if rule["health"] != "ok"]


def test_faults_put_in_are_alerts_and_marked_on_the_panels(watched: Watched) -> None:
    expected = {"PacketsRejected", "PacketsMissing", "DataDrift"}

    def firing() -> set[str]:
        return {a["labels"]["alertname"] for a in watched.get("alerts")["alerts"] if a["state"] == "firing"}

    wait_until(lambda: expected <= firing(), f"{expected} fire", DEADLINE_S)
    assert not firing() & {"PredictorDown", "MonitorDown", "NoPackets", "PredictionsStopped", "LedgerDifference"}
    assert_all_answered(watched, annotation_questions())


def test_the_ledger_shown_is_that_of_the_samples_replayed(watched: Watched) -> None:
    def sent() -> float:
        (row,) = watched.get("query", query='repstream_ledger_samples{fate="sent"}')["result"]
        return float(row["value"][1])

    wait_until(lambda: sent() > 0, "the ledger counts samples")


def test_every_variable_offers_choices(watched: Watched) -> None:
    for board, name, query in variable_queries():
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert asked is not None, query
        assert watched.get(f"label/{asked[2]}/values", **{"match[]": asked[1]}), f"{board}: {name}"


def test_every_metric_of_the_services_is_scraped(watched: Watched) -> None:
    assert exposed().keys() <= watched.names()
