"""``repstream topics``: make Kafka's topics before any service starts."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from repstream.messages.topics import DEFAULT_PARTITIONS, MONITOR_GROUP, PREDICTOR_GROUP
from repstream.service.options import DEFAULT_BOOTSTRAP_SERVERS, BootstrapServers, JsonOutput, Partitions


def topics(
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    partitions: Partitions = DEFAULT_PARTITIONS,
    replication: Annotated[
        int,
        typer.Option(
            min=-1,
            help="Replication factor of new topics; -1 for the brokers' default.",
            envvar="REPSTREAM_REPLICATION",
        ),
    ] = -1,
    group: Annotated[
        str,
        typer.Option(
            help="Consumer group of the predictors; its state topic is created too.", envvar="REPSTREAM_GROUP"
        ),
    ] = PREDICTOR_GROUP,
    monitor_group: Annotated[
        str,
        typer.Option(
            help="Consumer group of the monitor; its state topic is created too.", envvar="REPSTREAM_MONITOR_GROUP"
        ),
    ] = MONITOR_GROUP,
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for Kafka.")] = 60.0,
    as_json: JsonOutput = False,
) -> None:
    """Make the topics that are not there yet, and list all of ours.

    Services make them too. This is for a Kafka in which they may not, and for partitions and copies that
    all topics are to have. Topics that are there stay as they are; only state topics get more partitions where `samples`
    has more.
    """
    if replication == 0:
        raise typer.BadParameter("must be at least 1, or -1 for the brokers' default", param_hint="--replication")

    from repstream.kafka.connection import KafkaConnection, translated, wait_for_broker
    from repstream.kafka.state_topic import TOPIC_CONFIG as STATE_CONFIG
    from repstream.kafka.state_topic import topic_of
    from repstream.kafka.topics import ensure_topics
    from repstream.messages.topics import (
        ALARMS,
        CONTROL,
        CONTROL_CONFIG,
        DEAD_LETTER,
        LABELS,
        LEDGER,
        PREDICTIONS,
        SAMPLES,
    )

    connection = KafkaConnection.from_environment(bootstrap_servers)
    wait_for_broker(connection, timeout_s=wait)
    more = {CONTROL: CONTROL_CONFIG, topic_of(group): STATE_CONFIG, topic_of(monitor_group): STATE_CONFIG}
    ensure_topics(connection, partitions, replication, extra=more)
    ours = [SAMPLES, LABELS, PREDICTIONS, DEAD_LETTER, ALARMS, LEDGER, *more]
    with translated("listing topics"):
        admin = connection.admin()
        try:
            found = {t["name"]: t["partitions"] for t in admin.describe_topics(ours)}
        finally:
            admin.close()
    rows = [
        {"topic": name, "partitions": len(found[name]), "replicas": len(found[name][0]["replica_nodes"])}
        for name in sorted(found)
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['topic']}: {row['partitions']} partitions, {row['replicas']} of each")
