"""Producers beside the monitor, for visitors' recordings; they end when the monitor does, whatever ends it.

Each runs under ``repstream/embedded_guard.py``, as the embedded broker does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import repstream
from repstream.embedded_process import process_state
from repstream.errors import RepstreamError

_GUARD = Path(repstream.__file__).with_name("embedded_guard.py")
_GRACE_S = 10.0
_NICE = 10


class Replay:
    """``repstream produce`` on one recording, behind all others in priority.

    Parameters
    ----------
    recording : Path
        Removed when it ends.
    arguments : list of str
        Of ``repstream produce``.
    """

    def __init__(self, recording: Path, arguments: list[str]) -> None:
        self._recording = recording
        self._log = recording.with_suffix(".log")
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(_GRACE_S), "", "--"]
        service = [sys.executable, "-P", "-m", "repstream", "produce", *arguments, "--", str(recording)]
        with self._log.open("wb") as said:
            self._guard: subprocess.Popen[bytes] | None = subprocess.Popen(
                guard + service,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        word, _, rest = self._guard.stdout.readline().decode().strip().partition(" ")
        if word != "pid":
            self.end()
            raise RepstreamError(f"repstream produce cannot be started: {rest or 'its guard died'}")
        self._pid = int(rest)
        with contextlib.suppress(OSError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, self._pid, _NICE)

    def is_running(self) -> bool:
        """Whether it still replays; known by its command line, as its pid may go on to another process."""
        state = process_state(self._pid)
        return state is not None and state[0] not in "ZX" and str(self._recording) in state[1]

    def end(self) -> str:
        """End it by SIGTERM, after a grace by SIGKILL; return what it said."""
        guard, self._guard = self._guard, None
        if guard is not None:
            assert guard.stdin is not None
            assert guard.stdout is not None
            guard.stdin.close()
            guard.stdout.close()
            try:
                guard.wait(_GRACE_S + 5)
            except subprocess.TimeoutExpired:
                guard.kill()  # Linux ends the service with it
                guard.wait()
        said = self._log.read_text("utf-8", "replace").strip() if self._log.exists() else ""
        self._recording.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        return said
