"""What the documentation names is there, and what is there is named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import typer
from prometheus_client import CollectorRegistry

import repstream
from cli.app import app
from docs.generate import commands, metrics, python, tables
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
    assert exposed(predictor) | exposed(producer) | exposed(monitor) == documented("docs/reference/metrics.md")


def test_every_metric_and_column_of_the_store_is_documented() -> None:
    registry = CollectorRegistry()
    StoreMetrics(registry)
    assert exposed(registry) == documented("docs/how-to/store.md")
    page = text_of("docs/how-to/store.md")
    for table in (PREDICTIONS, ALARMS):
        for column in table.columns:
            assert f"`{column.name}`" in page, column.name


def test_every_command_is_in_the_readme() -> None:
    readme = text_of("README.md")
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`repstream {name}`" in readme or f"`repstream {name} " in readme, name


@pytest.mark.parametrize("kind", [packet.Packet, messages.LabelInterval, messages.Prediction])
def test_every_field_of_a_message_is_documented(kind: type[msgspec.Struct]) -> None:
    page = text_of("docs/reference/messages.md")
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in page or f'"{field.name}"' in page, field.name


def test_every_reason_of_a_dead_letter_is_documented() -> None:
    page = text_of("docs/reference/messages.md")
    for reason in fields.REJECT_REASONS:
        assert f"`{reason}`" in page, reason


def test_every_fault_is_documented() -> None:
    page = text_of("docs/how-to/faults.md")
    for name in FAULTS:
        assert f"`{name}`" in page, name


def test_every_feature_set_and_recipe_is_documented() -> None:
    for name in FEATURE_SETS:
        assert f"## {name}" in text_of("docs/reference/features.md"), name
    for recipe in RECIPES.values():
        assert recipe.name in text_of("docs/explanation/model.md"), recipe.name


def test_every_failure_names_tests_that_are_there() -> None:
    table = re.search(
        r"^\| what happens .+ \| test \|\n\|[- |]+\n((?:\|.*\n)+)", text_of("docs/explanation/failures.md"), re.M
    )
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


def test_tables_made_from_the_code_are_up_to_date() -> None:
    for name in tables.PAGES:
        page = text_of(f"docs/{name}")
        assert tables.rewritten(page) == page, f"docs/{name}: run make reference"
    held = [table for name in tables.PAGES for table in tables.tables_in(text_of(f"docs/{name}"))]
    assert sorted(held) == sorted(tables.TABLES)


def test_every_note_on_a_metric_is_about_one() -> None:
    assert set(metrics.NOTES) <= {name for service in metrics.SERVICES for name in metrics.metrics_of(service)}


def test_the_python_reference_holds_all_that_the_package_offers() -> None:
    assert sorted(name for names in python.API.values() for name in names) == sorted(
        set(repstream.__all__) - {"__version__"}
    )


def test_the_reference_of_commands_holds_every_command_option_and_variable() -> None:
    page, variables = commands.commands_page(), commands.environment_page()
    for name, command in commands.commands():
        assert f"## repstream {name}\n" in page
        for option in commands.options_of(command):
            assert f"`{option.opts[0]}`" in page
            assert option.help, f"{name} {option.opts[0]}"
            assert not option.envvar or f"| `{option.envvar}` |" in variables


def test_no_address_stands_in_the_pinned_requirements() -> None:
    pinned = text_of("requirements.lock")
    assert "://" not in pinned
    assert "--hash=sha256:" in pinned
