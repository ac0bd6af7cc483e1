"""The page's routes: itself, its events, commands to a replay, recordings of one's own."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from flask import Blueprint, Flask, Request, Response, jsonify, redirect, request, send_from_directory
from werkzeug.exceptions import HTTPException

from monitor.live.hub import TooManyError
from monitor.live.upload_worker import ImportRequest
from monitor.live.uploads import MOST_BYTES, NoRoomError, NothingImportedError, Uploads
from monitor.live.wiring import WEARER, LivePage
from monitor.page.access import COOKIE, OPEN_PATHS, Access, RateLimit, RefusedError
from repstream.errors import BrokerError, RecordingError, RepstreamError
from repstream.messages.messages import ControlCommand, ProducerStatus
from repstream.palette import colours, ink_on
from repstream.recordings.spar import EXERCISES
from repstream.windows.truth import TRANSITION

STATIC = Path(__file__).parent / "static"
VIEWS = ("everyone", "drift", "status")

_T = TypeVar("_T", bound=msgspec.Struct)

_SMALL_BYTES = 16_384
_MOST_NAME = 200
_COOKIE_S = 30 * 86_400
_MOST_FAULT_S = 3_600.0
_SPEEDS = (0.25, 16.0)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Evidently's reports are pages of their own making with scripts within; they get an origin that is nobody's
# and no way out.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # an address can hold the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class CommandRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /control``."""

    producer: str
    action: Literal["pause", "resume", "speed", "inject", "clear"]
    speed: float | None = None
    fault: str | None = None
    device: str = ""
    seconds: float | None = None


class ReplayRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /upload/ID/replay``: which recordings, all where there is none."""

    recordings: list[int] = []


def guard(app: Flask, access: Access) -> None:
    """Put an application behind the rules, its failures into words, and its answers under a policy."""
    app.config["MAX_CONTENT_LENGTH"] = _SMALL_BYTES

    @app.before_request
    def let_in() -> Any:
        shown = request.args.get("token")
        if request.path == "/" and access.is_token(shown):
            answer = redirect("/")
            # Whoever makes up this header only harms a cookie of their own.
            is_tls = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
            answer.set_cookie(
                COOKIE, access.cookie(), max_age=_COOKIE_S, secure=is_tls, httponly=True, samesite="Strict"
            )
            return answer
        access.check(request)
        return None

    @app.errorhandler(RefusedError)
    def refused(error: RefusedError) -> Response:
        answer = _failure(error.text, error.status, error.more)
        if error.retry_s is not None:
            answer.headers["Retry-After"] = str(error.retry_s)
        return answer

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> Any:
        if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
            return error
        return _failure(error.description or error.name, HTTPStatus(error.code))

    @app.after_request
    def protect(answer: Response) -> Response:
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Content-Security-Policy", _POLICY)
        if request.path not in OPEN_PATHS:
            answer.headers.setdefault("Cache-Control", "no-store")
        return answer


def most_bytes(asked: Request) -> int:
    """How long a request's body may be."""
    return MOST_BYTES if (asked.method, asked.path) == ("POST", "/upload") else _SMALL_BYTES


def page(live: LivePage, uploads: Uploads) -> Blueprint:
    """Make the page's routes.

    ======================  =====================================================================
    ``/``                   the page
    ``/static/…``           its files
    ``/palette.css``        the exercises' colours
    ``/events``             server-sent events; ``?view=everyone|drift|status`` or ``?wearer=DEVICE``
    ``/control``            POST: a command to a replay
    ``/upload``             POST: a file, ``?name=``; the recordings in it, repaired, and what they are worth.
                            ``?to=ID`` adds it to others, ``?more=1`` only keeps it as others follow
    ``/upload/ID/import``   POST: import the files again, as `ImportRequest` says
    ``/upload/ID/N``        the picture of recording N
    ``/upload/ID/replay``   POST: replay recordings
    ======================  =====================================================================
    """
    routes = Blueprint("page", __name__)
    routes.register_blueprint(_commands(live))
    routes.register_blueprint(_recordings(uploads))

    @routes.get("/")
    def index() -> Response:
        return send_from_directory(STATIC, "index.html")

    @routes.get("/static/<path:name>")
    def static(name: str) -> Response:
        answer = send_from_directory(STATIC, name)
        answer.headers["Cache-Control"] = "no-cache"  # asked for again, sent only where it has changed
        return answer

    @routes.get("/palette.css")
    def palette() -> Response:
        chosen = colours([*live.sources.labels, TRANSITION])
        rules = [
            f'[data-label="{_css(label)}"] {{ --exercise: {colour}; --exercise-ink: {ink_on(colour)}; }}'
            for label, colour in chosen.items()
        ]
        return Response("\n".join(rules) + "\n", content_type="text/css; charset=utf-8")

    @routes.get("/palette.json")
    def palette_json() -> Response:
        labels = [*live.sources.labels, TRANSITION]
        chosen = colours(labels)
        return jsonify(
            [{"label": n, "colour": chosen[n], "ink": ink_on(chosen[n]), "name": EXERCISES.get(n, n)} for n in labels]
        )

    @routes.get("/events")
    def events() -> Response:
        device, view = request.args.get("wearer"), request.args.get("view")
        if (device is None) == (view is None):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "either ?view= or ?wearer= is needed")
        if view is not None and view not in VIEWS:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"view must be one of {', '.join(VIEWS)}")
        if device is not None:
            _check_device(device)
        keys = () if view == "status" else (view,) if view else (WEARER + str(device),)
        if request.method == "HEAD":
            return Response(content_type="text/event-stream")  # nobody is there to look
        try:
            subscriber = live.subscribe(keys, request.remote_addr or "")
        except TooManyError as error:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), 10) from None
        answer = Response(subscriber.frames(), content_type="text/event-stream")
        answer.call_on_close(lambda: live.leave(subscriber))  # also where not one frame was asked for
        answer.headers["X-Accel-Buffering"] = "no"
        return answer

    return routes


