"""No group is in two parts, each is in one, and a split says the same everywhere and for ever."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.errors import RecordingError, SettingsError
from repstream.recordings.audit import audit
from repstream.recordings.recording import Recording
from repstream.recordings.splits import (
    SIMULATE,
    divide,
    group_of,
    make_split,
    parse_parts,
    read_split,
    take_groups,
    write_split,
)
from repstream.recordings.tables import write_recording
from tests.support import cli, failure, make_recording, moving, success

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def wearing(subject: str, session: str, day: str = "", seed: int = 0, n: int = 400) -> Recording:
    """A recording that no other one is like, half of it A and half B, which are told apart with ease."""
    values = moving(n, seed) * [0.3, 0.3, 0.3, 1.0, 1.0, 1.0]
    labels = np.where(np.arange(n) < n // 2, "A", "B")
    values[:, 0] += np.where(labels == "A", 1.0, 0.0)
    values[:, 1] += np.where(labels == "B", 1.0, 0.0)
    made = make_recording(n, name=f"{subject}-{session}", subject=subject, values=values, labels=labels.tolist())
    started = {"started_at": f"{day}T10:00:00.000000+00:00"} if day else {}
    return replace(made, session=session, provenance=started)


def crowd(*subjects: str) -> list[Recording]:
    return [wearing(s, f"{s}-{k}", f"2026-11-0{k}", seed=10 * i + k) for i, s in enumerate(subjects) for k in (1, 2)]


def written(folder: Path, recordings: list[Recording]) -> list[Path]:
    for recording in recordings:
        write_recording(recording, folder / f"{recording.name}.parquet")
    return [folder / f"{r.name}.parquet" for r in recordings]


# Making one

names = st.sets(st.text(string.ascii_letters + string.digits + " -é", min_size=1, max_size=6), min_size=1, max_size=40)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    return {f"part{i}": w / sum(weights) for i, w in enumerate(weights)}


@pytest.mark.slow
@given(groups=names, shares=parts(), seed=st.integers(0, 9), simulate=st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_each_group_is_in_one_part_and_no_group_in_two(
    groups: set[str], shares: dict[str, float], seed: int, simulate: int
) -> None:
    if len(groups) < len(shares) + simulate:
        with pytest.raises(SettingsError, match="cannot fill"):
            make_split(groups, shares, "subject", seed, simulate)
        return
    split = make_split(groups, shares, "subject", seed, simulate)
    placed = [g for part in split.parts.values() for g in part]
    assert len(placed) == len(set(placed))
    assert set(placed) == groups
    assert all(split.part_of(g) is not None for g in groups)
    assert len(split.parts.get(SIMULATE, ())) == simulate
    n = len(groups) - simulate
    assert all(split.parts[part] for part in shares)
    # To the nearest whole number, but for what a part of one group takes from the others.
    lifted = sum(max(0.0, 1.0 - share * n) for share in shares.values())
    for part, share in shares.items():
        assert share * n - 1 - lifted <= len(split.parts[part]) <= max(1.0, share * n + 1)


@given(groups=names, seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_groups_come_does_not_matter(groups: set[str], seed: int) -> None:
    once = make_split(sorted(groups), {"all": 1.0}, "subject", seed)
    assert once == make_split([*sorted(groups, reverse=True), *groups], {"all": 1.0}, "subject", seed)


def test_a_split_is_the_same_in_every_release_and_another_for_another_seed() -> None:
    ten = [f"s{i:02}" for i in range(1, 11)]
    assert make_split(ten, SHARES, "subject", 0, 1).parts == PINNED
    assert make_split(ten, SHARES, "subject", 1, 1).parts != PINNED
    assert {k: len(v) for k, v in PINNED.items()} == {"train": 5, "validation": 2, "test": 2, "simulate": 1}


PINNED = {
    "train": ("s01", "s03", "s04", "s07", "s08"),
    "validation": ("s02", "s09"),
    "test": ("s05", "s10"),
    "simulate": ("s06",),
}


@pytest.mark.parametrize(
    "text", ["", "train", "train=1.2", "train=0", "train=x", "train=0.5,train=0.5", "=1", "train=0.5,test=0.4"]
)
def test_parts_that_do_not_add_up_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_parts(text)


def test_parts_are_read_as_they_are_written() -> None:
    assert parse_parts("train=0.6, validation=0.2,test=0.2") == SHARES


# Its file


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    split = make_split([f"s{i}" for i in range(10)], SHARES, "session", 3, 1)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split


def test_a_file_that_is_no_split_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    good = {"v": 1, "by": "subject", "seed": 0, "parts": {"train": ["a", "b"], "test": ["c"]}}
    for wrong, said in (
        ("{", "not a readable split"),
        ("[]", "not a split"),
        (json.dumps(good | {"by": "week"}), "not a split"),
        (json.dumps(good | {"parts": {"train": [1]}}), "not a split"),
        (json.dumps(good | {"v": 2}), "not a split"),
        (json.dumps(good | {"parts": {"train": ["a"], "test": ["a"]}}), "subject 'a' is in train and in test"),
        (json.dumps(good | {"parts": {"train": ["a", "a"]}}), "subject 'a' is in train twice"),
    ):
        path.write_text(wrong)
        with pytest.raises(RecordingError, match=said) as refused:
            read_split(path)
        assert str(refused.value).startswith(f"{path}: ")
    with pytest.raises(RecordingError, match="not a readable split"):
        read_split(tmp_path / "none.json")


def test_a_recording_that_no_part_holds_is_refused_by_name(tmp_path: Path) -> None:
    split = make_split(["p1", "p2"], {"train": 0.5, "test": 0.5}, "subject")
    with pytest.raises(RecordingError, match=r"no part holds subject 'p3' \(of p3-p3-1\); add it to one"):
        divide(crowd("p1", "p2", "p3"), split, "split.json")


# Groups


def test_recordings_are_divided_without_loss() -> None:
    everyone = crowd("p1", "p2", "p3")
    for by, wanted in (("subject", "p3"), ("session", "p1-2"), ("day", "2026-11-02")):
        chosen, others = take_groups(everyone, [wanted], by)
        assert {group_of(r, by) for r in chosen} == {wanted}
        assert wanted not in {group_of(r, by) for r in others}
        assert len(chosen) + len(others) == len(everyone)


def test_a_day_that_is_not_known_is_refused_with_what_to_do() -> None:
    with pytest.raises(RecordingError) as refused:
        group_of(wearing("p1", "walk"), "day")
    assert str(refused.value) == (
        "p1-walk: it is not known on which day it was recorded, as its clock did not tell the date; "
        "import it again from a file with epoch times, or use --split-by session"
    )


# The audit


def test_an_audit_tells_what_it_compared() -> None:
    everyone = crowd("p1", "p2")
    found = audit(everyone, [r.subject for r in everyone], "subject")
    assert (found.sides, found.groups, found.recordings, found.samples) == (2, 2, 4, 1600)
    assert found.text() == (
        "audit: 4 recordings of 2 subjects on 2 sides, 1600 samples compared by content: "
        "no subject, session or stretch of movement on two sides"
    )
    by_day = audit(everyone, [group_of(r, "day") for r in everyone], "day")
    assert by_day.text().endswith("subjects on two sides, as it is split by day: p1, p2")


def test_a_copy_on_two_sides_is_an_error_that_names_both_and_where() -> None:
    everyone = crowd("p1", "p2")
    leak = replace(
        everyone[0], subject="p3", name="p3-x", session="x", values=everyone[0].values[100:], time_s=everyone[0].time_s[:300], labels=None
    )  # fmt: skip
    both = [*everyone, leak]
    with pytest.raises(RecordingError) as refused:
        audit(both, [r.subject for r in both], "subject")
    assert str(refused.value) == (
        "audit: one movement stands on two sides: p1-p1-1 (subject p1) from 2.0 s and p3-x (subject p3) from 0.0 s are the "
        "same for 6.0 s; leave one of the two out, or correct whose it is"
    )
    audit(both, ["here"] * 4 + ["here"], "subject")  # on one side there may be copies


def test_a_subject_or_session_on_two_sides_is_an_error() -> None:
    everyone = crowd("p1", "p2")
    with pytest.raises(RecordingError, match=r"subject 'p1' stands on two sides: p1-p1-1 \(a\) and p1-p1-2 \(b\)"):
        audit(everyone, ["a", "b", "a", "a"], "subject")
    same = [wearing("p1", "walk", "2026-11-01", 1), replace(wearing("p1", "walk", "2026-11-02", 2), device="other")]
    with pytest.raises(RecordingError, match="session 'walk' stands on two sides"):
        audit(same, ["2026-11-01", "2026-11-02"], "day")


# The command


@pytest.mark.slow
def test_a_split_is_made_audited_and_used(tmp_path: Path) -> None:
    files = written(tmp_path / "in", crowd("p1", "p2", "p3", "p4", "p5", "p6"))
    file = tmp_path / "split.json"
    options = ["--parts", "train=0.6,validation=0.2,test=0.2", "--simulate", "1", "--out", file]
    told = json.loads(success("recordings", "split", tmp_path / "in", *options, "--json").out)
    assert told["audit"]["leaks"] == 0
    assert sorted(g for part in told["parts"].values() for g in part) == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert sorted(f for found in told["recordings"].values() for f in found) == sorted(map(str, files))
    before = file.read_bytes()
    said = success("recordings", "split", tmp_path / "in", *options)
    assert file.read_bytes() == before
    assert "no subject, session or stretch of movement on two sides" in said.out

    training = ["--models-dir", tmp_path / "models", "--name", "m", "--hop", 50, "--audit", "--split", file]
    card = json.loads(success("train", *files, *training, "--json").out)
    assert card["subjects"] == {"train": told["parts"]["train"], "held_out": told["parts"]["validation"]}
    assert card["split"]["file"]["name"] == "split.json"
    assert card["split"]["audit"]["leaks"] == 0
    evaluated = success("evaluate", *files, "--split", file, "--part", "test", "--hop", 50, "--audit", "--json")
    (result,) = json.loads(evaluated.out)
    assert sorted(result["per_subject"]) == told["parts"]["test"]
    assert result["split"]["how"].startswith("part train and part test of split.json, by subject")
    assert "there is no part 'exam'; there are train" in failure("evaluate", *files, "--split", file, "--part", "exam")


def test_a_split_with_a_leak_is_not_written(tmp_path: Path) -> None:
    everyone = crowd("p1", "p2", "p3")
    copy = replace(everyone[0], subject="p4", name="copy", session="copy", device="copy")
    written(tmp_path / "in", [*everyone, copy])
    said = failure("recordings", "split", tmp_path / "in", "--out", tmp_path / "s.json", "--parts", "a=0.5,b=0.5")
    assert "one movement stands on two sides" in said
    assert not (tmp_path / "s.json").exists()


def test_options_that_do_not_go_together_are_a_wrong_usage(tmp_path: Path) -> None:
    files = written(tmp_path, crowd("p1", "p2"))
    for options, said in (
        (["--split", "s.json", "--split-by", "day"], "--split says who is trained on"),
        (["--part", "test"], "--part names a part"),
        (["--split-by", "week"], "cannot be split by 'week'"),
    ):
        outcome = cli("evaluate", *files, *options)
        assert outcome.code == 2
        assert said in " ".join(outcome.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_naming_everyone_leaves_nobody_and_is_refused(tmp_path: Path, command: str) -> None:
    files = written(tmp_path, crowd("p1", "p2"))
    assert failure(command, *files, "--test-groups", "p1,p2") == (
        "tested on subject p1, p2, as chosen: there is no recording left to train on; name other groups"
    )


# One person


@pytest.mark.slow
def test_one_persons_sessions_and_days_are_held_out(tmp_path: Path) -> None:
    mine = [wearing("me", f"{day}-{k}", f"2026-11-0{day}", seed=10 * day + k) for day in (1, 2, 3) for k in (1, 2)]
    files = written(tmp_path / "in", mine)
    assert failure("evaluate", *files) == (
        "leaving one subject out needs two subjects or more, these recordings are of me; name whose each is with: repstream "
        "recordings convert … --subject S, or hold out sessions of one person with --split-by session (6 there), or hold "
        "out days of one person with --split-by day (3 there)"
    )
    (by_session,) = json.loads(success("evaluate", *files, "--split-by", "session", "--hop", 50, "--json").out)
    assert sorted(by_session["per_session"]) == ["1-1", "1-2", "2-1", "2-2", "3-1", "3-2"]
    (by_day,) = json.loads(success("evaluate", *files, "--split-by", "day", "--hop", 50, "--audit", "--json").out)
    assert sorted(by_day["per_day"]) == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert by_day["audit"]["subjects_on_both_sides"] == ["me"]

    options = ["--models-dir", tmp_path / "models", "--name", "m", "--hop", 50, "--split-by", "day", "--audit"]
    card = json.loads(success("train", *files, *options, "--test-groups", "2026-11-03", "--json").out)
    assert (card["split"]["train"], card["split"]["held_out"]) == (["2026-11-01", "2026-11-02"], ["2026-11-03"])
    assert card["subjects"] == {"train": ["me"], "held_out": []}
    assert set(card["scores"]) == {"leave_one_training_day_out", "held_out_days"}
    (chosen,) = json.loads(success("evaluate", *files, *options[6:8], "--test-groups", "2026-11-03", "--json").out)
    assert list(chosen["per_day"]) == ["2026-11-03"]
    assert "no recording is of day '2026-12-24'" in failure("train", *files, *options, "--test-groups", "2026-12-24")


def test_a_label_that_one_session_alone_has_is_said_as_nobody_can_learn_it_from_the_others(tmp_path: Path) -> None:
    mine = [wearing("me", f"s{i}", seed=i, n=800) for i in range(3)]
    labels = np.where(np.array(mine[2].labels) == "A", "A", "C")
    files = written(tmp_path, [*mine[:2], replace(mine[2], labels=labels)])
    said = success("evaluate", *files, "--split-by", "session", "--hop", 50, "--json").err
    assert "C: only session s2 has any, so that no model of others can recognise it there" in said
    assert said.count("only session") == 1


@pytest.mark.slow
def test_many_sessions_are_held_out_ten_folds_at_a_time_and_each_is_predicted_once(tmp_path: Path) -> None:
    files = written(tmp_path, [wearing("me", f"s{i:02}", seed=i) for i in range(23)])
    outcome = success("evaluate", *files, "--split-by", "session", "--hop", 50, "--json")
    (result,) = json.loads(outcome.out)
    assert len(result["per_session"]) == 23
    assert result["split"]["how"] == "23 sessions in 10 folds, each predicted by a model of the others"
    assert outcome.err.count("leaving out") == 10
