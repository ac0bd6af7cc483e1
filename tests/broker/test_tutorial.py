"""The tutorial from an app's exports to a live model, as it is written, on exports such as the app writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, text_of
from tests.exports import gym

pytestmark = pytest.mark.broker

PAGE = "docs/tutorials/app-to-model.md"


def commands() -> list[str]:
    """What the page has to be typed."""
    return [line for block in re.findall(r"(?ms)^```sh\n(.*?)^```", text_of(PAGE)) for line in block.splitlines()]


def test_five_commands_lead_from_exports_to_a_live_model(tmp_path: Path) -> None:
    assert len(commands()) == 5
    gym(tmp_path / "exports")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "repstream").write_text(f"#!/bin/sh\nexec '{sys.executable}' -m repstream \"$@\"\n")
    (tmp_path / "bin" / "repstream").chmod(0o700)
    variables = {k: v for k, v in os.environ.items() if not k.startswith("REPSTREAM_") or k == "REPSTREAM_JAVA"}
    variables |= {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        # Nobody looks on, and it need not take as long as it did.
        "REPSTREAM_NO_BROWSER": "1",
        "REPSTREAM_PORT": "0",
        "REPSTREAM_SPEED": "8",
        "REPSTREAM_SUMMARY": "summary.json",
    }
    said = {}
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        said[command.split()[1]] = done.stdout + done.stderr
    assert "18 of 18 recordings imported" in said["recordings"] or "18 recordings of 3 subjects" in said["recordings"]
    assert (tmp_path / "check.html").read_text().count("<h2>") == 18
    card = json.loads((tmp_path / "models" / "mine" / "1" / "card.json").read_text())
    assert card["labels"] == ["biceps curl", "external rotation", "lateral raise"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["model"] == "mine/1"
    assert (summary["wearers"], summary["lost"], summary["duplicated"], summary["differing"]) == (3, 0, 0, 0)
    assert summary["predictions"] == summary["windows"] > 100
    assert summary["accuracy"] > 0.95
