"""How many of a window's samples must have one label; without numpy, so that options can name the default."""

from __future__ import annotations

from repstream.errors import SettingsError

WHOLE = 1.0
"""Share of a window's samples that need one label: all of them."""


def check_share(share: float) -> None:
    """Refuse a share of a window's samples that is none.

    Raises
    ------
    SettingsError
        Where it is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise SettingsError(f"the share of a window's samples with one label is above 0 and at most 1, not {share:g}")
