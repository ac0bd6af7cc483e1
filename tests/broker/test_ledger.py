"""The ledger of samples on a real Kafka: it adds up, is what was produced, and survives kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from repstream.broker.broker import EmbeddedBroker
from repstream.messages.messages import LEDGER_FATES, LedgerEntry, decode_ledger
from repstream.messages.topics import LEDGER, SAMPLES
from repstream.processes.ports import free_port
from repstream.recordings.catalogue import resolve
from tests.broker.services import (
    Topic,
    end,
    predict_arguments,
    service,
    value_of,
    wait_for_predictions,
    wait_until,
)

NAMES = ["spar/s08-*", "spar/s09-left-*"]


class Ledgers:
    """What the topic of ledgers says, and how far the samples go."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._entries, self._samples = (Topic(broker.bootstrap_servers, name) for name in (LEDGER, SAMPLES))

    def newest(self, group: str) -> dict[int, LedgerEntry]:
        """The newest entry of each partition."""
        entries = [decode_ledger(record.value) for record in self._entries.records()]
        return {entry.partition: entry for entry in entries if entry.group == group}

    def total(self, group: str) -> dict[str, int]:
        newest = self.newest(group).values()
        return {fate: sum(entry.samples[fate] for entry in newest) for fate in ("sent", *LEDGER_FATES)}

    def told_to_the_end(self, group: str) -> bool:
        ends = {record.partition: record.offset + 1 for record in self._samples.records()}
        return {number: entry.offset for number, entry in self.newest(group).items() if entry.offset} == ends

    def close(self) -> None:
        self._entries.close()
        self._samples.close()


def fetch(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def test_without_loss_the_sent_are_what_the_producer_sent_and_the_monitor_shows_it(tmp_path: Path) -> None:
    port = free_port()
    with EmbeddedBroker.start(tmp_path / "kafka") as broker, closing(Ledgers(broker)) as ledgers:
        address = broker.bootstrap_servers
        watch = ["monitor", "--bootstrap-servers", address, "--port", str(port), "--predictor-group", "ours"]
        with (
            service(*predict_arguments(address, "ours")) as predictor,
            service(*predict_arguments(address, "theirs")),
            service(*watch, "--reports", str(tmp_path / "reports"), log=tmp_path / "monitor.log"),
        ):
            produce = ["produce", *NAMES, "--bootstrap-servers", address, "--speed", "max", "--json"]
            produced = subprocess.run(
                [sys.executable, "-m", "repstream", *produce],
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            samples = json.loads(produced.stdout)["samples"]
            assert samples == sum(r.n_samples for r in resolve(NAMES))
            # The last second is told without waiting for more packets or for the end.
            wait_until(lambda: ledgers.told_to_the_end("ours"), "the ledger of all that was sent")
            told = ledgers.total("ours")
            assert told["sent"] == samples
            assert told["sent"] == sum(told[fate] for fate in LEDGER_FATES)
            assert {fate for fate in LEDGER_FATES if told[fate]} == {"used", "ended", "buffered"}
            wait_until(
                lambda: value_of(fetch(port, "/metrics"), "repstream_ledger_samples") == 2 * samples,
                f"the ledger as metrics\n{fetch(port, '/metrics')[-3000:]}",
            )
            page = fetch(port, "/metrics")
            for fate, n in told.items():
                assert f'repstream_ledger_samples{{fate="{fate}"}} {float(n)}' in page
            assert value_of(page, "repstream_ledger_difference") == 0
            shown = json.loads(fetch(port, "/monitoring"))["ledger"]
            assert (shown["group"], shown["samples"], shown["difference"]) == ("ours", told, 0)
            assert end(predictor) == 0


def test_killed_again_and_again_on_a_bad_network_it_adds_up_and_is_that_of_a_predictor_never_killed(
    tmp_path: Path,
) -> None:
    """
    Faults fall into the first session of each device, none at its end::

        seconds  2 ........ 7 ........ 11 ....... 15 ..... 18.9 first session ends
                 drop, late | duplicate | malformed |
    """
    faults = ["drop:0.1@2-7", "late:3@2-7", "duplicate:0.3@7-11", "malformed:0.3@11-15"]
    produce = ["produce", *NAMES, "--speed", "10", "--quiet", "--seed", "5"]
    for fault in faults:
        produce += ["--inject", fault]
    log = tmp_path / "services.log"
    with EmbeddedBroker.start(tmp_path / "kafka") as broker, closing(Ledgers(broker)) as ledgers:
        address = broker.bootstrap_servers
        predict = predict_arguments(address, "killed", "--checkpoint-every", "1")
        with service(*produce, "--bootstrap-servers", address, log=log) as producer:
            for wanted in (50, 250, 450, 650):
                with service(*predict, log=log) as predictor:
                    assert len(wait_for_predictions(address, wanted)) >= wanted
                    end(predictor, signal.SIGKILL)
            assert producer.wait(120) == 0, log.read_text()[-3000:]
        with service(*predict, log=log) as predictor:
            wait_until(lambda: ledgers.told_to_the_end("killed"), "the ledger of the whole log")
            assert end(predictor) == 0
        with service(*predict_arguments(address, "calm"), log=log) as predictor:
            wait_until(lambda: ledgers.told_to_the_end("calm"), "the same, by a predictor that nobody kills")
            assert end(predictor) == 0
        killed, calm = ledgers.newest("killed"), ledgers.newest("calm")
        told = ledgers.total("killed")
    assert {n: (e.samples, e.gaps) for n, e in killed.items()} == {n: (e.samples, e.gaps) for n, e in calm.items()}
    assert told["sent"] == sum(told[fate] for fate in LEDGER_FATES)
    for fate in ("used", "late", "duplicate", "gap", "ended", "missing", "rejected", "buffered"):
        assert told[fate] > 0, told
    assert told["sent"] - told["duplicate"] == sum(r.n_samples for r in resolve(NAMES))
