"""What all messages have in common: version, names, event times, bytes.

Each check that fails names one of `REJECT_REASONS`, which label a metric and head a dead letter.
"""

from __future__ import annotations

import msgspec

from repstream.errors import MessageError

VERSION = 1
# Characters of a device or session.
MAX_NAME = 200

# What the client cannot unpack or parse (`repstream.kafka.records`).
UNREADABLE = "unreadable-record"
REJECT_REASONS = ("too-large", "not-json", "version", "shape", "nan", "range", "rate", "time", "key", UNREADABLE)

# Event times outside 2001..2100 are a unit mistake (ms for s), and would overflow µs arithmetic.
EARLIEST_S, LATEST_S = 978_307_200.0, 4_102_444_800.0

_encoder = msgspec.json.Encoder()


def check_name(what: str, name: str) -> None:
    """Refuse a device or session that is no name: it becomes a key, a line in a log, a cell in a table.

    Parameters
    ----------
    what : str
        "device" or "session", for the text.
    name : str
        1 to `MAX_NAME` printable characters without "/".

    Raises
    ------
    MessageError
        With the reason ``shape``.
    """
    if not 1 <= len(name) <= MAX_NAME or "/" in name or not name.isprintable():
        raise MessageError(
            "shape", f"{what} is {name[:80]!r}; it has 1–{MAX_NAME} characters, all of them printable, none of them '/'"
        )


def encode(message: msgspec.Struct | dict[str, object]) -> bytes:
    """Return a message's bytes (floats in their shortest exact form)."""
    return _encoder.encode(message)
