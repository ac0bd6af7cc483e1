"""Modules and functions are short enough to read from top to bottom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (*("cli", "repstream", "producer", "predictor", "monitor", "store", "training", "demo", "bench", "grafana"),)
MODULE_LINES, FUNCTION_LINES = 450, 60

# Tables and data: long, but there is nothing in them to follow.
DATA = {
    # A row per panel.
    "grafana.classification.panels",
    "grafana.drift.data_drift",
    "grafana.drift.target_drift",
    "grafana.live.panels",
    "grafana.pipeline.panels",
    # What is said of each cause.
    "monitor.alarms.words.describe",
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def functions(tree: ast.AST, where: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield functions and methods with their dotted names; a function's own functions count as part of it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{where}.{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{where}.{node.name}")


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body: a signature, above all a command's, is a table; its docstring is prose."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def too_long() -> set[str]:
    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text, name = file.read_text(encoding="utf-8"), module_of(file)
            if text.count("\n") > MODULE_LINES:
                found.add(name)
            found |= {n for n, f in functions(ast.parse(text), name) if n_lines(f) > FUNCTION_LINES}
    return found


@pytest.mark.slow
def test_no_module_and_no_function_is_too_long_to_read() -> None:
    assert too_long() <= DATA


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DATA))
def test_what_is_excepted_as_data_is_there(name: str) -> None:
    assert name in too_long()
