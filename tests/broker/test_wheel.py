"""The wheel, installed as a user would and run from another folder: it carries all it needs, and says what it lacks.

What it requires is linked from where these tests run, not downloaded: of an extra all that it pulls in, and no more.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path

import pytest

from cli.extras import EXTRAS
from deploy.packages import needed
from repstream.recordings.tables import write_recording
from repstream.shipped import shipped_files
from tests.support import make_recording

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a clean copy of the checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(built)], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = built.glob("*.whl")
    return found


class Installed:
    """An environment that holds the wheel and what some of its extras require."""

    def __init__(self, folder: Path, wheel: Path, extras: tuple[str, ...]) -> None:
        self.command = folder / "bin" / "repstream"
        venv.create(folder, with_pip=False, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        here = Path(sysconfig.get_path("purelib"))
        for name in needed(extras):
            for entry in _entries(name):
                if not (packages / entry).exists():
                    (packages / entry).symlink_to(here / entry)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
        subprocess.run([*install, "--python", str(folder / "bin" / "python"), str(wheel)], check=True, timeout=120)

    def run(self, *arguments: object, cwd: Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command in a folder, with nothing of these tests' environment."""
        foreign = ("REPSTREAM_", "PYTHON")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(foreign) or k == "REPSTREAM_JAVA"}
        return subprocess.run(
            [str(self.command), *map(str, arguments)],
            cwd=cwd,
            env=variables | {"TMPDIR": str(cwd), "XDG_STATE_HOME": str(cwd), "XDG_DATA_HOME": str(cwd)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def _entries(distribution: str) -> Iterable[str]:
    """Name what a distribution has put into site-packages."""
    files = importlib.metadata.files(distribution) or []
    return {file.parts[0] for file in files} - {"..", "__pycache__"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = tuple(set(project["optional-dependencies"]) - {"all", "dev", "docs", "dvc"})
    assert set(extras) == set(EXTRAS.values())
    return Installed(tmp_path_factory.mktemp("whole"), wheel, extras)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("core"), wheel, ())


def test_the_demo_runs_from_any_folder(whole: Installed, tmp_path: Path) -> None:
    done = whole.run(
        *("demo", "--no-browser", "--json", "--speed", "4", "--duration", "6"), cwd=tmp_path, timeout_s=180
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["model"].startswith("spar/")
    assert summary["predictions"] == summary["windows"] > 0
    assert (summary["lost"], summary["duplicated"], summary["differing"]) == (0, 0, 0)
    assert summary["drift"]["rows"] > 0


def test_a_model_that_it_trains_is_the_users_and_found_by_its_name(whole: Installed, tmp_path: Path) -> None:
    trained = whole.run("train", "spar/s0[1-3]-left-*-1", "--name", "mine", "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "repstream" / "models" / "mine" / "1" / "card.json").is_file()
    scored = whole.run("score", "spar/s08-left-ROW-1", "--model", "mine", "--out", "scores.csv", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr


def test_it_carries_the_files_of_the_release_and_all_code_of_the_images(whole: Installed, tmp_path: Path) -> None:
    done = whole.run("stack", "init", tmp_path / "stack", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = ["git", "ls-files", "cli", "monitor", "predictor", "producer", "repstream", "store"]
    code = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(code) > 100
    for name in [*shipped_files(), *code]:
        assert (tmp_path / "stack" / name).read_bytes() == (ROOT / name).read_bytes(), name


LACKING = {
    "score {file} --out {out}.csv": "model",
    "train {file}": "data,model",
    "evaluate {file}": "data,model",
    "calibrate {file}": "data,model",
    "predict": "model",
    "monitor": "monitor",
    "demo": "all",
    "demo {file}": "all",
    "bench": "all",
    "store": "store",
    "predictions": "store",
    "recordings list": "data",
    "produce spar/*": "data",
}


@pytest.mark.parametrize("line", LACKING)
def test_without_extras_a_command_names_the_one_it_needs_in_one_line(
    core: Installed, tmp_path: Path, line: str
) -> None:
    write_recording(make_recording(400), tmp_path / "r.csv")
    done = core.run(*line.format(file=tmp_path / "r.csv", out=tmp_path / "out").split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"Error: .+pip install 'repstream\[{LACKING[line]}\]'\n", done.stderr), done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "recordings list {file}",
        "recordings convert {file} {out}.parquet",
        "features {file} --out {out}.csv",
        "broker stop",
    ],
)
def test_without_extras_the_core_works(core: Installed, tmp_path: Path, line: str) -> None:
    write_recording(make_recording(400), tmp_path / "r.csv")
    done = core.run(*line.format(file=tmp_path / "r.csv", out=tmp_path / "out").split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
