"""Who replays what, from when to when; pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from producer.replay.pace import Timeline
from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings
from repstream.errors import SettingsError
from repstream.recordings.recording import Recording
from repstream.recordings.replays import copies_of, lap_of

# Event time between a device's sessions: more than a predictor's lateness is not needed, as each
# session stands for itself; less would look like one.
PAUSE_US = 1_000_000

# Wearers start half a second apart, a thousand of them still within five seconds; what matters is
# that their packets do not fall on the same instant.
_STAGGER_EACH_S, _STAGGER_ALL_S = 0.5, 5.0


@dataclass(frozen=True, eq=False)
class Wearer:
    """One device and what it replays, one after the other.

    Attributes
    ----------
    start_us : int
        Event time of its first sample, µs from the start of the replay.
    """

    number: int
    device: str
    recordings: tuple[Recording, ...]
    start_us: int


@dataclass(frozen=True)
class Delivered:
    """What a log holds of one session.

    Attributes
    ----------
    start_us : int
        Event time of the session's first sample, µs since the epoch.
    n_samples : int
        Samples from the first one on that need not be sent again.
    next_seq : int
        Number of the packet that comes next.
    """

    start_us: int
    n_samples: int
    next_seq: int


@dataclass(frozen=True)
class LogState:
    """What a log holds of all sessions, and the labels (by device, session and start, µs)."""

    sessions: Mapping[tuple[str, str], Delivered] = field(default_factory=lambda: MappingProxyType({}))
    labels: frozenset[tuple[str, str, int]] = frozenset()


EMPTY_LOG = LogState()


@dataclass(frozen=True, eq=False)
class Session:
    """A recording as a wearer replays it.

    Attributes
    ----------
    start_us : int
        Event time of the recording's first sample, µs since the epoch.
    first_sample, first_seq : int
        Where to begin; above 0 where the log holds the rest.
    """

    device: str
    session: str
    recording: Recording
    start_us: int
    first_sample: int = 0
    first_seq: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the log holds all of it."""
        return self.first_sample >= self.recording.n_samples


@dataclass(frozen=True, eq=False)
class ReplayPlan:
    """All that a replay is, before any message of it is made.

    Attributes
    ----------
    duration_us : int
        Event time from its start to its end, µs; 0 where it has none (a loop without a duration).
    """

    settings: ProducerSettings
    wearers: tuple[Wearer, ...]
    timeline: Timeline
    duration_us: int
    there: LogState = EMPTY_LOG

    def sessions(self, wearer: Wearer) -> Iterator[Session]:
        """List a wearer's sessions in order; without end in a loop.

        One that the log holds in part keeps its own start, so that its windows are the same; those
        after it follow a pause later, but not before the start of this replay.
        """
        at_us = self.timeline.origin_us + wearer.start_us
        for recording, session in _names(wearer, self.settings):
            there = self.there.sessions.get((wearer.device, session))
            if there is None:
                yield Session(wearer.device, session, recording, at_us)
                at_us += int(recording.times_us[-1]) + PAUSE_US
                continue
            part = Session(wearer.device, session, recording, there.start_us, there.n_samples, there.next_seq)
            yield part
            if not part.is_complete:
                at_us = max(at_us, there.start_us + int(recording.times_us[-1]) + PAUSE_US)

    def limit_us(self) -> float:
        """Event time after which nothing more is sent, µs since the epoch (inf: none)."""
        settings = self.settings
        if settings.duration_s is None or settings.speed == AS_FAST_AS_POSSIBLE:
            return math.inf
        return self.timeline.event_us_after(settings.duration_s)


def plan_replay(
    settings: ProducerSettings, recordings: Sequence[Recording], now_us: int, there: LogState = EMPTY_LOG
) -> ReplayPlan:
    """Lay out a replay that starts now.

    Parameters
    ----------
    recordings : sequence of Recording
        Not two of one device and session.
    now_us : int
        The clock, µs since the epoch.
    there : LogState
        What the log holds already and is not sent again.
    """
    wearers = wearers_of(settings, recordings)
    if settings.loop:
        duration_us = round((settings.duration_s or 0.0) * settings.speed * 1e6)
    else:
        duration_us = max((_extent_us(w, settings, there) for w in wearers), default=0)
        if settings.duration_s is not None:
            duration_us = min(duration_us, math.ceil(min(settings.duration_s * settings.speed * 1e6, 1e18)))
    timeline = Timeline.starting(now_us, duration_us, settings.speed)
    return ReplayPlan(settings, wearers, timeline, duration_us, there)


def wearers_of(settings: ProducerSettings, recordings: Sequence[Recording]) -> tuple[Wearer, ...]:
    """Give recordings to wearers: their own devices first, then copies of those in turn."""
    by_device: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.n_samples:
            by_device.setdefault(recording.device, []).append(recording)
    if not by_device:
        raise SettingsError("no samples to replay: name a recording; see: repstream recordings list")
    own = [(device, tuple(rs)) for device, rs in by_device.items()]
    if settings.loop:
        for device, rs in own:
            names = {r.session for r in rs}
            for name in sorted(names):
                base, hash_sign, lap = name.rpartition("#")
                if hash_sign and lap.isdecimal() and base in names:
                    raise SettingsError(
                        f"--loop would call the next round of session {base!r} of device {device!r} "
                        f"{name!r}, which is another recording's; give one of them another session"
                    )
    if settings.wearers is None:
        return tuple(Wearer(i, device, rs, 0) for i, (device, rs) in enumerate(own))
    n = settings.wearers
    starts = _staggered_us(n, settings.seed)
    copies = ((name, tuple(by_device[device])) for name, device in copies_of(list(by_device)))
    cycled = itertools.islice(itertools.chain(own, copies), n)
    return tuple(Wearer(i, device, rs, starts[i]) for i, (device, rs) in enumerate(cycled))


def _staggered_us(n: int, seed: int) -> list[int]:
    """Spread n starts evenly, each at a random place of its own slot, the first at 0."""
    slot_us = 1e6 * min(_STAGGER_EACH_S, _STAGGER_ALL_S / n)
    places = np.random.default_rng(seed).random(n)
    places[0] = 0.0
    return [round((i + place) * slot_us) for i, place in enumerate(places.tolist())]


def _names(wearer: Wearer, settings: ProducerSettings) -> Iterator[tuple[Recording, str]]:
    """Give a wearer's recordings with their sessions' ids."""
    for lap in itertools.count(1):
        for recording in wearer.recordings:
            yield recording, lap_of(recording.session + settings.session_suffix, lap)
        if not settings.loop:
            return


def _extent_us(wearer: Wearer, settings: ProducerSettings, there: LogState) -> int:
    """Event time that a wearer still takes, from the start of the replay, µs."""
    at_us, end_us = wearer.start_us, 0
    for recording, session in _names(wearer, settings):
        delivered = there.sessions.get((wearer.device, session))
        done = 0 if delivered is None else delivered.n_samples
        if done >= recording.n_samples:
            continue
        times_us = recording.times_us
        end_us = at_us + int(times_us[-1] - times_us[done])
        at_us = end_us + PAUSE_US
    return end_us
