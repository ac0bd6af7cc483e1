"""Prometheus's configuration and rules and Grafana's dashboards: accepted by their own tools, true to the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import classification, live, pipeline
from grafana.generate import FOLDER, generate
from monitor.drift.checks import CONFIDENCE_THRESHOLD, DRIFTED_SHARE, FEATURE_THRESHOLD, LABELS_THRESHOLD
from repstream.palette import EXERCISE_COLOURS
from repstream.recognition.model import load_model
from tests.promql import (
    PROMETHEUS,
    ROOT,
    alerts,
    annotation_questions,
    dashboards,
    exposed,
    named,
    panel_questions,
    panels,
    rule_questions,
    rules,
    tool,
    variable_queries,
)

CONFIGURATIONS = ("prometheus.yml", "local.yml")
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
BOARDS = sorted(dashboards())


def promtool(*arguments: str) -> None:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prometheus_accepts_the_configuration_and_all_its_rules(name: str) -> None:
    promtool("check", "config", str(PROMETHEUS / name))


def test_on_one_machine_and_in_compose_the_same_is_scraped_and_ruled() -> None:
    compose, local = (read(PROMETHEUS / name) for name in CONFIGURATIONS)
    assert compose["global"] == local["global"]
    assert compose["rule_files"] == local["rule_files"]
    assert [job["job_name"] for job in compose["scrape_configs"]] == [
        job["job_name"] for job in local["scrape_configs"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda f: f.name)
def test_rules_record_what_they_should_and_alerts_fire_when_they_should_and_say_so(file: Path) -> None:
    promtool("test", "rules", str(file))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for file in RULE_TESTS:
        for case in read(file)["tests"]:
            for expected in case.get("alert_rule_test", []):
                (fires if expected["exp_alerts"] else quiet).add(expected["alertname"])
    assert fires == quiet == set(alerts())


def test_every_alert_tells_what_where_and_how_bad_and_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(encoding="utf-8"), re.M)
    assert sorted(sections) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_every_section_of_the_runbook_says_what_it_means_how_to_look_and_what_to_do() -> None:
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        for word in ("**Means:**", "**Look:**", "**Do:**"):
            assert word in section, section.splitlines()[0]


@pytest.mark.parametrize(
    ("alert", "limit"),
    [
        ("DataDrift", DRIFTED_SHARE),
        ("TargetDrift", LABELS_THRESHOLD),
        ("ConfidenceDrift", CONFIDENCE_THRESHOLD),
        ("AccuracyLow", classification.ACCURACY_LIMIT),
        ("AccuracyEstimateLow", classification.ACCURACY_LIMIT),
        ("ExerciseF1Low", classification.F1_LIMIT),
        ("PredictionLatencyHigh", live.LATENCY_LIMIT_S),
        ("ConsumerLagGrowing", pipeline.LAG_LIMIT),
        ("PacketsRejected", pipeline.REJECTED_LIMIT),
    ],
)
def test_alerts_and_dashboards_draw_the_line_where_the_code_does(alert: str, limit: float) -> None:
    found = re.search(r"(?:>=|>|<) ([\d.]+)", alerts()[alert]["expr"])
    assert found is not None
    assert float(found[1]) == limit


def test_the_limits_told_in_words_are_those_of_the_code() -> None:
    said = {name: rule["annotations"]["description"] for name, rule in alerts().items()}
    assert f"{DRIFTED_SHARE * 100:g} % are enough" in said["DataDrift"]
    assert f"{LABELS_THRESHOLD:g} is the limit" in said["TargetDrift"]
    assert f"{CONFIDENCE_THRESHOLD:g} is the limit" in said["ConfidenceDrift"]
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    assert f"from {DRIFTED_SHARE * 100:g} % of the features on, each at least {FEATURE_THRESHOLD:g}" in runbook


def test_every_metric_that_a_panel_or_rule_names_is_exposed_and_every_exposed_one_is_shown() -> None:
    asked: dict[str, str] = {}
    for question in (*panel_questions(), *annotation_questions(), *rule_questions()):
        asked |= dict.fromkeys(named(question.expr), question.where)
    for board, variable, query in variable_queries():
        asked |= dict.fromkeys(named(query), f"{board} / variable {variable}")
    there = exposed()
    records = {rule["record"]: named(rule["expr"]) for rule in rules() if "record" in rule}
    known = there.keys() | records.keys()
    assert not {name: where for name, where in asked.items() if name not in known}
    assert records.keys() <= asked.keys(), "recorded, but nobody asks for it"
    shown = set[str]().union(*(named(question.expr) for question in panel_questions()))
    shown |= set[str]().union(*(records[name] for name in shown & records.keys()))
    assert not set(there.values()) - {there[name] for name in shown & there.keys()}, "exposed, but on no panel"


def test_dashboards_are_what_their_source_writes() -> None:
    written = {f.name: f.read_text(encoding="utf-8") for f in FOLDER.glob("*.json")}
    assert written == generate(), "run: make dashboards"


# What Prometheus's data source adds to an annotation; the schema leaves room for it, the SDK's classes do not keep it.
ANNOTATION_EXTRAS = ("titleFormat", "textFormat", "tagKeys", "step")


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_read_by_grafanas_schema_without_loss(name: str) -> None:
    register_default_plugins()
    board = dashboards()[name]
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    for mark in board["annotations"]["list"]:
        for extra in ANNOTATION_EXTRAS:
            del mark[extra]
    assert again == board


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_width_do_not_overlap_and_say_what_they_show(name: str) -> None:
    board = dashboards()[name]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    height = 1 + max(y for _, y in taken)
    assert taken == {(x, y) for x in range(24) for y in range(height)}, "a hole between panels"
    for panel in panels(board):
        assert re.fullmatch(r"[A-Z0-9].+\.", panel["description"]), panel["title"]
        has_unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"].get("cellValues", {}).get("unit")
        assert has_unit, panel["title"]
    ids = [panel["id"] for panel in panels(board)]
    assert len(set(ids)) == len(ids)


def test_links_between_dashboards_lead_somewhere() -> None:
    boards = dashboards().values()
    addresses = {board["uid"] for board in boards}
    assert len(addresses) == len(boards) == 5
    for board in boards:
        assert board["tags"] == board["links"][0]["tags"] == ["repstream"]
        for panel in panels(board):
            for link in panel.get("links", []):
                target = re.match(r"/d/([\w-]+)\?", link["url"])
                assert target is not None
                assert target[1] in addresses


def test_every_variable_is_used_and_every_used_one_is_there() -> None:
    for board in dashboards().values():
        there = {v["name"] for v in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps([board["panels"], board["annotations"]])))
        assert used == there, board["title"]


def test_every_exercise_of_the_shipped_model_has_one_colour_on_all_panels() -> None:
    assert set(load_model("spar").labels) <= EXERCISE_COLOURS.keys()
    for board in dashboards().values():
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                if (label := override["matcher"].get("options")) in EXERCISE_COLOURS:
                    (colour,) = (p["value"]["fixedColor"] for p in override["properties"] if p["id"] == "color")
                    assert colour == EXERCISE_COLOURS[label]


def test_grafana_finds_prometheus_and_the_dashboards_when_it_starts() -> None:
    (source,) = read(ROOT / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    scrape = read(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape, "rates are taken over four of Grafana's interval"
    (provider,) = read(ROOT / "grafana/provisioning/dashboards/repstream.yml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_the_documentation_counts_the_alerts_and_names_the_dashboards() -> None:
    page = (ROOT / "docs/how-to/dashboards.md").read_text(encoding="utf-8")
    assert f"and {len(alerts())} alerts" in page
    for board in dashboards().values():
        assert f"| {board['title']} | {board['description']} |" in page
