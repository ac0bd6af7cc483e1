"""How a demo went: what was sent, and the summary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from demo import table
from demo.ledger import Outcome
from demo.live import Percentiles
from producer.options import speed_text
from producer.settings import AS_FAST_AS_POSSIBLE


@dataclass(frozen=True)
class Sent:
    """What the producer says that it sent; nothing, where it never began."""

    packets: int = 0
    samples: int = 0
    wearers: int = 0
    seconds: float = 0.0
    origin_s: float = 0.0
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)

    @classmethod
    def from_lines(cls, lines: Sequence[str]) -> Sent | None:
        """Read the summary that ``repstream produce --json`` ends with; None where there is none."""
        for line in reversed(lines):
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                sessions = {(s["device"], s["session"]): int(s["samples"]) for s in said["sessions"]}
                values = {name: said[name] for name in cls.__dataclass_fields__ if name != "sessions"}
                return cls(sessions=sessions, **values)
        return None


@dataclass(frozen=True)
class DemoResult:
    """How a demo went.

    Attributes
    ----------
    first_prediction_s : float or None
        From the start of the demo to the first prediction that could be read, s.
    frame : Frame
        The table as it stood before the end.
    drift : dict
        What the monitor found, as `demo.verdicts.verdicts` gives it.
    """

    outcome: Outcome
    sent: Sent
    latency_ms: Percentiles
    window_latency_ms: Percentiles
    first_prediction_s: float | None
    seconds: float
    model: str
    speed: float
    frame: table.Frame
    drift: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the summary of the contract, and more, as plain JSON values."""
        outcome, speed = self.outcome, self.speed
        is_paced = speed != AS_FAST_AS_POSSIBLE
        event_time = "its event time" if speed == 1 else f"when it was due at {speed:g} times the pace"
        return {
            "packets": self.sent.packets,
            "samples": self.sent.samples,
            "windows": outcome.windows,
            "predictions": outcome.predictions,
            "wearers": self.sent.wearers,
            "accuracy": None if outcome.accuracy is None else round(outcome.accuracy, 6),
            "labelled_windows": outcome.n_labelled,
            "latency_ms": vars(self.latency_ms),
            "window_latency_ms": vars(self.window_latency_ms),
            "latency_from": (
                f"latency_ms: the newest sample in hand when the window closed (sampled_at), {event_time}, to the "
                "prediction readable by a read_committed consumer; window_latency_ms: from the window's last sample"
                if is_paced
                else "not measured: as fast as possible, no sample is due at any time"
            ),
            "lost": outcome.lost,
            "duplicated": outcome.duplicated,
            "differing": outcome.differing,
            "drift": self.drift,
            "model": self.model,
            "speed": speed if is_paced else speed_text(speed),
            "first_prediction_s": None if self.first_prediction_s is None else round(self.first_prediction_s, 3),
            "seconds": round(self.seconds, 3),
            "faults": self.sent.faults,
        }
