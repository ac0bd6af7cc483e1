"""The demo's services: child processes that the environment does not configure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from repstream.processes.children import Child

# What the demo's own options decide must not be decided again by the environment.
_KEPT_ENVIRONMENT = ("REPSTREAM_LOG_LEVEL",)


def start(command: str, arguments: Sequence[str], log: Path, grace_s: float, remove: Path | None = None) -> Child:
    """Start ``repstream COMMAND …``; parameters as of `Child`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REPSTREAM_") or name in _KEPT_ENVIRONMENT
    }
    return Child(command, arguments, log, grace_s, remove, environment)
