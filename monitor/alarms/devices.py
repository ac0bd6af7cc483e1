"""Alarms about single devices: what `repstream.alarms.sums` decides, in words, and its state as bytes; pure.

One `DeviceWatch` is what is known of the devices of one partition. What it does depends on the predictions
it is given and their order alone, so that a restart that reads them again arrives at the same alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from monitor.alarms.words import describe
from repstream.alarms.files import DriftModel
from repstream.alarms.recogniser import VARIANTS
from repstream.alarms.sums import DeviceDrift, N
from repstream.arrays import FloatArray
from repstream.errors import MessageError
from repstream.features.summary import NAMES
from repstream.messages.messages import Alarm, Prediction
from repstream.service.snapshot import ArrayForm, Snapshot

# What a signal is like now: the mean of the last summaries, of about 6 s; and usually: of about 10 min.
_NOW, _USUALLY = 4.0, 400.0
_SUSPICIOUS = 0.25  # of a threshold
_MAYBE_UNKNOWN = " The movement is also unlike all that the model knows: perhaps it is only one that is new to it."
_HARDLY_DONE = 10.0  # summaries (15 s) that are part of the usual
_MAYBE_USUAL = (
    " This wearer has hardly done {exercise} before: it may be how they do it; then this ends by itself, soon after "
    "the exercise, and does not come again."
)
# A device that sent nothing for so long is forgotten, and its alarm with it.
FORGET_S = 24 * 3600.0
# One message makes it later by no more than this: a single wrong date is not to make everybody else silent.
_LATER_S = 3600.0

# Signs that a signal cannot be right, whatever its cause: shown as numbers of devices.
SIGNS = ("stuck", "clipped", "implausible-units")
_STUCK_SHARE, _CLIPPED_SHARE = 0.9, 0.2
_PLAUSIBLE_G = (0.5, 4.0)  # mean size of the acceleration, g
_MOVING_G, _TURNING_DEG_S = 0.1, 1.5  # who moves so much also turns so much
_REPEATS = slice(NAMES.index("repeats_accel_x"), NAMES.index("repeats_gyro_z") + 1)
_EXTREMES = slice(NAMES.index("extremes_accel_x"), NAMES.index("extremes_gyro_z") + 1)
_ACCEL_LOGSD = slice(NAMES.index("logsd_accel_x"), NAMES.index("logsd_accel_z") + 1)
_GYRO_LOGSD = slice(NAMES.index("logsd_gyro_x"), NAMES.index("logsd_gyro_z") + 1)
_MAGNITUDE = NAMES.index("magnitude_mean")


@dataclass(slots=True)
class _Device:
    drift: DeviceDrift = field(default_factory=DeviceDrift)
    usually: FloatArray | None = None
    now: FloatArray | None = None
    n: float = 0.0
    seen_s: float = 0.0
    alarm: Alarm | None = None


class DeviceWatch:
    """The devices of one partition.

    Parameters
    ----------
    drift : DriftModel
    model : str
        ``name/version``.
    """

    def __init__(self, drift: DriftModel, model: str) -> None:
        self._drift = drift
        self._model = model
        self._devices: dict[str, _Device] = {}
        self._newest_s = 0.0

    def __len__(self) -> int:
        return len(self._devices)

    def open(self) -> list[Alarm]:
        """Alarms that are on."""
        return [d.alarm for d in self._devices.values() if d.alarm is not None]

    def add(self, predictions: Sequence[Prediction], stamped_s: Sequence[float] | None = None) -> list[Alarm]:
        """Take predictions in order; return the alarms that began or ended by them, in order.

        Parameters
        ----------
        predictions : sequence of Prediction
        stamped_s : sequence of float or None
            Their records' timestamps, epoch s: no device was heard of later than that, whatever its clock says.
        """
        stamps = [p.end for p in predictions] if stamped_s is None else stamped_s
        rows = [
            (p, min(p.end, s))
            for p, s in zip(predictions, stamps, strict=True)
            if p.signal is not None and len(p.signal) == len(NAMES)
        ]
        if not rows:
            return []
        signals = np.array([p.signal for p, _ in rows])
        evidence = self._drift.evidence(signals, np.array([p.features for p, _ in rows]))
        told = []
        for (prediction, heard_s), signal, row in zip(rows, signals, evidence, strict=True):
            alarm = self._step(prediction, heard_s, signal, row)
            if alarm is not None:
                told.append(alarm)
        return told

    def _step(self, prediction: Prediction, heard_s: float, signal: FloatArray, evidence: FloatArray) -> Alarm | None:
        device = self._devices.get(prediction.device)
        if device is None:
            device = self._devices[prediction.device] = _Device()
        device.seen_s = heard_s
        self._newest_s = max(self._newest_s, min(heard_s, self._newest_s + _LATER_S) if self._newest_s else heard_s)
        change = device.drift.step(evidence, prediction.label, prediction.end, self._drift.calibration)
        device.n += 1.0
        device.now = _mean(device.now, signal, min(device.n, _NOW))
        # While something may be wrong, nothing is learned of what is usual.
        suspicious = (device.drift.sums >= _SUSPICIOUS * self._drift.calibration.threshold).any()
        if device.usually is None or not suspicious:
            device.usually = _mean(device.usually, signal, min(device.n, _USUALLY))
        if change is None:
            return None
        if not change.began:
            ended, device.alarm = device.alarm, None
            return None if ended is None else msgspec.structs.replace(ended, ended=prediction.end)
        variant = VARIANTS[change.variant]
        text = ""
        if change.unlike and variant.cause != "unknown-movement":
            text += _MAYBE_UNKNOWN
        if device.drift.past.get(prediction.label, (0.0,))[0] < _HARDLY_DONE:
            text += _MAYBE_USUAL.format(exercise=prediction.label)
        words = describe(variant, device.usually, device.now)
        device.alarm = Alarm(
            id=f"{prediction.device}/{variant.cause}/{round(change.since_s * 1e3)}",
            scope="device",
            device=prediction.device,
            cause=variant.cause,
            axes=words.axes,
            text=words.text + text,
            advice=words.advice,
            since=change.since_s,
            raised=prediction.end,
            certainty=round(change.certainty, 3),
            model=self._model,
        )
        return device.alarm

    def forget(self) -> list[Alarm]:
        """Forget devices that have been silent for `FORGET_S`; return their alarms, which end by that."""
        ended = []
        for name, device in list(self._devices.items()):
            if device.seen_s < self._newest_s - FORGET_S:
                del self._devices[name]
                if device.alarm is not None:
                    ended.append(msgspec.structs.replace(device.alarm, ended=device.seen_s))
        return ended

    def suspects(self, since_s: float) -> dict[str, int]:
        """Count devices heard of since an event time whose signal shows one of `SIGNS`."""
        now = [d.now for d in self._devices.values() if d.now is not None and d.seen_s >= since_s]
        if not now:
            return dict.fromkeys(SIGNS, 0)
        signals = np.array(now)
        g = signals[:, _MAGNITUDE]
        moving = signals[:, _ACCEL_LOGSD].max(axis=1) > np.log(_MOVING_G)
        turning = signals[:, _GYRO_LOGSD].max(axis=1) > np.log(_TURNING_DEG_S)
        implausible = (g < _PLAUSIBLE_G[0]) | (g > _PLAUSIBLE_G[1]) | (moving & ~turning)
        stuck = (signals[:, _REPEATS] > _STUCK_SHARE).any(axis=1)
        return {
            "stuck": int(stuck.sum()),
            "clipped": int(((signals[:, _EXTREMES] > _CLIPPED_SHARE).any(axis=1) & ~stuck).sum()),
            "implausible-units": int((implausible & ~stuck).sum()),
        }

    def dump(self) -> bytes:
        """Write the state down, between two calls of `add`."""
        devices = [
            _DeviceState(
                name,
                [d.drift.sums, d.drift.evidence, d.drift.since_s],
                {k: (n, mean, square) for k, (n, mean, square) in d.drift.past.items()},
                [exercise for exercise, _ in d.drift.waiting],
                np.array([row for _, row in d.drift.waiting]).reshape(-1, N),
                d.drift.open,
                d.drift.lasted,
                d.usually,
                d.now,
                d.n,
                d.seen_s,
                d.alarm,
            )
            for name, d in self._devices.items()
        ]
        return _states.dump(_State(_STATE_VERSION, self._model, self._newest_s, devices))

    def load(self, data: bytes) -> None:
        """Go on from what `dump` wrote.

        Raises
        ------
        MessageError
            Where another release or model wrote it.
        """
        state = _states.load(data)
        if state.model != self._model:
            raise MessageError("version", f"a state of alarms of model {state.model}; this monitor has {self._model}")
        self._newest_s = state.newest_s
        for s in state.devices:
            sums, evidence, since_s = s.sums
            drift = DeviceDrift(
                sums,
                evidence,
                since_s,
                past=dict(s.past),
                waiting=list(zip(s.exercises, s.waiting.reshape(-1, N), strict=True)),
                open=s.open,
                lasted=s.lasted,
            )
            self._devices[s.name] = _Device(drift, s.usually, s.now, s.n, s.seen_s, s.alarm)


def _mean(mean: FloatArray | None, values: FloatArray, n: float) -> FloatArray:
    moved: FloatArray = values.copy() if mean is None else mean + (values - mean) / n
    return moved


class _DeviceState(msgspec.Struct, array_like=True):
    name: str
    sums: list[Any]
    past: dict[str, tuple[float, Any, Any]]
    exercises: list[str]
    waiting: Any
    open: int
    lasted: int
    usually: Any
    now: Any
    n: float
    seen_s: float
    alarm: Alarm | None


class _State(msgspec.Struct, array_like=True):
    v: int
    model: str
    newest_s: float
    devices: list[_DeviceState]


_STATE_VERSION = 1
_states = Snapshot(_State, "a state of alarms", _STATE_VERSION, {1: ArrayForm(np.dtype(np.float64))})
