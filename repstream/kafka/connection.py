"""Kafka as all services use it: how to get in, clients, waiting, errors.

Nothing outside this package imports kafka-python.

Errors of the client become `BrokerError`, or `BrokerUnavailableError` where trying again can help,
by `translated`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from repstream.errors import BrokerError, BrokerUnavailableError
from repstream.kafka.clients import WAIT_MS, KafkaConsumer, KafkaProducer, RememberingPartitioner, TransactionalProducer
from repstream.messages.topics import MAX_MESSAGE_BYTES

__all__ = [
    "WAIT_MS",
    "KafkaAdminClient",
    "KafkaConnection",
    "KafkaConsumer",
    "KafkaProducer",
    "OffsetAndMetadata",
    "TopicPartition",
    "TransactionalProducer",
    "cluster_id",
    "keep_working",
    "translated",
    "wait_for_broker",
    "was_fenced",
]

log = logging.getLogger(__name__)

# Asking whether Kafka is there must not hold a service back from stopping.
_BOOTSTRAP_TIMEOUT_MS = 3_000

_SECURITY_ENV = {
    "REPSTREAM_KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "REPSTREAM_KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "REPSTREAM_KAFKA_SASL_USERNAME": "sasl_plain_username",
    "REPSTREAM_KAFKA_SASL_PASSWORD": "sasl_plain_password",
    "REPSTREAM_KAFKA_SSL_CAFILE": "ssl_cafile",
    "REPSTREAM_KAFKA_SSL_CERTFILE": "ssl_certfile",
    "REPSTREAM_KAFKA_SSL_KEYFILE": "ssl_keyfile",
}


@dataclass(frozen=True)
class KafkaConnection:
    """Where Kafka is and how to get in.

    Attributes
    ----------
    bootstrap_servers : str
        ``host:port``, several separated by commas.
    security : mapping
        kafka-python's security settings; never shown.
    """

    bootstrap_servers: str
    security: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, bootstrap_servers: str) -> KafkaConnection:
        """Connect to `bootstrap_servers` with the credentials of ``REPSTREAM_KAFKA_…``."""
        security = {name: os.environ[env] for env, name in _SECURITY_ENV.items() if os.environ.get(env)}
        return cls(bootstrap_servers, security)

    def _common(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": [s.strip() for s in self.bootstrap_servers.split(",")],
            "request_timeout_ms": WAIT_MS,
            "reconnect_backoff_max_ms": 1_000,
            "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_MS,
            **self.security,
        }

    def producer(self, **options: Any) -> KafkaProducer:
        """Return an idempotent producer (acks=all) that batches for 5 ms."""
        return KafkaProducer(**{**self._producing(), **options})

    def transactional_producer(
        self, transactional_id: str, timeout_ms: int, topics: Sequence[str], group: str
    ) -> TransactionalProducer:
        """Return a producer that delivers by transactions.

        What a former holder of its id left open is ended.

        Parameters
        ----------
        timeout_ms : int
            Kafka ends a transaction that lasts longer, ms.
        topics : sequence of str
            All that it writes to; they are there.
        group : str
            Whose offsets it commits.
        """
        producer = TransactionalProducer(
            # A transaction that begins before Kafka has written the end of the last one is tried again after this;
            # with the client's 100 ms, one in a row with another took 230 ms, with 10 it takes 45.
            # Once a batch is full, the client wakes its sender up by a system call a record; larger ones (Kafka's default
            # limit is 1 MB) make a predictor under full load a tenth cheaper.
            **{**self._producing(), "linger_ms": 1, "retry_backoff_ms": 10, "batch_size": 900_000},
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            max_block_ms=WAIT_MS,
        )
        try:
            producer.init_transactions()
            producer.end_former(topics, group)
        except Exception:
            producer.abandon()
            raise
        return producer

    def _producing(self) -> dict[str, Any]:
        return {
            **self._common(),
            "metrics_enabled": False,  # ours are Prometheus's
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 5,
            "batch_size": 262_144,
            "max_request_size": MAX_MESSAGE_BYTES,
            "partitioner": RememberingPartitioner(),
        }

    def consumer(self, *topics: str, **options: Any) -> KafkaConsumer:
        """Return a consumer that reads committed records from the earliest and commits nothing itself."""
        return KafkaConsumer(
            *topics,
            **{
                **self._common(),
                "metrics_enabled": False,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "fetch_max_wait_ms": 250,
                "metadata_max_age_ms": 30_000,
                **options,
            },
        )

    def admin(self) -> KafkaAdminClient:
        """Return an administration client; close it."""
        return KafkaAdminClient(**self._common())


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the Kafka client's errors into ours, saying what was being done."""
    try:
        yield
    except (kafka_errors.AuthorizationError, kafka_errors.SaslAuthenticationFailedError) as error:
        raise BrokerError(f"{doing}: Kafka rejects these credentials ({_text(error)})") from error
    except (kafka_errors.KafkaConfigurationError, kafka_errors.UnsupportedVersionError) as error:
        raise BrokerError(f"{doing}: {_text(error)}") from error
    except kafka_errors.KafkaError as error:
        raise BrokerUnavailableError(f"{doing}: {_text(error)}") from error
    except OSError as error:
        raise BrokerUnavailableError(f"{doing}: {error}") from error


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def was_fenced(error: BaseException) -> bool:
    """Whether what failed did because Kafka gave our name, as a member or as a producer, to somebody else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kafka_errors.FencedInstanceIdError | kafka_errors.ProducerFencedError):
            return True
        cause = cause.__cause__
    return False


def cluster_id(connection: KafkaConnection) -> str:
    """Return the id that a cluster gave itself, the same under each of its addresses."""
    with translated(f"asking Kafka at {connection.bootstrap_servers} for its cluster"):
        admin = connection.admin()
        try:
            return str(admin.describe_cluster()["cluster_id"])
        finally:
            admin.close()


def wait_for_broker(
    connection: KafkaConnection,
    stopping: Callable[[], bool] = lambda: False,
    timeout_s: float | None = None,
    say: Callable[[str], None] = log.warning,
) -> bool:
    """Wait until Kafka answers, saying so once and every 10 s.

    Returns
    -------
    bool
        False where `stopping` came first.

    Raises
    ------
    BrokerError
        Where it has not answered within `timeout_s` (None waits for ever) or refuses credentials.
    """
    started = time.monotonic()
    said = None
    pause = 0.2
    # The client does not tell a refusal from silence.
    or_else = ", or it rejects the credentials of REPSTREAM_KAFKA_…" if connection.security else ""
    while not stopping():
        try:
            with translated(f"asking Kafka at {connection.bootstrap_servers}"):
                admin = connection.admin()
                try:
                    admin.list_topics()
                finally:
                    admin.close()
            if said is not None:
                say(f"Kafka at {connection.bootstrap_servers} is available")
        except BrokerUnavailableError as error:
            waited = time.monotonic() - started
            if timeout_s is not None and waited >= timeout_s:
                raise BrokerError(
                    f"no Kafka at {connection.bootstrap_servers} after {waited:.0f} s{or_else}; "
                    "start one with: repstream broker start"
                ) from error
            if said is None or time.monotonic() - said >= 10.0:
                said = time.monotonic()
                say(f"no Kafka at {connection.bootstrap_servers} yet ({error}){or_else}; waiting for it")
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        else:
            return True
    return False


# A failure after so long is a new one, not the last one going on.
_SETTLED_S = 30.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.25, 5.0


def keep_working(
    work: Callable[[], None], stopping: Callable[[], bool], failed: Callable[[BrokerUnavailableError], None]
) -> None:
    """Begin a service's work anew whenever Kafka fails it, with growing pauses, until `stopping`.

    Parameters
    ----------
    work : callable
        One life: connects, goes on from what is committed, returns when stopping.
    failed : callable
        Told of each failure.
    """
    pause = _RETRY_FIRST_S
    while not stopping():
        began = time.monotonic()
        try:
            work()
        except BrokerUnavailableError as error:
            if time.monotonic() - began > _SETTLED_S:
                pause = _RETRY_FIRST_S
            failed(error)
            log.warning("%s; starting again from the committed offsets in %.1f s", error, pause)
            time.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST_S)
