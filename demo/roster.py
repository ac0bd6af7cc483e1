"""Who replays what in a demo, what they really do in each window, and when each sample is due; pure.

The demo knows the recordings that its producer was told to replay, so the truth comes from them and
never passes through Kafka or the predictor. Imports the producer's schedule: the same settings and
recordings give the same plan here as there.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from producer.faults.injector import Injector
from producer.replay.pace import Timeline
from producer.replay.plan import Session, plan_replay
from producer.settings import ProducerSettings
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut
from repstream.windows.share import WHOLE
from repstream.windows.truth import counts


@dataclass(frozen=True, eq=False)
class Part:
    """A session of a device: the recording behind it, labelled with what the wearer does.

    Attributes
    ----------
    offset_us : int
        Event time of its first sample, µs from the start of the replay.
    """

    recording: Recording
    offset_us: int


def _done(session: Session, injector: Injector) -> Recording:
    """Return a session's recording, with the labels of what is done where a fault changes that."""
    recording = session.recording
    if not injector:
        return recording
    signal = injector.on_session(recording, session.session, session.start_us, recording.times_us)
    if signal is None or not signal.moves_labels:
        return recording
    return replace(recording, labels=np.array(signal.labels().tolist(), dtype=np.str_))


class Roster:
    """All sessions of a replay.

    Parameters
    ----------
    settings : ProducerSettings
        As the producer gets them; without a loop, whose sessions have no end.
    recordings : sequence of Recording
        In the producer's order.
    labels : sequence of str
        What the model can answer.
    window, hop : int
        Samples of the 50 Hz grid.
    label_share : float
        Share of a window's samples that need one label, above 0 and at most 1.

    Attributes
    ----------
    devices : tuple of str
        In the order in which they start.
    parts : dict of (device, session) to Part
    """

    def __init__(
        self,
        settings: ProducerSettings,
        recordings: Sequence[Recording],
        labels: Sequence[str],
        window: int,
        hop: int,
        label_share: float = WHOLE,
    ) -> None:
        plan = plan_replay(settings, recordings, now_us=0)
        self._speed = settings.speed
        self._behind_us = -plan.timeline.origin_us
        self._labels = frozenset(labels)
        self._window, self._hop, self._label_share = window, hop, label_share
        self._truths: dict[int, dict[int, str]] = {}
        self.devices = tuple(wearer.device for wearer in plan.wearers)
        self.parts: dict[tuple[str, str], Part] = {}
        for wearer in plan.wearers:
            # What is done, not what is said: faults of labels are of no account here.
            injector = Injector(settings.faults, settings.seed, wearer.device, plan.timeline.origin_us, Counter())
            for session in plan.sessions(wearer):
                done = _done(session, injector)
                part = Part(done, session.start_us - plan.timeline.origin_us)
                self.parts[session.device, session.session] = part
        self.touched = frozenset(
            device for device in self.devices if any(fnmatch.fnmatchcase(device, f.device) for f in settings.faults)
        )
        """Devices that a fault is aimed at."""

    def truth(self, device: str, session: str, index: int) -> str | None:
        """What the wearer really did in a window; None where the recording does not say.

        Windows are counted on the session's own grid. A fault that takes a session's very first packets
        away moves that grid, and with it the edges of what is compared, by as much.
        """
        part = self.parts.get((device, session))
        if part is None:
            return None
        recording = part.recording
        known = self._truths.get(id(recording))
        if known is None:
            windows = cut(recording, self._window, self._hop, self._label_share)
            labels = [] if windows.labels is None else windows.labels.tolist()
            known = self._truths[id(recording)] = dict(zip(windows.index.tolist(), labels, strict=False))
        return known.get(index) or None

    def counts(self, truth: str | None) -> bool:
        """Whether a prediction of this model can be held to a truth."""
        return counts(truth, self._labels)

    def timeline(self, origin_us: int) -> Timeline:
        """Tie event time to the clock, given the event time at which the replay began (µs since the epoch)."""
        return Timeline(origin_us, origin_us + self._behind_us, self._speed)

    def origin_us(self, device: str, session: str, session_start_us: int) -> int | None:
        """Event time at which the replay began, as one session's first sample tells (µs since the epoch)."""
        part = self.parts.get((device, session))
        return None if part is None else session_start_us - part.offset_us
