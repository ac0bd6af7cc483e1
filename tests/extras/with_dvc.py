"""The pipeline of experiments/dvc with a real DVC: all stages run, then none, then those that a change is upstream of.

Not named as pytest's tests are: it runs in the environment of the extra `dvc` alone, by `make test-extras`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from repstream.recordings.tables import write_recording
from tests.support import exercising

EXAMPLE = Path(__file__).resolve().parents[2] / "experiments" / "dvc"
STAGES = ["import", "lock", "features", "train", "evaluate"]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def reproduced() -> list[str]:
    """Run `dvc repro`; the stages that it ran, in their order."""
    return re.findall(r"^Running stage '([a-z]+)'", run("dvc", "repro"), re.M)


def take(person: str, exercise: str, seconds: float = 8.0) -> None:
    (recording,) = exercising(person, exercise, seconds)
    folder = Path("raw", person)
    write_recording(recording, folder / f"{exercise}-1.csv")
    # An export has no notes of ours beside it, and says what was done in its name.
    (folder / f"{exercise}-1.json").unlink()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example with recordings of three people, under git and DVC."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_NO_ANALYTICS", "DO_NOT_TRACK"):
        monkeypatch.setenv(variable, "1")
    for person in ("anna", "ben", "cleo"):
        for exercise in "AB":
            take(person, exercise)
    run("git", "init", "--quiet")
    run("dvc", "init", "--quiet")
    run("dvc", "add", "--quiet", "raw")
    return tmp_path


@pytest.mark.usefixtures("project")
def test_a_change_runs_what_depends_on_it_and_nothing_else() -> None:
    assert sorted(reproduced()) == sorted(STAGES)
    card = json.loads(Path("models/mine/1/card.json").read_text())
    assert card["labels"] == ["A", "B"]
    assert card["manifests"][0]["file"] == "recordings.lock.json"
    assert {entry["provenance"]["source"] for entry in card["data"]} >= {"raw/anna/A-1.csv"}
    (result,) = json.loads(Path("evaluation.json").read_text())
    assert result["window_accuracy"] > 0.9
    run("repstream", "recordings", "verify", "recordings.lock.json")

    assert reproduced() == []

    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("seed: 0", "seed: 1"))
    assert reproduced() == ["train", "evaluate"]

    take("anna", "B", seconds=10.0)
    assert sorted(reproduced()) == sorted(STAGES)
    assert json.loads(Path("models/mine/1/card.json").read_text())["seed"] == 1

    # A stage that did run has made what it makes of a copy, and nothing is run for that.
    run("dvc", "checkout", "--quiet")
    assert reproduced() == []
