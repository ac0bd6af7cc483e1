"""Kafka's disk is full: it ends, says why, and loses nothing; with space, and started again, all goes on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.processes.ports import free_port
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

pytestmark = [pytest.mark.broker, pytest.mark.skipif(sys.platform != "linux", reason="tmpfs and prlimit are Linux's")]

NAMES = ["spar/s08-*", "spar/s09-*"]  # 3 MB of packets, 5 MB of predictions
DISK_BYTES = 5_000_000
FILE_BYTES = 400_000


class SmallDisk:
    """A disk that the broker fills: a small tmpfs where we may mount one, else files that cannot grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.is_mounted = os.geteuid() == 0 and self._mount(f"size={DISK_BYTES}", "-t", "tmpfs", "tmpfs")

    def _mount(self, options: str, *what: str) -> bool:
        done = subprocess.run(["mount", "-o", options, *what, self.folder], capture_output=True, check=False)
        return done.returncode == 0

    def limit(self, broker: EmbeddedBroker) -> None:
        """See to it that the broker's disk gets full."""
        if not self.is_mounted:
            _, most = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, most))

    def make_space(self) -> None:
        """Make room for all there is to come; whoever is started from now on may use it."""
        assert not self.is_mounted or self._mount("remount,size=500m")

    def remove(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk")
    try:
        yield small
    finally:
        if (left := EmbeddedBroker.attach(small.folder / "kafka")) is not None:
            left.kill()
        small.remove()


def broker_command(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "repstream", "broker", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_kafka_whose_disk_is_full_ends_saying_so_and_with_space_everything_goes_on_and_nothing_is_lost(
    disk: SmallDisk, tmp_path: Path
) -> None:
    """
    ::

        disk       |======= full                      space
        Kafka      |===========X  start: refused      |=== started again, same port ====|
        services   |== saying so, waiting ================================= all is there |
    """
    model = load_model(MODEL)
    expected = expected_predictions(NAMES, model)
    data, log, sent = disk.folder / "kafka", tmp_path / "predictor.log", tmp_path / "producer.log"
    port = str(free_port())
    started = broker_command("start", "--port", port, data=data)
    assert started.returncode == 0, started.stderr
    address = started.stdout.strip()
    produce = ["produce", *NAMES, "--bootstrap-servers", address, "--speed", "20", "--quiet"]
    with service(*predict_arguments(address), log=log) as predictor:
        wait_until(lambda: "partition 3: from offset" in log.read_text(), "the predictor has its partitions", 120)
        broker = EmbeddedBroker.attach(data)
        assert broker is not None
        disk.limit(broker)
        with service(*produce, log=sent) as producer:
            wait_until(lambda: not broker.is_alive(), "Kafka ends", 120)
            status = broker_command("status", data=data)
            assert status.returncode == 1
            assert "ended unexpectedly" in status.stdout
            assert ("No space left on device" if disk.is_mounted else "File too large") in status.stdout
            wait_until(lambda: "has not acknowledged anything for" in sent.read_text(), "the producer says so")
            wait_until(lambda: f"no Kafka at {address} yet" in log.read_text(), "the predictor says so")
            if disk.is_mounted:
                refused = broker_command("start", "--port", port, data=data)
                assert (refused.returncode, refused.stdout) == (1, "")
                assert "No space left on device" in refused.stderr, refused.stderr
            disk.make_space()
            started = broker_command("start", "--port", port, data=data)
            assert (started.returncode, started.stdout.strip()) == (0, address), started.stderr
            assert producer.wait(180) == 0, sent.read_text()[-3000:]
        predictions = wait_for_predictions(address, len(expected))
        assert end(predictor) == 0, log.read_text()[-3000:]
    assert_stream_equals_batch(predictions, expected, model)
