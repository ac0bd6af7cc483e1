"""``repstream monitor``: the monitor service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.settings import PAGE_HOST, PAGE_PORT, MonitoringSettings, MonitorSettings, ReportSettings
from repstream.service.options import (
    DEFAULT_BOOTSTRAP_SERVERS,
    DEFAULT_MODEL,
    BootstrapServers,
    ModelName,
    ModelsDir,
    usage_errors,
)

if TYPE_CHECKING:
    from repstream.alarms.files import DriftModel
    from repstream.recognition.card import ModelCard


def monitor(
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    port: Annotated[
        int, typer.Option(min=0, help="Port of the web server; 0 chooses a free one.", envvar="REPSTREAM_PORT")
    ] = PAGE_PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Address of the web server. Other than on loopback, everything but health checks and metrics needs a token.",
            envvar="REPSTREAM_HOST",
        ),
    ] = PAGE_HOST,
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
        str,
        typer.Option(
            help="Consumer group under which the monitor commits its offsets.", envvar="REPSTREAM_MONITOR_GROUP"
        ),
    ] = MonitorSettings.group,
    predictor_group: Annotated[
        str,
        typer.Option(help="Consumer group of the predictors whose sample ledger is shown.", envvar="REPSTREAM_GROUP"),
    ] = MonitorSettings.predictor_group,
    window: Annotated[
        float,
        typer.Option(
            min=1.0, help="Length of a monitoring window, in seconds of event time.", envvar="REPSTREAM_MONITOR_WINDOW"
        ),
    ] = MonitoringSettings.window_s,
    current: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of recent monitoring windows to compare with the reference.",
            envvar="REPSTREAM_MONITOR_CURRENT",
        ),
    ] = MonitoringSettings.current,
    retained: Annotated[
        int,
        typer.Option(
            min=1, help="Number of monitoring windows to keep for reports.", envvar="REPSTREAM_MONITOR_RETAINED"
        ),
    ] = MonitoringSettings.retained,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two drift passes.", envvar="REPSTREAM_MONITOR_EVERY")
    ] = MonitorSettings.every_s,
    reports: Annotated[Path, typer.Option(help="Folder to keep reports in.", envvar="REPSTREAM_REPORTS")] = (
        ReportSettings.folder
    ),
    keep_reports: Annotated[
        int,
        typer.Option(min=1, help="Number of reports to keep; older ones are deleted.", envvar="REPSTREAM_KEEP_REPORTS"),
    ] = ReportSettings.keep,
    report_every: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds between scheduled reports; 0 disables them. Alarms trigger their own.",
            envvar="REPSTREAM_REPORT_EVERY",
        ),
    ] = ReportSettings.every_s,
    alarm_reports: Annotated[
        bool,
        typer.Option(
            "--alarm-reports/--no-alarm-reports",
            help="Make a report when an alarm begins; a report keeps a core busy for 20 seconds.",
            envvar="REPSTREAM_ALARM_REPORTS",
        ),
    ] = ReportSettings.on_alarm,
) -> None:
    """Watch predictions and labels for drift and falling accuracy, until SIGTERM or Ctrl-C."""
    from repstream.service.running import stop_on_signals

    with usage_errors():
        settings = MonitorSettings(
            group=group,
            every_s=every,
            monitoring=MonitoringSettings(window, current, retained),
            predictor_group=predictor_group,
        )
        reporting = ReportSettings(reports, keep_reports, report_every, alarm_reports)
    stopping = stop_on_signals()  # before the seconds that the imports take

    import contextlib
    import dataclasses

    from prometheus_client import CollectorRegistry

    from monitor.drift.passes import PassWorker
    from monitor.live.observer import LiveObserver
    from monitor.page.access import Access
    from monitor.page.app import create_app, serve
    from monitor.reports.maker import ReportMaker
    from monitor.reports.schedule import ReportSchedule
    from monitor.service import Monitor
    from repstream.kafka.connection import KafkaConnection
    from repstream.recognition.card import load_card
    from repstream.service.http import Heartbeat

    with usage_errors():
        access = Access.on(host, token)
    loaded = load_card(model, models_dir)
    # A window's truth is to be what it was in training.
    monitoring = dataclasses.replace(settings.monitoring, label_share=loaded.label_share)
    settings = dataclasses.replace(settings, monitoring=monitoring)
    drift = _load_drift(loaded)
    registry = CollectorRegistry()
    observer = LiveObserver(loaded, settings.monitoring)
    with (
        contextlib.closing(PassWorker(loaded)) as worker,
        contextlib.closing(ReportMaker(reporting.folder, reporting.keep)) as maker,
        contextlib.closing(ReportSchedule(maker, reporting.every_s, on_alarm=reporting.on_alarm)) as schedule,
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
            [observer],
        )
        schedule.begin(lambda: (service.reference, service.intake.table(current).current))
        with serve(create_app(service, observer, registry, maker, pulse.alive, access), host, port) as served:
            if access.token is not None and token is None:  # one that was given is not for the log
                typer.echo(f"live page: http://{host}:{served}/?token={access.token}", err=True)
            service.run()


def _load_drift(model: ModelCard) -> DriftModel | None:
    """Load what alarms about single devices are raised by, and say so where there is nothing."""
    from repstream.alarms.files import NUMBERS_FILE, load_drift

    drift = load_drift(model)
    if drift is None:
        typer.echo(
            f"{model.id} has no {NUMBERS_FILE}: no alarms about single devices; make it with: repstream calibrate",
            err=True,
        )
    return drift
