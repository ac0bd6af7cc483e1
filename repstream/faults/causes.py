"""What an alarm calls each fault that can be put into a replay: one table for both vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repstream.messages.messages import AlarmCause

CAUSE_OF: dict[str, AlarmCause] = {
    "rotate": "rotated",
    "swap-wrist": "other-wrist",
    "gain": "gain",
    "offset": "offset",
    "noise": "noise",
    "clip": "clipped",
    "stuck": "stuck",
    "units": "units",
    "rate": "rate",
    "new-exercise": "unknown-movement",
}
"""Kind of fault, as ``--inject`` names it, to the cause that alarms about single devices give for it.

Faults of packets, deliveries and labels have none: the predictor counts those.
"""
