"""The faults that concern one device, each applied where it belongs on the way of a sample."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from producer.faults.packets import Delivery, Signal
from producer.faults.parse import Fault
from repstream.arrays import IntArray
from repstream.faults.draw import Draw
from repstream.faults.signal import Interval, SessionFault, SessionSignal
from repstream.recordings.catalogue import catalogue
from repstream.recordings.recording import Recording


@dataclass(frozen=True)
class _DeviceFault:
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
    _own: list[_DeviceFault] = field(init=False)
    _from: Sequence[Fault] = field(init=False, default=())

    def __post_init__(self) -> None:
        self._select(self.faults() if callable(self.faults) else self.faults)

    def renew(self) -> bool:
        """Look whether other faults are asked for by now; whether there are."""
        if not callable(self.faults):
            return False
        now = self.faults()
        if now is self._from:
            return False
        self._select(now)
        return True

    def _select(self, faults: Sequence[Fault]) -> None:
        """Keep the faults that concern this device."""
        self._from = faults
        self._own = []
        nth: Counter[str] = Counter()
        for fault in faults:
            name = fault.kind.name
            identity = (self.seed, name, nth[name], self.device)
            nth[name] += 1
            if fnmatch.fnmatchcase(self.device, fault.device):
                start, end = (self.origin_us + s * 1e6 for s in (fault.start_s, fault.end_s))
                self._own.append(_DeviceFault(fault, round(start), end, identity))
        if any(a.fault.kind.movement == "splice" for a in self._own):
            catalogue()  # where it is not there, better said now than in the midst of a replay

    def __bool__(self) -> bool:
        return bool(self._own)

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
        for own in self._own:
            kind = own.fault.kind
            if kind.movement is None and kind.sensor is None:
                continue
            here = _session_fault(own, session, start_us, times_us)
            if here.first >= here.stop:
                continue
            if kind.sensor is not None:
                sensors.append((kind.sensor, here))
            elif kind.movement == "rate":
                rates.append(here)
            else:
                splices.append((here, _recording_of(here.parameter, recording, Draw(*own.identity))))
        if not (rates or splices or sensors):
            return None
        return SessionSignal(recording, times_us, rates, splices, sensors)

    def label_shifts(self, session: str, start_us: int, times_us: IntArray) -> list[SessionFault]:
        """Lay the faults of labels on a session."""
        shifts = [_session_fault(a, session, start_us, times_us) for a in self._own if a.fault.kind.shifts_labels]
        return [shift for shift in shifts if shift.first < shift.stop]

    def label_reach_us(self) -> tuple[float, float]:
        """How far labels are behind at most, and how far ahead."""
        shifts = [0.0, *(a.fault.amount * 1e6 for a in self._own if a.fault.kind.shifts_labels)]
        return max(shifts), -min(shifts)

    def count_labels(self, shifts: Sequence[SessionFault], intervals: Sequence[Interval]) -> None:
        """Count the labels that lie in the span of a fault of labels."""
        for shift in shifts:
            self.counts[shift.kind] += sum(a < shift.stop and shift.first <= b for a, b, _ in intervals)

    def on_signal(self, first_us: int, last_us: int) -> list[_DeviceFault]:
        """Faults of the device that touch samples between these two times (inclusive)."""
        return [a for a in self._own if a.fault.kind.signal and a.start_us <= last_us and first_us < a.end_us]

    def distort(self, signal: Signal, faults: Iterable[_DeviceFault], session: str, seq: int) -> Signal:
        """Apply what `on_signal` found, in the order asked for; may leave no samples."""
        for a in faults:
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
        for a in self._own:
            act = a.fault.kind.delivery
            if act is None or not a.start_us <= first_us < a.end_us:
                continue
            draw = Draw(*a.identity, session, seq)
            changed = [act(d, a.fault.amount, draw) for d in out]
            if any(c is not None for c in changed):
                self.counts[a.fault.kind.name] += 1
            out = [d for was, now in zip(out, changed, strict=True) for d in ([was] if now is None else now)]
        return out


def _session_fault(own: _DeviceFault, session: str, start_us: int, times_us: IntArray) -> SessionFault:
    """Find a fault's span in the samples of a session, by their times as in `Injector.distort`."""
    fault = own.fault
    first, stop = np.searchsorted(times_us, (own.start_us - start_us, own.end_us - start_us), side="left")
    return SessionFault(
        fault.kind.name,
        fault.amount,
        fault.parameter,
        int(first),
        int(stop),
        times_us,
        own.start_us - start_us,
        fault.ramp_s * 1e6,
        (*own.identity, session),
    )


def _recording_of(exercise: str, like: Recording, draw: Draw) -> Recording:
    """Choose a recording of the catalogue in which nothing but `exercise` is done.

    Of the same subject and wrist where there is one, else of the same wrist (of any, where that is
    not known); among several, the draw decides.

    Parameters
    ----------
    exercise : str
        A label of the catalogue's.
    like : Recording
        The one that it goes into.
    """
    found = [r for r in catalogue() if r.labels is not None and (r.labels == exercise).all()]
    of_wrist = [r for r in found if like.side in (r.side, "unknown")]
    of_subject = [r for r in of_wrist if r.subject == like.subject]
    fitting = of_subject or of_wrist
    return fitting[int(draw.share() * len(fitting))]
