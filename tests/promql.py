"""What dashboards and rules ask of Prometheus, read from the files that Prometheus and Grafana read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from monitor.metrics import MonitorMetrics
from predictor.metrics import PredictorMetrics
from producer.metrics import ProducerMetrics
from store.metrics import StoreMetrics
from tests.tools import program

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "prometheus"
DASHBOARDS = ROOT / "grafana" / "dashboards"


@dataclass(frozen=True)
class Question:
    """One query, and where it stands."""

    where: str
    expr: str
    instant: bool


def tool(name: str) -> str:
    """Find prometheus or promtool."""
    return program(name, package="prometheus")


def rules() -> Iterator[dict[str, Any]]:
    for file in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    return {f.name: json.loads(f.read_text(encoding="utf-8")) for f in sorted(DASHBOARDS.glob("*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [p for p in board["panels"] if p["type"] != "row"]


def panel_questions() -> Iterator[Question]:
    for board in dashboards().values():
        for panel in panels(board):
            for target in panel["targets"]:
                where = f"{board['title']} / {panel['title']} / {target['refId']}"
                yield Question(where, target["expr"], target["instant"])


def annotation_questions() -> Iterator[Question]:
    for board in dashboards().values():
        for mark in board["annotations"]["list"]:
            yield Question(f"{board['title']} / annotation {mark['name']}", mark["expr"], False)


def variable_queries() -> Iterator[tuple[str, str, str]]:
    """Yield the dashboard, the variable, and its ``label_values(…)``."""
    for board in dashboards().values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield board["title"], variable["name"], variable["query"]["query"]


def rule_questions() -> Iterator[Question]:
    for rule in rules():
        yield Question(f"rule {rule.get('alert') or rule['record']}", rule["expr"], True)


def named(expr: str) -> set[str]:
    """Return the metrics of ours, and the recorded series, that a query names."""
    return set(re.findall(r"\brepstream(?:_[a-z0-9_]+|:[a-z0-9_:]+)", expr))


def families() -> list[Metric]:
    """Return all that the services expose."""
    registry = CollectorRegistry()
    PredictorMetrics(registry, ("ABD",), "spar", "1")
    ProducerMetrics(registry)
    MonitorMetrics(registry, ("accel_x_min",), ("ABD",))
    StoreMetrics(registry)
    return list(registry.collect())


def exposed() -> dict[str, str]:
    """Return each series that can be asked for, and the metric that it belongs to."""
    found = {}
    for family in families():
        if family.type == "counter":
            found[f"{family.name}_total"] = f"{family.name}_total"
        elif family.type == "histogram":
            found |= {f"{family.name}_{part}": family.name for part in ("bucket", "sum", "count")}
        else:
            found[family.name] = family.name
    return found
