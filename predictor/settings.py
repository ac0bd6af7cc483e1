"""How a predictor runs; the options of ``repstream predict`` take their defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

from repstream.errors import SettingsError
from repstream.messages.topics import DEFAULT_PARTITIONS, PREDICTOR_GROUP


@dataclass(frozen=True)
class PredictorSettings:
    """How a predictor runs.

    Attributes
    ----------
    group : str
        Consumer group; predictors of one group share the partitions.
    hop : int or None
        Samples between the starts of two windows; None takes the model's.
    lateness_s : float
        Maximum lateness of a packet that is still put in order, in seconds of event time.
    batch_packets : int
        Most packets in a transaction.
    checkpoint_s, checkpoint_packets : float, int
        A partition's state is written down after so many seconds or packets, whichever is first: it
        bounds what a restart reads again.
    idle_s : float
        A device that sent nothing for so long keeps no buffer.
    forget_s : float
        A device that sent nothing for so long is forgotten, but for where its sessions stood.
    instance : str or None
        Name within the group; None takes the first that is free on this host.
    partitions : int
        Of topics that are not there yet.

    Raises
    ------
    SettingsError
        Where one is outside what is allowed.
    """

    group: str = PREDICTOR_GROUP
    hop: int | None = None
    lateness_s: float = 1.0
    batch_packets: int = 4_000
    checkpoint_s: float = 5.0
    checkpoint_packets: int = 20_000
    idle_s: float = 900.0
    forget_s: float = 3_600.0
    instance: str | None = None
    partitions: int = DEFAULT_PARTITIONS

    def __post_init__(self) -> None:
        for name, least, value in (
            ("--hop", 1, self.hop),
            ("--batch-packets", 1, self.batch_packets),
            ("checkpoint_packets", 1, self.checkpoint_packets),
            ("--partitions", 1, self.partitions),
            ("--lateness", 0, self.lateness_s),
            ("--checkpoint-every", 0, self.checkpoint_s),
            ("--idle-after", 0, self.idle_s),
            ("forget_s", 0, self.forget_s),
        ):
            # Not `value < least`, which NaN is not either.
            if value is not None and not value >= least:
                raise SettingsError(f"{name} must be at least {least}, not {value:g}")
        if not self.group:
            raise SettingsError("--group must not be empty")
        if self.instance == "":
            raise SettingsError("--instance must not be empty")
