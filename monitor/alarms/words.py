"""What an alarm says: which sensor and axes, what changed by how much, what to do; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repstream.alarms.recogniser import Variant
from repstream.arrays import FloatArray
from repstream.features.summary import NAMES
from repstream.recordings.axes import AXES

_SENSORS = {"accel": "accelerometer", "gyro": "gyroscope", "": "sensor"}
_UNITS = {"accel": "g", "gyro": "°/s"}
# An axis is named where it changed at least this much of what the most changed one did.
_NAMED = 0.5
# A turn of less is not told from what a wearer does.
_LEAST_TURN_DEG = 25.0


@dataclass(frozen=True)
class Words:
    """An alarm's text, and the axes that it names."""

    axes: list[str]
    text: str
    advice: str


def _of(signal: FloatArray, name: str, axes: tuple[str, ...] = AXES) -> FloatArray:
    return np.array([signal[NAMES.index(f"{name}_{axis}")] for axis in axes])


def describe(variant: Variant, before: FloatArray, now: FloatArray) -> Words:
    """Say what changed.

    Parameters
    ----------
    variant : Variant
    before, now : ndarray, shape (n_summary,)
        Mean summaries: of what was usual, and since it changed.
    """
    axes = tuple(a for a in AXES if a.startswith(variant.sensor))
    sensor = _SENSORS[variant.sensor]
    match variant.cause:
        case "rotated":
            return Words(list(AXES), _turn(before, now), "Look how the sensor sits, and put it on as it was.")
        case "other-wrist":
            return Words(
                list(AXES),
                "The signal is the mirror image of what it was: worn on the other wrist than declared.",
                "Change the wrist, or correct the side that the device sends.",
            )
        case "gain":
            ratio = np.exp(_of(now, "logsd", axes) - _of(before, "logsd", axes))
            named = _most(axes, np.abs(np.log(ratio)))
            size = float(np.exp(np.mean([np.log(ratio[axes.index(a)]) for a in named])))
            return Words(
                named,
                f"The {sensor} reads about {size:.2g} times as much as before ({_list(named)}).",
                "Compare it with a sensor that is known to be right; calibrate it or correct its range setting.",
            )
        case "offset":
            moved = _of(now, "mean", axes) - _of(before, "mean", axes)
            named = _most(axes, np.abs(moved))
            amount = ", ".join(f"{moved[axes.index(a)]:+.2g} {_UNITS[variant.sensor]}" for a in named)
            return Words(
                named,
                f"The {sensor} has an offset that it had not: {amount} ({_list(named)}).",
                "Calibrate the sensor at rest; look for a loose strap that lets it lie otherwise.",
            )
        case "noise":
            louder = _of(now, "jerk", axes) - _of(before, "jerk", axes)
            named = _most(axes, louder)
            return Words(
                named,
                f"The {sensor} is noisy ({_list(named)}): sample-to-sample changes are "
                f"{np.exp(louder.max()):.2g} times as large as before.",
                "Look for a loose sensor or strap, a low battery, or a driver that changed its filter.",
            )
        case "clipped":
            named = _most(axes, _of(now, "extremes", axes) - _of(before, "extremes", axes))
            ends = ", ".join(
                f"{a} {_of(now, 'min', (a,))[0]:.2g} to {_of(now, 'max', (a,))[0]:.2g} {_UNITS[variant.sensor]}"
                for a in named
            )
            return Words(
                named,
                f"The {sensor} reaches the end of its range and is cut off there ({ends}).",
                "Set a larger measuring range.",
            )
        case "stuck":
            repeats = _of(now, "repeats")
            named = [a for a, share in zip(AXES, repeats, strict=True) if share > 0.5] or _most(axes, repeats[:3])
            return Words(
                named,
                f"{_list(named)} {'repeats' if len(named) == 1 else 'repeat'} one value: the sensor is stuck.",
                "Restart the device; if it comes again, replace it.",
            )
        case "units":
            wrong = "m/s² sent as g" if variant.sensor == "accel" else "rad/s sent as °/s"
            return Words(
                list(axes),
                f"The {sensor}'s values are in another unit than declared, probably {wrong}.",
                "Correct the unit where the data are sent, or convert them.",
            )
        case "rate":
            faster = float(np.exp(np.mean(_of(now, "pace") - _of(before, "pace"))))
            return Words(
                list(AXES),
                f"Samples come at another rate than declared: movement seems {faster:.2g} times as fast as before.",
                "Correct the rate that the device sends (rate_hz), or send the time of each sample (t).",
            )
        case "unknown-movement":
            return Words(
                [],
                "The movement is unlike all that the model knows; its answers do not count for this device now.",
                "Ask what is being done. If it comes again, record and label it, and train the model on it.",
            )
    raise AssertionError(variant.cause)


def _turn(before: FloatArray, now: FloatArray) -> str:
    was, is_now = (_of(s, "mean", AXES[:3]) for s in (before, now))
    size = float(np.linalg.norm(was) * np.linalg.norm(is_now))
    if size > 0.0:
        angle = float(np.degrees(np.arccos(np.clip(was @ is_now / size, -1.0, 1.0))))
        if angle >= _LEAST_TURN_DEG:
            here, there = _direction(is_now), _direction(was)
            if here == there:
                return f"The sensor is turned: the mean direction of gravity moved by {angle:.0f}° (along {here})."
            return (
                f"The sensor is turned: on average gravity pulls along {here}, before along {there}, "
                f"{angle:.0f}° apart."
            )
    return "The sensor is turned: movements go along other axes than before."


def _direction(gravity: FloatArray) -> str:
    """Name the axes that it lies along, that of the most first."""
    size = np.abs(gravity)
    named = [i for i in np.argsort(-size, kind="stable") if size[i] >= _NAMED * size.max()]
    return _list([f"{'+' if gravity[i] > 0 else '−'}{'xyz'[i]}" for i in named])


def _most(axes: tuple[str, ...], change: FloatArray) -> list[str]:
    """Name the axes that changed most; one at least, though none changed that way."""
    most = change.max()
    return [a for a, c in zip(axes, change, strict=True) if c >= min(_NAMED * most, most)]


def _list(axes: list[str]) -> str:
    return axes[0] if len(axes) == 1 else f"{', '.join(axes[:-1])} and {axes[-1]}"
