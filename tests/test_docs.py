"""What the documentation names is there, and what is there is named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import typer
from prometheus_client import CollectorRegistry

from cli.app import app
from monitor.metrics import MonitorMetrics
from predictor.metrics import PredictorMetrics
from producer.faults.parse import FAULTS
from producer.metrics import ProducerMetrics
from repstream.features.sets import FEATURE_SETS
from repstream.messages import fields, messages, packet
from store.metrics import StoreMetrics
from store.sql import ALARMS, PREDICTIONS
from training.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def exposed(registry: CollectorRegistry) -> set[str]:
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}


def documented(page: str) -> set[str]:
    """The metrics that a page lists."""
    rows = re.findall(r"^\| (`.+?) \| (?:gauge|counter|histogram)", text_of(page), re.M)
    return {f"repstream_{name}" for row in rows for name in re.findall(r"`([a-z0-9_]+)", row)}


def test_every_metric_is_documented_and_every_documented_one_is_exposed() -> None:
    predictor, producer, monitor = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    PredictorMetrics(predictor, ("ABD",), "spar", "1")
    ProducerMetrics(producer)
    MonitorMetrics(monitor, ("accel_x_min",), ("ABD",))
    assert exposed(predictor) | exposed(producer) | exposed(monitor) == documented("docs/metrics.md")


def test_every_metric_and_column_of_the_store_is_documented() -> None:
    registry = CollectorRegistry()
    StoreMetrics(registry)
    assert exposed(registry) == documented("docs/store.md")
    page = text_of("docs/store.md")
    for table in (PREDICTIONS, ALARMS):
        for column in table.columns:
            assert f"`{column.name}`" in page, column.name


def test_every_command_is_in_the_readme() -> None:
    readme = text_of("README.md")
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`repstream {name}`" in readme or f"`repstream {name} " in readme, name


@pytest.mark.parametrize("kind", [packet.Packet, messages.LabelInterval, messages.Prediction])
def test_every_field_of_a_message_is_documented(kind: type[msgspec.Struct]) -> None:
    page = text_of("docs/messages.md")
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in page or f'"{field.name}"' in page, field.name


def test_every_reason_of_a_dead_letter_is_documented() -> None:
    page = text_of("docs/messages.md")
    for reason in fields.REJECT_REASONS:
        assert f"`{reason}`" in page, reason


def test_every_fault_is_documented() -> None:
    page = text_of("docs/faults.md")
    for name in FAULTS:
        assert f"`{name}`" in page, name


def test_every_feature_set_and_recipe_is_documented() -> None:
    for name in FEATURE_SETS:
        assert f"## {name}" in text_of("docs/features.md"), name
    for recipe in RECIPES.values():
        assert recipe.name in text_of("docs/model.md"), recipe.name


def test_every_failure_names_tests_that_are_there() -> None:
    table = re.search(r"^\| what happens .+ \| test \|\n\|[- |]+\n((?:\|.*\n)+)", text_of("docs/failures.md"), re.M)
    assert table is not None
    for row in table[1].splitlines():
        what, *_, tests = row.strip("| ").split(" | ")
        named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", tests)
        assert named, what
        for stem, function in named:
            files = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob(f"{stem}.py")]
            assert files, f"{what}: there is no {stem}"
            assert not function or any(f"def {function}(" in file for file in files), f"{what}: {stem}::{function}"


def test_links_within_the_documentation_lead_somewhere() -> None:
    pages = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_address_stands_in_the_pinned_requirements() -> None:
    pinned = text_of("requirements.lock")
    assert "://" not in pinned
    assert "--hash=sha256:" in pinned
