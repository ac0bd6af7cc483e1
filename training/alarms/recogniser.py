"""Learn what faults look like, from recordings with faults put into them.

The faults are the ones that the producer injects (`repstream.faults.signal`), drawn over what occurs: any
turn from 45° on, gains from 12 %, and so on. Before a fault, and instead of one, a recording is changed a
little as two people, or one on two days, differ (`reseated`), so that this is not taken for a fault.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from repstream.alarms.recogniser import FAULT_VARIANTS, SignalRecogniser, normed, squash
from repstream.arrays import BoolArray, FloatArray, IntArray, SingleArray, TextArray
from repstream.faults import signal as faults
from repstream.faults.signal import SensorFault, SessionFault, SessionSignal
from repstream.features.summary import EVERY_S, summarise
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.recordings.splits import group_of
from repstream.windows.cut import WINDOW_SAMPLES, cut, windows_in
from repstream.windows.grid import GRID_HZ, GridResampler

Rng = np.random.Generator
Each = Callable[..., Iterable[Any]]
"""`map`, or what does the same in several processes."""

HOP = round(EVERY_S * GRID_HZ)
"""Samples from one summary to the next."""

# Of the changes that are no fault: standard deviations, from one wearing to the next.
_RESEAT_DEG = 10.0
_RESEAT_GAIN = {"accel": 0.03, "gyro": 0.05}
_RESEAT_OFFSET = {"accel": 0.025, "gyro": 2.0}  # g, °/s

_EXAMPLES_WELL, _EXAMPLES_FAULTY = 8, 3  # a recording, and a variant of it
_MOST_EXAMPLES = 120_000  # windows, about as many as the shipped model's; of longer recordings each copy has some
_SAMPLES_AT_ONCE = 200_000  # of all copies that are resampled together, which bounds the memory
_HIDDEN = (64,)
_PENALTY = 0.05
_ROUNDS = 25


@dataclass(frozen=True)
class SensorChange:
    """A fault of `repstream.faults.signal`, throughout a recording."""

    act: SensorFault
    amount: float
    parameter: str = ""


def changed(recording: Recording, changes: Sequence[SensorChange], play: float | None, seed: int) -> Recording:
    """Return a recording as faults throughout it make it; `play` is how many times as fast the movement is."""
    times = recording.times_us
    n = recording.n_samples

    def fault(kind: str, amount: float, parameter: str) -> SessionFault:
        return SessionFault(kind, amount, parameter, 0, n, times, 0, 0.0, (seed, kind, recording.name))

    rates = [] if play is None else [fault("rate", recording.rate_hz / play, "")]
    sensors = [(c.act, fault(c.act.__name__, c.amount, c.parameter)) for c in changes]
    return replace(recording, values=SessionSignal(recording, times, rates, (), sensors).values(0, n))


def reseated(rng: Rng, turn_deg: float = _RESEAT_DEG) -> list[SensorChange]:
    """Draw what differs from one wearing to the next: how the watch sits, and how well it is calibrated."""
    x, y, z = rng.normal(size=3)
    changes = [SensorChange(faults.rotate, float(rng.normal() * turn_deg), f"{x},{y},{z}")]
    for sensor in ("accel", "gyro"):
        changes.append(SensorChange(faults.gain, math.exp(rng.normal() * _RESEAT_GAIN[sensor]), sensor))
        changes += [
            SensorChange(faults.offset, float(rng.normal() * _RESEAT_OFFSET[sensor]), f"{sensor}_{axis}")
            for axis in "xyz"
        ]
    return changes


def draw_fault(cause: str, sensor: str, rng: Rng) -> tuple[list[SensorChange], float | None]:
    """Draw a fault of a variant: changes of the sensor, or how many times as fast the movement is played."""

    def one_of(*choices: str) -> str:
        return choices[int(rng.integers(len(choices)))]

    def between(low: float, high: float) -> float:
        """Evenly on a logarithmic scale."""
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    sign = float(rng.choice((-1.0, 1.0)))
    axis = one_of(f"{sensor}_x", f"{sensor}_y", f"{sensor}_z")
    amounts = {"offset": (0.12, 0.6), "noise": (0.06, 0.5), "clipped": (0.5, 1.1)}
    if sensor == "gyro":
        amounts = {"offset": (15.0, 100.0), "noise": (6.0, 60.0), "clipped": (30.0, 150.0)}
    match cause:
        case "rotated":
            about = one_of("x", "y", "z", ",".join(map(str, rng.normal(size=3))))
            angle = rng.uniform(45.0, 180.0) if rng.random() < 0.5 else rng.choice((90.0, 180.0))
            return [SensorChange(faults.rotate, sign * float(angle), about)], None
        case "other-wrist":
            return [SensorChange(faults.swap_wrist, 0.0)], None
        case "gain":
            if rng.random() < 0.25:
                return [SensorChange(faults.gain, between(1.5, 2.5) ** sign, axis)], None
            where = "gyro" if sensor == "gyro" else one_of("accel", "both")
            return [SensorChange(faults.gain, between(1.12, 2.2) ** sign, where)], None
        case "offset":
            return [SensorChange(faults.offset, sign * rng.uniform(*amounts[cause]), one_of(sensor, axis))], None
        case "noise":
            return [SensorChange(faults.noise, rng.uniform(*amounts[cause]), one_of(sensor, sensor, axis))], None
        case "clipped":
            return [SensorChange(faults.clip, rng.uniform(*amounts[cause]), one_of(sensor, sensor, axis))], None
        case "stuck":
            where = one_of("both", "accel", axis, axis) if sensor == "accel" else one_of("gyro", axis, axis)
            return [SensorChange(faults.stuck, 0.0, where)], None
        case "units":
            return [SensorChange(faults.units, 0.0, "gyro" if sensor == "gyro" else one_of("accel", "both"))], None
        case "rate":
            return [], GRID_HZ / float(rng.choice((20.0, 25.0, 30.0, 75.0, 100.0)))
    raise AssertionError(cause)


def summaries_of(recording: Recording) -> SingleArray:
    """Summarise a recording's windows as the predictor does, one each `EVERY_S`."""
    windows = cut(recording, WINDOW_SAMPLES, HOP)
    return summarise(windows.values, windows.sides)


