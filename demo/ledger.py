"""Whether every window was predicted, once and right: the predictions topic against batch; pure.

A device that no fault is aimed at is held to ``repstream score`` by `predictor.verify`: for the part of each session
that was sent, the same windows, labels and probabilities. Where faults change what arrives, a clean recording is no
measure; what is expected of those devices is what a fresh engine makes of the packets as they stand in the samples
topic, put through the same features and model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.roster import Roster
from predictor.engine.engine import Engine
from predictor.engine.finished import FinishedWindows
from predictor.engine.partition import Partition
from predictor.verify import Part, Rows, Verification, expected_rows
from repstream.errors import MessageError
from repstream.messages.messages import Prediction, prediction_id
from repstream.messages.packet import Packet, check_values, decode_packet, packet_values
from repstream.recognition.model import Model

# Packets that go through the engine at a time: what the predictor takes in a transaction.
_BATCH = 4_000


def expected_by_score(
    roster: Roster, sent: Mapping[tuple[str, str], int], model: Model, but: frozenset[str] = frozenset()
) -> Rows:
    """Score what was sent of each session.

    Parameters
    ----------
    sent : mapping of (device, session) to int
        Samples of each session, from its first, that were sent.
    but : set of str
        Devices to leave out.
    """
    sessions = {
        (device, session): Part(roster.parts[device, session].recording, n_samples)
        for (device, session), n_samples in sent.items()
        if device not in but and n_samples
    }
    return expected_rows(sessions, model)


def expected_by_engine(
    records: Iterable[Any], model: Model, devices: frozenset[str], lateness_s: float
) -> tuple[Rows, Rows]:
    """Run an engine of its own over what stands in the samples topic.

    Parameters
    ----------
    records : iterable
        Kafka's records, in order within each partition.
    devices : set of str
        Whose packets to take.
    lateness_s : float
        As the predictor has it.

    Returns
    -------
    required, optional : dict of str to ndarray
        Windows that must be there; and those that are there only if the predictor, hearing nothing
        more of a device, has given up waiting for lost packets.
    """
    engine = Engine(model.window, model.hop, lateness_s)
    partitions: dict[int, Partition] = {}
    keys = {device.encode() for device in devices}
    required: Rows = {}
    batch: list[tuple[Packet, Partition, int]] = []

    def advance() -> None:
        packets = [packet for packet, _, _ in batch]
        values = packet_values(packets)
        required.update(
            _rows(engine.advance(packets, [b[1] for b in batch], [b[2] for b in batch], values, 0.0), model)
        )
        batch.clear()

    for record in records:
        if record.key not in keys:
            continue
        try:
            packet = decode_packet(record.value or b"", record.key, record.timestamp)
            check_values(packet_values([packet]))
        except MessageError:
            continue  # the predictor sets it aside, too
        batch.append((packet, partitions.setdefault(record.partition, Partition()), record.offset))
        if len(batch) >= _BATCH:
            advance()
    advance()
    optional: Rows = {}
    for partition in partitions.values():
        optional |= _rows(engine.release(partition, math.inf, -math.inf), model)
    return required, optional


def _rows(finished: FinishedWindows, model: Model) -> Rows:
    probabilities = model.predict(model.features.compute(finished.values, finished.sides))
    ids = map(prediction_id, finished.device, finished.session, finished.index)
    return dict(zip(ids, probabilities, strict=True))


@dataclass(frozen=True)
class Outcome:
    """How predictions and what was expected compare.

    Attributes
    ----------
    windows : int
        Expected.
    predictions : int
        Messages there are.
    lost : int
        Windows without a prediction.
    duplicated : int
        Predictions of a window beyond its first.
    differing : int
        Predictions with another label or other probabilities, or of a window that should not be.
    n_labelled, n_right : int
        Windows whose truth is known, and those of them that were predicted right.
    """

    windows: int
    predictions: int
    lost: int
    duplicated: int
    differing: int
    n_labelled: int
    n_right: int

    @property
    def accuracy(self) -> float | None:
        """Share of labelled windows that were predicted right."""
        return self.n_right / self.n_labelled if self.n_labelled else None

    @property
    def is_whole(self) -> bool:
        """Whether each window was predicted once, and as expected."""
        return not (self.lost or self.duplicated or self.differing)


def compare(
    predictions: Iterable[Prediction], required: Rows, optional: Rows, labels: Sequence[str], roster: Roster
) -> Outcome:
    """Hold all predictions to what was expected; they are taken one by one and not kept."""
    verification = Verification(required, labels, optional)
    n_labelled = n_right = 0
    for prediction in predictions:
        if not verification.take(prediction):
            continue
        truth = roster.truth(prediction.device, prediction.session, prediction.index)
        if roster.counts(truth):
            n_labelled += 1
            n_right += prediction.label == truth
    report = verification.report()
    return Outcome(
        windows=report.windows,
        predictions=report.predictions,
        lost=report.missing,
        duplicated=report.doubled,
        differing=report.wrong + report.unexpected,
        n_labelled=n_labelled,
        n_right=n_right,
    )
