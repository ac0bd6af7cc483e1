"""Whether the stream equals the batch: predictions held to what ``repstream score`` says of the same recordings; pure.

``repstream verify``, the demo's summary and the tests all compare by this.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import MessageError, SettingsError
from repstream.messages.messages import Prediction, prediction_id
from repstream.messages.packet import decode_packet
from repstream.recognition.model import Model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from repstream.recordings.replays import copies_of, first_lap_of, original_of

TOLERANCE = 1e-9
"""How far probabilities of stream and batch may lie apart."""

Named = TypeVar("Named")
_MOST_NAMED = 20

Rows = dict[str, FloatArray]
"""Each window's probabilities, in the order of the model's labels, by prediction id."""

SessionName = tuple[str, str]
"""Device and session."""


class Part(NamedTuple):
    """So many samples of a recording, from its first."""

    recording: Recording
    n_samples: int


def expected_rows(sessions: Mapping[SessionName, Part], model: Model, hop: int | None = None) -> Rows:
    """Score what was sent of each session.

    Parameters
    ----------
    sessions : mapping of (device, session) to Part
    hop : int or None
        Samples between the starts of two windows; None takes the model's.
    """
    scored: dict[tuple[int, int], tuple[list[int], FloatArray]] = {}
    rows: Rows = {}
    for (device, session), (recording, n_samples) in sessions.items():
        # Copies of a recording share their scores.
        key = id(recording), n_samples
        if key not in scored:
            scores = score(_beginning(recording, n_samples), model, hop)
            scored[key] = scores.windows.index.tolist(), scores.probabilities
        for index, row in zip(*scored[key], strict=True):
            rows[prediction_id(device, session, index)] = row
    return rows


def _beginning(recording: Recording, n: int) -> Recording:
    if n >= recording.n_samples:
        return recording
    labels = None if recording.labels is None else recording.labels[:n]
    return replace(recording, time_s=recording.time_s[:n], values=recording.values[:n], labels=labels)


class SentSessions:
    """How much of each session stands in `samples`."""

    def __init__(self) -> None:
        self._packets: dict[SessionName, dict[int, int]] = {}

    def take(self, record: Any) -> None:
        """Take a record; what the predictor refuses is not there."""
        try:
            packet = decode_packet(record.value or b"", record.key, record.timestamp)
        except MessageError:
            return
        self._packets.setdefault((packet.device, packet.session), {})[packet.seq] = len(packet.accel)

    def n_samples(self) -> dict[SessionName, int | None]:
        """Count the samples of each session; None where packets are missing, so that the log does not tell."""
        return {
            name: sum(packets.values()) if max(packets) == len(packets) - 1 else None
            for name, packets in self._packets.items()
        }


def replayed_sessions(
    recordings: Sequence[Recording],
    found: Mapping[SessionName, int | None],
    wearers: int | None = None,
    session_suffix: str = "",
) -> dict[SessionName, Part]:
    """Name the sessions that a replay of recordings makes, and what of each was sent.

    Parameters
    ----------
    recordings : sequence of Recording
        Not two of one device and session.
    found : mapping of (device, session) to int or None
        Sessions that stand in Kafka with the samples that were sent of each; None where that is not known: it counts
        as sent whole. Those of other recordings are left out; further copies and laps of these are taken in.
    wearers, session_suffix
        As ``repstream produce`` was given them.

    Raises
    ------
    SettingsError
        Where no recording has samples.
    """
    by_name = {(r.device, r.session + session_suffix): r for r in recordings if r.n_samples}
    if not by_name:
        raise SettingsError("no samples to verify: name a recording; see: repstream recordings list")
    own = list(dict.fromkeys(device for device, _ in by_name))
    replayed = itertools.islice(itertools.chain(zip(own, own, strict=True), copies_of(own)), wearers or len(own))
    parts: dict[SessionName, Part] = {}
    for device, original in replayed:
        for (name, session), recording in by_name.items():
            if name == original:
                parts[device, session] = Part(recording, recording.n_samples)
    for (device, session), n_samples in found.items():
        names = itertools.product((device, original_of(device)), (session, first_lap_of(session)))
        known = next((by_name[name] for name in names if name in by_name), None)
        if known is not None:
            parts[device, session] = Part(known, known.n_samples if n_samples is None else n_samples)
    return parts


class Finding(NamedTuple):
    """A window with which something is wrong."""

    id: str
    why: str = ""


@dataclass(frozen=True)
class Report:
    """How predictions and what was expected compare.

    Attributes
    ----------
    windows : int
        Expected.
    predictions : int
        Messages there are.
    missing : int
        Windows without a prediction.
    doubled : int
        Predictions of a window beyond its first.
    wrong : int
        Predictions with another label or other probabilities.
    unexpected : int
        Predictions of windows that should not be.
    named : dict of str to list of Finding
        By each of these four words, the first windows.
    unnamed : dict of str to int
        How many further ones there are of each.
    """

    windows: int
    predictions: int
    missing: int
    doubled: int
    wrong: int
    unexpected: int
    named: dict[str, list[Finding]]
    unnamed: dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Whether each window was predicted once, and as expected."""
        return not (self.missing or self.doubled or self.wrong or self.unexpected)

    def lines(self) -> list[str]:
        """Say what is wrong, a line per window that is named and one per kind for the rest."""
        lines = []
        for kind, findings in self.named.items():
            lines += [f"{kind}: {f.id}{f' ({f.why})' if f.why else ''}" for f in findings]
            if more := self.unnamed[kind]:
                lines.append(f"{kind}: {more:,} more")
        return lines


