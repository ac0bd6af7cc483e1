"""What several tests share: made-up recordings, files, and the command as the user runs it."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.recordings import spar
from repstream.recordings.axes import AXES, Side
from repstream.recordings.recording import Recording
from repstream.windows.grid import GridResampler, Run

HEADER = ("time", *AXES)


def noise(n: int, seed: int = 0) -> FloatArray:
    """Six axes of a size that a wrist has: about 1 g and 100 °/s."""
    return np.random.default_rng(seed).normal(size=(n, 6)) * [1.0, 1.0, 1.0, 100.0, 100.0, 100.0]


def moving(n: int, seed: int = 0) -> FloatArray:
    """Six axes of a wrist that moves about as no other one does, shape (n, 6): smooth, with a sensor's noise on it."""
    rng = np.random.default_rng(seed)
    taper = np.hanning(27)
    taper /= np.sqrt(np.square(taper).sum())
    size = [0.4, 0.4, 0.4, 60.0, 60.0, 60.0]
    smooth = np.stack([np.convolve(rng.normal(size=n + 26), taper, mode="valid") for _ in size], axis=1)
    return smooth * size + rng.normal(size=(n, 6)) * [0.004, 0.004, 0.004, 0.2, 0.2, 0.2]


def sinusoid(hertz: float, rate_hz: float, n: int) -> FloatArray:
    return np.sin(2 * np.pi * hertz * np.arange(n) / rate_hz)


def make_recording(
    n: int = 400,
    *,
    name: str = "made-up",
    subject: str = "p1",
    rate_hz: float = 50.0,
    side: Side = "left",
    labels: Sequence[str] | None = None,
    time_s: FloatArray | None = None,
    values: FloatArray | None = None,
    seed: int = 0,
) -> Recording:
    return Recording(
        name=name,
        subject=subject,
        session=f"{name}-session",
        device=f"{name}-device",
        time_s=np.arange(n) / rate_hz if time_s is None else time_s,
        values=noise(n, seed) if values is None else values,
        rate_hz=rate_hz,
        side=side,
        labels=None if labels is None else np.array(labels, dtype=np.str_),
    )


def exercising(subject: str, labels: str, seconds: float = 8.0, tilt: float = 0.0) -> list[Recording]:
    """One recording a letter; each letter is a movement of its own, told apart with ease."""
    n = int(seconds * 50)
    made = []
    for letter in labels:
        kind = ord(letter) - ord("A")
        rng = np.random.default_rng([kind, sum(subject.encode())])
        values = rng.normal(size=(n, 6)) * [0.02, 0.02, 0.02, 2.0, 2.0, 2.0] + [0.0, 0.0, tilt, 0.0, 0.0, 0.0]
        values[:, kind % 3] += 1.0
        values[:, 3 + kind % 3] += 80.0 * sinusoid(0.5 + 0.5 * kind, 50.0, n)
        name = f"{subject}-{letter}"
        made.append(make_recording(n, name=name, subject=subject, values=values, labels=[letter] * n))
    return made


def spar_recordings(*patterns: str) -> list[Recording]:
    from repstream.recordings.catalogue import resolve

    return resolve([f"spar/{p}" for p in patterns])


def spar_named(name: str) -> Recording:
    return next(r for r in spar.recordings() if r.name == f"spar/{name}")


def rows_of(recording: Recording) -> list[list[str]]:
    """A recording as the cells of a CSV file, without its header."""
    table = np.column_stack((recording.time_s, recording.values))
    return [[repr(float(x)) for x in row] for row in table]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    path.write_text("\n".join(",".join(row) for row in (header, *rows)) + "\n", encoding="utf-8")
    return path


def joined(runs: Sequence[Run]) -> list[tuple[int, FloatArray]]:
    """Runs that continue each other as one: (start, values)."""
    found: list[tuple[int, list[FloatArray]]] = []
    for run in runs:
        if not len(run.values):
            continue
        if found and found[-1][0] + sum(map(len, found[-1][1])) == run.start:
            found[-1][1].append(run.values)
        else:
            found.append((run.start, [run.values]))
    return [(start, np.concatenate(pieces)) for start, pieces in found]


def pieces(n: int, cuts: Sequence[int]) -> Iterator[slice]:
    """0…n cut at these places."""
    edges = [0, *sorted({c for c in cuts if 0 < c < n}), n]
    yield from (slice(a, b) for a, b in itertools.pairwise(edges))


def on_grid(times_us: IntArray, values: FloatArray, rate_hz: float | None) -> list[tuple[int, FloatArray]]:
    return joined(GridResampler(rate_hz).push(times_us, values))


def same_bits(a: Sequence[tuple[int, FloatArray]], b: Sequence[tuple[int, FloatArray]]) -> bool:
    return [(start, v.shape, v.tobytes()) for start, v in a] == [(start, v.shape, v.tobytes()) for start, v in b]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def cli(*args: object, env: Mapping[str, str] | None = None) -> Outcome:
    """Run ``repstream`` in this process, from its very entry point, with no REPSTREAM_ variable but `env`'s."""
    from cli.app import main

    variables = {k: v for k, v in os.environ.items() if not k.startswith("REPSTREAM_")}
    variables |= {"COLUMNS": "200", "NO_COLOR": "1", **(env or {})}
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(sys, "argv", ["repstream", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def failure(*args: object, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must fail as expected failures do; return what it said after ``Error: ``."""
    outcome = cli(*args, env=env)
    assert (outcome.code, outcome.out) == (1, ""), outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")


def success(*args: object, env: Mapping[str, str] | None = None) -> Outcome:
    outcome = cli(*args, env=env)
    assert outcome.code == 0, outcome
    return outcome


def soon(holds: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Ask again and again until it holds; fail with `what` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


def ended(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection, whatever it said before."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """Let this process have some thousand files and sockets open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
