"""The SPAR recordings are what the contract says they are."""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from repstream.recordings import spar
from repstream.recordings.spar import EXERCISES
from tests.support import failure, spar_named


def test_there_are_140_recordings_of_10_subjects_both_wrists_and_7_exercises() -> None:
    found = spar.recordings()
    assert len(found) == 140
    assert {r.subject for r in found} == {f"s{i:02d}" for i in range(1, 11)}
    assert Counter(r.side for r in found) == {"left": 70, "right": 70}
    assert set(EXERCISES) == {"PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"}
    kinds = Counter((r.subject, r.side, str(r.labels[0])) for r in found if r.labels is not None)
    assert len(kinds) == 140
    assert set(kinds.values()) == {1}


def test_names_devices_and_sessions_are_those_of_the_contract() -> None:
    recording = spar_named("s01-left-ROW-1")
    assert (recording.device, recording.session, recording.side) == ("spar-s01-left", "spar-s01-left-ROW-1", "left")
    assert (recording.subject, recording.source, recording.rate_hz) == ("s01", "spar", 50.0)
    found = spar.recordings()
    assert len({r.name for r in found}) == len({(r.device, r.session) for r in found}) == 140
    assert len({r.device for r in found}) == 20


def test_each_recording_is_one_exercise_on_a_50_hz_clock() -> None:
    for recording in spar.recordings():
        assert recording.labels is not None
        assert set(recording.labels.tolist()) == {recording.name.split("-")[2]}
        assert np.array_equal(recording.times_us, 20_000 * np.arange(recording.n_samples))
        assert np.isfinite(recording.values).all()


def test_angular_rates_are_converted_from_radians_and_accelerations_are_left_as_they_are() -> None:
    data = np.load(spar.data_file(), allow_pickle=True).item()
    by_length = {r.n_samples: r for r in spar.recordings()}
    unique = [x for x in data["X"] if sum(len(x) == len(other) for other in data["X"]) == 1]
    assert len(unique) > 50
    for raw in unique:
        mine = by_length[len(raw)].values
        assert np.array_equal(mine[:, :3], raw[:, :3])
        np.testing.assert_allclose(mine[:, 3:], np.rad2deg(raw[:, 3:]), rtol=1e-14)


@pytest.fixture
def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the test's own in the place of the data."""
    path = tmp_path / "watch_dataset.npy"
    monkeypatch.setattr(spar, "data_file", lambda: path)
    spar._load.cache_clear()
    spar.recordings.cache_clear()
    yield path
    spar._load.cache_clear()
    spar.recordings.cache_clear()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_data_that_are_not_those_of_the_pinned_package_are_not_read(replaced: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    np.save(replaced, np.array({"X": Trap(trap)}, dtype=object), allow_pickle=True)
    assert failure("recordings", "list") == (
        f"{replaced}: its SHA-256 is not that of the SPAR recordings, and it is not read; "
        "install it anew: pip install --force-reinstall --no-deps seglearn==1.2.5"
    )
    assert not trap.exists()
    replaced.unlink()
    assert "the SPAR recordings cannot be read (No such file" in failure("recordings", "list")


def test_even_data_that_are_trusted_make_nothing_but_arrays(
    replaced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "sprung"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    content = header.getvalue() + pickle.dumps(Trap(trap))
    replaced.write_bytes(content)
    monkeypatch.setattr(spar, "SHA256", hashlib.sha256(content).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match=r"it names pathlib\S*\.Path\.touch"):
        spar.recordings()
    assert not trap.exists()


def test_a_wrist_shows_gravity_in_g_and_turns_in_degrees() -> None:
    lengths = [np.median(np.linalg.norm(r.values[:, :3], axis=1)) for r in spar.recordings()]
    assert min(lengths) > 0.9
    assert 0.95 < np.median(lengths) < 1.1
    turning = [np.sqrt(np.square(r.values[:, 3:]).sum(axis=1).mean()) for r in spar.recordings()]
    assert 20 < np.median(turning) < 300


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_a_wrist_tells_its_side_by_the_sign_of_accel_x(side: str, sign: float) -> None:
    means = np.array([r.values[:, 0].mean() for r in spar.recordings() if r.side == side])
    assert (np.sign(means) == sign).mean() > 0.9
    assert np.sign(means.mean()) == sign


def test_an_order_that_keeps_a_devices_sessions_together() -> None:
    devices = [r.device for r in spar.recordings()]
    assert len([1 for a, b in itertools.pairwise(devices) if a != b]) == 19
