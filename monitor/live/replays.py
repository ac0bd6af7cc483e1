"""Producers beside the monitor, for visitors' recordings; they end when the monitor does, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from repstream.processes.children import Child

_GRACE_S = 10.0
_NICE = 10


class Replay:
    """``repstream produce`` on a folder of recordings, behind all others in priority.

    Parameters
    ----------
    recordings : Path
        The folder; removed when it ends.
    arguments : list of str
        Of ``repstream produce``.
    """

    def __init__(self, recordings: Path, arguments: list[str]) -> None:
        self._recordings = recordings
        log = recordings.with_suffix(".log")
        self._child = Child("produce", [*arguments, "--", str(recordings)], log, _GRACE_S)
        with contextlib.suppress(OSError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, self._child.pid, _NICE)

    def is_running(self) -> bool:
        """Whether it still replays."""
        return self._child.is_running()

    def end(self) -> str:
        """End it; return what it said."""
        self._child.stop()
        said = "\n".join(self._child.lines()) if self._child.log.exists() else ""
        shutil.rmtree(self._recordings, ignore_errors=True)
        self._child.log.unlink(missing_ok=True)
        return said
