"""How the property tests draw their examples, and what is told at the end of what could not be checked."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

# The same examples each time, so that what was green stays so; `HYPOTHESIS_PROFILE=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, by its reason, so that nobody takes it for checked."""
    reports = terminalreporter.stats.get("skipped", [])
    why = Counter(str(r.longrepr[2]).removeprefix("Skipped: ") for r in reports if isinstance(r.longrepr, tuple))
    if why:
        terminalreporter.section(f"skipped: {why.total()} tests")
        for reason, count in sorted(why.items()):
            terminalreporter.line(f"{count:4} × {reason}")
