"""What a demo sees as predictions become readable: the state of each wearer, rates, latencies; pure.

A prediction's latency is counted from when its newest sample was due: the event time itself at the
recordings' own pace, else where the replay's timeline puts it. At ``--speed max`` nothing is due at
any time, and there is no latency.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.roster import Roster
from producer.replay.pace import Timeline
from producer.settings import AS_FAST_AS_POSSIBLE
from repstream.messages.messages import Prediction
from repstream.windows.grid import GRID_HZ

# The live percentiles are of the newest so many; the summary's are of all.
_RECENT = 2_000


@dataclass
class WearerState:
    """One wearer's newest prediction, and how well they went.

    Attributes
    ----------
    is_right : bool or None
        None where the truth is not known, or is no answer of the model's.
    latency_s : float or None
        None where nothing is due at a time.
    seen_s : float
        Clock at the newest prediction, epoch seconds.
    """

    device: str
    truth: str | None = None
    label: str | None = None
    is_right: bool | None = None
    confidence: float = 0.0
    latency_s: float | None = None
    n_labelled: int = 0
    n_right: int = 0
    seen_s: float = 0.0


@dataclass(frozen=True)
class Percentiles:
    """Latencies in ms; None where there are none."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, latencies_s: Sequence[float]) -> Percentiles:
        """Take them of any number of latencies (s)."""
        if not len(latencies_s):
            return cls(None, None, None)
        p50, p95, p99 = (round(float(x) * 1e3, 1) for x in np.percentile(latencies_s, (50, 95, 99)))
        return cls(p50, p95, p99)


class Live:
    """All that was seen so far. One thread may `take` while others look.

    Parameters
    ----------
    roster : Roster
    speed : float
        Of the replay.
    hop : int
        Samples between the starts of two windows.
    """

    def __init__(self, roster: Roster, speed: float, hop: int) -> None:
        self.wearers = {device: WearerState(device) for device in roster.devices}
        self.n_predictions = 0
        self.n_labelled = 0
        self.n_right = 0
        self.first_s: float | None = None
        self._roster = roster
        self._is_paced = speed != AS_FAST_AS_POSSIBLE
        self._hop = hop
        self._timeline: Timeline | None = None
        self._lock = threading.Lock()
        # Epoch seconds, one entry a prediction: the newest sample's event time, the window's end, readable.
        self._sampled, self._ended, self._readable = array("d"), array("d"), array("d")
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def take(self, prediction: Prediction, readable_s: float) -> None:
        """Take a prediction that became readable at `readable_s` (epoch seconds)."""
        device = prediction.device
        truth = self._roster.truth(device, prediction.session, prediction.index)
        is_right = prediction.label == truth if self._roster.counts(truth) else None
        with self._lock:
            state = self.wearers.get(device)
            if state is None:
                return  # not of this demo
            self.n_predictions += 1
            self.first_s = readable_s if self.first_s is None else self.first_s
            self._sampled.append(prediction.sampled_at)
            self._ended.append(prediction.end)
            self._readable.append(readable_s)
            state.truth, state.label, state.is_right = truth, prediction.label, is_right
            state.confidence, state.seen_s = prediction.confidence, readable_s
            state.latency_s = self._latency_now(prediction, readable_s)
            if state.latency_s is not None:
                self._recent.append(state.latency_s)
            if is_right is not None:
                state.n_labelled += 1
                state.n_right += is_right
                self.n_labelled += 1
                self.n_right += is_right

    def _latency_now(self, prediction: Prediction, readable_s: float) -> float | None:
        if not self._is_paced:
            return None
        if self._timeline is None:
            # The producer tells its origin only when it has ended; a session's first sample tells it now.
            start_us = round(prediction.start * 1e6 - prediction.index * self._hop / GRID_HZ * 1e6)
            origin_us = self._roster.origin_us(prediction.device, prediction.session, start_us)
            if origin_us is None:
                return None
            self._timeline = self._roster.timeline(origin_us)
        return readable_s - self._timeline.due_s(round(prediction.sampled_at * 1e6))

    def recent(self) -> Percentiles:
        """Latencies of the newest predictions."""
        with self._lock:
            recent = list(self._recent)
        return Percentiles.of(recent)

    def latencies(self, origin_s: float) -> tuple[Percentiles, Percentiles]:
        """Latencies of all predictions: from the newest sample in hand, and from the window's last one.

        Parameters
        ----------
        origin_s : float
            Event time at which the replay began, as the producer says, epoch seconds.
        """
        with self._lock:
            sampled, ended, readable = (np.array(a) for a in (self._sampled, self._ended, self._readable))
        if not self._is_paced:
            return Percentiles.of([]), Percentiles.of([])
        due_s = self._roster.timeline(round(origin_s * 1e6)).due_s

        def since(event_s: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Percentiles:
            due = [due_s(us) for us in np.rint(event_s * 1e6).astype(np.int64).tolist()]
            return Percentiles.of(readable - np.array(due))

        return since(sampled), since(ended)


class Rate:
    """How fast a count grows, over the last few seconds.

    Parameters
    ----------
    over_s : float
        How many.
    """

    def __init__(self, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, float]] = deque()

    def update(self, now_s: float, count: float) -> float:
        """Note a count and return its growth a second; 0 where nothing can be said yet."""
        seen = self._seen
        seen.append((now_s, count))
        while len(seen) > 2 and now_s - seen[1][0] >= self._over_s:
            seen.popleft()
        elapsed_s = now_s - seen[0][0]
        rate = (count - seen[0][1]) / elapsed_s if elapsed_s > 0 else 0.0
        return rate if math.isfinite(rate) else 0.0
