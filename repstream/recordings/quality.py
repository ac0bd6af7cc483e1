"""What a recording is worth: its clock, gravity, faults of its sensors, and whether another one is its copy; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.recordings.axes import AXES
from repstream.recordings.copies import find_shared
from repstream.recordings.imports import units
from repstream.recordings.imports.assemble import HOLE_S
from repstream.recordings.recording import Recording, nominal_rate_hz

_CLIPPED_ROW = 3  # samples in a row at an axis's extreme, for it to be the sensor's end
_STUCK_S = 1.0


@dataclass
class Quality:
    """What `examine` found.

    Attributes
    ----------
    rate_hz, jitter_ms : float
        Of the clock, as `import` finds it, and the standard deviation of its steps but for holes.
    holes : int
        Steps of more than 0.2 s, no window spans one; `longest_hole_s` is the longest.
    gravity_g : float
        Length of the acceleration where it is calmest.
    gravity_axis : str
        The axis that most of it stands on at rest, with its sign: ``+accel_z``.
    clipped : dict
        Share of an axis's samples that stand at its extreme, three or more in a row.
    stuck_s : dict
        Longest stretch in which an axis repeats one value, s, where it is more than a second.
    remarks : list of str
        What looks wrong, in words.
    """

    name: str
    subject: str
    session: str
    device: str
    side: str
    seconds: float
    samples: int
    rate_hz: float
    jitter_ms: float
    holes: int
    longest_hole_s: float
    gravity_g: float
    gravity_axis: str
    clipped: dict[str, float]
    stuck_s: dict[str, float]
    windows: dict[str, int] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine(recording: Recording) -> Quality:
    """Look at one recording; windows and copies are for the caller to fill in."""
    values, steps_s = recording.values, np.diff(recording.times_us) / 1e6
    usual = steps_s[steps_s <= HOLE_S]
    resting = units.at_rest(values[:, :3], 1.0 / float(np.median(steps_s)) if len(steps_s) else recording.rate_hz)
    mean = values[:, :3].mean(axis=0)
    axis = int(np.abs(mean).argmax())
    found = Quality(
        name=recording.name,
        subject=recording.subject,
        session=recording.session,
        device=recording.device,
        side=recording.side,
        seconds=round(recording.duration_s, 3),
        samples=recording.n_samples,
        rate_hz=nominal_rate_hz(recording.times_us) if len(steps_s) else recording.rate_hz,
        jitter_ms=round(float(usual.std()) * 1e3, 3) if len(usual) else 0.0,
        holes=int((steps_s > HOLE_S).sum()),
        longest_hole_s=round(float(steps_s.max()), 3) if (steps_s > HOLE_S).any() else 0.0,
        gravity_g=round(resting, 3),
        gravity_axis=f"{'-' if mean[axis] < 0 else '+'}{AXES[axis]}",
        clipped={a: s for i, a in enumerate(AXES) if (s := _clipped(values[:, i])) > 0.001},
        stuck_s={a: s for i, a in enumerate(AXES) if (s := _stuck_s(values[:, i], recording.times_us)) > _STUCK_S},
    )
    found.remarks += _remarks(recording, found)
    return found


def _remarks(recording: Recording, found: Quality) -> list[str]:
    said = []
    values = recording.values
    if not 0.85 <= found.gravity_g <= 1.15:
        said.append(f"at its calmest it shows {found.gravity_g:.2f} g, not 1 g: unit, calibration, or never calm")
    turning = units.rotation(values[:, :3], np.radians(values[:, 3:]), found.rate_hz)
    if turning is not None and turning.agreement <= -0.6:
        said.append("gravity moves against what the gyroscope says: the axes of the two sensors differ")
    elif turning is not None and turning.agreement >= 0.6 and not 0.3 <= turning.scale <= 3.0:
        said.append(f"gravity moves {turning.scale:.3g} times as fast as the gyroscope says: its unit")
    # SPAR's watches: +0.52 g on the left wrist, -0.57 g on the right (docs/explanation/model.md).
    mean_x = float(values[:, 0].mean())
    if (recording.side, mean_x < 0) in (("left", True), ("right", False)) and abs(mean_x) > 0.3:
        said.append(f"said to be worn {recording.side}, but x points the other way ({mean_x:+.2f} g)")
    for axis, share in found.clipped.items():
        said.append(f"{axis} is clipped in {share:.1%} of the samples")
    for axis, seconds in found.stuck_s.items():
        said.append(f"{axis} repeats one value for {seconds:.1f} s")
    if found.holes:
        said.append(f"holes of more than {HOLE_S:g} s: {found.holes}, the longest {found.longest_hole_s:.1f} s")
    return said


def _clipped(values: FloatArray) -> float:
    """Share of samples in runs of three or more at the smallest or largest value."""
    n = 0
    for extreme in (values.min(), values.max()):
        at = np.concatenate([[False], values == extreme, [False]])
        edges = np.flatnonzero(at[1:] != at[:-1])
        lengths = edges[1::2] - edges[::2]
        n += int(lengths[lengths >= _CLIPPED_ROW].sum())
    return n / max(len(values), 1) if values.min() != values.max() else 0.0


def _stuck_s(values: FloatArray, times_us: IntArray) -> float:
    """Longest stretch of one value, s."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values) != 0]))
    ends = np.append(starts[1:], len(values)) - 1
    return round(float((times_us[ends] - times_us[starts]).max()) / 1e6, 3) if len(values) else 0.0


def find_copies(recordings: Sequence[Recording]) -> dict[str, list[str]]:
    """Find recordings that hold one movement (see `repstream.recordings.copies`).

    Returns
    -------
    dict of str to list of str
        Names of a recording's copies, for those that have some.
    """
    copies: dict[str, set[str]] = defaultdict(set)
    for shared in find_shared(recordings):
        one, other = recordings[shared.first].name, recordings[shared.second].name
        copies[one].add(other)
        copies[other].add(one)
    return {name: sorted(others) for name, others in copies.items()}
