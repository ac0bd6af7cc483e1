"""The monitor's HTTP: metrics, health, what was found last, reports."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Flask, Request, Response, redirect, request, send_file
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from monitor.live.hub import MOST_SUBSCRIBERS
from monitor.live.observer import LiveObserver
from monitor.live.uploads import Uploads
from monitor.live.wiring import LivePage
from monitor.page.access import Access, RefusedError
from monitor.page.routes import REPORT_POLICY, guard, most_bytes, page
from monitor.page.server import Refusal, WebServer
from monitor.reports.maker import DEADLINE_S, BusyError, ReportMaker, UnknownReportError
from monitor.service import Monitor
from repstream.errors import RepstreamError, SettingsError
from repstream.service.http import Health

log = logging.getLogger(__name__)

# Long enough for one that is being made and ours after it.
_REPORT_TIMEOUT_S = 2 * DEADLINE_S
# What `serve` asks before it reads a body, and what it closes at the end.
_ADMIT, _CLOSING = "repstream-admit", "repstream-closing"


def create_app(
    monitor: Monitor,
    observer: LiveObserver,
    registry: CollectorRegistry,
    reports: ReportMaker,
    alive: Health,
    access: Access | None = None,
) -> Flask:
    """Build the web application; `serve` ends what it begins.

    The live page's own routes are in `monitor.page.routes.page`, fed by the monitor's `observer`. `alive` tells whether the monitor's loop goes
    round. `access` says who may come in; without it, whoever calls a loopback address by its own name.

    ==================  ==========================================================================
    ``/metrics``        for Prometheus
    ``/healthz``        200: the process answers
    ``/livez``          200 while the monitor's loop goes round, else 503 and since when not
    ``/readyz``         200 where Kafka and the reference are there, else 503 and why
    ``/monitoring``     what the last pass found, the ledger of samples, alarms: JSON
    ``/reports/``       saved reports, JSON; ``/reports/NAME`` one of them
    ``/report?n=5``     a fresh report over the last n monitoring windows
    ==================  ==========================================================================
    """
    app = Flask("monitor", static_folder=None)
    rules = access or Access()
    guard(app, rules)
    live = LivePage(monitor, observer, monitor.intake.alarms, lambda: dataclasses.asdict(monitor.intake.ledger()))
    uploads = Uploads(monitor.connection, monitor.model.window)
    app.register_blueprint(page(live, uploads))
    app.extensions[_CLOSING] = (live.close, uploads.close)
    app.extensions[_ADMIT] = lambda environ: _admitted(rules, Request(environ))

    app.register_blueprint(_status(monitor, registry, alive))
    app.register_blueprint(_reports(monitor, reports))
    return app


def _status(monitor: Monitor, registry: CollectorRegistry, alive: Health) -> Blueprint:
    """Make the routes of metrics, health and what was found last."""
    routes = Blueprint("status", __name__)

    @routes.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    @routes.get("/healthz")
    def healthz() -> Response:
        return _text("alive")

    @routes.get("/livez")
    def livez() -> Response:
        return _health(*alive())

    @routes.get("/readyz")
    def readyz() -> Response:
        return _health(*monitor.ready())

    @routes.get("/monitoring")
    def monitoring() -> Response:
        result = monitor.last_pass
        found: dict[str, Any] = {
            "model": monitor.model.id,
            "other_models": monitor.intake.other_models(),
            "settings": dataclasses.asdict(monitor.settings),
            "last_pass": None if result is None else dataclasses.asdict(result),
            "ledger": dataclasses.asdict(monitor.intake.ledger()),
            **monitor.progress(),
            "alarms": [msgspec.to_builtins(alarm) for alarm in monitor.intake.alarms()],
        }
        return Response(json.dumps(_finite(found), indent=1), content_type="application/json")

    return routes


def _reports(monitor: Monitor, reports: ReportMaker) -> Blueprint:
    """Make the routes of reports."""
    routes = Blueprint("reports", __name__)

    @routes.get("/reports/")
    def list_reports() -> Response:
        listed = [dataclasses.asdict(r) for r in reports.list()]
        return Response(json.dumps(listed, indent=1, default=str), content_type="application/json")

    @routes.get("/reports/<name>")
    def one_report(name: str) -> Any:
        try:
            answer = send_file(reports.path(name).resolve(), mimetype="text/html")
        except UnknownReportError as error:
            return _text(str(error), HTTPStatus.NOT_FOUND)
        answer.headers["Content-Security-Policy"] = REPORT_POLICY
        return answer

    @routes.get("/report")
    def fresh_report() -> Any:
        most = monitor.settings.monitoring.retained
        text = request.args.get("n", str(monitor.settings.monitoring.current))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            return _text(f"n is {text!r}; it is a number of monitoring windows, 1–{most}", HTTPStatus.BAD_REQUEST)
        if request.method == "HEAD":
            return _text("")  # nothing is made for whoever does not want to see it
        try:
            path = reports.request("on-demand", monitor.reference, monitor.intake.table(int(text)).current).result(
                _REPORT_TIMEOUT_S
            )
        except BusyError as error:
            return _text(str(error), HTTPStatus.TOO_MANY_REQUESTS)
        except TimeoutError:
            return _text("the report is not ready yet; look at /reports/ later", HTTPStatus.SERVICE_UNAVAILABLE)
        except RepstreamError as error:
            return _text(str(error), HTTPStatus.SERVICE_UNAVAILABLE)
        return redirect(f"/reports/{path.name}")

    return routes


def close_app(app: Flask) -> None:
    """End what an application of `create_app` has begun: streams, threads, replays of visitors' recordings."""
    for close in app.extensions[_CLOSING]:
        close()


def _admitted(access: Access, asked: Request) -> int | Refusal:
    """Tell how many bytes of a request's body are taken, by its headers alone."""
    try:
        access.check(asked)
    except RefusedError as error:
        return Refusal(error.status, error.text)
    return most_bytes(asked)


def _text(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(f"{text}\n", status=int(status), content_type="text/plain; charset=utf-8")


def _health(is_well: bool, why: str) -> Response:
    return _text(why, HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: what is not a number becomes null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def serve(app: Flask, host: str, port: int) -> Iterator[int]:
    """Serve an application while the block runs; yields the port (a free one for 0).

    Raises
    ------
    SettingsError
        Where the port cannot be had.
    """
    try:
        server = WebServer(app, host, port, MOST_SUBSCRIBERS, app.extensions[_ADMIT])
    except OSError as error:
        raise SettingsError(f"port {port} on {host} cannot be used ({error}); choose another --port") from None
    log.info("monitor on http://%s:%d/", host, server.port)
    try:
        yield server.port
    finally:
        close_app(app)
        server.close()
