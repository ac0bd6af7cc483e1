"""The producer's metrics; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge


class ProducerMetrics:
    """What a producer shows at ``/metrics``.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.packets = Counter(
            "repstream_packets_produced",
            "Messages sent to samples, faulty ones and repeats too.",
            registry=registry,
        )
        self.samples = Counter(
            "repstream_samples_produced",
            "Samples sent for the first time, in readable packets.",
            registry=registry,
        )
        self.labels = Counter("repstream_labels_produced", "Messages sent to labels.", registry=registry)
        self.faults = Counter(
            "repstream_faults_injected", "Packets that a fault was put into.", ["kind"], registry=registry
        )
        self.behind = Gauge(
            "repstream_producer_behind_seconds",
            "How late the newest message went out, or Kafka's acknowledgement is.",
            registry=registry,
        )
        self.remaining = Gauge(
            "repstream_producer_remaining_seconds",
            "Until all is sent, as the replay is planned; infinite in a loop and while it is paused.",
            registry=registry,
        )
        # Nothing is planned yet; 0 would say that all is sent.
        self.remaining.set(float("inf"))
        self.in_flight = Gauge(
            "repstream_producer_in_flight_messages",
            "Messages sent and not acknowledged yet.",
            registry=registry,
        )
        self.active_wearers = Gauge(
            "repstream_active_wearers",
            "Wearers that have begun and have something left to send.",
            registry=registry,
        )
        self._seen: dict[str, int] = {}

    def update(
        self,
        *,
        packets: int,
        samples: int,
        labels: int,
        faults: Mapping[str, int],
        behind_s: float,
        remaining_s: float,
        in_flight: int,
        active_wearers: int,
    ) -> None:
        """Take over totals and levels; called a few times a second, not for each packet."""
        for counter, name, total in (
            (self.packets, "packets", packets),
            (self.samples, "samples", samples),
            (self.labels, "labels", labels),
            *((self.faults.labels(kind), f"fault {kind}", n) for kind, n in list(faults.items())),
        ):
            counter.inc(total - self._seen.get(name, 0))
            self._seen[name] = total
        self.behind.set(behind_s)
        self.remaining.set(remaining_s)
        self.in_flight.set(in_flight)
        self.active_wearers.set(active_wearers)
