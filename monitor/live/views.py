"""What browsers look at: each view as JSON, whole at first and then what is new.

============  ==============================================================================
``status``    Kafka, rates, latency, accuracy, ledger, alarms, replays; every second, whole
``everyone``  a tile for each wearer, the exercise mix; twice a second
``wearer/…``  samples, predictions and truths of one; ten times a second
``drift``     scores of all features over time, the most drifted ones; with each pass
============  ==============================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from monitor.drift.passes import PassResult
from monitor.drift.reference import Current, Reference
from monitor.live.drift import DriftHistory, shapes, shares
from monitor.live.feed import Arrival, Feed, Run, Said, Tile, Told, Wearer
from monitor.live.samples import SampleRings
from monitor.live.traffic import Traffic
from repstream.messages.messages import Alarm, ProducerStatus
from repstream.windows.truth import counts

encode = msgspec.json.Encoder().encode

# Latency is that of the last so many seconds.
_LATENCY_OVER_S = 10.0
# Event time further behind the clock is a recording's, played at another pace: no latency.
_BEHIND_S = 30.0
# A replay that has so little to catch up with is live.
_LIVE_S = 1.0
_SHOWN_SAID = 120
_MOST_ALARMS, _ENDED_ALARMS = 100, 20
_NEW_SPARK = 6
_NEW_BUCKETS = 3
_RUNS_EVERY_S = 1.0


@dataclass(frozen=True)
class Sources:
    """Where views get what they show.

    Attributes
    ----------
    model : str
    labels : tuple of str
    started : str
        Names this run of the monitor: a browser that sees another one begins afresh.
    ready : callable
        Whether the monitor itself reads Kafka, and why not.
    alarms : callable
        Those open now, and those that ended lately.
    ledger : callable
        What became of all samples.
    """

    model: str
    labels: tuple[str, ...]
    started: str
    feed: Feed
    drift: DriftHistory
    rings: SampleRings
    traffic: Callable[[], Traffic]
    ready: Callable[[], tuple[bool, str]]
    last_pass: Callable[[], PassResult | None]
    current: Callable[[], Current]
    reference: Reference
    alarms: Callable[[], Sequence[Alarm]]
    ledger: Callable[[], Mapping[str, Any] | None]
    clock: Callable[[], float] = time.time


def due_s(sampled_s: float, status: ProducerStatus | None) -> float:
    """When a sample was due, by the clock: at its event time, or when a replay's pace brought it."""
    if status is None or status.paused or status.at - status.event_at < _LIVE_S:
        return sampled_s
    return max(status.at + (sampled_s - status.event_at) / status.speed, sampled_s)


def latencies(arrivals: Sequence[Arrival], status: ProducerStatus | None, now_s: float) -> list[float]:
    """Return how long after they were due samples were predicted, s, of the last seconds; sorted."""
    fresh = [a for a in arrivals if a.at_s > now_s - _LATENCY_OVER_S]
    return sorted(a.at_s - due_s(a.sampled_s, status) for a in fresh)


