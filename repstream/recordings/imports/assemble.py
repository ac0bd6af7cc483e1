"""From what a file tells to a recording: one clock, one unit, gravity in it; pure.

What real clocks and files do is repaired and counted; what would be a guess about the movement itself is refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from repstream.arrays import FloatArray, IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ
from repstream.recordings.imports import units
from repstream.recordings.imports.clock import UNLABELLED, clean
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.recording import Recording, nominal_rate_hz, started_at

HOLE_S = 0.2
"""A hole longer than this is not filled; windows begin anew behind it."""

# Two clocks whose ticks are this near are one.
_SAME_TICK_NS = 1_000
_COUNTED = {
    "gyroscope": ("gyroscope_interpolated", "rows_without_gyroscope"),
    "gravity": ("gravity_interpolated", "rows_without_gravity"),
}
_STILL_SHARE = 0.5  # of samples that repeat the one before: the sensor ticks slower than its file


@dataclass(eq=False)
class Assembled:
    """A recording and what had to be done to it.

    Attributes
    ----------
    recording : Recording
    repairs : Counter
        Rows or samples, by kind of repair.
    warnings : list of str
        What the user should know.
    """

    recording: Recording
    repairs: Counter[str]
    warnings: list[str] = field(default_factory=list)


def assemble(raw: RawSession, window_s: float = 3.0, strict: bool = False) -> Assembled:
    """Make a recording.

    Parameters
    ----------
    raw : RawSession
    window_s : float
        A recording shorter than this holds no window and is refused.
    strict : bool
        Refuse whatever would be repaired.

    Raises
    ------
    RecordingError
        With what is wrong and what to do.
    """
    repairs, warnings = Counter(raw.repairs), list(raw.notes)
    where = raw.source
    accel, gyro, labels = _one_clock(raw, repairs)
    first_ns = int(accel.time_ns[0])
    time_us = np.rint((accel.time_ns - first_ns) / 1e3).astype(np.int64)
    time_us, accel, gyro, labels = _whole_microseconds(time_us, accel, gyro, labels, repairs)
    rate_hz = _rate(raw, time_us, where)
    if (seconds := float(time_us[-1]) / 1e6) < window_s - 2.0 / rate_hz:
        raise RecordingError(
            f"{where}: {seconds:.1f} s are less than one window ({window_s:.2f} s); record longer, or leave it out"
        )
    accel_g = _in_g(accel, rate_hz, where, repairs, warnings)
    if raw.flipped:
        accel_g = -accel_g
        repairs["sign_flipped"] += len(accel_g)
    gyro_dps = _in_dps(gyro, accel_g, rate_hz, repairs, warnings)
    _look_for_faults(time_us, accel_g, gyro_dps, warnings)
    if raw.intervals:
        labels = _from_intervals(raw, accel.time_ns)
    if labels is not None and (labels == "").any():
        repairs["labels_filled"] += int((labels == "").sum())
        labels = np.where(labels == "", UNLABELLED, labels)
    if strict and repairs:
        found = ", ".join(f"{kind} {n}" for kind, n in sorted(repairs.items()))
        raise RecordingError(f"{where}: needs repairs ({found}), and --strict refuses them; leave --strict out")
    recording = Recording(
        name=f"{raw.subject}-{raw.session}" if raw.session else raw.subject,
        subject=raw.subject,
        session=raw.session,
        device=raw.device,
        time_s=time_us / 1e6,
        values=np.hstack([accel_g, gyro_dps]),
        rate_hz=rate_hz,
        side=raw.side,
        source="import",
        labels=labels,
        provenance=started_at(first_ns // 1_000),
    )
    return Assembled(recording, +repairs, warnings)


def _one_clock(raw: RawSession, repairs: Counter[str]) -> tuple[Stream, Stream, TextArray | None]:
    """Clean the sensors, bring them to the acceleration's clock, and add gravity where it is apart."""
    where = raw.source
    if raw.gyro is None:
        raise RecordingError(
            f"{where}: no gyroscope; six axes are needed: record the gyroscope, too, or name its columns in a mapping file"
        )
    if not len(raw.accel.time_ns) or not len(raw.gyro.time_ns):
        empty = "acceleration" if not len(raw.accel.time_ns) else "gyroscope"
        raise RecordingError(f"{where}: there are no rows of the {empty}; record something, or leave the file out")
    if raw.gyro.time_ns is raw.accel.time_ns:  # one table
        table = Stream(raw.accel.time_ns, np.hstack([raw.accel.values, raw.gyro.values]))
        table, labels = clean(table, raw.labels, repairs, where)
        accel = Stream(table.time_ns, table.values[:, :3], raw.accel.unit)
        gyro = Stream(table.time_ns, table.values[:, 3:], raw.gyro.unit)
    else:
        accel, labels = clean(raw.accel, raw.labels, repairs, where)
        gyro, _ = clean(raw.gyro, None, repairs, where)
        gyro, accel, labels = _on_one_clock(gyro, accel, labels, repairs, "gyroscope", where)
    if raw.gravity is not None:
        gravity, _ = clean(raw.gravity, None, repairs, where)
        if accel.unit != gravity.unit and accel.unit and gravity.unit:
            scale = units.ACCEL_SCALE[gravity.unit] / units.ACCEL_SCALE[accel.unit]
            gravity = Stream(gravity.time_ns, gravity.values * scale, accel.unit)
        before = len(accel.time_ns)
        gravity, accel, labels = _on_one_clock(gravity, accel, labels, repairs, "gravity", where)
        gyro = gyro if len(accel.time_ns) == before else _at(gyro, accel.time_ns)
        accel = Stream(accel.time_ns, accel.values + gravity.values, accel.unit)
        repairs["gravity_added"] += len(accel.time_ns)
    if not len(accel.time_ns):
        raise RecordingError(f"{where}: no row has numbers of all six axes")
    return accel, gyro, labels


