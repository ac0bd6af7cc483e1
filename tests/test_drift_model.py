"""The files beside a model: what is read is what was written, for this model, or it is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repstream.alarms.files import CARD_FILE, NUMBERS_FILE, load_drift, save_drift
from repstream.alarms.recogniser import VARIANTS, pack, unpack
from repstream.errors import ModelError
from repstream.recognition.model import Model
from tests.drifting import drift_model, model, sent_for
from tests.support import failure, spar_recordings

CURE = "recreate it with: repstream calibrate"


@pytest.fixture
def copied(tmp_path: Path) -> Model:
    """The shipped model in a folder of its own, with its drift files."""
    folder = tmp_path / "spar" / "1"
    shutil.copytree(model().folder, folder)
    return replace(model(), folder=folder)


def edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | changes))


def test_what_is_read_back_judges_as_what_was_written_to_the_last_bit(copied: Model) -> None:
    save_drift(drift_model(), copied, {"made": "today"})
    again = load_drift(copied)
    assert again is not None
    sent = [p for p in sent_for(spar_recordings("s08-left-ROW-1")) if p.signal is not None]
    signals, features = np.array([p.signal for p in sent]), np.array([p.features for p in sent])
    evidence = drift_model().evidence(signals, features)
    assert evidence.shape == (len(sent), len(VARIANTS))
    assert again.evidence(signals, features).tobytes() == evidence.tobytes()
    for name in ("usual", "level", "margin", "threshold"):
        mine, read = (np.asarray(getattr(d.calibration, name)) for d in (drift_model(), again))
        assert mine.tobytes() == read.tobytes(), name


def test_the_card_says_how_it_was_made_for_which_model_and_its_hash(copied: Model) -> None:
    save_drift(drift_model(), copied, {"made": "today", "hours": 3})
    card = json.loads((copied.folder / CARD_FILE).read_text())
    assert card == {
        "model_card_sha256": copied.card["card_sha256"],
        "sha256": hashlib.sha256((copied.folder / NUMBERS_FILE).read_bytes()).hexdigest(),
        "made": "today",
        "hours": 3,
    }


def test_a_model_without_these_files_is_no_error(copied: Model) -> None:
    (copied.folder / NUMBERS_FILE).unlink()
    (copied.folder / CARD_FILE).unlink()
    assert load_drift(copied) is None


def alter_numbers(folder: Path) -> None:
    data = bytearray((folder / NUMBERS_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / NUMBERS_FILE).write_bytes(data)


def numbers_of_another_release(folder: Path) -> None:
    arrays = unpack((folder / NUMBERS_FILE).read_bytes())
    data = pack(arrays | {"recogniser_middle": arrays["recogniser_middle"][1:]})
    (folder / NUMBERS_FILE).write_bytes(data)
    edit_card(folder, sha256=hashlib.sha256(data).hexdigest())


def numbers_lack(name: str) -> Callable[[Path], None]:
    def lack(folder: Path) -> None:
        arrays = unpack((folder / NUMBERS_FILE).read_bytes())
        data = pack({k: v for k, v in arrays.items() if k != name})
        (folder / NUMBERS_FILE).write_bytes(data)
        edit_card(folder, sha256=hashlib.sha256(data).hexdigest())

    return lack


def not_numbers(folder: Path) -> None:
    (folder / NUMBERS_FILE).write_bytes(b"not an archive")
    edit_card(folder, sha256=hashlib.sha256(b"not an archive").hexdigest())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            alter_numbers,
            f"{NUMBERS_FILE}: its SHA-256 is not the one in {CARD_FILE}: it was altered or damaged; {CURE}",
        ),
        (
            lambda folder: edit_card(folder, model_card_sha256="0" * 64),
            f"{NUMBERS_FILE}: it was made for another model than spar/1; {CURE}",
        ),
        (numbers_of_another_release, f"{NUMBERS_FILE}: it was made by another release; {CURE}"),
        (numbers_lack("recogniser_scale"), f"{NUMBERS_FILE}: there is no 'scale' in it; {CURE}"),
        (numbers_lack("novelty_scale"), f"{NUMBERS_FILE}: there is no 'novelty_scale' in it; {CURE}"),
        (numbers_lack("calibration_level"), f"{NUMBERS_FILE}: there is no 'calibration_level' in it; {CURE}"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_one_line(
    copied: Model, damage: Callable[[Path], None], said: str
) -> None:
    damage(copied.folder)
    with pytest.raises(ModelError) as refused:
        load_drift(copied)
    assert str(refused.value) == f"{copied.folder}/{said}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / NUMBERS_FILE).unlink(),
        lambda folder: (folder / CARD_FILE).unlink(),
        lambda folder: (folder / CARD_FILE).write_text("no card"),
        lambda folder: (folder / CARD_FILE).write_text("[]"),
        lambda folder: (folder / CARD_FILE).write_text("{}"),
        lambda folder: (folder / CARD_FILE).write_bytes(b"\xff\xfe"),
    ],
    ids=["no numbers", "no card", "not JSON", "a list", "nothing in it", "not UTF-8"],
)
def test_one_file_without_the_other_or_a_card_that_is_none_is_refused(
    copied: Model, damage: Callable[[Path], object]
) -> None:
    damage(copied.folder)
    with pytest.raises(ModelError) as refused:
        load_drift(copied)
    assert str(refused.value).startswith(f"{copied.folder / CARD_FILE}: not readable with {NUMBERS_FILE} beside it (")
    assert str(refused.value).endswith(CURE)


def test_numbers_that_are_no_archive_are_refused(copied: Model) -> None:
    not_numbers(copied.folder)
    with pytest.raises(ModelError) as refused:
        load_drift(copied)
    assert str(refused.value).startswith(f"{copied.folder / NUMBERS_FILE}: ")


def test_a_monitor_is_not_started_on_altered_numbers(copied: Model) -> None:
    alter_numbers(copied.folder)
    said = failure("monitor", "--models-dir", copied.folder.parents[1], "--bootstrap-servers", "127.0.0.1:1")
    assert said.endswith(f"it was altered or damaged; {CURE}")
