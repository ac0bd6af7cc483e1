"""How a monitor runs; light, as the command takes its options' defaults from here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from repstream.errors import SettingsError
from repstream.messages.topics import MONITOR_GROUP, PREDICTOR_GROUP
from repstream.windows.share import WHOLE, check_share

PAGE_HOST, PAGE_PORT = "127.0.0.1", 8080
"""Where the web server listens by default."""


@dataclass(frozen=True)
class ReportSettings:
    """Which reports are made unasked, and how many are kept.

    Attributes
    ----------
    folder : Path
        Where they are kept.
    keep : int
        The oldest beyond so many are deleted; each has about 10 MB.
    every_s : float
        Wall time between scheduled reports, s; 0 disables them.
    on_alarm : bool
        Whether an alarm that begins triggers one.

    Raises
    ------
    SettingsError
        Naming the command's option, where one is outside what is allowed.
    """

    folder: Path = Path("reports")
    keep: int = 50
    every_s: float = 3600.0
    on_alarm: bool = True

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise SettingsError(f"--keep-reports must be at least 1, not {self.keep}")
        if not 0 <= self.every_s < math.inf:
            raise SettingsError(f"--report-every must be 0 s or more, not {self.every_s:g}")


@dataclass(frozen=True)
class MonitoringSettings:
    """How much is remembered and compared.

    Attributes
    ----------
    window_s : float
        Length of a monitoring window, in seconds of event time.
    current : int
        Windows that are compared with the reference at a pass.
    retained : int
        Windows that are remembered, for reports and late labels.
    max_rows : int
        Rows kept per window.
    label_share : float
        Share of a prediction's window, above 0 and at most 1, that needs one label.

    Raises
    ------
    SettingsError
        Naming the command's option, where one is outside what is allowed.
    """

    window_s: float = 60.0
    current: int = 5
    retained: int = 60
    max_rows: int = 2_000
    label_share: float = WHOLE

    def __post_init__(self) -> None:
        if not self.window_s > 0:
            raise SettingsError(f"--window must be above 0 s, not {self.window_s:g}")
        if self.current < 1:
            raise SettingsError(f"--current must be at least 1, not {self.current}")
        if self.retained < self.current:
            raise SettingsError(
                f"--retained ({self.retained}) must be at least --current ({self.current}): "
                "windows are compared only while they are remembered"
            )
        if self.max_rows < 1:
            raise SettingsError(f"max_rows must be at least 1, not {self.max_rows}")
        check_share(self.label_share)


@dataclass(frozen=True)
class MonitorSettings:
    """How a monitor runs.

    Attributes
    ----------
    group : str
        Under which its offsets are committed.
    every_s : float
        Wall time between two passes, s.
    monitoring : MonitoringSettings
    predictor_group : str
        The predictors whose ledger of samples is shown.

    Raises
    ------
    SettingsError
        Naming the command's option, where one is outside what is allowed.
    """

    group: str = MONITOR_GROUP
    every_s: float = 5.0
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    predictor_group: str = PREDICTOR_GROUP

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise SettingsError(f"--every must be above 0 s, not {self.every_s:g}")
        if not self.group:
            raise SettingsError("--group must not be empty")
        if not self.predictor_group:
            raise SettingsError("--predictor-group must not be empty")
