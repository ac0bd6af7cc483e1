"""What a replay has sent: as it goes, and in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from producer.replay.messages import Outgoing
from repstream.messages.topics import LABELS


@dataclass(frozen=True)
class ProduceProgress:
    """How a replay stands, given to whoever watches it.

    Attributes
    ----------
    active_wearers, wearers : int
        Those that have begun and not ended; all.
    packets_per_s : float
        Since the last report.
    behind_s : float
        How late the newest message went out (0 for as fast as possible), or for how long Kafka has
        acknowledged nothing of what it was sent.
    in_flight : int
        Messages not acknowledged yet.
    """

    active_wearers: int
    wearers: int
    packets: int
    packets_per_s: float
    behind_s: float
    in_flight: int
    seconds: float


@dataclass(frozen=True)
class ProduceSummary:
    """What a replay sent; all of it is acknowledged.

    Attributes
    ----------
    packets : int
        Messages on `samples`, faulty ones and repeats too.
    samples : int
        Samples sent for the first time, in readable packets.
    bytes : int
        Of keys and values.
    seconds : float
        Wall time.
    sessions : dict of (device, session) to int
        Samples of each session, counted as `samples`.
    faults : dict of kind to int
        Packets that a fault was put into.
    origin_s : float
        Event time at the start, epoch seconds.
    resumed, complete : int
        Sessions that went on from what the log held; sessions that it held in full.
    stopped : bool
        Whether something was left to send, because of a signal or --duration.
    touched : list of str
        Devices that a fault was put into while it ran.
    """

    packets: int
    samples: int
    labels: int
    bytes: int
    wearers: int
    seconds: float
    sessions: dict[tuple[str, str], int]
    faults: dict[str, int]
    origin_s: float
    resumed: int = 0
    complete: int = 0
    stopped: bool = False
    touched: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **{name: value for name, value in vars(self).items() if name != "sessions"},
            "sessions": [{"device": d, "session": s, "samples": n} for (d, s), n in self.sessions.items()],
        }


@dataclass
class Totals:
    """What was sent, counted as `ProduceSummary` says."""

    packets: int = 0
    samples: int = 0
    labels: int = 0
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, out: Outgoing) -> None:
        """Count a message that was sent."""
        if out.topic == LABELS:
            self.labels += 1
            return
        self.packets += 1
        self.samples += out.n_samples
        name = out.device, out.session
        self.sessions[name] = self.sessions.get(name, 0) + out.n_samples
