"""What the embedded broker is told: flags of the JVM, settings of Kafka and of its log, a formatted folder.

Every setting's name was looked up among those that Kafka 4.3.1 prints at its start: an unknown one it would ignore
without a word.
"""

from __future__ import annotations

import base64
import os
import shutil
import uuid
from pathlib import Path

from repstream.broker.jars import Kafka
from repstream.processes.ports import HOST, LINUX
from repstream.processes.private import FOLDER_MODE

# C1 alone and the serial collector, by measurement (two cores, Java 25, Kafka 4.3.1; first answer to a
# metadata request; then 100,000 messages of 700 bytes by kafka-python with acks=all):
#                                    first answer   CPU to start   CPU of the load   wall    resident
#   defaults                            4.2 s          4.2 s            3.8 s        7.9 s    436 MB
#   -XX:+UseSerialGC                    4.3 s          4.2 s            3.7 s        7.2 s    433 MB
#   and -XX:TieredStopAtLevel=1         2.3 s          2.2 s            1.7 s        5.2 s    381 MB
#   and an AOT cache (`aot_flags`)      1.3 s          1.2 s            1.2 s        4.6 s    388 MB
# The optimising compiler never earns back its own work at our rates. The AOT cache costs each user 10 s and 70 MB once;
# a demo has its first prediction the earlier, and the tests, which start a hundred brokers, halve what these cost. A
# base CDS archive alone saves nothing.
JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # no files under /tmp/hsperfdata_*, which a killed JVM leaves behind
    "-XX:+ExitOnOutOfMemoryError",  # a broker without a heap is to be seen dead, not half alive
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)

HEAP_MB = 512
"""Largest heap of the JVM by default, MiB."""

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{relay_listener}
advertised.listeners=PLAINTEXT://{host}:{port}{relay_advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,RELAY:PLAINTEXT
# Relative to the working folder, which is the data folder: any name of it will do then.
log.dirs=kafka

# One node: nothing can be replicated, and nobody is waited for.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0

# A broker started again after kill -9 is refused until the session of the one before has run out: with
# the default of 9 s it answers 12 s after the kill, so 4.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# A killed predictor's partitions are free again in a second or so, its open transactions in five. The first look for
# those comes one interval after the start; before the broker leads its partitions again it would leave them hanging
# (`TransactionalProducer.end_former`).
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=5000

num.partitions=4
# A device of somebody's own may send before any of our services runs, which would make the topics.
auto.create.topics.enable=true
message.max.bytes=16777216
replica.fetch.max.bytes=16777216

# Never by time: a replay carries the recording's timestamps, which may be years old.
log.retention.ms=-1
log.retention.bytes=1073741824
log.roll.ms=9223372036854775807
# Small enough to be recovered fast after kill -9, and indexes to match: 64 MiB need 192 KiB of the 10 MiB
# that Kafka sets aside, twice a partition.
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
# The cleaner takes its buffer from the heap at once; the default would be 128 MiB.
log.cleaner.dedupe.buffer.size=4194304
"""

_LOG4J2_PROPERTIES = """\
status=error
name=repstream
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=broker.log
appender.file.filePattern=broker.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=5MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
# 1,500 lines of settings at each start, and one line a partition and a change of its state.
logger.config.name=org.apache.kafka.common.config
logger.config.level=warn
logger.kafkaconfig.name=kafka.server.KafkaConfig
logger.kafkaconfig.level=warn
logger.state.name=state.change.logger
logger.state.level=warn
"""


def java_environment() -> dict[str, str]:
    """Return the environment that Java is run in."""
    environment = dict(os.environ)
    if LINUX:
        environment["LC_ALL"] = "C.UTF-8"  # in the C locale Java cannot name files beyond ASCII
    return environment


def write_folder(
    folder: Path, kafka: Kafka, *, port: int, controller_port: int, relay: str | None = None, relay_port: int = 0
) -> None:
    """Write the settings into a data folder, and format it if it is new.

    Parameters
    ----------
    folder : Path
        The data folder, which exists; topics of an earlier broker in it are kept.
    kafka : Kafka
        Where the formatted part comes from.
    port, controller_port : int
        TCP ports on 127.0.0.1, for clients and for Kafka's own controller.
    relay : str or None
        ``HOST:PORT`` that Kafka gives as its own to clients which come in at `relay_port`.
    relay_port : int
        A further TCP port on 127.0.0.1, used where there is a relay.
    """
    (folder / "server.properties").write_text(
        _SERVER_PROPERTIES.format(
            host=HOST,
            port=port,
            controller_port=controller_port,
            relay_listener=f",RELAY://{HOST}:{relay_port}" if relay else "",
            relay_advertised=f",RELAY://{relay}" if relay else "",
        )
    )
    (folder / "log4j2.properties").write_text(_LOG4J2_PROPERTIES)
    topics = folder / "kafka"
    topics.mkdir(FOLDER_MODE, exist_ok=True)
    topics.chmod(FOLDER_MODE)  # whatever made it: the folder of the data may be one that others can see into
    formatted = topics / "meta.properties"
    if formatted.exists():
        return
    # What `kafka-storage format` does, without its second of a JVM. meta.properties comes last and at
    # once: it is what makes a folder a formatted one.
    shutil.copyfile(kafka.bootstrap_checkpoint, topics / "bootstrap.checkpoint")
    fresh = topics / "meta.properties.new"
    fresh.write_text(f"version=1\nnode.id=1\ncluster.id={_kafka_id()}\ndirectory.id={_kafka_id()}\n")
    fresh.replace(formatted)


def _kafka_id() -> str:
    """Return a random id as Kafka writes them: 16 bytes in URL-safe base64, and no leading dash."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made
