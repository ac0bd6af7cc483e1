"""A bare machine's tests skip what they lack by name and count it; CI's fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

TESTS = """
import pytest
from tests.tools import program

@pytest.mark.parametrize("n", range(3))
def test_that_needs_a_program(n):
    program("no-such-program", package="some-package")

def test_that_needs_none():
    assert program("no-such-program", "sh", package="dash")
"""


def run(folder: Path, **env: str) -> tuple[int, str]:
    """Run these tests as a user does; return exit code and what was said."""
    (folder / "test_made_up.py").write_text(TESTS, encoding="utf-8")
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text("utf-8"), encoding="utf-8")
    variables = {k: v for k, v in os.environ.items() if k != "CI"} | {"PYTHONPATH": str(ROOT)} | env
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_what_could_not_be_checked_is_told_by_name_with_a_count(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert code == 0, said
    assert "skipped: 3 tests" in said
    assert "   3 × NOT CHECKED: no-such-program is not installed: apt-get install some-package\n" in said


@pytest.mark.slow
def test_ci_skips_none_of_it(tmp_path: Path) -> None:
    code, said = run(tmp_path, CI="true")
    assert code == 1, said
    assert "3 failed, 1 passed" in said


@pytest.mark.parametrize("sudo", ["exit 1", None])
def test_who_may_not_install_is_asked_in_one_line(tmp_path: Path, sudo: str | None) -> None:
    """Without the programs, as a user without rights; apt-get must not be called."""
    for name, body in {
        "bash": None,
        "env": None,
        "id": "echo 1000",
        "apt-get": "echo called >&2; exit 1",
        "sudo": sudo,
    }.items():
        path = tmp_path / name
        if body is not None:
            path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            path.chmod(0o755)
        elif name != "sudo":
            path.symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "system-packages")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("not installed: prometheus chromium")
    assert "sudo apt-get install prometheus chromium" in line


def test_ci_runs_the_readmes_test_command_and_no_other() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert "make test" in lines
    assert not [line for line in lines if "pytest" in line]
