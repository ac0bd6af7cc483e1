"""A predictor's name: the same again after a restart, nobody else's, and its lock harms nobody's files."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.instance import Instance
from repstream.errors import SettingsError
from repstream.processes.private import open_runtime_folder

HOST = socket.gethostname()


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the run time of this user's processes, as a login makes it; and a home beside it."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return folder


def used(name: str = "instances") -> Path:
    """The folder that is used."""
    opened = open_runtime_folder(name)
    try:
        return Path(f"/proc/self/fd/{opened}").readlink()
    finally:
        os.close(opened)


def test_predictors_side_by_side_have_names_of_their_own_and_get_them_again() -> None:
    first, second = Instance("g"), Instance("g")
    assert [first.hold("c"), second.hold("c"), first.hold("c")] == [f"{HOST}-0", f"{HOST}-1", f"{HOST}-0"]
    first.close()
    assert Instance("g").hold("c") == f"{HOST}-0"


def test_a_name_is_free_again_however_its_holder_ended() -> None:
    program = "from predictor.instance import Instance; import os; i = Instance('g'); print(i.hold('c'), flush=True)"
    for _ in range(2):
        command = [sys.executable, "-c", f"{program}; os.kill(os.getpid(), 9)"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (-9, f"{HOST}-0\n")
    assert Instance("g").hold("c") == f"{HOST}-0"


def test_other_groups_and_other_clusters_do_not_count() -> None:
    held = [Instance("g"), Instance("h"), Instance("g")]
    assert [i.hold(c) for i, c in zip(held, "ccd", strict=True)] == [f"{HOST}-0"] * 3
    # A new cluster at the same address: the name is held in that one now, and free in the other.
    assert held[0].hold("e") == Instance("g").hold("c") == f"{HOST}-0"


def test_a_name_that_was_given_is_used_as_it_is(run: Path) -> None:
    assert Instance("g", "mine").hold("c") == "mine"
    assert list(run.iterdir()) == []


# Fenced by somebody of the same name


def test_fenced_once_it_keeps_its_name_and_twice_within_a_minute_it_takes_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((0.0, 70.0, 140.0, 150.0))
    monkeypatch.setattr("predictor.instance.time.monotonic", lambda: next(clock))
    instance = Instance("g")
    instance.hold("c")
    for _ in range(3):
        instance.fenced()
        assert instance.hold("c") == f"{HOST}-0"
    instance.fenced()
    assert instance.hold("c") == f"{HOST}-1"
    assert Instance("g").hold("c") == f"{HOST}-2"  # the name that somebody elsewhere has is nobody's here


def test_a_given_name_that_somebody_else_has_too_ends_in_words() -> None:
    instance = Instance("g", "mine")
    for _ in range(4):
        instance.fenced()
    with pytest.raises(SettingsError) as refused:
        instance.fenced()
    assert str(refused.value) == (
        "Kafka gave the name mine in group g to another predictor 5 times in a row; "
        "give each one a name of its own with --instance"
    )


# The folder of the locks


def test_locks_are_the_users_alone(run: Path) -> None:
    Instance("g").hold("c")
    folder = run / "repstream" / "instances"
    assert used() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()] == [0o600]


def test_without_a_run_time_folder_it_is_the_home_and_without_a_home_the_temporary_folder(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))  # as after su
    assert used() == tmp_path / "home" / ".local" / "state" / "repstream" / "instances"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    (tmp_path / "home").chmod(0o700)
    monkeypatch.setenv("HOME", "/dev/null")  # a folder that nothing can be made in
    temporary = tmp_path / "temporary" / f"repstream-instances-{os.geteuid()}"
    assert used() == temporary
    monkeypatch.delenv("HOME")  # a container's user id that no file of users knows
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert used() == temporary


def test_a_folder_that_others_made_is_not_used_and_a_link_in_it_not_followed(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("ten bytes.")
    Instance("g").hold("c")
    (lock,) = (run / "repstream" / "instances").iterdir()
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises(SettingsError, match=rf"^{lock.name}: cannot lock this predictor's name \(Too many"):
        Instance("g").hold("c")
    (run / "repstream" / "instances").chmod(0o777)
    assert used().is_relative_to(tmp_path / "home")
    lock.unlink()
    (run / "repstream" / "instances").rmdir()
    (run / "repstream" / "instances").symlink_to(tmp_path)
    assert used().is_relative_to(tmp_path / "home")
    assert victim.read_text() == "ten bytes."


def test_a_lock_never_empties_a_file(run: Path) -> None:
    Instance("g").hold("c")
    (lock,) = (run / "repstream" / "instances").iterdir()
    lock.write_text("ten bytes.")
    Instance("g").hold("c")
    assert lock.read_text() == "ten bytes."


def test_with_no_folder_of_its_own_it_says_what_was_tried(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_711)  # all that is here belongs to somebody else
    with pytest.raises(SettingsError) as refused:
        Instance("g").hold("c")
    said = "(it belongs to another user, or is open to others)"
    assert str(refused.value) == (
        f"there is no folder of this user's alone to use: {run / 'repstream' / 'instances'} {said}, "
        f"{tmp_path / 'home' / '.local' / 'state' / 'repstream' / 'instances'} {said}, "
        f"{tmp_path / 'temporary' / 'repstream-instances-4711'} {said}; set XDG_RUNTIME_DIR to a folder of your own"
    )
