"""/metrics, /healthz and /readyz of one process, served by a thread so that a stuck event loop shows."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from microopt.errors import ConfigError

STALE_AFTER_S: Final = 10.0
TICK_S: Final = 1.0
POLL_S: Final = 0.05

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Health:
    """What the endpoints say: alive while the event loop turns, ready while the agent can do its work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._waiting_for: dict[str, str] = {}
        self._checks: list[Callable[[], str | None]] = []

    def tick(self) -> None:
        """Say that the event loop turned."""
        self._ticked = self._clock()

    def wait_for(self, what: str, why: str) -> None:
        """Be not ready until `what` is done."""
        self._waiting_for[what] = why

    def done(self, what: str) -> None:
        """Say that nothing waits for `what` any more."""
        self._waiting_for.pop(what, None)

    def check(self, probe: Callable[[], str | None]) -> None:
        """Be not ready while `probe` returns what is wrong; it is called from the server's threads."""
        self._checks.append(probe)

    def alive(self) -> str | None:
        """Return what is wrong with the process, or None."""
        lag_s = self._clock() - self._ticked
        return f"the event loop has not turned for {lag_s:.0f} s" if lag_s > STALE_AFTER_S else None

    def ready(self) -> str | None:
        """Return what the agent still waits for, or None."""
        troubles = [self.alive(), *self._waiting_for.values(), *(probe() for probe in self._checks)]
        return "; ".join(trouble for trouble in troubles if trouble) or None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True


class _Quiet(WSGIRequestHandler):
    timeout = 5  # a client that says nothing does not keep a thread

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: scrapes every few seconds are no news."""


class HttpServer:
    """The server thread; `port` is the one that it got."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self._metrics = make_wsgi_app(registry)
        self._health = health
        try:
            self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            remedy = "set MICROOPT_HTTP_PORT to a free port, or 0 for any"
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                remedy = "set MICROOPT_HTTP_HOST to an address of this machine"
            raise ConfigError(f"[http] port {port} on {host}: {error.strerror}; {remedy}") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if path not in ("/healthz", "/readyz"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /healthz or /readyz\n"]
        trouble = self._health.alive() if path == "/healthz" else self._health.ready()
        status = "503 Service Unavailable" if trouble else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{trouble or 'ok'}\n".encode()]
