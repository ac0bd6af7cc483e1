"""One measured process: ``python -m bench.worker poll|predict …``; prints its figures as JSON.

CPU is the whole process's, all threads, from the first packets in hand to the last ones done, so
that neither imports nor joining a group count.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from predictor.service import Predictor
from predictor.settings import PredictorSettings
from repstream.kafka.connection import KafkaConnection
from repstream.messages.topics import SAMPLES
from repstream.recognition.model import load_model

_BATCH = PredictorSettings().batch_packets


@dataclass
class _Meter:
    """CPU and wall time between two counts of packets."""

    packets: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def begin(self, packets: int) -> None:
        self.packets, self.cpu_s, self.wall_s = packets, time.process_time(), time.perf_counter()

    def end(self, packets: int) -> dict[str, float]:
        return {
            "packets": packets - self.packets,
            "cpu_s": time.process_time() - self.cpu_s,
            "wall_s": time.perf_counter() - self.wall_s,
        }


def poll(connection: KafkaConnection, packets: int) -> dict[str, float]:
    """Poll and count, no more: what no consumer on this client can undercut."""
    consumer = connection.consumer(
        SAMPLES, group_id="bench-poll", max_poll_records=_BATCH, max_partition_fetch_bytes=4 * 1024 * 1024
    )
    meter = _Meter()
    seen = 0
    while seen < packets:
        got = sum(map(len, consumer.poll(timeout_ms=500).values()))
        if got and not seen:
            meter.begin(got)
        seen += got
    figures = meter.end(seen)
    consumer.close()
    return figures


def predict(connection: KafkaConnection, packets: int, model: str, models_dir: Path, hop: int) -> dict[str, float]:
    """Work the backlog off as the service does, exactly-once."""
    meter = _Meter()
    figures: dict[str, float] = {}
    registry = CollectorRegistry()

    def stopping() -> bool:
        # Asked before every poll: between two batches, so what is counted is whole batches.
        done = int(registry.get_sample_value("repstream_packets_consumed_total") or 0)
        if done and not meter.packets:
            meter.begin(done)
        if done >= packets and not figures:
            figures.update(meter.end(done))
        return bool(figures)

    predictor = Predictor(
        load_model(model, models_dir),
        connection,
        PredictorSettings(group=f"bench-{time.time_ns()}", hop=hop),
        registry,
        stopping,
    )
    predictor.run()
    return figures


def main() -> None:
    """Measure as told and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("poll", "predict"))
    parser.add_argument("bootstrap_servers")
    parser.add_argument("packets", type=int)
    parser.add_argument("--model", default="")
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    parser.add_argument("--hop", type=int, default=25)
    options = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    connection = KafkaConnection(options.bootstrap_servers)
    if options.what == "poll":
        figures = poll(connection, options.packets)
    else:
        figures = predict(connection, options.packets, options.model, options.models_dir, options.hop)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
