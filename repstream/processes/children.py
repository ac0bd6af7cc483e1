"""Child processes that end when their parent does, whatever ends it: the embedded broker, and services of ours.

What they write is the user's alone. Each runs under ``repstream/processes/guard.py``: the guard sees by its standard
input that the parent is gone, even after ``kill -9``, and ends its child in order. POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from repstream.errors import RepstreamError
from repstream.processes.ports import process_state
from repstream.processes.private import UMASK, create_private

_GUARD = Path(__file__).with_name("guard.py")
_POLL_S = 0.05


class Guarded:
    """A guard and the process under it.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Where standard output and error go; begun anew.
    grace_s : float
        From SIGTERM to SIGKILL once the parent is gone or `end` is called, s.
    remove : Path, optional
        A folder to be removed if the parent dies without ending it.
    folder : Path, optional
        To run in.
    environment : mapping, optional
        The parent's by default.

    Attributes
    ----------
    pid, guard_pid : int
        Process ids of the command and of its guard.

    Raises
    ------
    RepstreamError
        Where it cannot be started; says why.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        grace_s: float,
        remove: Path | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._grace_s = grace_s
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(grace_s), str(remove or ""), "--"]
        with create_private(log) as said:
            self._guard: subprocess.Popen[bytes] | None = subprocess.Popen(
                [*guard, *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
                umask=UMASK,
            )
        assert self._guard.stdout is not None
        word, _, rest = self._guard.stdout.readline().decode().strip().partition(" ")
        if word != "pid":
            self.end()
            raise RepstreamError(rest or "its guard died")
        self.pid, self.guard_pid = int(rest), self._guard.pid

    def end(self) -> None:
        """End the process by SIGTERM, after the grace by SIGKILL, and wait for it; no error where it ended."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        assert guard.stdout is not None
        with contextlib.suppress(OSError):
            guard.stdin.write(b"k")  # what was to be removed is ours to keep
        guard.stdin.close()
        guard.stdout.close()
        try:
            guard.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:
            guard.kill()  # Linux ends the process with it
            guard.wait()


class Child:
    """A running ``repstream COMMAND …``; a context manager that stops it.

    Parameters
    ----------
    command : str
        Which one.
    arguments : sequence of str
    log : Path
        Where its standard output and error go.
    grace_s : float
        From SIGTERM to SIGKILL, s.
    remove : Path, optional
        A folder to be removed if the parent dies without stopping this child.
    environment : mapping, optional
        The parent's by default.
    """

    def __init__(
        self,
        command: str,
        arguments: Sequence[str],
        log: Path,
        grace_s: float,
        remove: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = command
        self.log = log
        # -P: a file of the current folder that is called like a library is not imported for it.
        service = [sys.executable, "-P", "-m", "repstream", command, *arguments]
        try:
            self._guarded = Guarded(service, log, grace_s, remove, environment=environment)
        except RepstreamError as error:
            raise RepstreamError(f"repstream {command} cannot be started: {error}") from error
        self.pid = self._guarded.pid

    def is_running(self) -> bool:
        """Whether the service runs; it is known by its command line, as its pid may go on to another process."""
        state = process_state(self.pid)
        return state is not None and state[0] not in "ZX" and f"repstream {self.command} " in state[1]

    def stop(self) -> None:
        """End the service by SIGTERM, after the grace by SIGKILL, and wait for it; no error where it ended."""
        self._guarded.end()

    def kill(self) -> None:
        """End the service by SIGKILL, where there is nothing left to end in order; `stop` waits for it."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the service's own end; False where it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def lines(self) -> list[str]:
        """What it has said."""
        return [line for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]

    def last_words(self) -> str:
        """The line that says why it ended."""
        said = self.lines()
        errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
        return (errors or said or ["it said nothing"])[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
