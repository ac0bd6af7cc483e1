"""The newest samples of a few wearers, in the small whole numbers that a page draws; pure."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repstream.messages.packet import Packet, packet_times_us, packet_values

KEPT_S = 32.0
"""Event time that is kept of a wearer, s: the half minute that is drawn, and what smooth drawing needs."""

# A line of more points than this is no finer on any screen.
_MOST_HZ = 100.0
# Whatever rates and times packets claim.
_MOST_PACKETS = 3_200
_MOST_VALUE = 2_000_000_000
# To mg and 0.1 °/s.
_SCALE = np.array([1000.0] * 3 + [10.0] * 3)


@dataclass(frozen=True)
class Strip:
    """A packet's samples, ready for a page.

    Attributes
    ----------
    start_s : float
        Event time of its first sample, epoch s.
    at_ms : list of float
        Of each sample, from the first one.
    values : list of int
        Sample by sample: three accelerations in mg, three angular rates in 0.1 °/s.
    """

    session: str
    start_s: float
    end_s: float
    at_ms: list[float]
    values: list[int]

    def as_json(self) -> list[Any]:
        """Return it as the page takes it."""
        return [self.start_s, self.at_ms, self.values]


def strip_of(packet: Packet) -> Strip | None:
    """Make a packet ready; None where it holds what is no number."""
    values = packet_values([packet])
    if not np.isfinite(values).all():
        return None
    times_us = np.array(packet_times_us(packet))
    step = 1
    if len(times_us) > 1:
        rate = 1e6 / max(float(np.median(np.diff(times_us))), 1.0)
        step = max(int(-(-rate // _MOST_HZ)), 1)
    shown = np.clip(np.rint(values[::step] * _SCALE), -_MOST_VALUE, _MOST_VALUE)
    at_ms = np.round((times_us[::step] - times_us[0]) / 1e3, 1)
    return Strip(
        packet.session,
        round(float(times_us[0]) / 1e6, 4),
        float(times_us[-1]) / 1e6,
        at_ms.tolist(),
        shown.astype(np.int64).ravel().tolist(),
    )


@dataclass
class _Ring:
    strips: deque[Strip] = field(default_factory=lambda: deque(maxlen=_MOST_PACKETS))
    n: int = 0
    newest_s: float = 0.0
    offset: int = -1


class SampleRings:
    """A ring for each wearer that somebody looks at; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: dict[str, _Ring] = {}

    def watch(self, devices: set[str]) -> set[str]:
        """Keep rings of these devices and no others; return those that are new."""
        with self._lock:
            for gone in self._rings.keys() - devices:
                del self._rings[gone]
            new = devices - self._rings.keys()
            for device in new:
                self._rings[device] = _Ring()
            return new

    def add(self, device: str, strip: Strip, offset: int) -> None:
        """Add a packet's samples; one that was read before (up to that offset) is left out."""
        with self._lock:
            ring = self._rings.get(device)
            if ring is None or offset <= ring.offset:
                return
            ring.offset = offset
            ring.strips.append(strip)
            ring.n += 1
            ring.newest_s = max(ring.newest_s, strip.end_s)
            while ring.strips and ring.strips[0].end_s < ring.newest_s - KEPT_S:
                ring.strips.popleft()

    def after(self, device: str, n: int) -> tuple[list[Strip], int]:
        """Return the packets that came after the first `n` of a device's, as far as kept; and their number now."""
        with self._lock:
            ring = self._rings.get(device)
            if ring is None:
                return [], 0
            new = min(ring.n - n, len(ring.strips)) if ring.n >= n else len(ring.strips)
            first = len(ring.strips) - new
            return [ring.strips[i] for i in range(first, len(ring.strips))], ring.n
