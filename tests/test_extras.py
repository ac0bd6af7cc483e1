"""A package that is not installed is told in one line, with the extra that brings it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from cli import extras
from repstream.recordings.tables import write_recording
from tests.support import failure, make_recording

ROOT = Path(__file__).resolve().parents[1]


def declared() -> dict[str, str]:
    """The extra of each distribution that pyproject.toml names in one."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {
        re.split(r"[\[=<>]", requirement)[0]: extra
        for extra, requirements in groups.items()
        if extra not in ("all", "dev", "docs", "dvc")  # of which no command imports anything
        for requirement in requirements
        if (extra, requirement.partition(">")[0]) != ("matlab", "scipy")  # which the models need, too
    }


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of an extra can be imported."""
    modules = {extras.module_of(name) for name in extras.EXTRAS}

    class Nowhere:
        @staticmethod
        def find_spec(name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
            if name.split(".")[0] in modules:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return None

    ours = ("bench", "demo", "monitor", "predictor", "training")
    for name in list(sys.modules):
        if name.split(".")[0] in {*modules, *ours} or name.startswith("repstream.recognition"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nowhere, *sys.meta_path])
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in modules else whole(name))


def test_every_package_of_an_extra_is_known() -> None:
    assert declared() == extras.EXTRAS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("train {file}", "data,model"),
        ("evaluate {file}", "data,model"),
        ("calibrate {file}", "data,model"),
        ("predict", "model"),
        ("monitor", "monitor"),
        ("demo {file}", "all"),
        ("bench", "all"),
    ],
)
@pytest.mark.usefixtures("hidden")
def test_a_missing_extra_is_one_line_that_names_it(tmp_path: Path, command: str, wanted: str) -> None:
    write_recording(make_recording(400), tmp_path / "r.csv")
    said = failure(*command.format(file=tmp_path / "r.csv").split())
    line = rf"repstream {command.split()[0]} needs (\S+), which is not installed: pip install 'repstream\[(.+)\]'"
    found = re.fullmatch(line, said)
    assert found, said
    assert found[1] in extras.EXTRAS
    assert found[2] == wanted


def test_what_is_no_extra_is_no_expected_failure() -> None:
    assert extras.advice("nowhere.at.all", "score") is None


def test_a_command_that_lacks_more_than_it_usually_needs_names_all_of_it() -> None:
    assert "'repstream[data,model,plots]'" in str(extras.advice("matplotlib.pyplot", "evaluate"))
    assert extras.advice("sklearn.svm", "score") == (
        "repstream score needs scikit-learn, which is not installed: pip install 'repstream[model]'"
    )
