"""What the monitor knows: recent predictions by event time, and the labels that came for them; pure.

Event time is cut into monitoring windows of equal length; a prediction belongs to the one that its
window's end falls into. Memory is bounded: a fixed number of windows, of each a fixed number of rows
(beyond it a uniform sample is kept, seeded), and labels only as long as predictions they can meet.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np

from monitor.drift.reference import Current
from monitor.settings import MonitoringSettings
from repstream.arrays import FloatArray
from repstream.messages.messages import LabelInterval, Prediction
from repstream.windows.truth import TRANSITION, LabelTimeline

ODD = (
    "other-model",
    "features",
    "clock-ahead",
    "too-old",
    "unknown-label",
    "overlapping-label",
    "unreadable",
)
"""Reasons for which a message is set aside: counted, said, never fatal."""

# Nobody's clock is to push everybody's windows out of memory.
_CLOCK_AHEAD_S = 60.0


@dataclass(slots=True, eq=False)
class _Row:
    """One prediction. ``truth`` is None until labels cover its window."""

    session: tuple[str, str]
    start: float
    end: float
    label: str
    confidence: float
    features: FloatArray
    truth: str | None = None


@dataclass(slots=True)
class _Window:
    rows: list[_Row] = field(default_factory=list)
    seen: int = 0


@dataclass(slots=True)
class _Session:
    """Labels of one session, and the rows that still wait for one."""

    labels: LabelTimeline
    waiting: list[_Row] = field(default_factory=list)
    newest: float = 0.0


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of some monitoring windows, oldest first.

    Attributes
    ----------
    current : Current
    seen : int
        Predictions that fell into these windows, kept or not.
    """

    current: Current
    seen: int


class MonitorState:
    """Recent predictions, joined with the labels that came for them.

    Parameters
    ----------
    model : str
        ``name/version``; predictions of another one are set aside.
    n_features : int
    labels : sequence of str
        Labels that the model knows; `TRANSITION` is known besides.
    settings : MonitoringSettings
    seed : int
        For the sample of a window with too many rows.
    """

    def __init__(
        self, model: str, n_features: int, labels: tuple[str, ...], settings: MonitoringSettings, seed: int = 0
    ) -> None:
        self.settings = settings
        self.odd: Counter[str] = Counter()
        self.predictions = 0
        self.labels = 0
        self._model = model
        self._n_features = n_features
        self._known = {*labels, TRANSITION}
        self._rng = np.random.default_rng(seed)
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._sessions: dict[tuple[str, str], _Session] = {}

    @property
    def newest_window(self) -> int | None:
        """Number of the newest monitoring window (event time over its length)."""
        return max(self._windows, default=None)

    @property
    def horizon_s(self) -> float:
        """Event time before which nothing is remembered; −inf before the first prediction."""
        newest = self.newest_window
        if newest is None:
            return -np.inf
        return (newest - self.settings.retained + 1) * self.settings.window_s

    def add_prediction(self, prediction: Prediction, now_s: float) -> str | None:
        """Take a prediction; return why it was set aside, or None."""
        reason = self._odd_prediction(prediction, now_s)
        if reason is not None:
            self.odd[reason] += 1
            return reason
        self.predictions += 1
        row = _Row(
            (prediction.device, prediction.session),
            prediction.start,
            prediction.end,
            prediction.label,
            prediction.confidence,
            np.array(prediction.features),
        )
        number = int(prediction.end // self.settings.window_s)
        window = self._windows.get(number)
        if window is None:
            window = self._windows[number] = _Window()
            self._forget()
        window.seen += 1
        if len(window.rows) < self.settings.max_rows:
            window.rows.append(row)
        else:
            # Reservoir sampling (Vitter 1985, algorithm R): each row seen is kept with the same probability.
            place = int(self._rng.integers(window.seen))
            if place >= self.settings.max_rows:
                return None
            replaced, window.rows[place] = window.rows[place], row
            self._stop_waiting(replaced)
        session = self._session(row.session, row.end)
        row.truth = session.labels.truth(row.start, row.end)
        if row.truth is None:
            session.waiting.append(row)
        return None

    def _odd_prediction(self, prediction: Prediction, now_s: float) -> str | None:
        if prediction.model != self._model:
            return "other-model"
        if len(prediction.features) != self._n_features:
            return "features"
        if prediction.end > now_s + _CLOCK_AHEAD_S:
            return "clock-ahead"
        if prediction.end < self.horizon_s:
            return "too-old"
        return None

    def add_label(self, label: LabelInterval, now_s: float) -> str | None:
        """Take a label; return why it was set aside, or None."""
        reason = None
        if label.label not in self._known:
            reason = "unknown-label"
        elif label.end > now_s + _CLOCK_AHEAD_S:
            reason = "clock-ahead"
        elif label.end < self.horizon_s:
            reason = "too-old"
        else:
            session = self._session((label.device, label.session), label.end)
            addition = session.labels.add(label.start, label.end, label.label)
            if addition == "repeated":
                return None
            if addition == "overlapping":
                reason = "overlapping-label"
        if reason is not None:
            self.odd[reason] += 1
            return reason
        self.labels += 1
        for row in session.waiting:
            row.truth = session.labels.truth(row.start, row.end)
        session.waiting = [row for row in session.waiting if row.truth is None]
        return None

    def _session(self, key: tuple[str, str], event_s: float) -> _Session:
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _Session(LabelTimeline(self.settings.label_share))
        session.newest = max(session.newest, event_s)
        return session

    def _stop_waiting(self, row: _Row) -> None:
        session = self._sessions.get(row.session)
        if session is not None and row.truth is None:
            session.waiting = [other for other in session.waiting if other is not row]

    def _forget(self) -> None:
        """Drop windows, and sessions that ended, before the horizon."""
        horizon = self.horizon_s
        for number in [n for n in self._windows if n * self.settings.window_s < horizon]:
            del self._windows[number]
        for key in [k for k, s in self._sessions.items() if s.newest < horizon]:
            del self._sessions[key]
        for session in self._sessions.values():
            session.waiting = [row for row in session.waiting if row.end >= horizon]
            session.labels.forget(horizon)

    def table(self, n: int) -> Table:
        """Rows of the newest `n` monitoring windows (by number, empty ones included)."""
        newest = self.newest_window
        chosen = [] if newest is None else [w for k, w in sorted(self._windows.items()) if k > newest - n]
        rows = [row for window in chosen for row in window.rows]
        current = Current(
            features=np.array([r.features for r in rows]).reshape(len(rows), self._n_features),
            prediction=np.array([r.label for r in rows], dtype=np.str_),
            confidence=np.array([r.confidence for r in rows], dtype=np.float64),
            label=np.array([r.truth or "" for r in rows], dtype=np.str_),
        )
        return Table(current, seen=sum(window.seen for window in chosen))

    def waiting(self) -> int:
        """Predictions remembered whose windows labels do not cover yet."""
        return sum(len(session.waiting) for session in self._sessions.values())
