"""One pass over the current windows, in a process of its own: Evidently takes long and holds the GIL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import numpy as np

from monitor.drift import checks
from monitor.drift.reference import Current, Reference, load_reference
from monitor.drift.state import Table
from repstream.recognition.card import ModelCard
from repstream.recognition.classification import Classification, classification
from repstream.windows.truth import judged

# Evidently's tests on more rows than this find differences that no one could feel, and take longer.
_MOST_ROWS = 1_500


@dataclass(frozen=True)
class PassResult:
    """What a pass found.

    Attributes
    ----------
    rows, seen : int
        Predictions compared, and how many fell into the windows.
    labelled : int
        Predictions of the windows that count for accuracy: whose truth is known, and no `Transition` unless
        the model knows that.
    data : DataDrift
    target : TargetDrift
    classification : Classification
        Of the labelled ones.
    estimate : AccuracyEstimate
        Of all, from the confidences.
    seconds : float
    made_s : float
        Wall clock, epoch s.
    """

    rows: int
    seen: int
    labelled: int
    data: checks.DataDrift
    target: checks.TargetDrift
    classification: Classification
    estimate: checks.AccuracyEstimate
    seconds: float
    made_s: float


class PassWorker:
    """The other process; started with the first pass, started again if it dies.

    Parameters
    ----------
    model : ModelCard
        Whose reference is compared with.

    Attributes
    ----------
    reference : Reference
    """

    def __init__(self, model: ModelCard) -> None:
        self.reference = load_reference(model)
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        theirs, self._ending = context.Pipe(duplex=False)
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(self.reference, theirs))

    def submit(self, table: Table) -> Future[PassResult]:
        """Start a pass; its result comes later."""
        try:
            return self._pool.submit(run_pass, table)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            return self._pool.submit(run_pass, table)

    def close(self) -> None:
        """End the process at once, also in the midst of a pass or of its first import."""
        self._ending.close()
        self._pool.shutdown(cancel_futures=True)


_reference: Reference | None = None


def _begin(reference: Reference, ending: Connection) -> None:
    """In the other process: step behind the consuming one, and import what takes seconds."""
    global _reference
    os.nice(5)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the monitor, which ends this process
    threading.Thread(target=_end_with_parent, args=(ending,), name="parent", daemon=True).start()
    _reference = reference


def _end_with_parent(ending: Connection) -> None:
    """Leave nothing behind when the monitor is killed, and hold nothing up when it ends: its end of a pipe closes."""
    wait([ending])
    os._exit(1)


def sampled(current: Current, most: int, seed: int = 0) -> Current:
    """Keep at most so many rows, drawn uniformly; their order stays."""
    if len(current) <= most:
        return current
    keep = np.sort(np.random.default_rng(seed).choice(len(current), most, replace=False))
    return Current(current.features[keep], current.prediction[keep], current.confidence[keep], current.label[keep])


def run_pass(table: Table) -> PassResult:
    """Compare a table with the reference, in the other process."""
    assert _reference is not None
    return compare(_reference, table)


def compare(reference: Reference, table: Table) -> PassResult:
    """Work out drift and accuracy of a table's rows.

    Accuracy counts every row that has a truth to be held to; drift is judged on a sample of at most 1,500.
    """
    began = time.perf_counter()
    rows = sampled(table.current, _MOST_ROWS)
    data = checks.data_drift(reference, rows.features, rows.prediction)
    target = checks.target_drift(reference, rows.prediction, rows.confidence)
    labelled = judged(table.current.label, reference.labels)
    scored = classification(
        reference.labels,
        table.current.label[labelled],
        table.current.prediction[labelled],
        min_rows=checks.MIN_ROWS,
    )
    return PassResult(
        rows=len(rows),
        seen=table.seen,
        labelled=int(labelled.sum()),
        data=data,
        target=target,
        classification=scored,
        estimate=checks.estimated_accuracy(rows.confidence),
        seconds=time.perf_counter() - began,
        made_s=time.time(),
    )
