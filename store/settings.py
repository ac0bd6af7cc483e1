"""How the store's service runs; the options of ``repstream store`` take their defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

from repstream.errors import SettingsError


@dataclass(frozen=True)
class SinkSettings:
    """How a sink runs.

    Attributes
    ----------
    group : str
        Consumer group; sinks of one group share the partitions.
    batch : int
        Messages per write (and up to one poll more).
    every_s : float
        Longest time to wait before writing an incomplete batch, s.
    keep_days : float
        Age by event time at which rows are deleted, days; 0 keeps all.
    """

    group: str = "repstream-store"
    batch: int = 5_000
    every_s: float = 1.0
    keep_days: float = 30.0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SettingsError(f"batch must be at least 1, received {self.batch}")
        for name in ("every_s", "keep_days"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, received {getattr(self, name)}")
        if not self.group:
            raise SettingsError("group must not be empty")
