"""Faults of what a sensor measures, and of what its wearer does, by sample; imports recording only.

A `SessionSignal` is a session as its faults make it: any samples of it can be read in any order.
What a sample becomes depends on its number, its time, the seed, the fault, the device and the
session, so a session is the same however it is cut into packets.

First comes what the wearer does (`rate`, `new-exercise`), then what the sensor makes of it, in the
order in which the faults were asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repstream.arrays import BoolArray, FloatArray, IntArray, ObjectArray
from repstream.faults.draw import Draw
from repstream.features.motion_shape import MIRROR
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording

Interval = tuple[int, int, str]
"""First sample, last sample, label."""

SENSORS = {"accel": [0, 1, 2], "gyro": [3, 4, 5]}
BOTH = {"both": [0, 1, 2, 3, 4, 5], **SENSORS}
TARGETS = BOTH | {axis: [i] for i, axis in enumerate(AXES)}
"""Columns by what a fault can be put on."""

DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

STANDARD_GRAVITY = 9.80665  # m/s², by definition of 1 g

# Noise is drawn in blocks of so many samples, counted from the session's first.
_NOISE_BLOCK = 256
_NOISE_BLOCKS_KEPT = 1024  # 12 kB each


@dataclass(frozen=True, eq=False)
class SessionFault:
    """A fault with its span in the samples of one session.

    Attributes
    ----------
    first, stop : int
        Samples of the session that are in the span: from `first` to `stop` - 1.
    times_us : ndarray
        Of all samples of the session, from its first one.
    start_us : int
        When the fault begins, on the same clock; before 0 where it began before the session.
    ramp_us : float
        How long it takes to grow to its full amount.
    identity : tuple
        What its randomness depends on.
    """

    kind: str
    amount: float
    parameter: str
    first: int
    stop: int
    times_us: IntArray
    start_us: int
    ramp_us: float
    identity: tuple[object, ...]

    def holds(self, index: IntArray) -> BoolArray:
        """Tell which samples are in the span."""
        return (index >= self.first) & (index < self.stop)

    def share(self, index: IntArray) -> FloatArray:
        """How far the fault has grown at some samples, 0 to 1."""
        if not self.ramp_us:
            return np.ones(len(index))
        grown: FloatArray = np.clip((self.times_us[index] - self.start_us) / self.ramp_us, 0.0, 1.0)
        return grown


Read = Callable[[IntArray], FloatArray]
"""Samples' numbers -> their values, shape (n, 6), which the caller may write to."""

SensorFault = Callable[[Read, IntArray, SessionFault], FloatArray]
"""(the signal without this fault, numbers of samples in its span, the fault) -> their values."""