def _on_one_clock(
    other: Stream, accel: Stream, labels: TextArray | None, repairs: Counter[str], what: str, where: str
) -> tuple[Stream, Stream, TextArray | None]:
    """Bring a sensor to the times of the acceleration; where it has a hole, the acceleration gets one, too."""
    if len(other.time_ns) == len(accel.time_ns) and (np.abs(other.time_ns - accel.time_ns) <= _SAME_TICK_NS).all():
        return Stream(accel.time_ns, other.values, other.unit), accel, labels
    if not len(other.time_ns) or not len(accel.time_ns):
        raise RecordingError(f"{where}: there are no rows of the {what} with numbers in all cells")
    after = np.clip(np.searchsorted(other.time_ns, accel.time_ns), 1, max(len(other.time_ns) - 1, 1))
    within = (accel.time_ns >= other.time_ns[0]) & (accel.time_ns <= other.time_ns[-1])
    if len(other.time_ns) > 1:
        within &= (other.time_ns[after] - other.time_ns[after - 1]) <= HOLE_S * 1e9
    if not within.any():
        raise RecordingError(
            f"{where}: acceleration and {what} were never recorded at the same time; are the files of one recording?"
        )
    interpolated, dropped = _COUNTED[what]
    repairs[interpolated] += int(within.sum())
    if not within.all():
        repairs[dropped] += int((~within).sum())
    kept = Stream(accel.time_ns[within], accel.values[within], accel.unit)
    return _at(other, kept.time_ns), kept, labels[within] if labels is not None else None


def _at(stream: Stream, time_ns: IntArray) -> Stream:
    """Interpolate linearly."""
    first = stream.time_ns[0]
    t, own = (time_ns - first).astype(np.float64), (stream.time_ns - first).astype(np.float64)
    values = np.stack([np.interp(t, own, stream.values[:, i]) for i in range(3)], axis=1)
    return Stream(time_ns, values, stream.unit)


