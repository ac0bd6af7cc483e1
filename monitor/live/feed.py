"""What happens now, kept for whoever looks: rings of bounded size, one for each wearer; pure.

The consuming loop hands over each batch with one call of `Feed.add`; pages read copies. A wearer costs
at most some 100 kB, and there are at most so many of them, so a monitor that runs for weeks is as
small and as quick as a new one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from repstream.messages.messages import LabelInterval, Prediction
from repstream.windows.share import WHOLE
from repstream.windows.truth import EDGE_S, LabelTimeline, counts

# Five minutes of a prediction every half second: a label may come so long after what it is about.
_RECENT = 600
_RUNS = 240
_TOLD = 64
_SPARK = 48
_MOST_WEARERS = 5_000
# What people do, by the clock: 5 minutes.
MIX_BUCKET_S = 2.0
_MIX_BUCKETS = 150
# A prediction that is older when it is read was read again after a restart, or waited for the monitor.
_FRESH_S = 10.0
_ARRIVALS = 1_000
# Two predictions of a session that are further apart have a gap between them.
_RUN_GAP_S = 2.0


class Said(NamedTuple):
    """One prediction, without what a page does not show."""

    session: str
    number: int
    start: float
    end: float
    label: str
    confidence: float


class Arrival(NamedTuple):
    """When a prediction was taken in, and the event time of the newest sample that it knew."""

    at_s: float
    sampled_s: float


class Told(NamedTuple):
    """A label that came for a wearer, event times of its first and last sample."""

    session: str
    start: float
    end: float
    label: str


@dataclass(slots=True)
class Run:
    """Predictions of one session in a row that say the same.

    ``start`` is the end of the window before (of the first one: its own start), so that runs lie side
    by side.
    """

    session: str
    start: float
    end: float
    label: str
    n: int
    confidence: float


@dataclass(slots=True)
class Wearer:
    """One wearer's rings.

    Attributes
    ----------
    serial : int
        The feed's count of changes when this wearer last changed.
    n_said, n_told : int
        Ever added; the rings hold the newest of them.
    right, labelled : int
        Predictions that count for accuracy, and those of them that are right.
    newest_s : float
        Event time of the newest sample that a prediction knew.
    seen_s : float
        The clock when it was last heard of.
    labels : dict of str to LabelTimeline
        What `told` holds, by session.
    waiting : deque of Said
        Those of `said` whose truth is not known yet.
    """

    device: str
    serial: int = 0
    n_said: int = 0
    n_told: int = 0
    right: int = 0
    labelled: int = 0
    newest_s: float = 0.0
    seen_s: float = 0.0
    arrival: Arrival | None = None
    said: deque[Said] = field(default_factory=lambda: deque(maxlen=_RECENT))
    told: deque[Told] = field(default_factory=lambda: deque(maxlen=_TOLD))
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=_RUNS))
    labels: dict[str, LabelTimeline] = field(default_factory=dict)
    waiting: deque[Said] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def truth_of(self, said: Said) -> str | None:
        """The truth of a window, None where it is not known (yet)."""
        labels = self.labels.get(said.session)
        return None if labels is None else labels.truth(said.start, said.end)

    def forget_oldest_label(self) -> None:
        """Forget the label that came first of those in `told`."""
        oldest = self.told.popleft()
        labels = self.labels[oldest.session]
        labels.discard(oldest.start)
        if not len(labels):
            del self.labels[oldest.session]


@dataclass(frozen=True)
class Tile:
    """What stands on a wearer's tile.

    Attributes
    ----------
    spark : tuple of (str, float)
        Label and confidence of the newest predictions, oldest first.
    truth : str or None
        What was really done in the newest window.
    """

    device: str
    n_said: int
    label: str
    confidence: float
    truth: str | None
    right: int
    labelled: int
    seen_s: float
    spark: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Totals:
    """The feed as a whole.

    Attributes
    ----------
    predictions : int
        Taken in so far.
    newest_predicted_s : float or None
        The clock at the newest prediction.
    arrivals : tuple of Arrival
        Of the newest predictions, those that were not read again.
    """

    serial: int
    wearers: int
    predictions: int
    newest_predicted_s: float | None
    arrivals: tuple[Arrival, ...]


class Feed:
    """Recent predictions and labels, by wearer; for any thread.

    Parameters
    ----------
    labels : sequence of str
        Labels that the model knows.
    label_share : float
        Share of a prediction's window, above 0 and at most 1, that needs one label.
    """

    def __init__(self, labels: Sequence[str], label_share: float = WHOLE) -> None:
        self._labels = frozenset(labels)
        self._label_share = label_share
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._wearers: OrderedDict[str, Wearer] = OrderedDict()
        self._mix: OrderedDict[int, dict[str, int]] = OrderedDict()
        self._arrivals: deque[Arrival] = deque(maxlen=_ARRIVALS)
        self._serial = 0
        self._predictions = 0
        self._newest_predicted_s: float | None = None

    def clear(self) -> None:
        """Forget all: what follows is read again."""
        with self._lock:
            self._clear()

    def add(self, predictions: Sequence[Prediction], labels: Iterable[LabelInterval], now_s: float) -> None:
        """Take a batch in.

        Parameters
        ----------
        now_s : float
            The clock, epoch s.
        """
        with self._lock:
            self._serial += 1
            for prediction in predictions:
                self._add_prediction(prediction, now_s)
            for label in labels:
                self._add_label(label, now_s)
            while len(self._wearers) > _MOST_WEARERS:
                self._wearers.popitem(last=False)

    def _wearer(self, device: str, now_s: float) -> Wearer:
        wearer = self._wearers.get(device)
        if wearer is None:
            wearer = self._wearers[device] = Wearer(device)
        else:
            self._wearers.move_to_end(device)  # the one silent for longest goes first
        wearer.serial = self._serial
        wearer.seen_s = now_s
        return wearer

    def _add_prediction(self, p: Prediction, now_s: float) -> None:
        wearer = self._wearer(p.device, now_s)
        said = Said(p.session, p.index, p.start, p.end, p.label, p.confidence)
        wearer.said.append(said)
        wearer.n_said += 1
        wearer.newest_s = p.sampled_at
        runs = wearer.runs
        run = runs[-1] if runs else None
        if run is not None and run.session == p.session and -EDGE_S <= p.end - run.end <= _RUN_GAP_S:
            if run.label == p.label:
                run.end = p.end
                run.n += 1
                run.confidence += (p.confidence - run.confidence) / run.n
            else:
                runs.append(Run(p.session, run.end, p.end, p.label, 1, p.confidence))
        else:
            runs.append(Run(p.session, p.start, p.end, p.label, 1, p.confidence))
        if not self._judge(wearer, said):
            wearer.waiting.append(said)
        self._predictions += 1
        if now_s - p.predicted_at < _FRESH_S:
            wearer.arrival = Arrival(now_s, p.sampled_at)
            self._arrivals.append(wearer.arrival)
        if self._newest_predicted_s is None or p.predicted_at > self._newest_predicted_s:
            self._newest_predicted_s = p.predicted_at
        self._count(p.label, p.predicted_at)

    def _count(self, label: str, predicted_at: float) -> None:
        number = int(predicted_at // MIX_BUCKET_S)
        counts = self._mix.get(number)
        if counts is None:
            newest = max(self._mix, default=number)
            if number <= newest - _MIX_BUCKETS:
                return
            counts = self._mix[number] = {}
            oldest = max(newest, number) - _MIX_BUCKETS
            for old in [n for n in self._mix if n <= oldest]:
                del self._mix[old]
        counts[label] = counts.get(label, 0) + 1

    def _add_label(self, label: LabelInterval, now_s: float) -> None:
        wearer = self._wearer(label.device, now_s)
        labels = wearer.labels.get(label.session)
        if labels is None:
            labels = wearer.labels[label.session] = LabelTimeline(self._label_share)
        if labels.add(label.start, label.end, label.label) != "new":
            return
        if len(wearer.told) == _TOLD:
            wearer.forget_oldest_label()
        wearer.told.append(Told(label.session, label.start, label.end, label.label))
        wearer.n_told += 1
        waiting = [said for said in wearer.waiting if said.session != label.session or not self._judge(wearer, said)]
        wearer.waiting = deque(waiting, maxlen=_RECENT)

    def _judge(self, wearer: Wearer, said: Said) -> bool:
        """Count a prediction for its wearer's accuracy; tell whether its truth is known."""
        truth = wearer.truth_of(said)
        if counts(truth, self._labels):
            wearer.labelled += 1
            wearer.right += said.label == truth
        return truth is not None

    def totals(self) -> Totals:
        """Count all that was taken in."""
        with self._lock:
            return Totals(
                self._serial,
                len(self._wearers),
                self._predictions,
                self._newest_predicted_s,
                tuple(self._arrivals),
            )

    def tiles(self, after: int = -1, spark: int = _SPARK) -> tuple[list[Tile], int]:
        """Tell of the wearers that changed after the feed's change number `after`, and its number now.

        Parameters
        ----------
        spark : int
            Predictions in each tile's `Tile.spark`.
        """
        with self._lock:
            found = [_tile(w, spark) for w in self._wearers.values() if w.serial > after and w.said]
            return sorted(found, key=lambda t: t.device), self._serial

    def mix(self) -> list[tuple[float, dict[str, int]]]:
        """Return how often each label was predicted, by the clock (epoch s of each 2 s), oldest first."""
        with self._lock:
            return [(number * MIX_BUCKET_S, dict(counts)) for number, counts in sorted(self._mix.items())]

    def newest_event_s(self, device: str) -> float | None:
        """Event time of the newest sample that a wearer's prediction knew."""
        with self._lock:
            wearer = self._wearers.get(device)
            return None if wearer is None or not wearer.n_said else wearer.newest_s

    def wearer(self, device: str) -> Wearer | None:
        """Return a copy of what is known of a wearer; None where nothing is."""
        with self._lock:
            wearer = self._wearers.get(device)
            if wearer is None:
                return None
            return replace(
                wearer,
                said=wearer.said.copy(),
                told=wearer.told.copy(),
                labels={session: labels.copy() for session, labels in wearer.labels.items()},
                waiting=wearer.waiting.copy(),
                runs=deque((replace(run) for run in wearer.runs), maxlen=_RUNS),
            )


def _tile(wearer: Wearer, spark: int) -> Tile:
    newest = wearer.said[-1]
    first = max(len(wearer.said) - spark, 0)
    return Tile(
        wearer.device,
        wearer.n_said,
        newest.label,
        newest.confidence,
        wearer.truth_of(newest),
        wearer.right,
        wearer.labelled,
        wearer.seen_s,
        tuple((wearer.said[i].label, wearer.said[i].confidence) for i in range(first, len(wearer.said))),
    )
