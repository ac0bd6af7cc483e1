"""The guard of an embedded broker: a small process that outlives its parent just long enough to end the JVM.

Run by file, not as a module: ``python -I -S guard.py PARENT_PID GRACE_S REMOVE -- JAVA …``; it
imports the standard library alone, so that it starts in 20 ms and whatever the parent's ``sys.path`` holds.
POSIX only.

The parent may die of anything, ``kill -9`` included, and then runs no code of its own. So it holds the
write end of a pipe that is this process's standard input: the kernel closes it, whatever the cause.
A child that the parent forked without exec can hold that end open too, hence also a look at the
parent's pid twice a second.

Out, on standard output: ``pid N`` once the JVM runs, or ``error TEXT``.
In, on standard input: one byte says that the parent ends things itself and that REMOVE is to stay.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG = 1
PARENT_CHECK_S = 0.5


def _die_with_guard() -> None:
    """Ask Linux to kill this process (the JVM to be) should the guard itself be killed.

    The request is tied to the thread that forked; the guard has only one. macOS has no such call:
    there a ``kill -9`` of the guard *and* of the parent leaves the JVM running.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _say(text: str) -> None:
    # The parent may be gone already; what remains to be done does not depend on it.
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode())


def _drain(wake_read: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wake_read, 4096)


def main(argv: list[str]) -> int:
    """Run the JVM until it ends or the parent does.

    Parameters
    ----------
    argv : list of str
        Parent's pid, seconds between SIGTERM and SIGKILL, folder to remove if the parent dies
        (empty: none), ``--``, the command.

    Returns
    -------
    int
        Exit code, always 0.
    """
    parent, grace_s, remove, command = int(argv[0]), float(argv[1]), argv[2], argv[4:]
    # Ctrl-C is for the parent, whose orderly stop comes through the pipe; and a mask or an ignored
    # signal inherited from the parent must not make the JVM deaf to SIGTERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    asked_to_end: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            asked_to_end.append(number)

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGCHLD, note)

    try:
        # One thread and no locks here, so running Python between fork and exec is safe.
        jvm = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            preexec_fn=_die_with_guard if sys.platform == "linux" else None,
        )
    except OSError as error:
        _say(f"error {error}")
        return 0
    _say(f"pid {jvm.pid}")

    parent_lives, keep = True, False
    while parent_lives and not asked_to_end:
        ready, _, _ = select.select([0, wake_read], [], [], PARENT_CHECK_S)
        if wake_read in ready:
            _drain(wake_read)
        if 0 in ready:
            said = os.read(0, 16)
            keep = keep or bool(said)
            parent_lives = bool(said)
        parent_lives = parent_lives and os.getppid() == parent
        # Reap a JVM that ended, but stay: the temporary folder is still to go if the parent dies.
        jvm.poll()

    if jvm.poll() is None:
        jvm.terminate()
        deadline = time.monotonic() + grace_s
        while jvm.poll() is None and time.monotonic() < deadline:
            select.select([wake_read], [], [], 0.05)
            _drain(wake_read)
        if jvm.poll() is None:
            jvm.kill()
            jvm.wait()
    if remove and not keep:
        shutil.rmtree(remove, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
