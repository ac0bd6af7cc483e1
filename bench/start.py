"""Start the demo again and again beside other work: when the first prediction comes, and how late the others are.

Run it by ``python -m bench.start``. Linux only, for how busy the machine was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SLOW_MS = 500.0
_GIVE_UP_S = 300.0


@dataclass(frozen=True)
class Start:
    """One demo.

    Attributes
    ----------
    busy : int
        Processes that did nothing but work beside it.
    first_s, p95_ms : float or None
        First prediction after the start, s; 95th percentile of the latency, ms; None where there was none.
    failure : str or None
        Why its exit code was not 0; None where nothing was lost and nothing came twice.
    waiting : float
        Share of the time in which some process of the machine waited for a processor (Linux's pressure).
    load : float
        Processes that ran or wanted to, mean of the last minute.
    """

    busy: int
    first_s: float | None
    p95_ms: float | None
    failure: str | None
    waiting: float
    load: float

    def __str__(self) -> str:
        first = "–" if self.first_s is None else f"{self.first_s:.1f} s"
        p95 = "–" if self.p95_ms is None else f"{self.p95_ms:.0f} ms"
        return (
            f"{self.busy} busy · first prediction {first} · p95 {p95} · {self.failure or 'whole'} · "
            f"processors waited for {self.waiting:.0%} of the time, load {self.load:.1f}"
        )


@contextlib.contextmanager
def _beside(n: int) -> Iterator[None]:
    working = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in working:
            process.kill()
            process.wait()


def _waited_s() -> float:
    some = Path("/proc/pressure/cpu").read_text(encoding="utf-8").splitlines()[0]
    return int(some.rpartition("total=")[2]) / 1e6


def start(busy: int) -> Start:
    """Run one demo of six seconds at eight times the pace beside `busy` processes."""
    with tempfile.TemporaryDirectory() as folder, _beside(busy):
        summary = Path(folder) / "summary.json"
        command = [sys.executable, "-m", "repstream", "demo", "--speed", "8", "--duration", "6", "--no-browser"]
        began_s, waited_s = time.monotonic(), _waited_s()
        done = subprocess.run(
            [*command, "--port", "0", "--summary", str(summary)], capture_output=True, timeout=_GIVE_UP_S, check=False
        )
        waiting = (_waited_s() - waited_s) / (time.monotonic() - began_s)
        load = float(Path("/proc/loadavg").read_text(encoding="utf-8").split()[0])
        said = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    p95_ms = said.get("latency_ms", {}).get("p95")
    failure = None if done.returncode == 0 else done.stderr.decode().strip().rpartition("\n")[2] or "it said nothing"
    return Start(busy, said.get("first_prediction_s"), p95_ms, failure, waiting, load)


def main() -> None:
    """Print a line per start, and how many were slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=50, help="how many, beside none, one and two processes in turn")
    found = []
    for i in range(parser.parse_args().starts):
        found.append(start(busy=i % 3))
        print(f"{i + 1}: {found[-1]}", flush=True)
    slow = [s for s in found if s.p95_ms is None or s.p95_ms > _SLOW_MS]
    firsts = sorted(s.first_s for s in found if s.first_s is not None)
    print(
        f"{len(slow)} of {len(found)} with p95 above {_SLOW_MS:g} ms, {sum(s.failure is not None for s in found)} failed"
    )
    if firsts:
        print(
            f"first prediction after {firsts[0]:.1f}, {firsts[len(firsts) // 2]:.1f}, {firsts[-1]:.1f} s (least, median, most)"
        )


if __name__ == "__main__":
    main()
