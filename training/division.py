"""Which recordings a model is made of and which it is held to: by subject, session or day; chosen, from a file, or in folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from repstream.errors import RecordingError, SettingsError
from repstream.recordings.audit import Audit, audit
from repstream.recordings.on_disk import sha256_of
from repstream.recordings.recording import Recording
from repstream.recordings.splits import check_grouping, divide, group_of, groups_of, read_split, take_groups

# Of more sessions or days than these, several make a fold: each fold costs a model.
MOST_FOLDS = 10
HELD_OUT = "held out"


@dataclass(frozen=True)
class Fold:
    """Groups that are predicted by a model of other groups.

    Attributes
    ----------
    name : str
    test, train : frozenset of str
        Names of groups.
    """

    name: str
    test: frozenset[str]
    train: frozenset[str]


@dataclass(frozen=True)
class Folds:
    """How an evaluation divides recordings; each group is predicted at most once.

    Attributes
    ----------
    by : str
        What the groups are: subject, session or day.
    how : str
        In words.
    recordings : list of Recording
        Those that are in a fold.
    folds : list of Fold
    """

    by: str
    how: str
    recordings: list[Recording]
    folds: list[Fold]

    def check(self) -> None:
        """Refuse a fold without others to train on.

        Raises
        ------
        RecordingError
            Saying what else the recordings could be split by.
        """
        if not all(fold.train for fold in self.folds):
            raise RecordingError(_one_group_text(self.recordings, self.by))

    def audit(self) -> Audit:
        """Compare each fold with the others; errors as of `repstream.recordings.audit.audit`."""
        side = {group: fold.name for fold in self.folds for group in fold.test}
        return audit(self.recordings, [side.get(group_of(r, self.by), "train") for r in self.recordings], self.by)


def leave_one_out(recordings: Sequence[Recording], by: str) -> Folds:
    """Predict each group by a model of the others; of many sessions or days, several at a time.

    Raises
    ------
    RecordingError
        Where a day is not known.
    """
    check_grouping(by)
    groups = groups_of(recordings, by)
    if by == "subject" or len(groups) <= MOST_FOLDS:
        dealt = [[g] for g in groups]
        how = f"each {by} predicted by a model of the others"
    else:
        # One after the other, in the order of what they are mostly labelled, so that no fold takes a label whole.
        usual: dict[str, Counter[str]] = {g: Counter() for g in groups}
        for r in recordings:
            for first, last, label in r.label_intervals():
                usual[group_of(r, by)][label] += last - first + 1
        order = sorted(groups, key=lambda g: (usual[g].most_common(1), g))
        dealt = [order[i::MOST_FOLDS] for i in range(MOST_FOLDS)]
        how = f"{len(groups)} {by}s in {MOST_FOLDS} folds, each predicted by a model of the others"
    names = [f"{by} {fold[0]}" if len(fold) == 1 else f"fold {i + 1}" for i, fold in enumerate(dealt)]
    everyone = frozenset(groups)
    folds = [Fold(n, frozenset(fold), everyone - frozenset(fold)) for n, fold in zip(names, dealt, strict=True)]
    return Folds(by, how, list(recordings), folds)


def _one_group_text(recordings: Sequence[Recording], by: str) -> str:
    groups = groups_of(recordings, by)
    cures = []
    if by == "subject":
        cures.append("name whose each is with: repstream recordings convert … --subject S")
    sessions = len(groups_of(recordings, "session"))
    if by != "session" and sessions > 1:
        cures.append(f"hold out sessions of one person with --split-by session ({sessions} there)")
    days = {r.provenance.get("started_at", "")[:10] for r in recordings}
    if by != "day" and "" not in days and len(days) > 1:
        cures.append(f"hold out days of one person with --split-by day ({len(days)} there)")
    cures = cures or [f"add recordings of another {by}"]
    return (
        f"leaving one {by} out needs two {by}s or more, these recordings are of {', '.join(groups)}; "
        + ", or ".join(cures)
    )


@dataclass(frozen=True)
class Division:
    """Recordings to train on, and others to hold the model to.

    Attributes
    ----------
    by : str
        What divides them: subject, session or day.
    how : str
        How they were divided, in words.
    train, held_out : list of Recording
    file : dict of str to str
        Name and SHA-256 of the split's file, where there is one.
    audit : Audit, optional
        Where it was made.

    Raises
    ------
    RecordingError
        Where there is nothing to train on.
    """

    by: str
    how: str
    train: list[Recording]
    held_out: list[Recording]
    file: dict[str, str] = field(default_factory=dict)
    audit: Audit | None = None

    def __post_init__(self) -> None:
        if not self.train:
            raise RecordingError(f"{self.how}: there is no recording left to train on; name other groups")

    def audited(self) -> Division:
        """Compare all training groups and what is held out with each other; errors as of the audit."""
        both = [*self.train, *self.held_out]
        sides = [group_of(r, self.by) for r in self.train] + [HELD_OUT] * len(self.held_out)
        return replace(self, audit=audit(both, sides, self.by))

    def folds(self) -> Folds:
        """Predict what is held out by a model of the rest.

        Raises
        ------
        RecordingError
            Where nothing is held out.
        """
        if not self.held_out:
            raise RecordingError(f"{self.how}: there is no recording left to test on; name other groups")
        test = frozenset(groups_of(self.held_out, self.by))
        fold = Fold(f"the held-out {self.by}s", test, frozenset(groups_of(self.train, self.by)))
        return Folds(self.by, f"{self.how}; predicted by a model of the others", [*self.train, *self.held_out], [fold])

    def as_dict(self) -> dict[str, Any]:
        """Return what a card says of it."""
        told: dict[str, Any] = {
            "by": self.by,
            "how": self.how,
            "train": groups_of(self.train, self.by),
            "held_out": groups_of(self.held_out, self.by),
        }
        if self.file:
            told["file"] = self.file
        return told | ({"audit": self.audit.as_dict()} if self.audit else {})


def divide_by_groups(
    recordings: Sequence[Recording], by: str, train: Sequence[str] | None, test: Sequence[str] | None
) -> Division:
    """Divide by naming the groups to train on, or those to test on; without either, train on all.

    Raises
    ------
    SettingsError
        For a group that no recording is of, or where both are named.
    RecordingError
        Where a day is not known.
    """
    check_grouping(by)
    if train and test:
        raise SettingsError("name the groups to train on (--subjects) or those to test on (--test-groups), not both")
    if test:
        held_out, mine = take_groups(recordings, test, by)
        return Division(by, f"tested on {by} {', '.join(sorted(test))}, as chosen", mine, held_out)
    if train:
        mine, held_out = take_groups(recordings, train, by)
        return Division(by, f"trained on {by} {', '.join(sorted(train))}, as chosen", mine, held_out)
    return Division(by, f"trained on all {len(groups_of(recordings, by))} {by}s", list(recordings), [])


def divide_by_file(recordings: Sequence[Recording], path: Path, part: str | None) -> Division:
    """Divide as a split's file says: its part ``train``, and the one to test on.

    Parameters
    ----------
    part : str, optional
        The part to test on. Default: ``validation``, or ``test`` where there is none.

    Raises
    ------
    SettingsError
        Where the file has no such part, or no ``train``.
    RecordingError
        Where it is not readable, or holds none of a recording's groups.
    """
    split = read_split(path)
    part = part or ("validation" if "validation" in split.parts else "test")
    for name in ("train", part):
        if name not in split.parts:
            raise SettingsError(f"{path}: there is no part {name!r}; there are {', '.join(split.parts)}")
    if part == "train":
        raise SettingsError(f"{path}: a model of the part 'train' is tested on another part; name it with --part")
    parts = divide(recordings, split, path)
    file = {"name": path.name, "sha256": sha256_of(path)}
    how = f"part train and part {part} of {path.name}, by {split.by}"
    return Division(split.by, how, parts["train"], parts[part], file)
