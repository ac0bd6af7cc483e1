"""Kafka's topics as this project makes them: their settings, and that they are there."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, NewTopic

from repstream.errors import BrokerError
from repstream.kafka.clients import WAIT_MS
from repstream.kafka.connection import KafkaConnection, translated
from repstream.messages.topics import (
    ALARMS,
    DEAD_LETTER,
    DEFAULT_PARTITIONS,
    LABELS,
    LEDGER,
    MAX_MESSAGE_BYTES,
    PREDICTIONS,
    SAMPLES,
)

log = logging.getLogger(__name__)

# Junk of 10 MB must fit where it comes in and where it is set aside.
_LARGE = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
_TOPIC_CONFIGS: dict[str, dict[str, str]] = {
    SAMPLES: _LARGE,
    DEAD_LETTER: _LARGE,
    LABELS: {},
    PREDICTIONS: {},
    # An alarm's end replaces its beginning; a partition's ledger replaces the one before.
    ALARMS: {"cleanup.policy": "compact,delete"},
    LEDGER: {"cleanup.policy": "compact"},
}


def ensure_topics(
    connection: KafkaConnection,
    partitions: int = DEFAULT_PARTITIONS,
    replication: int = -1,
    extra: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Create those of our topics that are not there yet, and wait until all have leaders.

    Topics that are there are looked at: what would lose messages is warned of, what would lose a state is refused.

    Parameters
    ----------
    partitions : int
        Of each new topic.
    replication : int
        Of each new topic; -1 takes the broker's default.
    extra : mapping of topic to its configuration
        Further topics. They get as many partitions as `samples` and `predictions` have; compacted ones, as they hold
        what is known of each of these, also get more where these have more than before.

    Raises
    ------
    BrokerError
        Where one of the compacted further topics is there and not compacted, or Kafka refuses.
    """
    with translated("creating topics"):
        admin = connection.admin()
        try:
            there = {t["name"]: len(t["partitions"]) for t in admin.describe_topics() if t["partitions"]}
            like_ours = max(there.get(SAMPLES, partitions), there.get(PREDICTIONS, 0))
            wanted = {name: (partitions, configs) for name, configs in _TOPIC_CONFIGS.items()}
            wanted.update({name: (like_ours, dict(c)) for name, c in (extra or {}).items()})
            new = [
                NewTopic(name, n, replication, topic_configs=configs)
                for name, (n, configs) in wanted.items()
                if name not in there
            ]
            if new:
                # A second service may be creating the same ones right now.
                with contextlib.suppress(kafka_errors.TopicAlreadyExistsError):
                    admin.create_topics(new, timeout_ms=WAIT_MS)
            states = [name for name, c in (extra or {}).items() if c.get("cleanup.policy") == "compact"]
            small = [name for name in states if there.get(name, like_ours) < like_ours]
            for name in small:
                log.warning(
                    "topic %s: raised from %d to %d partitions, as samples has more", name, there[name], like_ours
                )
                with contextlib.suppress(kafka_errors.InvalidPartitionsError):  # a second service was first
                    admin.create_partitions({name: like_ours}, timeout_ms=WAIT_MS)
            _check_configs(admin, {name: c for name, (_, c) in wanted.items() if name in there}, states)
            # Also those that were there: a broker that has just started may not lead them yet.
            admin.wait_for_topics(list(wanted), timeout_ms=WAIT_MS)
            deadline = time.monotonic() + WAIT_MS / 1e3
            while small and any(len(t["partitions"]) < like_ours for t in admin.describe_topics(small)):
                if time.monotonic() > deadline:
                    raise kafka_errors.KafkaTimeoutError(
                        f"{', '.join(small)}: no {like_ours} partitions within {WAIT_MS / 1e3:g} s"
                    )
                time.sleep(0.1)
        finally:
            admin.close()


def _check_configs(admin: KafkaAdminClient, wanted: Mapping[str, Mapping[str, str]], states: Sequence[str]) -> None:
    """Compare topics that are there with how we would have made them; what we may not see is taken to be right."""
    asked = {name: configs.keys() & {"cleanup.policy", "max.message.bytes"} for name, configs in wanted.items()}
    resources = [ConfigResource("TOPIC", name, dict.fromkeys(keys)) for name, keys in asked.items() if keys]
    if not resources:
        return
    for name, found in admin.describe_configs(resources, config_filter="all").get("topic", {}).items():
        for key in asked[name] & found.keys():
            value, ours = found[key]["value"], wanted[name][key]
            enough = int(value) >= int(ours) if key == "max.message.bytes" else "compact" in value.split(",")
            if enough:
                continue
            cure = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}=[{ours}]"
            if name in states:
                raise BrokerError(
                    f"topic {name} has {key}={value}, with which Kafka would delete the state in it; change it: {cure}"
                )
            log.warning("topic %s has %s=%s, less than %s; change it: %s", name, key, value, ours, cure)
