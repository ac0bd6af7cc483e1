"""Learn what faults look like, from recordings with faults put into them.

The faults are the ones that the producer injects (`repstream.faults.signal`), drawn over what occurs: any
turn from 45° on, gains from 12 %, and so on. Before a fault, and instead of one, a recording is changed a
little as two people, or one on two days, differ (`reseated`), so that this is not taken for a fault.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from repstream.alarms.recogniser import FAULT_VARIANTS, SignalRecogniser, normed, squash
from repstream.arrays import FloatArray, SingleArray
from repstream.faults import signal as faults
from repstream.faults.signal import SensorFault, SessionFault, SessionSignal
from repstream.features.summary import EVERY_S, summarise
from repstream.recordings.recording import Recording
from repstream.windows.cut import WINDOW_SAMPLES, cut

Rng = np.random.Generator

HOP = round(EVERY_S * 50)
"""Samples from one summary to the next."""

# Of the changes that are no fault: standard deviations, from one wearing to the next.
_RESEAT_DEG = 10.0
_RESEAT_GAIN = {"accel": 0.03, "gyro": 0.05}
_RESEAT_OFFSET = {"accel": 0.025, "gyro": 2.0}  # g, °/s

_EXAMPLES_WELL, _EXAMPLES_FAULTY = 8, 3  # a recording, and a variant of it
_HIDDEN = (64,)
_PENALTY = 0.05
_ROUNDS = 25


@dataclass(frozen=True)
class SensorChange:
    """A fault of `repstream.faults.signal`, throughout a recording."""

    act: SensorFault
    amount: float
    parameter: str = ""


def changed(recording: Recording, changes: Sequence[SensorChange], rate_hz: float | None, seed: int) -> Recording:
    """Return a recording as faults throughout it make it; `rate_hz` as the producer's fault ``rate``."""
    times = recording.times_us
    n = recording.n_samples

    def fault(kind: str, amount: float, parameter: str) -> SessionFault:
        return SessionFault(kind, amount, parameter, 0, n, times, 0, 0.0, (seed, kind, recording.name))

    rates = [] if rate_hz is None else [fault("rate", rate_hz, "")]
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
    """Draw a fault of a variant: changes of the sensor, or a rate in Hz."""

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
            return [], float(rng.choice((20.0, 25.0, 30.0, 75.0, 100.0)))
    raise AssertionError(cause)


def summaries_of(recording: Recording) -> SingleArray:
    """Summarise a recording's windows as the predictor does, one each `EVERY_S`."""
    windows = cut(recording, WINDOW_SAMPLES, HOP)
    return summarise(windows.values, windows.sides)


def fit_recogniser(
    recordings: Sequence[Recording], seed: int, progress: Callable[[str], None] = lambda _: None
) -> SignalRecogniser:
    """Train on recordings in which nothing is wrong.

    Parameters
    ----------
    recordings : sequence of Recording
    seed : int
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    tables: list[SingleArray] = []
    answers: list[int] = []

    def add(recording: Recording, answer: int) -> None:
        table = summaries_of(recording)
        tables.append(table)
        answers.extend([answer] * len(table))

    progress(f"putting faults into {len(recordings)} recordings")
    for recording in recordings:
        for i in range(_EXAMPLES_WELL):
            add(changed(recording, reseated(rng), None, i) if i else recording, 0)
        for answer, variant in enumerate(FAULT_VARIANTS, start=1):
            for i in range(_EXAMPLES_FAULTY):
                changes, rate_hz = draw_fault(variant.cause, variant.sensor, rng)
                before = reseated(rng) if i else []
                add(changed(recording, [*before, *changes], rate_hz, int(rng.integers(2**31))), answer)
    table, answer_of = np.concatenate(tables), np.array(answers)
    middle, scale = _spread(squash(table[answer_of == 0]))
    progress(f"training on {len(table)} windows")
    network = MLPClassifier(_HIDDEN, alpha=_PENALTY, max_iter=_ROUNDS, batch_size=256, random_state=seed)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a set number of rounds is what was chosen
        network.fit(normed(table, middle, scale), answer_of)
    share = np.bincount(answer_of) / len(answer_of)
    return SignalRecogniser(middle, scale, tuple(network.coefs_), tuple(network.intercepts_), np.log(share))


def _spread(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    low, middle, high = np.percentile(values, [5, 50, 95], axis=0)
    return middle, (high - low) / 3.0 + 0.004