class StatusView:
    """How things stand as a whole."""

    event = "status"
    every_s = 1.0

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._counted: tuple[float, int] | None = None
        self._per_s = 0.0

    def news(self) -> bytes:
        """Return all of it: it is small."""
        return self.whole()

    def whole(self) -> bytes:
        """Return it as JSON."""
        source = self._from
        now = source.clock()
        totals, traffic = source.feed.totals(), source.traffic()
        ready, why = source.ready()
        if self._counted is None or now - self._counted[0] >= 2 * self.every_s:
            if self._counted is not None:
                self._per_s = max(totals.predictions - self._counted[1], 0) / (now - self._counted[0])
            self._counted = now, totals.predictions
        newest = totals.newest_predicted_s
        status = traffic.producers[0] if traffic.producers else None
        late = latencies(totals.arrivals, status, now)
        middle = late[len(late) // 2] if late else None
        result = source.last_pass()
        return encode(
            {
                "t": now,
                "started": source.started,
                "model": source.model,
                "labels": source.labels,
                "trouble": traffic.trouble if traffic.trouble else ("" if ready else why),
                "packets": traffic.packets,
                "packets_s": round(traffic.packets_per_s, 1),
                "silent_s": _rounded(traffic.silent_s, 1),
                "lag": traffic.lag,
                "predictions": totals.predictions,
                "predictions_s": round(self._per_s, 1),
                "quiet_s": None if newest is None else round(max(now - newest, 0.0), 1),
                "wearers": totals.wearers,
                "latency_ms": None
                if middle is None or middle > _BEHIND_S
                else {"p50": _ms(middle), "p95": _ms(late[int(len(late) * 0.95)])},
                "behind_s": _rounded(middle, 0) if middle is not None and middle > _BEHIND_S else None,
                "accuracy": None if result is None else result.classification.accuracy,
                "labelled": 0 if result is None else result.labelled,
                "drifted_share": result.data.drifted_share if result is not None and result.data.enough else None,
                "ledger": source.ledger(),
                "alarms": _shown(source.alarms()),
                "producers": traffic.producers,
            }
        )


def _shown(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Those that are on, and the newest of those that are over."""
    is_on = [a for a in alarms if a.ended is None][:_MOST_ALARMS]
    return is_on + sorted((a for a in alarms if a.ended is not None), key=lambda a: -(a.ended or 0.0))[:_ENDED_ALARMS]


class EveryoneView:
    """All wearers."""

    event = "everyone"
    every_s = 0.5

    def __init__(self, sources: Sources) -> None:
        self._feed = sources.feed
        self._clock = sources.clock
        self._serial = -1

    def whole(self) -> bytes:
        """Return all wearers as JSON."""
        tiles, serial = self._feed.tiles()
        return encode({"whole": True, **self._said(tiles, serial), "mix": self._feed.mix()})

    def news(self) -> bytes | None:
        """Return the wearers that changed."""
        tiles, serial = self._feed.tiles(self._serial, _NEW_SPARK)
        if serial < self._serial:  # the feed was cleared
            self._serial = serial
            return self.whole()
        self._serial = serial
        if not tiles:
            return None
        return encode({"whole": False, **self._said(tiles, serial), "mix": self._feed.mix()[-_NEW_BUCKETS:]})

    def _said(self, tiles: list[Tile], serial: int) -> dict[str, Any]:
        return {"t": self._clock(), "serial": serial, "wearers": [_tile(tile) for tile in tiles]}


def _tile(tile: Tile) -> list[Any]:
    spark = [x for label, confidence in tile.spark for x in (label, round(confidence * 100))]
    return [
        tile.device,
        tile.n_said,
        tile.label,
        round(tile.confidence, 3),
        tile.truth,
        tile.right,
        tile.labelled,
        round(tile.seen_s, 1),
        spark,
    ]


class WearerView:
    """One wearer."""

    event = "wearer"
    every_s = 0.1

    def __init__(self, sources: Sources, device: str) -> None:
        self._from = sources
        self._device = device
        self._n_said = self._n_told = self._n_strips = 0
        self._runs_s = 0.0

    def whole(self) -> bytes:
        """Return what there is of the last half minute, as JSON."""
        wearer = self._from.feed.wearer(self._device)
        strips, n_strips = self._from.rings.after(self._device, 0)
        said: dict[str, Any] = {"whole": True, "device": self._device, "known": wearer is not None}
        said |= {"strips": [s.as_json() for s in strips], "n_strips": n_strips}
        if wearer is not None:
            said |= self._standing(wearer)
            said |= {"said": self._said(wearer, _SHOWN_SAID), "n_said": wearer.n_said}
        return encode(said)

    def news(self) -> bytes | None:
        """Return what came since."""
        wearer = self._from.feed.wearer(self._device)
        strips, n_strips = self._from.rings.after(self._device, self._n_strips)
        said: dict[str, Any] = {}
        if strips:
            said |= {"strips": [s.as_json() for s in strips], "n_strips": n_strips}
        self._n_strips = n_strips
        if wearer is not None:
            if wearer.n_said < self._n_said:
                self._n_said = self._n_told = 0
                return self.whole()
            new = wearer.n_said - self._n_said
            now = self._from.clock()
            is_told = wearer.n_told != self._n_told
            if new or is_told:
                # A label says what was really done in windows that were sent before it came.
                said |= {"said": self._said(wearer, max(new, _SHOWN_SAID) if is_told else new), "n_said": wearer.n_said}
                if is_told or now - self._runs_s >= _RUNS_EVERY_S:
                    said |= self._standing(wearer)
                    self._runs_s = now
            self._n_said, self._n_told = wearer.n_said, wearer.n_told
        if not said:
            return None
        return encode({"whole": False, "device": self._device, **said})

    def _standing(self, wearer: Wearer) -> dict[str, Any]:
        traffic = self._from.traffic()
        latency = None
        if wearer.arrival is not None:
            status = traffic.producers[0] if traffic.producers else None
            latency = wearer.arrival.at_s - due_s(wearer.arrival.sampled_s, status)
        return {
            "runs": [_run(run) for run in wearer.runs],
            "told": [_told(told) for told in wearer.told],
            "right": wearer.right,
            "labelled": wearer.labelled,
            "latency_ms": None if latency is None or latency > _BEHIND_S else _ms(latency),
        }

    def _said(self, wearer: Wearer, n: int) -> list[list[Any]]:
        """Return the newest `n` predictions, each with its truth and whether it is right, where it can be."""
        return [
            [*_window(said), truth, said.label == truth if counts(truth, self._from.labels) else None]
            for said in list(wearer.said)[-n:]
            for truth in (wearer.truth_of(said),)
        ]


def _window(said: Said) -> list[Any]:
    return [said.session, said.number, _time(said.start), _time(said.end), said.label, round(said.confidence, 3)]


def _run(run: Run) -> list[Any]:
    return [run.session, _time(run.start), _time(run.end), run.label, run.n, round(run.confidence, 3)]


def _told(told: Told) -> list[Any]:
    return [told.session, _time(told.start), _time(told.end), told.label]


class DriftView:
    """Drift of features and answers."""

    event = "drift"
    every_s = 1.0

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._number = 0
        self._latest: dict[str, Any] = {}
        self._latest_of: PassResult | None = None

    def whole(self) -> bytes:
        """Return all passes that are remembered, as JSON."""
        return self._as_json(True, 0)

    def news(self) -> bytes | None:
        """Return the passes since."""
        rows = self._from.drift.after(self._number)
        if not rows:
            return None
        last, self._number = self._number, rows[-1].number
        return self._as_json(False, last)

    def _as_json(self, whole: bool, after: int) -> bytes:
        rows = self._from.drift.after(after)
        said: dict[str, Any] = {"whole": whole, "passes": [self._row(r.number, r.made_s, r.scores) for r in rows]}
        if whole:
            said["features"] = self._from.drift.names
        result = self._from.last_pass()
        if result is not None:
            if result is not self._latest_of:
                self._latest, self._latest_of = self._look_closer(result), result
            said |= self._latest
        return encode(said)

    def _row(self, number: int, made_s: float, scores: Any) -> list[Any]:
        hundredths = None if scores is None else np.rint(scores * 100).astype(np.int64).tolist()
        return [number, round(made_s, 1), hundredths]

    def _look_closer(self, result: PassResult) -> dict[str, Any]:
        """What is shown of the newest pass alone; some 10 ms for 1,500 rows."""
        source = self._from
        current = source.current()
        scores = {name: drift.score for name, drift in result.data.features.items()}
        thresholds = {drift.threshold for drift in result.data.features.values()}
        target = result.target
        return {
            "pass": {
                "made": result.made_s,
                "rows": result.rows,
                "enough": result.data.enough,
                "drifted_share": result.data.drifted_share,
                "drifted": result.data.drifted,
                "threshold": max(thresholds, default=None),
                "target": None if target.labels is None else target.labels,
                "confidence": None if target.confidence is None else target.confidence,
                "estimate": result.estimate,
            },
            "top": shapes(source.reference, current, scores),
            "answers": {
                "reference": shares(source.labels, source.reference.prediction),
                "current": shares(source.labels, current.prediction),
            },
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _ms(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)


def _time(seconds: float) -> float:
    return round(seconds, 3)