def _commands(live: LivePage) -> Blueprint:
    """Make the routes of commands to a replay."""
    routes = Blueprint("commands", __name__)
    commands = RateLimit(20, 10.0, "commands")

    @routes.post("/control")
    def control() -> Response:
        commands.take(request.remote_addr or "")
        asked = _body(CommandRequest)
        there = {status.producer: status for status in live.traffic.now().producers}
        if asked.producer not in there:
            raise RefusedError(
                HTTPStatus.NOT_FOUND,
                "no replay of that name is running; start one with: repstream produce --controllable",
            )
        command = _command(asked)
        try:
            live.traffic.send(command)
        except BrokerError as error:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), 5) from None
        return jsonify({"id": command.id})

    @routes.get("/control/<name>")
    def answered(name: str) -> Response:
        """Tell whether a command was followed."""
        statuses: list[ProducerStatus] = [s for s in live.traffic.now().producers if s.answered == name]
        return jsonify({"answered": bool(statuses), "refused": statuses[0].refused if statuses else ""})

    return routes


def _recordings(uploads: Uploads) -> Blueprint:
    """Make the routes of visitors' own recordings."""
    routes = Blueprint("recordings", __name__)
    files = RateLimit(20, 60.0, "files")
    imports = RateLimit(20, 60.0, "imports and replays")

    @routes.post("/upload")
    def upload() -> Response:
        files.take(request.remote_addr or "")
        request.max_content_length = MOST_BYTES
        name = request.args.get("name", "")
        if not 0 < len(name) <= _MOST_NAME:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the file's name is missing (?name=…) or too long")
        with _in_words():
            key = uploads.keep(name, request.stream, request.args.get("to", ""))
            return jsonify({"id": key} if request.args.get("more") else uploads.load(key))

    @routes.post("/upload/<key>/import")
    def load(key: str) -> Response:
        imports.take(request.remote_addr or "")
        asked = _body(ImportRequest)
        with _in_words():
            return jsonify(uploads.load(key, asked))

    @routes.get("/upload/<key>/<int:number>")
    def picture(key: str, number: int) -> Response:
        with _in_words():
            return Response(uploads.picture(key, number), content_type="application/json")

    @routes.post("/upload/<key>/replay")
    def replay(key: str) -> Response:
        imports.take(request.remote_addr or "")
        asked = _body(ReplayRequest)
        with _in_words():
            return jsonify(uploads.replay(key, asked.recordings))

    return routes


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Answer with a status and words what a visitor's files are to blame for, or the moment is."""
    try:
        yield
    except KeyError:
        raise RefusedError(HTTPStatus.NOT_FOUND, "these files have expired; choose them again") from None
    except NothingImportedError as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), more=error.found) from None
    except RecordingError as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    except TooManyError as error:
        raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, str(error), 60) from None
    except NoRoomError as error:
        raise RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, str(error), 60) from None
    except RepstreamError as error:  # no process
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), 60) from None


def _body(kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"invalid request body: {error}") from None


def _command(asked: CommandRequest) -> ControlCommand:
    """Check a command as far as it can be here; the replay itself knows its faults."""
    low, high = _SPEEDS
    if asked.action == "speed" and not (asked.speed is not None and low <= asked.speed <= high):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"speed must be {low:g} to {high:g}")
    if asked.action == "inject":
        if not asked.fault or len(asked.fault) > _MOST_NAME or "@" in asked.fault or "/" in asked.fault:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "fault must be a kind with its amount, such as rotate:90")
        if asked.seconds is not None and not 1.0 <= asked.seconds <= _MOST_FAULT_S:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"seconds must be 1 to {_MOST_FAULT_S:g}")
    if asked.device:
        _check_device(asked.device)
    return ControlCommand(
        secrets.token_hex(8), asked.producer, asked.action, asked.speed, asked.fault, asked.device, asked.seconds
    )


def _check_device(device: str) -> None:
    if not device or len(device) > _MOST_NAME or "/" in device or not device.isprintable():
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, f"invalid device name: 1 to {_MOST_NAME} printable characters without '/'"
        )


def _css(text: str) -> str:
    """Write a text inside CSS's double quotes."""
    return "".join(c if c.isalnum() or c in " -_" else f"\\{ord(c):x} " for c in text)


def _failure(text: str, status: HTTPStatus, more: Mapping[str, Any] | None = None) -> Response:
    if request.accept_mimetypes.accept_html and not request.accept_mimetypes.accept_json:
        return Response(f"{text}\n", status=int(status), content_type="text/plain; charset=utf-8")
    answer = jsonify({"error": text, **(more or {})})
    answer.status_code = int(status)
    return answer
