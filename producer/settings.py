"""What a replay is to be; light, as the commands take their options' defaults from here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repstream.errors import SettingsError

if TYPE_CHECKING:
    from producer.faults.parse import Fault

AS_FAST_AS_POSSIBLE = math.inf
"""The speed called ``max``."""


@dataclass(frozen=True)
class ProducerSettings:
    """What a replay is to be.

    Attributes
    ----------
    speed : float
        Event time per wall time; `AS_FAST_AS_POSSIBLE` (inf) for max.
    wearers : int or None
        Devices; None replays each recording once under its own device.
    packet_samples : int
        Samples a packet, 1–500.
    label_delay_s : float
        Event time from an interval's end to its label, s.
    partitions : int or None
        Of topics that are not there yet; None takes the default.
    duration_s : float or None
        Wall time after which to stop, s.
    session_suffix : str
        Appended to each session's id.

    Raises
    ------
    SettingsError
        Where one is outside what is allowed.
    """

    speed: float = 1.0
    wearers: int | None = None
    loop: bool = False
    packet_samples: int = 10
    label_delay_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    partitions: int | None = None
    duration_s: float | None = None
    session_suffix: str = ""

    def __post_init__(self) -> None:
        from repstream.messages.packet import MAX_PACKET_SAMPLES  # imports numpy, which --help does not need

        if not self.speed > 0:
            raise SettingsError(f"--speed is a number above 0, or max, not {self.speed:g}")
        if self.wearers is not None and self.wearers < 1:
            raise SettingsError(f"--wearers is at least 1, not {self.wearers}")
        if not 1 <= self.packet_samples <= MAX_PACKET_SAMPLES:
            raise SettingsError(f"--packet-samples is 1 to {MAX_PACKET_SAMPLES}, not {self.packet_samples}")
        if not 0 <= self.label_delay_s < math.inf:
            raise SettingsError(f"--label-delay is at least 0 s, not {self.label_delay_s:g}")
        if self.partitions is not None and self.partitions < 1:
            raise SettingsError(f"--partitions is at least 1, not {self.partitions}")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise SettingsError(f"--duration is more than 0 s, not {self.duration_s:g}")
        if "/" in self.session_suffix:
            raise SettingsError("--session-suffix contains '/', which separates the parts of a prediction's id")
        if self.loop and self.speed == AS_FAST_AS_POSSIBLE:
            raise SettingsError("--loop does not go with --speed max: it would never end; give a --speed")
        if self.loop and self.speed > 1 and self.duration_s is None:
            # Event time must start early enough to end at now, so its length must be known.
            raise SettingsError("--loop faster than real time needs --duration S, as event time is to end at now")
