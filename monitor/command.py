"""``repstream monitor``: the monitor service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repstream.messages.topics import MONITOR_GROUP, PREDICTOR_GROUP
from repstream.service.options import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_MODEL, BootstrapServers, ModelName, ModelsDir


def monitor(
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    port: Annotated[
        int, typer.Option(min=0, help="Port of the web server (0: a free one).", envvar="REPSTREAM_PORT")
    ] = 8080,
    host: Annotated[
        str,
        typer.Option(
            help="Address of the web server. Beyond this machine a token is needed for all but health and metrics.",
            envvar="REPSTREAM_HOST",
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            help="The token, at least 16 characters; better by the variable, as others see a command's options. "
            "Default: none on a loopback address; elsewhere a new one, printed at the start.",
            envvar="REPSTREAM_TOKEN",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(help="Group under which it commits how far it got.", envvar="REPSTREAM_MONITOR_GROUP")
    ] = MONITOR_GROUP,
    predictor_group: Annotated[
        str,
        typer.Option(help="Group of the predictors whose ledger of samples is shown.", envvar="REPSTREAM_GROUP"),
    ] = PREDICTOR_GROUP,
    window: Annotated[
        float,
        typer.Option(
            min=1.0, help="Length of a monitoring window, s of event time.", envvar="REPSTREAM_MONITOR_WINDOW"
        ),
    ] = 60.0,
    current: Annotated[
        int,
        typer.Option(
            min=1, help="Monitoring windows that are compared with the reference.", envvar="REPSTREAM_MONITOR_CURRENT"
        ),
    ] = 5,
    retained: Annotated[
        int,
        typer.Option(
            min=1, help="Monitoring windows that are remembered, for reports.", envvar="REPSTREAM_MONITOR_RETAINED"
        ),
    ] = 60,
    every: Annotated[
        float, typer.Option(min=0.1, help="Time between two passes, s.", envvar="REPSTREAM_MONITOR_EVERY")
    ] = 5.0,
    reports: Annotated[Path, typer.Option(help="Folder that reports are kept in.", envvar="REPSTREAM_REPORTS")] = Path(
        "reports"
    ),
    keep_reports: Annotated[
        int, typer.Option(min=1, help="Reports that are kept; the oldest go.", envvar="REPSTREAM_KEEP_REPORTS")
    ] = 50,
    report_every: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Time from one report that nobody asked for to the next, s; 0 for none. Alarms have theirs.",
            envvar="REPSTREAM_REPORT_EVERY",
        ),
    ] = 3600.0,
) -> None:
    """Watch predictions and labels for drift and falling accuracy, until SIGTERM or Ctrl-C."""
    from repstream.service.running import stop_on_signals

    stopping = stop_on_signals()  # before the seconds that the imports take

    import contextlib

    from prometheus_client import CollectorRegistry

    from monitor.drift.passes import PassWorker
    from monitor.drift.state import MonitoringSettings
    from monitor.page.access import Access
    from monitor.page.app import create_app, serve
    from monitor.reports.maker import ReportMaker
    from monitor.reports.schedule import ReportSchedule
    from monitor.service import Monitor, MonitorSettings
    from repstream.alarms.files import NUMBERS_FILE, load_drift
    from repstream.kafka.connection import KafkaConnection
    from repstream.recognition.card import load_card
    from repstream.service.http import Heartbeat

    loaded = load_card(model, models_dir)
    drift = load_drift(loaded)
    if drift is None:
        typer.echo(
            f"{loaded.id} has no {NUMBERS_FILE}: no alarms about single devices; make it with: repstream calibrate",
            err=True,
        )
    settings = MonitorSettings(
        group=group,
        every_s=every,
        monitoring=MonitoringSettings(window, current, retained),
        predictor_group=predictor_group,
    )
    registry = CollectorRegistry()
    with (
        contextlib.closing(PassWorker(loaded)) as worker,
        contextlib.closing(ReportMaker(reports, keep_reports)) as maker,
        contextlib.closing(ReportSchedule(maker, report_every)) as schedule,
    ):
        pulse = Heartbeat(stopping.is_set)
        service = Monitor(
            loaded,
            KafkaConnection.from_environment(bootstrap_servers),
            settings,
            worker,
            registry,
            pulse,
            drift,
            schedule.on_alarm,
        )
        schedule.begin(lambda: (service.reference, service.table(current).current))
        access = Access.on(host, token)
        with serve(create_app(service, registry, maker, pulse.alive, access), host, port) as served:
            if access.token is not None and token is None:  # one that was given is not for the log
                typer.echo(f"live page: http://{host}:{served}/?token={access.token}", err=True)
            service.run()