def rotate(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Turn both sensors' readings about an axis, by Rodrigues' formula."""
    values = read(index)
    x, y, z = direction(fault.parameter)
    # Not numpy's: the last bit of a vectorised sine may depend on how many there are.
    angles = ((fault.share(index) if fault.ramp_us else np.ones(1)) * math.radians(fault.amount)).tolist()
    cos, sin = np.array([math.cos(a) for a in angles]), np.array([math.sin(a) for a in angles])
    for columns in SENSORS.values():
        a, b, c = (values[:, i].copy() for i in columns)
        along = (x * a + y * b + z * c) * (1.0 - cos)
        values[:, columns[0]] = a * cos + (y * c - z * b) * sin + x * along
        values[:, columns[1]] = b * cos + (z * a - x * c) * sin + y * along
        values[:, columns[2]] = c * cos + (x * b - y * a) * sin + z * along
    return values


@functools.cache
def direction(text: str) -> tuple[float, float, float]:
    """Read an axis: x, y, z, or three numbers such as ``1,0,-1``; of length 1.

    Raises
    ------
    ValueError
        Where it is none.
    """
    if text in DIRECTIONS:
        return DIRECTIONS[text]
    x, y, z = map(float, text.split(","))
    length = math.hypot(x, y, z)
    if not 0 < length < math.inf:
        raise ValueError
    return x / length, y / length, z / length


def swap_wrist(read: Read, index: IntArray, _fault: SessionFault) -> FloatArray:
    """Give what the other wrist would: the mirror image."""
    values = read(index)
    values *= MIRROR
    return values


def gain(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Multiply."""
    share = fault.share(index)
    values = read(index)
    values[:, TARGETS[fault.parameter]] *= ((1.0 - share) + share * fault.amount)[:, None]
    return values


def offset(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Add."""
    values = read(index)
    values[:, TARGETS[fault.parameter]] += (fault.share(index) * fault.amount)[:, None]
    return values


def noise(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Add normal deviates, drawn for each sample and axis."""
    deviates = np.empty((len(index), 6))
    blocks = index // _NOISE_BLOCK
    for block in np.unique(blocks).tolist():
        rows = blocks == block
        deviates[rows] = _noise_block(fault.identity, block)[index[rows] % _NOISE_BLOCK]
    values, columns = read(index), TARGETS[fault.parameter]
    values[:, columns] += deviates[:, columns] * (fault.share(index) * fault.amount)[:, None]
    return values


@functools.lru_cache(_NOISE_BLOCKS_KEPT)
def _noise_block(identity: tuple[object, ...], block: int) -> FloatArray:
    deviates: FloatArray = Draw(*identity, block).generator().normal(size=(_NOISE_BLOCK, 6))
    return deviates


def clip(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Limit to what the sensor's range would be."""
    values, columns = read(index), TARGETS[fault.parameter]
    values[:, columns] = np.clip(values[:, columns], -fault.amount, fault.amount)
    return values


def stuck(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Repeat the last value before the fault; the first one of a session that begins within it."""
    values, columns = read(index), TARGETS[fault.parameter]
    values[:, columns] = read(np.array([max(fault.first - 1, 0)]))[:, columns]
    return values


def units(read: Read, index: IntArray, fault: SessionFault) -> FloatArray:
    """Send m/s² for g, rad/s for °/s."""
    values = read(index)
    if fault.parameter in ("accel", "both"):
        values[:, SENSORS["accel"]] *= STANDARD_GRAVITY
    if fault.parameter in ("gyro", "both"):
        values[:, SENSORS["gyro"]] *= math.pi / 180.0
    return values


class _Track:
    """A recording that can be read at any time; after its end it begins again."""

    def __init__(self, recording: Recording, times_us: IntArray) -> None:
        self.recording = recording
        self._times_us = times_us
        # The last sample lasts for one sampling interval, too.
        self._length_us = float(times_us[-1]) + 1e6 / recording.rate_hz

    def values(self, at_us: FloatArray) -> FloatArray:
        """Interpolate between the two neighbours; at a sample's own time it is that sample."""
        at_us = np.mod(at_us, self._length_us)
        left = self._left(at_us)
        right = left + 1
        ends = np.append(self._times_us, self._length_us)
        weight = ((at_us - ends[left]) / (ends[right] - ends[left]))[:, None]
        values = self.recording.values
        return np.asarray((1.0 - weight) * values[left] + weight * values[right % len(values)])

    def labels(self, at_us: FloatArray) -> ObjectArray:
        """Tell what is done at these times."""
        return own_labels(self.recording)[self._left(np.mod(at_us, self._length_us))]

    def _left(self, at_us: FloatArray) -> IntArray:
        return np.searchsorted(self._times_us, at_us, side="right") - 1


class SessionSignal:
    """A session's samples and labels as faults make them.

    Parameters
    ----------
    recording : Recording
        What the session would be without.
    times_us : ndarray
        The recording's own `Recording.times_us`.
    rates : sequence of SessionFault
        Faults that play the movement faster or slower, in the order asked for.
    splices : sequence of (SessionFault, Recording)
        Faults that put another recording's samples in; where two do, the later one counts.
    sensors : sequence of (SensorFault, SessionFault)
        What the sensor does to it, in the order asked for.
    """

    def __init__(
        self,
        recording: Recording,
        times_us: IntArray,
        rates: Sequence[SessionFault] = (),
        splices: Sequence[tuple[SessionFault, Recording]] = (),
        sensors: Sequence[tuple[SensorFault, SessionFault]] = (),
    ) -> None:
        self._own = _Track(recording, times_us)
        self._times_us = times_us
        self._rates = tuple(rates)
        self._splices = tuple((fault, _Track(other, other.times_us)) for fault, other in splices)
        self._sensors = tuple(sensors)

    @property
    def moves_labels(self) -> bool:
        """Whether what is done differs from the recording."""
        return bool(self._rates or self._splices)

    def touching(self, first: int, stop: int) -> list[str]:
        """Name the kinds of the faults that concern samples `first` to `stop` - 1."""
        faults = [*self._rates, *(s[0] for s in self._splices), *(s[1] for s in self._sensors)]
        return [fault.kind for fault in faults if fault.first < stop and first < fault.stop]

    def values(self, first: int, stop: int) -> FloatArray:
        """Return samples `first` to `stop` - 1, shape (n, 6), in g and °/s as the device believes."""
        return self._read(len(self._sensors), np.arange(first, stop))

    def labels(self) -> ObjectArray:
        """Return what is really done at each sample: its label, empty where none is known."""
        index = np.arange(len(self._times_us))
        labels = own_labels(self._own.recording)
        for rows, track, at_us in self._played(index):
            labels[rows] = track.labels(at_us)
        return labels

    def _read(self, n_faults: int, index: IntArray) -> FloatArray:
        """Read samples with the first so many of the sensor's faults."""
        if not n_faults:
            return self._movement(index)
        act, fault = self._sensors[n_faults - 1]
        inside = fault.holds(index)

        def read(numbers: IntArray) -> FloatArray:
            return self._read(n_faults - 1, numbers)

        values = np.empty((len(index), 6))
        if inside.any():
            values[inside] = act(read, index[inside], fault)
        if not inside.all():
            values[~inside] = read(index[~inside])
        return values

    def _movement(self, index: IntArray) -> FloatArray:
        values = self._own.recording.values[index]
        for rows, track, at_us in self._played(index):
            values[rows] = track.values(at_us)
        return values

    def _played(self, index: IntArray) -> Iterator[tuple[IntArray, _Track, FloatArray]]:
        """Yield the places in `index` that are not the recording's own samples, from where they come, and when."""
        which = np.full(len(index), -1)
        for n, (fault, _) in enumerate(self._splices):
            which[fault.holds(index)] = n
        at_us, is_rated = self._clock(index, len(self._rates))
        rows = np.flatnonzero(is_rated & (which < 0))
        if rows.size:
            yield rows, self._own, at_us[rows]
        for n, (fault, track) in enumerate(self._splices):
            rows = np.flatnonzero(which == n)
            if rows.size:
                begins_us, _ = self._clock(np.array([fault.first]), len(self._rates))
                yield rows, track, at_us[rows] - begins_us

    def _clock(self, index: IntArray, n_rates: int) -> tuple[FloatArray, BoolArray]:
        """Tell the time of the movement at some samples (µs), and whether a fault has moved it."""
        at_us = self._times_us[index].astype(np.float64)
        moved = np.zeros(len(index), dtype=np.bool_)
        for n, fault in enumerate(self._rates[:n_rates]):
            inside = fault.holds(index)
            if inside.any():
                begins_us, _ = self._clock(np.array([fault.first]), n)
                at_us[inside] = begins_us + (at_us[inside] - begins_us) * (self._own.recording.rate_hz / fault.amount)
                moved |= inside
        return at_us, moved


def own_labels(recording: Recording) -> ObjectArray:
    """Return a recording's labels, empty where it has none."""
    if recording.labels is None:
        return np.full(recording.n_samples, "", dtype=object)
    labels: ObjectArray = recording.labels.astype(object)
    return labels


def intervals_of(labels: ObjectArray) -> list[Interval]:
    """Runs of one label, without those of which none is known."""
    cuts = (np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()
    runs = zip([0, *cuts], [*cuts, len(labels)], strict=True)
    return [(a, b - 1, str(labels[a])) for a, b in runs if labels[a]]