class Copy(NamedTuple):
    """What becomes of a recording in one of its copies.

    Attributes
    ----------
    answer : int
        0 where nothing is wrong, else 1 + the variant's number in `FAULT_VARIANTS`.
    changes : list of SensorChange
    play : float, optional
        How many times as fast the movement is played.
    seed : int
    """

    answer: int
    changes: list[SensorChange]
    play: float | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Examples:
    """Summaries of windows in which nothing is wrong, and of windows with faults.

    Attributes
    ----------
    table : ndarray of float32, shape (n, n_summary)
    answers : ndarray of int, shape (n,)
        As in `Copy`.
    groups : ndarray of str, shape (n,)
        What is left out together: a subject, session or day.
    """

    table: SingleArray
    answers: IntArray
    groups: TextArray

    def __len__(self) -> int:
        return len(self.answers)

    def where(self, rows: BoolArray) -> Examples:
        """Return some of them."""
        return Examples(self.table[rows], self.answers[rows], self.groups[rows])


def make_examples(
    recordings: Sequence[Recording], window: int, seed: int, by: str = "subject", each: Each = map
) -> Examples:
    """Put faults into recordings in which nothing is wrong.

    Parameters
    ----------
    recordings : sequence of Recording
    window : int
        Samples, at 50 Hz.
    seed : int
        What is drawn depends on it and on the recordings before, not on what `each` does side by side.
    by : str
        What an example's group is: see `repstream.recordings.splits.group_of`.
    each : callable
        `map`, or the same in several processes.
    """
    copies = draw_copies(recordings, seed)
    n = sum(len(c) * r.duration_s / EVERY_S for r, c in zip(recordings, copies, strict=True))
    step = max(1.0, n / _MOST_EXAMPLES)
    tables = list(each(_summarise_copies, recordings, copies, repeat(window), repeat(step)))
    return Examples(
        np.concatenate([table for table, _ in tables]),
        np.concatenate([answers for _, answers in tables]),
        np.repeat([group_of(r, by) for r in recordings], [len(answers) for _, answers in tables]),
    )


