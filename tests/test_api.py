"""``import repstream`` in a notebook: what it offers, that it is quick, and that it equals the command."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import repstream
from tests.support import make_recording, success

SOURCE = Path(repstream.__file__)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]
    )
    return done.stdout.strip()


def test_importing_it_imports_nothing_heavy() -> None:
    loaded = run_python("import sys, repstream; dir(repstream); print(*sys.modules)").split()
    assert not {"numpy", "pyarrow", "pandas", "sklearn", "scipy", "kafka", "msgspec", "typer"} & set(loaded)
    assert {m for m in loaded if m.startswith("repstream")} == {"repstream"}


def test_every_name_it_offers_is_there_and_listed() -> None:
    assert set(repstream.__all__) <= set(dir(repstream))
    for name in repstream.__all__:
        found = getattr(repstream, name)
        assert name == "__version__" or found.__doc__, name
    assert set(repstream._WHERE) == set(repstream.__all__) - {"__version__"}
    assert repstream.__all__ == sorted(repstream.__all__)


def test_a_name_that_it_does_not_offer_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_recording'"):
        repstream.load_recording  # noqa: B018


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    """The block for type checkers and the table for the interpreter say the same."""
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for block in ast.parse(SOURCE.read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: where if ":" in where else f"{where}:{name}" for name, where in repstream._WHERE.items()}


def test_each_is_the_object_that_it_is_where_it_is_defined() -> None:
    for name, where in repstream._WHERE.items():
        module, _, there = where.partition(":")
        assert getattr(repstream, name) is getattr(importlib.import_module(module), there or name)


def test_scores_are_those_of_the_command(tmp_path: Path) -> None:
    import pandas as pd

    (recording,) = repstream.load_recordings("spar/s08-left-ROW-1")
    frame = repstream.score(recording, repstream.load_model("spar/1")).to_frame()
    success("score", "spar/s08-left-ROW-1", "--model", "spar/1", "--out", tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "scores.parquet"))


def test_a_recording_too_short_for_a_window_scores_to_nothing() -> None:
    scores = repstream.score(make_recording(100), repstream.load_model("spar/1"))
    assert scores.predicted.shape == scores.confidence.shape == (0,)
    assert len(scores.to_frame()) == 0


def test_evaluate_gives_the_share_of_right_windows_that_the_card_gives() -> None:
    model = repstream.load_model("spar/1")
    found = repstream.evaluate(repstream.load_recordings("spar/s08-*", "spar/s09-*", "spar/s10-*"), model)
    assert found.rows == 488
    assert found.accuracy == pytest.approx(0.902, abs=5e-4)
    assert np.array(found.confusion).sum() == found.rows


def test_evaluate_of_recordings_without_labels_says_what_it_needs() -> None:
    with pytest.raises(repstream.RecordingError, match="labelled recordings"):
        repstream.evaluate([make_recording(400)], repstream.load_model("spar/1"))
    with pytest.raises(repstream.RecordingError, match="labelled recordings"):
        repstream.evaluate([], repstream.load_model("spar/1"))


def test_a_recording_is_read_by_its_path_as_text_too(tmp_path: Path) -> None:
    file = tmp_path / "walk.parquet"
    repstream.write_recording(make_recording(200, name="walk"), file)
    assert repstream.read_recording(str(file)).values.tobytes() == repstream.read_recording(file).values.tobytes()


def test_a_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    scores = repstream.score(make_recording(200), repstream.load_model("spar/1"))
    with pytest.raises(repstream.RepstreamError, match="pip install"):
        scores.to_frame()
