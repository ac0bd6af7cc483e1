"""What each image installs: names from packages.toml, versions and hashes from requirements.lock.

``python deploy/packages.py TARGET`` prints the requirements of one image beyond those of `base`; it needs
no more than Python, and runs where the image is built. ``python deploy/packages.py --write`` makes packages.toml anew from
what is installed in .venv, after pyproject.toml or the lock has changed.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("packages.toml")
LOCK = ROOT / "requirements.lock"

# The extras of repstream that each target needs.
TARGETS: dict[str, tuple[str, ...]] = {
    "base": (),
    "producer": ("data",),
    "predictor": ("model",),
    "monitor": ("monitor",),
    "store": ("store",),
}

# Taken for the recordings that lie in it, not imported: what it needs to run is not needed.
_DATA_ONLY = frozenset({"seglearn"})


def canonical(name: str) -> str:
    """Return a distribution's name as comparisons want it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(extras: tuple[str, ...]) -> set[str]:
    """Return the names of all that repstream with these extras needs here, by what is installed.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        Where one of them is not installed.
    """
    from packaging.requirements import Requirement

    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [("repstream", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        if name != "repstream":
            found.add(name)
        if name in _DATA_ONLY:
            continue
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonical(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return found


def written() -> dict[str, list[str]]:
    """Return what packages.toml says: the names of each target, those of `base` only there."""
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


def wanted() -> dict[str, list[str]]:
    """Return what packages.toml should say."""
    base = needed(())
    return {target: sorted(needed(extras) - (base if extras else set())) for target, extras in TARGETS.items()}


def blocks(lock: str) -> dict[str, list[str]]:
    """Split a lock into its requirements, each with its hashes, by name; one name may have several versions."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"^(?![#\s]).+(?:\n[ \t].+)*", lock, re.M):
        found.setdefault(canonical(re.match(r"[\w.-]+", block)[0]), []).append(block)  # type: ignore[index]
    return found


def requirements(names: list[str], lock: str) -> str:
    """Return the part of a lock that names these packages.

    Raises
    ------
    SystemExit
        Where the lock lacks one of them.
    """
    there = blocks(lock)
    if missing := sorted(set(names) - there.keys()):
        raise SystemExit(f"requirements.lock lacks {', '.join(missing)}; run: make lock")
    return "".join(f"{block}\n" for name in sorted(names) for block in there[name])


def _as_toml(lists: dict[str, list[str]]) -> str:
    lines = ["# Written by: .venv/bin/python deploy/packages.py --write"]
    for target, names in lists.items():
        lines += ["", f"{target} = [", *(f'    "{name}",' for name in names), "]"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Print one target's requirements, or write the list."""
    if arguments == ["--write"]:
        LIST.write_text(_as_toml(wanted()), encoding="utf-8")
        return
    lists = written()
    if len(arguments) != 1 or arguments[0] not in lists:
        raise SystemExit(f"usage: packages.py --write|{'|'.join(lists)}")
    sys.stdout.write(requirements(lists[arguments[0]], LOCK.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
