"""What is known of one partition's devices, and the settings that a state depends on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from predictor.engine.ledger import Ledger
from predictor.engine.session import Ended, Past, Session

# Sessions that are over and known by a few numbers each, per partition.
_REMEMBERED_PAST = 32_768


@dataclass(slots=True)
class Device:
    """A device's sessions; those that ended by their `session_key`."""

    open: dict[str, Session] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)
    seen_s: float = 0.0


class Shape(NamedTuple):
    """What a state depends on besides the packets: window and hop in grid samples, lateness in µs."""

    window: int
    hop: int
    lateness_us: int


@dataclass
class Partition:
    """All that is known of one partition's devices.

    Attributes
    ----------
    past : mapping of `session_key` to what is remembered
        Sessions that had windows, of devices that are forgotten or had many since; the oldest first.
    emit_from : int
        Windows completed by a packet before this offset were predicted already.
    released : bool
        The clock, not the log, changed this state (`Engine.release`): it must be written down with
        whatever it caused, as reading the log again would not repeat it.
    ledger : Ledger
        What became of all samples so far; not only of those that are live.
    """

    devices: dict[str, Device] = field(default_factory=dict)
    past: OrderedDict[int, Past] = field(default_factory=OrderedDict)
    ledger: Ledger = field(default_factory=Ledger)
    emit_from: int = 0
    released: bool = False

    def remember(self, key: int, past: Past) -> None:
        """Remember a session for longer; the oldest is forgotten where they are too many."""
        self.past[key] = past
        if len(self.past) > _REMEMBERED_PAST:
            self.past.popitem(last=False)


def buffered_samples(partition: Partition) -> int:
    """Count the samples in hand that are in no window yet: of waiting packets, and on the grid."""
    return sum(
        session.end - session.counted + sum(len(p.values) for p in (*session.pending.values(), *session.doubted))
        for device in partition.devices.values()
        for session in device.open.values()
    )