def draw_copies(recordings: Sequence[Recording], seed: int) -> list[list[Copy]]:
    """Draw what becomes of each recording: copies in which nothing is wrong, then some of each variant."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in recordings:
        copies = [Copy(0, reseated(rng) if i else [], None, i) for i in range(_EXAMPLES_WELL)]
        for answer, variant in enumerate(FAULT_VARIANTS, start=1):
            for i in range(_EXAMPLES_FAULTY):
                changes, play = draw_fault(variant.cause, variant.sensor, rng)
                before = reseated(rng) if i else []
                copies.append(Copy(answer, [*before, *changes], play, int(rng.integers(2**31))))
        drawn.append(copies)
    return drawn


def _summarise_copies(
    recording: Recording, copies: Sequence[Copy], window: int, step: float
) -> tuple[SingleArray, IntArray]:
    """Return summaries and answers of all copies, of every `step`-th window."""
    tables: list[SingleArray] = []
    answers: list[int] = []
    at_once = max(1, _SAMPLES_AT_ONCE // max(recording.n_samples, 1))
    for first in range(0, len(copies), at_once):
        some = copies[first : first + at_once]
        values = [changed(recording, c.changes, c.play, c.seed).values for c in some]
        # Side by side: they have one clock, and finding the way from it to the grid costs more than going it.
        runs = GridResampler(recording.rate_hz).push(recording.times_us, np.concatenate(values, axis=1))
        windows = np.concatenate(
            [np.empty((0, 6 * len(some), window)), *(windows_in(run, window, HOP)[1] for run in runs)]
        )
        rows = [_spread_rows(len(windows), step, first + i) for i in range(len(some))]
        chosen = [windows[rows[i], 6 * i : 6 * i + 6] for i in range(len(some))]
        answers += [c.answer for c, w in zip(some, chosen, strict=True) for _ in w]
        together = np.concatenate(chosen)
        tables.append(summarise(together, np.full(len(together), SIDE_CODES[recording.side], dtype=np.int8)))
    return np.concatenate(tables), np.array(answers, dtype=np.int64)


def _spread_rows(n: int, step: float, copy: int) -> IntArray:
    """Every `step`-th of n rows, from another one on in each copy (by the golden ratio)."""
    return np.arange(copy * 0.618 % 1.0 * step, n, step).astype(np.int64)


def fit_recogniser(examples: Examples, seed: int) -> SignalRecogniser:
    """Train on examples."""
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    middle, scale = _spread(squash(examples.table[examples.answers == 0]))
    network = MLPClassifier(_HIDDEN, alpha=_PENALTY, max_iter=_ROUNDS, batch_size=256, random_state=seed)
    # Checking each of 10,000 batches again costs a third of the time.
    unchecked = config_context(assume_finite=True, skip_parameter_validation=True)
    with unchecked, threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a set number of rounds is what was chosen
        # Single precision, as the summaries are: a third less time.
        network.fit(normed(examples.table, middle, scale).astype(np.float32), examples.answers)
    weights, biases = (tuple(layer.astype(np.float64) for layer in n) for n in (network.coefs_, network.intercepts_))
    share = np.bincount(examples.answers) / len(examples.answers)
    return SignalRecogniser(middle, scale, weights, biases, np.log(share))


def _spread(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    low, middle, high = np.percentile(values, [5, 50, 95], axis=0)
    return middle, (high - low) / 3.0 + 0.004
