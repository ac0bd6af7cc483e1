"""How a replay names what it sends: copies of a device, and further laps of a session.

The producer names by it, and whoever reads a replay's messages finds the recording behind them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

_COPY = re.compile(r"~\d+$")
_LAP = re.compile(r"#\d+$")


def copies_of(devices: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name copies of devices in turn, without end: each its name and the device that it is a copy of."""
    taken = set(devices)
    for number in itertools.count(2):
        for device in devices:
            name = f"{device}~{number}"
            if name not in taken:
                yield name, device


def original_of(device: str) -> str:
    """Return the device that a copy's name is made of; any other name as it is."""
    return _COPY.sub("", device)


def lap_of(session: str, lap: int) -> str:
    """Name a session's laps, counted from 1, where a replay begins again after its end."""
    return session if lap == 1 else f"{session}#{lap}"


def first_lap_of(session: str) -> str:
    """Return the session that a lap's name is made of; any other name as it is."""
    return _LAP.sub("", session)
