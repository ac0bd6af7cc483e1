"""One real broker for all tests of this folder that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from repstream.broker.broker import EmbeddedBroker


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """Return a broker shared by the run; tests keep apart by devices and sessions of their own."""
    with EmbeddedBroker.start() as running:
        yield running