class Verification:
    """Holds predictions to what is expected of them; they are taken one by one and not kept.

    Parameters
    ----------
    expected : Rows
        Windows that must be there.
    labels : sequence of str
        The model's.
    optional : Rows
        Windows that may be there.
    """

    def __init__(self, expected: Rows, labels: Sequence[str], optional: Rows | None = None) -> None:
        self._expected = expected
        self._optional = optional or {}
        self._labels = labels
        self._times: dict[str, int] = {}
        self._doubled: list[str] = []
        self._wrong: list[Finding] = []
        self._unexpected: list[Finding] = []
        self._n = self._n_doubled = self._n_wrong = self._n_unexpected = 0

    def take(self, prediction: Prediction) -> bool:
        """Take a prediction; tell whether it is the first of its window."""
        self._n += 1
        row = self._expected.get(prediction.id)
        if row is None:
            row = self._optional.get(prediction.id)
        if row is None:
            self._n_unexpected += 1
            _name(self._unexpected, Finding(prediction.id))
        elif why := difference(prediction, row, self._labels):
            self._n_wrong += 1
            _name(self._wrong, Finding(prediction.id, why))
        times = self._times[prediction.id] = self._times.get(prediction.id, 0) + 1
        if times == 2:
            self._n_doubled += 1
            _name(self._doubled, prediction.id)
        return times == 1

    def report(self) -> Report:
        """Compare what was taken so far."""
        missing = [name for name in self._expected if name not in self._times]
        n_optional = sum(name in self._times for name in self._optional.keys() - self._expected.keys())
        named = {
            "missing": [Finding(name) for name in missing[:_MOST_NAMED]],
            "doubled": [Finding(name, f"{self._times[name]} times") for name in self._doubled],
            "wrong": list(self._wrong),
            "unexpected": list(self._unexpected),
        }
        there_are = (len(missing), self._n_doubled, self._n_wrong, self._n_unexpected)
        return Report(
            windows=len(self._expected) + n_optional,
            predictions=self._n,
            missing=len(missing),
            doubled=self._n - len(self._times),
            wrong=self._n_wrong,
            unexpected=self._n_unexpected,
            named=named,
            unnamed={kind: n - len(named[kind]) for kind, n in zip(named, there_are, strict=True)},
        )


def _name(named: list[Named], one: Named) -> None:
    if len(named) < _MOST_NAMED:
        named.append(one)


def verified(predictions: Iterable[Prediction], expected: Rows, labels: Sequence[str]) -> Report:
    """Hold all predictions to what is expected."""
    verification = Verification(expected, labels)
    for prediction in predictions:
        verification.take(prediction)
    return verification.report()


def difference(prediction: Prediction, row: FloatArray, labels: Sequence[str]) -> str:
    """Say in what a prediction differs from batch; empty where it does not.

    Parameters
    ----------
    row : ndarray, shape (n_labels,)
        What batch says; probabilities may lie `TOLERANCE` apart.
    """
    label = labels[int(row.argmax())]
    if prediction.label != label:
        return f"label {prediction.label}, expected {label}"
    if prediction.probabilities.keys() != set(labels):
        return f"probabilities of {_listed(prediction.probabilities)}, expected those of {_listed(labels)}"
    streamed = np.array([prediction.probabilities[name] for name in labels])
    apart = np.append(np.abs(streamed - row), abs(prediction.confidence - row.max()))
    # Not `> TOLERANCE`, which NaN is not either.
    if not (apart <= TOLERANCE).all():
        worst = int(apart.argmax())
        return f"{[*labels, 'confidence'][worst]} {apart[worst]:.1e} apart"
    if prediction.id != prediction_id(prediction.device, prediction.session, prediction.index):
        return f"its fields name {prediction_id(prediction.device, prediction.session, prediction.index)}"
    return ""


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "nothing"