def _whole_microseconds(
    time_us: IntArray, accel: Stream, gyro: Stream, labels: TextArray | None, repairs: Counter[str]
) -> tuple[IntArray, Stream, Stream, TextArray | None]:
    """Drop what lies within one microsecond of the sample before."""
    near = np.concatenate([[False], np.diff(time_us) < 1])
    if not near.any():
        return time_us, accel, gyro, labels
    keep = ~near
    repairs["merged_rows"] += int(near.sum())
    accel = Stream(accel.time_ns[keep], accel.values[keep], accel.unit)
    gyro = Stream(gyro.time_ns[keep], gyro.values[keep], gyro.unit)
    return time_us[keep], accel, gyro, labels[keep] if labels is not None else None


def _rate(raw: RawSession, time_us: IntArray, where: str) -> float:
    if len(time_us) < 2:
        raise RecordingError(f"{where}: one row has no sampling rate; a recording needs two or more")
    rate_hz = nominal_rate_hz(time_us)
    if raw.rate_hz is not None and not 0.5 * raw.rate_hz < rate_hz < 2.0 * raw.rate_hz:
        raise RecordingError(
            f"{where}: the clock ticks at {rate_hz:g} Hz, but the rate given is {raw.rate_hz:g} Hz; "
            "check the unit of the time column and the rate"
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise RecordingError(
            f"{where}: the clock ticks at {rate_hz:g} Hz; {MIN_RATE_HZ:g}–{MAX_RATE_HZ:g} Hz are needed: record at 50 Hz "
            "or more, or give the unit of the time column in a mapping file"
        )
    return rate_hz


def _in_g(accel: Stream, rate_hz: float, where: str, repairs: Counter[str], warnings: list[str]) -> FloatArray:
    steady, share = units.gravity(accel.values, rate_hz)
    unit = units.accel_unit(steady, share)
    if unit is None:
        raise RecordingError(
            f"{where}: no gravity in the acceleration (over a second it averages {steady:.2g} {accel.unit or ''}".rstrip()
            + "): export the raw or total acceleration, or the gravity beside it; a model needs it to know how the wrist is "
            "held"
        )
    if accel.unit is not None and accel.unit != unit:
        warnings.append(
            f"acceleration is said to be in {accel.unit}, but gravity is {steady:.3g} of it: taken as {unit}"
        )
    if unit != "g":
        repairs["accel_converted"] += len(accel.time_ns)
    return accel.values * units.ACCEL_SCALE[unit]


def _in_dps(
    gyro: Stream, accel_g: FloatArray, rate_hz: float, repairs: Counter[str], warnings: list[str]
) -> FloatArray:
    found = units.rotation(accel_g, gyro.values, rate_hz)
    unit = units.gyro_unit(found, gyro.values, gyro.unit)
    if gyro.unit is not None and gyro.unit != unit:
        warnings.append(
            f"angular rates are said to be in {gyro.unit}, but move gravity as {unit} would: taken as {unit}"
        )
    if unit != "deg/s":
        repairs["gyro_converted"] += len(gyro.time_ns)
    return gyro.values * units.GYRO_SCALE[unit]


def _look_for_faults(time_us: IntArray, accel_g: FloatArray, gyro_dps: FloatArray, warnings: list[str]) -> None:
    holes = int((np.diff(time_us) > HOLE_S * 1e6).sum())
    if holes:
        longest = float(np.diff(time_us).max()) / 1e6
        warnings.append(f"holes of more than {HOLE_S:g} s: {holes}, the longest {longest:.1f} s; no window spans one")
    for name, values in (("acceleration", accel_g), ("gyroscope", gyro_dps)):
        if len(values) > 1 and (share := float((np.diff(values, axis=0) == 0).all(axis=1).mean())) > _STILL_SHARE:
            warnings.append(f"{share:.0%} of the {name}'s samples repeat the one before: it ticks slower than its file")


def _from_intervals(raw: RawSession, time_ns: IntArray) -> TextArray:
    first_ns = int(raw.accel.time_ns[0])
    since_s = (time_ns - first_ns) / 1e9
    labels = np.full(len(time_ns), UNLABELLED, dtype=object)
    for start_s, end_s, label in raw.intervals:
        # Half a microsecond, as times are whole ones.
        labels[(since_s >= start_s - 5e-7) & (since_s <= end_s + 5e-7)] = label
    return labels.astype(np.str_)
