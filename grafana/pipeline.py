"""Pipeline health: whether the services run, keep up, and account for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.models import units

from grafana.live import LATENCY_COLOURS
from grafana.panels import BAD, GOOD, WARNING, Panel, Query, lines, number, rows, states, thresholds

HERE = '{instance=~"$instance"}'
REJECTED_LIMIT = 0.01  # as in prometheus/rules/data.yml; a test compares them
LAG_LIMIT = 1000  # as in prometheus/rules/services.yml; a test compares them


def rate(metric: str, by: str = "") -> str:
    """Say in PromQL how much a counter grows each second, on the instances chosen, by a label or in all."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{HERE}[$__rate_interval]))"


def panels() -> Iterator[Panel | str]:
    """Yield the panels, and the titles of rows before theirs."""
    yield number(
        "Alerts firing",
        "Alerts of Prometheus that fire now; the table below names them.",
        Query('count(ALERTS{alertstate="firing"}) or vector(0)'),
        units.Short,
        4,
        limits=thresholds((1, BAD)),
    )
    yield number(
        "Packets waiting",
        "Packets in Kafka that no predictor has processed yet.",
        Query("repstream:consumer_lag:sum"),
        units.Short,
        4,
        limits=thresholds((LAG_LIMIT / 2, WARNING), (LAG_LIMIT, BAD)),
    )
    yield number(
        "Latency, p99",
        "99 of 100 predictions of the last five minutes stand this soon after their newest sample was taken.",
        Query("repstream:prediction_latency_seconds:p99_5m"),
        units.Seconds,
        4,
        limits=LATENCY_COLOURS,
    )
    yield number(
        "Packets rejected",
        "Share of the packets of the last five minutes that could not be read and went to samples.dead-letter.",
        Query("repstream:packets_rejected:ratio5m"),
        units.PercentUnit,
        4,
        limits=thresholds((REJECTED_LIMIT / 2, WARNING), (REJECTED_LIMIT, BAD)),
        decimals=2,
    )
    yield number(
        "Ledger's difference",
        "Samples sent whose fate is not known; anything but 0 for long means that something is lost or counted twice.",
        Query("sum(repstream_ledger_difference)"),
        units.Short,
        4,
        limits=thresholds((0, GOOD), (1, BAD), base=BAD),
    )
    yield number(
        "Restarts of work",
        "Times within the last hour that a service began its work anew after a failure of Kafka.",
        Query("sum(increase(repstream_session_restarts_total[1h]))"),
        units.Short,
        4,
        limits=thresholds((1, WARNING)),
        decimals=0,
        trend=False,
    )
    yield "Services"
    yield states(
        "Services",
        "Whether each service could be scraped; a replay's producer ends when its recordings do.",
        Query("up" + '{job=~"producer|predictor|store|monitor", instance=~"$instance"}', "{{job}} {{instance}}"),
        12,
        texts={"0": ("down", BAD), "1": ("up", GOOD)},
    )
    yield rows(
        "Alerts",
        "Alerts that fire or are about to; each has a section in docs/runbook.md.",
        [Query("sort_desc(max by (alertname, alertstate, severity) (ALERTS))")],
        12,
        columns={"alertname": "Alert", "alertstate": "State", "severity": "Severity"},
    )
    yield "Flow"
    yield lines(
        "Packets in and out of Kafka",
        "Packets that the producers send and the predictors read; where the two part, packets wait.",
        [
            Query(rate("repstream_packets_produced_total"), "sent"),
            Query(rate("repstream_packets_consumed_total"), "read"),
        ],
        units.PacketsPerSecond,
        8,
    )
    yield lines(
        "Samples sent and read",
        "Samples of readable packets, each once, that producers send, and all that predictors read, repeats too.",
        [
            Query(rate("repstream_samples_produced_total"), "sent"),
            Query(rate("repstream_samples_total"), "read"),
        ],
        units.EventsPerSecond,
        8,
    )
    yield lines(
        "Predictions made and watched",
        "Predictions that predictors commit and that the monitor takes in.",
        [
            Query(rate("repstream_predictions_total"), "made"),
            Query(rate("repstream_monitor_predictions_total"), "watched"),
        ],
        units.EventsPerSecond,
        8,
    )
    yield lines(
        "Packets waiting, by partition",
        "Packets of each partition of samples that are not processed yet.",
        [Query("max by (partition) (repstream_consumer_lag" + HERE + ")", "partition {{partition}}")],
        units.Short,
        8,
    )
    yield lines(
        "Work on a batch",
        "From packets in hand to their predictions committed: half and 99 of 100 batches.",
        [
            Query(f"histogram_quantile({q:g}, {rate('repstream_batch_seconds_bucket', 'le')})", f"p{q * 100:g}")
            for q in (0.5, 0.99)
        ],
        units.Seconds,
        8,
    )
    yield lines(
        "The producers' pace",
        "How late the newest message went out.",
        [Query("repstream_producer_behind_seconds" + HERE, "{{instance}}")],
        units.Seconds,
        8,
        limits=thresholds((1, BAD)),
    )
    yield lines(
        "Not acknowledged yet",
        "Messages that producers have sent and Kafka has not confirmed.",
        [Query("repstream_producer_in_flight_messages" + HERE, "{{instance}}")],
        units.Short,
        8,
    )
    yield lines(
        "Still to send",
        "Until all is sent, as the replay is planned; nothing is shown where it has no end.",
        [Query("repstream_producer_remaining_seconds" + HERE, "{{instance}}")],
        units.Seconds,
        8,
    )
    yield lines(
        "The monitor's reading",
        "Messages of each topic that the monitor has not read yet.",
        [Query("sum by (topic) (repstream_monitor_lag" + HERE + ")", "{{topic}}")],
        units.Short,
        8,
    )
    yield "What is wrong with what comes in"
    yield lines(
        "Packets rejected, by reason",
        "Packets that cannot be read; docs/reference/messages.md explains the reasons.",
        [Query(rate("repstream_packets_rejected_total", "reason") + " > 0", "{{reason}}")],
        units.PacketsPerSecond,
        8,
    )
    yield lines(
        "Samples dropped, by why",
        "Samples that had come before, came too late, or whose clock ran backwards.",
        [
            Query(rate("repstream_duplicate_samples_total"), "come before"),
            Query(rate("repstream_late_samples_total"), "too late"),
            Query(rate("repstream_backwards_samples_total"), "clock backwards"),
        ],
        units.EventsPerSecond,
        8,
    )
    yield lines(
        "Packets missing, and gaps",
        "Packets given up waiting for, and gaps of more than 0.2 s, each of which begins a new window.",
        [
            Query(rate("repstream_missing_packets_total"), "packets missing"),
            Query(rate("repstream_gaps_total"), "gaps"),
        ],
        units.EventsPerSecond,
        8,
    )
    yield "The ledger: what became of every sample"
    yield rows(
        "Fates",
        "What became of the samples that were sent, since the beginning; all but 'sent' add up to 'sent'.",
        [Query("sort_desc(sum by (fate) (repstream_ledger_samples))")],
        12,
        height=10,
        columns={"fate": "Fate", "Value": "Samples"},
        decimals=0,
        sort_by="Samples",
    )
    yield lines(
        "Difference",
        "Samples sent minus all that have a fate: 0 when the ledger adds up.",
        [Query("sum(repstream_ledger_difference)", "difference")],
        units.Short,
        12,
        height=10,
        low=None,
    )
    yield "The store"
    yield lines(
        "Written to the database",
        "Predictions and alarms written, and those deleted for their age.",
        [
            Query(rate("repstream_stored_predictions_total"), "predictions"),
            Query(rate("repstream_stored_alarms_total"), "alarms"),
            Query(rate("repstream_store_expired_total"), "deleted"),
        ],
        units.EventsPerSecond,
        6,
    )
    yield lines(
        "Waiting for the database",
        "Messages of each topic that are not written yet; Kafka keeps them.",
        [Query("sum by (topic) (repstream_store_lag" + HERE + ")", "{{topic}}")],
        units.Short,
        6,
    )
    yield lines(
        "Time to write a batch",
        "Half and 99 of 100 batches.",
        [
            Query(f"histogram_quantile({q:g}, {rate('repstream_store_seconds_bucket', 'le')})", f"p{q * 100:g}")
            for q in (0.5, 0.99)
        ],
        units.Seconds,
        6,
    )
    yield lines(
        "What the database did not take",
        "Times that it did not answer, after each of which the store tries again, and messages left out.",
        [
            Query("sum(increase(repstream_store_failures_total" + HERE + "[5m]))", "no answer"),
            Query("sum(increase(repstream_store_rejected_total" + HERE + "[5m]))", "left out"),
        ],
        units.Short,
        6,
    )
    yield "The replay and the monitor themselves"
    yield lines(
        "Faults put in on purpose",
        "Packets that the producer spoilt because it was asked to (--inject), by kind.",
        [Query(rate("repstream_faults_injected_total", "kind"), "{{kind}}")],
        units.PacketsPerSecond,
        6,
    )
    yield lines(
        "A pass of the monitor",
        "How long it takes to compare the last monitoring windows with the reference.",
        [Query("repstream_monitor_run_seconds" + HERE, "{{instance}}")],
        units.Seconds,
        6,
    )
    yield lines(
        "Passes of the monitor",
        "How often it does so; at none, drift and accuracy stand still.",
        [Query("60 * " + rate("repstream_monitor_passes_total", "instance"), "{{instance}}")],
        units.CountsPerMinute,
        6,
    )
    yield lines(
        "Messages that the monitor set aside",
        "Predictions and labels that it could not use, by reason.",
        [Query(rate("repstream_monitor_odd_messages_total", "reason"), "{{reason}}")],
        units.EventsPerSecond,
        6,
    )
