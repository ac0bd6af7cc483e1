"""Who may look and who may change things.

On a loopback address nothing is asked for, but a request must name this machine as its host: a page
from elsewhere whose name was made to point here (DNS rebinding) does not. On any other address a
token is needed for everything but health and metrics. What changes something, or costs something, must
come from our own page, or carry the token itself; a program that is no browser says nothing of pages.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Request

from repstream.errors import RepstreamError, SettingsError

COOKIE = "repstream-token"
# Ours only: a page from elsewhere cannot set it without being asked whether it may.
HEADER = "X-Repstream"
# What Prometheus and whoever keeps the service alive ask for; no wearer is named there.
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
# A stream, and a process that works for minutes: not even a link on another site may lead there.
_COSTLY_PATHS = frozenset({"/events", "/report"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LEAST_TOKEN = 16
_CLIENTS = 1_000


class RefusedError(RepstreamError):
    """A request is not answered.

    Parameters
    ----------
    status : HTTPStatus
    text : str
        What is the matter and what to do, for a person.
    retry_s : int or None
        When to try again.
    more : mapping, optional
        What the page needs to ask again; JSON beside the text.
    """

    def __init__(
        self, status: HTTPStatus, text: str, retry_s: int | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_s = retry_s
        self.more = more or {}


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """The rules of one monitor.

    Attributes
    ----------
    token : str or None
        What must be shown; None on a loopback address.
    """

    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < _LEAST_TOKEN or not self.token.isascii()):
            raise SettingsError(f"the token (--token) has at least {_LEAST_TOKEN} characters, of ASCII")

    @classmethod
    def on(cls, host: str, token: str | None) -> Access:
        """Make the rules for an address; beyond loopback with a token of its own where none is given."""
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        return cls(token)

    def cookie(self) -> str:
        """Return what a browser keeps: proof of the token, not the token."""
        assert self.token is not None
        return hmac.new(self.token.encode(), b"repstream live page", hashlib.sha256).hexdigest()

    def is_token(self, text: str | None) -> bool:
        """Compare in constant time."""
        return self.token is not None and text is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def check(self, request: Request) -> None:
        """Let a request in.

        Raises
        ------
        RefusedError
        """
        if request.path in OPEN_PATHS:
            return
        bearer = self._is_bearer(request)
        if self.token is None:
            if not is_loopback(_host_of(request)):
                raise RefusedError(
                    HTTPStatus.FORBIDDEN,
                    "invalid Host header: open http://127.0.0.1 with its port, or start it with --host and --token",
                )
        elif not (bearer or self._has_cookie(request)):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "a token is needed: open the address that `repstream monitor` printed at its start, with ?token=…",
            )
        if bearer:
            return
        self._check_site(request)
        if request.method not in _SAFE_METHODS:
            self._check_origin(request)

    def _is_bearer(self, request: Request) -> bool:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(text.strip())

    def _has_cookie(self, request: Request) -> bool:
        shown = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(shown.encode(), self.cookie().encode())

    def _check_site(self, request: Request) -> None:
        """Refuse what another site's page asks for; a link that somebody follows may lead to what costs nothing."""
        if request.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
            return
        is_link = request.method in _SAFE_METHODS and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if not is_link or request.path in _COSTLY_PATHS:
            raise RefusedError(HTTPStatus.FORBIDDEN, "only the monitor's own page may request this: open it at /")

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            raise RefusedError(HTTPStatus.FORBIDDEN, "changes must come from the monitor's own page")
        if request.headers.get(HEADER) != "1":
            raise RefusedError(HTTPStatus.FORBIDDEN, f"changes need the header {HEADER}: 1")


def _host_of(request: Request) -> str:
    """The host that a request names, without its port; empty where it is no host."""
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return ""


class RateLimit:
    """So many requests in so many seconds from one address.

    Parameters
    ----------
    most : int
    per_s : float
    what : str
        For the refusal, such as "uploads".
    """

    def __init__(self, most: int, per_s: float, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._per_s = per_s
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, list[float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request.

        Raises
        ------
        RefusedError
            With 429, where it is one too many.
        """
        now = self._clock()
        with self._lock:
            times = [t for t in self._clients.pop(client, []) if t > now - self._per_s]
            is_too_many = len(times) >= self._most
            self._clients[client] = times if is_too_many else [*times, now]
            if len(self._clients) > _CLIENTS:
                self._clients.popitem(last=False)
        if is_too_many:
            wait_s = max(int(times[0] + self._per_s - now) + 1, 1)
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"at most {self._most} {self._what} in {self._per_s:g} s; try again in {wait_s} s",
                wait_s,
            )
