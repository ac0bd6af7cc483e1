"""The faults that concern one device, put where they belong; imports inject and repstream.recordings.catalogue."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from producer.faults.material import recording_of
from producer.faults.packets import Delivery, Signal
from producer.faults.parse import Fault
from repstream.arrays import IntArray
from repstream.faults.draw import Draw
from repstream.faults.signal import Interval, Laid, SessionSignal
from repstream.recordings.catalogue import catalogue
from repstream.recordings.recording import Recording


@dataclass(frozen=True)
class _Armed:
    """A fault on one device, its span in event time."""

    fault: Fault
    start_us: int
    end_us: float
    identity: tuple[object, ...]


@dataclass
class Injector:
    """The faults that concern one device.

    Parameters
    ----------
    faults : sequence of Fault, or callable that returns one
        All that were asked for; a callable where more may come while it runs, see `renew`.
    seed : int
    device : str
    origin_us : int
        Event time of the start of the replay, µs since the epoch.
    counts : Counter
        Packets touched, by kind (of ``label-shift``: labels); shared with others.
    """

    faults: Sequence[Fault] | Callable[[], Sequence[Fault]]
    seed: int
    device: str
    origin_us: int
    counts: Counter[str]
    _armed: list[_Armed] = field(init=False)
    _from: Sequence[Fault] = field(init=False, default=())

    def __post_init__(self) -> None:
        self._arm(self.faults() if callable(self.faults) else self.faults)

    def renew(self) -> bool:
        """Look whether other faults are asked for by now; whether there are."""
        if not callable(self.faults):
            return False
        now = self.faults()
        if now is self._from:
            return False
        self._arm(now)
        return True

    def _arm(self, faults: Sequence[Fault]) -> None:
        self._from = faults
        self._armed = []
        nth: Counter[str] = Counter()
        for fault in faults:
            name = fault.kind.name
            identity = (self.seed, name, nth[name], self.device)
            nth[name] += 1
            if fnmatch.fnmatchcase(self.device, fault.device):
                start, end = (self.origin_us + s * 1e6 for s in (fault.start_s, fault.end_s))
                self._armed.append(_Armed(fault, round(start), end, identity))
        if any(a.fault.kind.movement == "splice" for a in self._armed):
            catalogue()  # where it is not there, better said now than in the midst of a replay

    def __bool__(self) -> bool:
        return bool(self._armed)

    def on_session(self, recording: Recording, session: str, start_us: int, times_us: IntArray) -> SessionSignal | None:
        """Lay the faults of movement and sensor on a session; None where none lies on it.

        Parameters
        ----------
        start_us : int
            Event time of its first sample, µs since the epoch.
        times_us : ndarray
            The recording's own times, µs.
        """
        rates, splices, sensors = [], [], []
        for a in self._armed:
            kind = a.fault.kind
            if kind.movement is None and kind.sensor is None:
                continue
            laid = _laid(a, session, start_us, times_us)
            if laid.first >= laid.stop:
                continue
            if kind.sensor is not None:
                sensors.append((kind.sensor, laid))
            elif kind.movement == "rate":
                rates.append(laid)
            else:
                splices.append((laid, recording_of(laid.parameter, recording, Draw(*a.identity))))
        if not (rates or splices or sensors):
            return None
        return SessionSignal(recording, times_us, rates, splices, sensors)

    def label_shifts(self, session: str, start_us: int, times_us: IntArray) -> list[Laid]:
        """Lay the faults of labels on a session."""
        laid = [_laid(a, session, start_us, times_us) for a in self._armed if a.fault.kind.shifts_labels]
        return [fault for fault in laid if fault.first < fault.stop]

    def label_reach_us(self) -> tuple[float, float]:
        """How far labels are behind at most, and how far ahead."""
        shifts = [0.0, *(a.fault.amount * 1e6 for a in self._armed if a.fault.kind.shifts_labels)]
        return max(shifts), -min(shifts)

    def count_labels(self, shifts: Sequence[Laid], intervals: Sequence[Interval]) -> None:
        """Count the labels that lie in the span of a fault of labels."""
        for laid in shifts:
            self.counts[laid.kind] += sum(a < laid.stop and laid.first <= b for a, b, _ in intervals)

    def on_signal(self, first_us: int, last_us: int) -> list[_Armed]:
        """Faults of the device that touch samples between these two times (inclusive)."""
        return [a for a in self._armed if a.fault.kind.signal and a.start_us <= last_us and first_us < a.end_us]

    def distort(self, signal: Signal, armed: Iterable[_Armed], session: str, seq: int) -> Signal:
        """Apply what `on_signal` found, in the order asked for; may leave no samples."""
        for a in armed:
            act = a.fault.kind.signal
            assert act is not None
            inside = (signal.event_us >= a.start_us) & (signal.event_us < a.end_us)
            if not inside.any():
                continue
            changed = act(signal, inside, a.fault.amount, Draw(*a.identity, session, seq))
            if changed is not None:
                self.counts[a.fault.kind.name] += 1
                signal = changed
        return signal

    def deliver(self, delivery: Delivery, first_us: int, session: str, seq: int) -> list[Delivery]:
        """Apply the faults of delivery to a packet that begins at `first_us`."""
        out = [delivery]
        for a in self._armed:
            act = a.fault.kind.delivery
            if act is None or not a.start_us <= first_us < a.end_us:
                continue
            draw = Draw(*a.identity, session, seq)
            changed = [act(d, a.fault.amount, draw) for d in out]
            if any(c is not None for c in changed):
                self.counts[a.fault.kind.name] += 1
            out = [d for was, now in zip(out, changed, strict=True) for d in ([was] if now is None else now)]
        return out


def _laid(armed: _Armed, session: str, start_us: int, times_us: IntArray) -> Laid:
    """Say where on a session a fault lies: as times, its samples are in `distort`."""
    fault = armed.fault
    first, stop = np.searchsorted(times_us, (armed.start_us - start_us, armed.end_us - start_us), side="left")
    return Laid(
        fault.kind.name,
        fault.amount,
        fault.parameter,
        int(first),
        int(stop),
        times_us,
        armed.start_us - start_us,
        fault.ramp_s * 1e6,
        (*armed.identity, session),
    )
