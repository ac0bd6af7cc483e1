"""Two predictors of one name: at one cluster under two addresses, on two hosts called alike, or told so."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.errors import BrokerUnavailableError
from repstream.kafka.connection import KafkaConnection, cluster_id, translated
from repstream.recognition.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    predict_arguments,
    service,
    wait_for_predictions,
    wait_until,
)

NAMES = ["spar/s08-*"]
PATIENCE_S = 240.0  # machines with other work start a predictor in a minute

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A Kafka of the test's own: topics have fixed names."""
    with EmbeddedBroker.start(tmp_path / "kafka") as running:
        yield running


def members(broker: EmbeddedBroker) -> set[str]:
    """The names in the group."""
    admin = KafkaConnection(broker.bootstrap_servers).admin()
    try:
        with translated("looking at the group"):
            return {m["group_instance_id"] for m in admin.describe_groups(["test"])["test"]["members"]}
    except BrokerUnavailableError:
        return set()  # the first member has not made Kafka make the groups' topic yet
    finally:
        admin.close()


@contextlib.contextmanager
def on_host(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a predictor as on a host of its own, whose name is this one's."""
    folder.mkdir(mode=0o700)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "repstream", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )
    try:
        yield process
    finally:
        end(process)


def wait_until_joined(log: Path) -> None:
    wait_until(lambda: log.exists() and "joined group" in log.read_text(), f"{log} says that it joined", PATIENCE_S)


def replay(broker: EmbeddedBroker, *options: str) -> list[str]:
    return ["produce", *NAMES, "--bootstrap-servers", broker.bootstrap_servers, *options]


def test_two_spellings_of_one_clusters_address_are_one_cluster(broker: EmbeddedBroker, tmp_path: Path) -> None:
    spellings = [f"127.0.0.1:{broker.port}", f"localhost:{broker.port}"]
    assert len({cluster_id(KafkaConnection(s)) for s in spellings}) == 1
    with contextlib.ExitStack() as stack:
        for i, spelling in enumerate(spellings):
            log = tmp_path / f"{i}.log"
            stack.enter_context(service(*predict_arguments(spelling), log=log))
            wait_until_joined(log)
        wait_until(lambda: len(members(broker)) == 2, "both are in the group")
        assert {name.rpartition("-")[2] for name in members(broker)} == {"0", "1"}


def test_predictors_on_two_hosts_of_one_name_end_up_under_two_and_no_prediction_twice(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    arguments = predict_arguments(broker.bootstrap_servers)
    with on_host(tmp_path / "a", *arguments), on_host(tmp_path / "b", *arguments):
        for host in ("a", "b"):
            wait_until_joined(tmp_path / host / "log")
        with service(*replay(broker, "--speed", "5"), log=tmp_path / "producer.log") as producer:
            wait_until(lambda: len(members(broker)) == 2, "both are in the group", PATIENCE_S)
            assert producer.wait(PATIENCE_S) == 0
        model = load_model(MODEL)
        expected = expected_predictions(NAMES, model)
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected), PATIENCE_S)
    assert_stream_equals_batch(predictions, expected, model)


def test_a_name_that_two_were_told_to_use_ends_one_of_them_in_words(broker: EmbeddedBroker, tmp_path: Path) -> None:
    arguments = predict_arguments(broker.bootstrap_servers, "test", "--instance", "mine")
    with (
        service(*replay(broker, "--speed", "1", "--loop"), log=tmp_path / "producer.log"),
        on_host(tmp_path / "a", *arguments) as a,
        on_host(tmp_path / "b", *arguments) as b,
    ):
        wait_until(lambda: not (a.poll() is None and b.poll() is None), "one of them gives up", PATIENCE_S)
        ended = "a" if a.poll() is not None else "b"
        assert (a if ended == "a" else b).wait(5) == 1
    assert (tmp_path / ended / "log").read_text().splitlines()[-1] == (
        "Error: Kafka gave the name mine in group test to another predictor 5 times in a row; "
        "give each one a name of its own with --instance"
    )
