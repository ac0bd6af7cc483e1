"""All formats, in the order in which they look at files: the most particular first, any table last."""

from __future__ import annotations

from repstream.recordings.imports.formats import (
    csv_table,
    metamotion,
    motionsense,
    phyphox,
    recofit,
    sensor_logger,
    spar,
    uci_hapt,
    uci_har,
)
from repstream.recordings.imports.job import Format

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        recofit,
        uci_har,
        uci_hapt,
        motionsense,
        spar,
        sensor_logger,
        metamotion,
        phyphox,
        csv_table,
    )
}
