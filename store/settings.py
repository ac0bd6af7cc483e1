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

    Raises
    ------
    SettingsError
        Where one is outside what is allowed.
    """

    group: str = "repstream-store"
    batch: int = 5_000
    every_s: float = 1.0
    keep_days: float = 30.0

    def __post_init__(self) -> None:
        for name, least, value in (
            ("--batch", 1, self.batch),
            ("--every", 0, self.every_s),
            ("--keep-days", 0, self.keep_days),
        ):
            # Not `value < least`, which NaN is not either.
            if not value >= least:
                raise SettingsError(f"{name} must be at least {least}, not {value:g}")
        if not self.group:
            raise SettingsError("--group must not be empty")
