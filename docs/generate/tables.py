"""Tables that stand in committed pages, where readers of the repository need them: kept as the code has them.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. ``python -m docs.generate`` (``make
reference``) writes them anew; a test fails where one is not up to date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.generate.metrics import SERVICES, metrics_table
from docs.generate.topics import FIELDS, fields_table, topics_table

PAGES = ("reference/messages.md", "reference/metrics.md", "how-to/store.md")
DOCS = Path(__file__).resolve().parents[1]

TABLES: dict[str, Callable[[], str]] = {
    "topics": topics_table,
    **{f"fields of {kind.__name__}": partial(fields_table, kind) for kind in FIELDS},
    **{f"metrics of {service}": partial(metrics_table, service) for service in SERVICES},
}

_TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.S)


def rewritten(page: str) -> str:
    """Return a page with its tables as the code has them.

    Raises
    ------
    KeyError
        For a table that nothing makes.
    """
    return _TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


def tables_in(page: str) -> list[str]:
    """Name the tables that a page holds."""
    return [found[2] for found in _TABLE.finditer(page)]


def write() -> list[str]:
    """Write the tables of all pages anew; return the pages that changed."""
    changed = []
    for name in PAGES:
        file = DOCS / name
        before = file.read_text(encoding="utf-8")
        if (after := rewritten(before)) != before:
            file.write_text(after, encoding="utf-8")
            changed.append(name)
    return changed
