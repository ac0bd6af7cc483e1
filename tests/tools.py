"""Programs that some tests need and a bare machine lacks: without them a test is skipped by name, in CI it fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def program(*names: str, package: str) -> str:
    """Find the first of these programs that is installed.

    Parameters
    ----------
    *names : str
        Several where one is as good as another.
    package : str
        Debian's package with it.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        not_checked(f"{names[0]} is not installed: apt-get install {package}")
    return found


def not_checked(why: str) -> NoReturn:
    """Skip the running test and say why, or fail it where CI promises to run everything."""
    if os.environ.get("CI"):
        pytest.fail(f"CI runs every test, but {why}")
    pytest.skip(f"NOT CHECKED: {why}")
