"""Who is trained on and who is tested on: recordings in groups, by subject, session or day, and groups in parts.

A split is a file that names the groups of each part, one a line, to be kept under version control.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repstream.errors import RecordingError, SettingsError
from repstream.recordings.on_disk import write_json
from repstream.recordings.recording import Recording

GROUPINGS = ("subject", "session", "day")
SIMULATE = "simulate"
"""The part of those who are kept to be replayed."""

_SUM_NEAR = 1e-6


def check_grouping(by: str) -> None:
    """Refuse what recordings cannot be split by.

    Raises
    ------
    SettingsError
        Naming what they can be.
    """
    if by not in GROUPINGS:
        raise SettingsError(f"recordings cannot be split by {by!r}; choose one of {', '.join(GROUPINGS)}")


def group_of(recording: Recording, by: str) -> str:
    """Return the subject, session or day (UTC, ``2026-11-03``) of a recording.

    Sessions of one name are one group, whoever's and of whatever device they are: they are never torn apart.

    Raises
    ------
    RecordingError
        By day, where it is not known when the recording began.
    """
    if by == "subject":
        return recording.subject
    if by == "session":
        return recording.session
    day = recording.provenance.get("started_at", "")[:10]
    if not day:
        raise RecordingError(
            "it is not known on which day it was recorded, as its clock did not tell the date",
            where=recording.path or recording.name,
            cure="import it again from a file with epoch times, or use --split-by session",
        )
    return day


def groups_of(recordings: Iterable[Recording], by: str) -> list[str]:
    """Return the groups that there are, sorted; errors as of `group_of`."""
    return sorted({group_of(r, by) for r in recordings})


def take_groups(
    recordings: Sequence[Recording], groups: Sequence[str], by: str = "subject"
) -> tuple[list[Recording], list[Recording]]:
    """Divide recordings into those of `groups` and all others.

    Raises
    ------
    SettingsError
        For a group that no recording is of.
    """
    known = groups_of(recordings, by)
    unknown = [g for g in groups if g not in known]
    if unknown:
        raise SettingsError(f"no recording is of {by} {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [r for r in recordings if group_of(r, by) in groups]
    return chosen, [r for r in recordings if group_of(r, by) not in groups]


@dataclass(frozen=True)
class Split:
    """Groups of recordings in named parts, each group in one.

    Attributes
    ----------
    by : str
        One of `GROUPINGS`.
    seed : int
        That it was made with.
    parts : mapping of str to tuple of str
        The groups of each part, sorted.
    """

    by: str
    seed: int
    parts: Mapping[str, tuple[str, ...]]

    def part_of(self, group: str) -> str | None:
        """Return the part that holds a group, if one does."""
        return next((part for part, groups in self.parts.items() if group in groups), None)


def parse_parts(text: str) -> dict[str, float]:
    """Read ``train=0.6,validation=0.2,test=0.2``.

    Raises
    ------
    SettingsError
        Where it is not of this form, a share is not above 0, or they do not add up to 1.
    """
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, _, number = (piece.strip() for piece in entry.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not name or not 0.0 < share <= 1.0 or name in shares:
            raise SettingsError(
                f"{entry!r} in {text!r} is not a part's name and its share above 0, each name once; "
                "write train=0.6,validation=0.2,test=0.2"
            )
        shares[name] = share
    if abs(sum(shares.values()) - 1.0) > _SUM_NEAR:
        raise SettingsError(f"the shares in {text!r} add up to {sum(shares.values()):g}, not to 1")
    return shares


def make_split(groups: Iterable[str], shares: Mapping[str, float], by: str, seed: int = 0, simulate: int = 0) -> Split:
    """Put each group into one part.

    Groups are drawn in the order of a hash of seed and name, so that the same ones give the same split on any machine
    and in any release. Each part gets its share of the groups to the nearest whole number, and at least one.

    Parameters
    ----------
    groups : iterable of str
        Names of subjects, sessions or days.
    shares : mapping of str to float
        Each part's share of the groups that are left when `simulate` of them are taken; they add up to 1.
    by : str
        What the groups are.
    seed : int
    simulate : int
        So many groups go to a part of their own, `SIMULATE`.

    Raises
    ------
    SettingsError
        Where there are fewer groups than parts.
    """
    check_grouping(by)
    drawn = sorted(set(groups), key=lambda g: hashlib.sha256(f"{seed}\0{g}".encode()).digest())
    n = len(drawn) - simulate
    if n < len(shares):
        wanted = len(shares) + simulate
        raise SettingsError(
            f"{len(drawn)} {by}s cannot fill {len(shares)} parts"
            + (f" and {simulate} to simulate with" if simulate else "")
            + f": {wanted} or more are needed; make fewer parts, or split by "
            + " or ".join(g for g in GROUPINGS if g != by)
        )
    if simulate and SIMULATE in shares:
        raise SettingsError(f"the part {SIMULATE!r} is the one that --simulate fills; give the other another name")
    counts = {part: max(1, math.floor(share * n)) for part, share in shares.items()}
    while sum(counts.values()) != n:
        step = 1 if sum(counts.values()) < n else -1
        able = [part for part in shares if counts[part] + step >= 1]
        most_wrong = max(able, key=lambda part: step * (shares[part] * n - counts[part]))
        counts[most_wrong] += step
    if simulate:
        counts = {**counts, SIMULATE: simulate}
    parts = {}
    for part, count in counts.items():
        parts[part], drawn = tuple(sorted(drawn[:count])), drawn[count:]
    return Split(by, seed, parts)


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, a group a line.

    Raises
    ------
    RecordingError
        Where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"cannot be written ({error})", where=path) from None
    write_json(path, {"v": 1, "by": split.by, "seed": split.seed, "parts": split.parts})


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote, perhaps changed by hand.

    Raises
    ------
    RecordingError
        Where it is not readable, or a group is in two parts.
    """
    cure = "make one with: repstream recordings split"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(f"not a readable split ({error})", where=path, cure=cure) from None
    parts = content.get("parts") if isinstance(content, dict) else None
    if (
        not isinstance(parts, dict)
        or content.get("v") != 1
        or content.get("by") not in GROUPINGS
        or not all(isinstance(groups, list) and all(isinstance(g, str) for g in groups) for groups in parts.values())
    ):
        raise RecordingError(
            f'not a split: it needs "v": 1, "by" (one of {", ".join(GROUPINGS)}) and "parts" with a list of names each',
            where=path,
            cure=cure,
        )
    seen: dict[str, str] = {}
    for part, groups in parts.items():
        for group in groups:
            if group in seen:
                raise RecordingError(
                    f"{content['by']} {group!r} is in {seen[group]} and in {part}"
                    if seen[group] != part
                    else f"{content['by']} {group!r} is in {part} twice",
                    where=path,
                    cure="leave it in one place",
                )
            seen[group] = part
    seed = content.get("seed")
    return Split(
        content["by"], seed if isinstance(seed, int) else 0, {part: tuple(groups) for part, groups in parts.items()}
    )


def divide(recordings: Sequence[Recording], split: Split, where: object = "") -> dict[str, list[Recording]]:
    """Put recordings into the parts of a split.

    Parameters
    ----------
    where : object
        The split's file, for the error.

    Raises
    ------
    RecordingError
        Where no part holds a recording's group.
    """
    parts: dict[str, list[Recording]] = {part: [] for part in split.parts}
    for recording in recordings:
        group = group_of(recording, split.by)
        part = split.part_of(group)
        if part is None:
            raise RecordingError(
                f"no part holds {split.by} {group!r} (of {recording.path or recording.name})",
                where=where,
                cure="add it to one, or make the split again: repstream recordings split",
            )
        parts[part].append(recording)
    return parts
