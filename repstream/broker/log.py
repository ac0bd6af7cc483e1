"""What a broker's logs say of why it ended."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

_FAULT = re.compile(r" (ERROR|FATAL) |^(Caused by: |Error: )|^[\w.$]+(Exception|Error)\b")


def log_lines(jvm_log: Path, kafka_log: Path, start: int) -> list[str]:
    """Return what one start wrote; of a log that cannot be read, nothing.

    Parameters
    ----------
    jvm_log, kafka_log : Path
        What the JVM itself says, anew at each start; and Kafka's log, which goes on over starts.
    start : int
        Where in Kafka's log this start begins, bytes; all of it where that is shorter by now.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines += jvm_log.read_text(errors="replace").splitlines()
    with contextlib.suppress(OSError), kafka_log.open("rb") as file:
        file.seek(start if start <= kafka_log.stat().st_size else 0)
        lines += file.read().decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def last_words(lines: Sequence[str], kafka_log: Path) -> str:
    """Return the last lines that name a fault, else the last ones; joined, as an error is one line."""
    said = [line for line in lines if _FAULT.search(line)] or lines
    return f"{' | '.join(said[-3:]) or 'nothing was logged'} (more in {kafka_log})"


def bind_failed(lines: Sequence[str]) -> bool:
    """Whether the port was taken by another."""
    return any("Address already in use" in line for line in lines)
