"""Reports are made beside the caller, one at a time, kept to a number, and found by their listed names only."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monitor.drift.reference import Current, Reference
from monitor.reports.maker import BusyError, ReportError, ReportMaker, UnknownReportError
from repstream.windows.truth import TRANSITION

LABELS = ("ABD", "PEN", "ROW")
# Stand-ins for the worker: they take its arguments, DATA OUT SECONDS.
WRITES = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text('made')"
SLEEPS = "import time; time.sleep(600)"
FAILS = "import sys; print('it went wrong', file=sys.stderr); sys.exit(3)"
COUNTS = (
    "import sys, pathlib, numpy; d = numpy.load(sys.argv[1]);"
    'pathlib.Path(sys.argv[2]).write_text(f\'{len(d["reference_features"])} {len(d["current_label"])}\')'
)


def made_up(rows: int, seed: int = 0, n_features: int = 4) -> tuple[Reference, Current]:
    rng = np.random.default_rng(seed)
    features, label = rng.normal(size=(rows, n_features)), rng.choice(LABELS, rows)
    prediction = np.where(rng.random(rows) < 0.9, label, "ABD")
    confidence = rng.uniform(0.5, 1.0, rows)
    names = tuple(f"feature_{i}" for i in range(n_features))
    known = Reference(features, names, LABELS, prediction, label, confidence)
    late = np.where(np.arange(rows) < rows // 2, label, "")
    return known, Current(features + 0.1, prediction, confidence, late)


@contextmanager
def maker(folder: Path, program: str | None = None, keep: int = 50, **options: float) -> Iterator[ReportMaker]:
    command = None if program is None else (sys.executable, "-c", program)
    made = ReportMaker(
        folder,
        keep,
        command=command,
        deadline_s=options.get("deadline_s", 60.0),
        max_rows=int(options.get("max_rows", 2000)),
    )
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_report_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "reports"
    with maker(folder, WRITES) as reports:
        path = reports.request("x", *made_up(20)).result(60)
        assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.slow
def test_a_report_is_made_while_the_caller_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    with maker(folder) as reports:
        began = time.monotonic()
        future = reports.request("On demand!", *made_up(120))
        assert time.monotonic() - began < 0.5
        longest, rounds = 0.0, 0
        while not future.done():
            at = time.monotonic()
            time.sleep(0.001)
            longest, rounds = max(longest, time.monotonic() - at), rounds + 1
        path = future.result()
        assert rounds > 100
        assert longest < 1.0
        assert re.fullmatch(r"\d{8}T\d{9}Z-on-demand\.html", path.name)
        assert [(r.name, r.reason, r.n_bytes) for r in reports.list()] == [
            (path.name, "on-demand", path.stat().st_size)
        ]
        assert reports.path(path.name) == path
        assert sorted(p.name for p in folder.iterdir()) == [path.name]
    html = path.read_text(encoding="utf-8")
    for shown in ("feature_3", "Accuracy", "confidence", "Drifted Columns"):
        assert shown in html
    # All of it is in the file: no script, style sheet, picture or font comes over the network.
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=", html)
    assert not re.search(r"url\(['\"]?https?:", html)


@pytest.mark.slow
def test_a_report_without_labels_is_made_too(tmp_path: Path) -> None:
    known, now = made_up(40)
    with maker(tmp_path) as reports:
        path = reports.request("x", known, Current(now.features, now.prediction, now.confidence, np.full(40, "")))
        assert path.result(timeout=60).stat().st_size > 1_000_000


@pytest.mark.slow
def test_a_report_scores_no_transition_that_the_model_does_not_know(tmp_path: Path) -> None:
    known, now = made_up(80)
    changing = Current(now.features, now.prediction, now.confidence, np.full(80, TRANSITION))
    with maker(tmp_path) as reports:
        html = reports.request("x", known, changing).result(timeout=60).read_text(encoding="utf-8")
    assert "Drifted Columns" in html
    assert "Accuracy" not in html


def test_one_is_made_one_waits_and_more_are_refused(tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n{WRITES}"
    with maker(tmp_path / "reports", program) as reports:
        first, second = (reports.request(f"number {i}", *made_up(5)) for i in range(2))
        with pytest.raises(BusyError, match="another waits") as refused:
            reports.request("number 3", *made_up(5))
        assert refused.value.retriable
        go.touch()
        wait((first, second), timeout=20)
        again = reports.request("number 4", *made_up(5)).result(timeout=20)
        made = [first.result().name, second.result().name, again.name]
        assert made == sorted(made)
        assert [r.reason for r in reports.list()] == ["number-4", "number-1", "number-0"]


@pytest.mark.slow
def test_the_oldest_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("not ours")
    with maker(tmp_path, WRITES, keep=2) as reports:
        names = [reports.request("r", *made_up(5)).result(timeout=20).name for _ in range(4)]
        assert [r.name for r in reports.list()] == [names[3], names[2]]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names[2:], "notes.html"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "../secret.html",
        "..",
        "",
        ".",
        "/etc/passwd",
        "notes.html",
        "20261121T110124992Z-gone.html",
        "20261121T110124992Z-link.html",
        "20261121T110124992Z-there.html\n",
        "./20261121T110124992Z-there.html",
        "sub/20261121T110124992Z-there.html",
        "20261121T110124992Z-there.html\0",
        "20269921T110124992Z-there.html",
    ],
)
def test_only_listed_names_are_found(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "reports"
    (folder / "sub").mkdir(parents=True)
    there = "20261121T110124992Z-there.html"
    for path in (tmp_path / "secret.html", folder / "notes.html", folder / there, folder / "sub" / there):
        path.write_text("x")
    (folder / "20269921T110124992Z-there.html").write_text("the 99th month")
    (folder / "20261121T110124992Z-link.html").symlink_to(tmp_path / "secret.html")
    with maker(folder, WRITES) as reports:
        assert reports.path(there) == folder / there
        with pytest.raises(UnknownReportError, match=r"^no report"):
            reports.path(name)


def test_a_report_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with maker(tmp_path, SLEEPS, deadline_s=0.3) as reports:
        with pytest.raises(ReportError, match=r"cancelled after 0\.3 s"):
            reports.request("slow", *made_up(5)).result(timeout=20)
        assert reports.list() == []
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_fails_is_quoted_and_the_next_report_is_made(tmp_path: Path) -> None:
    with maker(tmp_path, FAILS) as reports:
        for _ in range(2):
            with pytest.raises(ReportError, match=r"ended with 3 \(it went wrong\)"):
                reports.request("r", *made_up(5)).result(timeout=20)


def test_rows_are_sampled_to_a_limit(tmp_path: Path) -> None:
    known, now = made_up(300)[0], made_up(20)[1]
    with maker(tmp_path, COUNTS, max_rows=100) as reports:
        assert reports.request("r", known, now).result(timeout=20).read_text() == "100 20"


def test_closing_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    program = f"import pathlib; pathlib.Path({str(tmp_path / 'started')!r}).touch(); {SLEEPS}"
    futures: list[Future[Path]] = []
    with maker(tmp_path / "reports", program) as reports:
        futures += [reports.request("r", *made_up(5)) for _ in range(2)]
        until((tmp_path / "started").exists)
        began = time.monotonic()
        reports.close()
        assert time.monotonic() - began < 5.0
        with pytest.raises(ReportError, match="stopping"):
            reports.request("r", *made_up(5))
    for future in futures:
        with pytest.raises(ReportError, match="stopped before"):
            future.result(timeout=1)
    assert list((tmp_path / "reports").iterdir()) == []


def test_nothing_to_report_on_is_said(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports, pytest.raises(ReportError, match="no windows to report on yet"):
        reports.request("r", made_up(5)[0], made_up(0)[1])


def test_a_folder_that_cannot_be_is_refused_and_leftovers_are_cleared(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ReportError, match="name another folder"):
        ReportMaker(file / "reports")
    (tmp_path / ".making-123.html").touch()
    with maker(tmp_path, WRITES):
        assert not list(tmp_path.glob(".making-*"))
