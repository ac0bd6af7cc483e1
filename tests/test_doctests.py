"""Examples in docstrings and documentation give what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = ("tests", "build", "dist", "site")


def with_examples(ending: str) -> list[str]:
    """Files of the project that hold examples."""
    folders = [f for f in ROOT.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name not in NOT_OURS]
    files = [*ROOT.glob(f"*{ending}"), *(file for folder in folders for file in folder.rglob(f"*{ending}"))]
    return sorted(file.relative_to(ROOT).as_posix() for file in files if ">>> " in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", with_examples(".py"))
def test_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", with_examples(".md"))
def test_examples_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A fence ends an example; doctest would take it for output.
    text = re.sub(r"(?m)^```.*$", "", (ROOT / name).read_text(encoding="utf-8"))
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted
    assert not result.failed
