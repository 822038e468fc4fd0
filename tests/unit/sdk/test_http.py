import http.client

import pytest
from prometheus_client import CollectorRegistry, Counter

from microopt.broker import is_listening
from microopt.errors import ConfigError
from microopt.http import STALE_AFTER_S, Health, HttpServer


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(clock)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def get(registry, health):
    """Serve `health` and `registry` and return what asks for a path."""
    server = HttpServer("127.0.0.1", 0, registry, health)

    def ask(path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    ask.port = server.port
    yield ask
    server.close()
    assert not is_listening("127.0.0.1", server.port)


def test_a_process_whose_loop_turns_is_alive_and_ready(get):
    assert get("/healthz") == (200, "ok\n")
    assert get("/readyz") == (200, "ok\n")


def test_a_loop_that_has_not_turned_for_too_long_is_neither_alive_nor_ready(get, clock, health):
    clock.now += STALE_AFTER_S
    assert get("/healthz")[0] == 200
    clock.now += 1.0
    assert get("/healthz") == (503, "the event loop has not turned for 11 s\n")
    assert get("/readyz")[0] == 503
    health.tick()
    assert get("/healthz") == (200, "ok\n")


def test_an_agent_that_waits_is_alive_but_not_ready_and_says_for_what(get, health):
    health.wait_for("bus", "not connected to the bus")
    health.wait_for("slices", "slices not read yet")
    assert get("/healthz") == (200, "ok\n")
    assert get("/readyz") == (503, "not connected to the bus; slices not read yet\n")
    health.done("bus")
    assert get("/readyz") == (503, "slices not read yet\n")
    health.done("slices")
    health.done("never waited for")
    assert get("/readyz") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/", "/readyz/..", "/%2e%2e/etc/passwd"])
def test_another_path_is_not_found_and_says_which_there_are(get, path):
    assert get(path) == (404, "/metrics, /healthz or /readyz\n")


def test_metrics_are_those_of_the_registry(get, registry):
    Counter("microopt_test_things_total", "Things.", registry=registry).inc(3)
    status, text = get("/metrics")
    assert status == 200
    assert "microopt_test_things_total 3.0" in text


def test_a_request_that_is_no_http_harms_nothing(get):
    connection = http.client.HTTPConnection("127.0.0.1", get.port, timeout=5)
    connection.connect()
    connection.sock.sendall(b"\x00\xff nonsense\r\n\r\n")
    connection.sock.recv(1024)
    connection.close()
    assert get("/healthz") == (200, "ok\n")


def test_a_port_that_is_taken_names_the_variable(get, registry, health):
    with pytest.raises(ConfigError, match=rf"\[http\] port {get.port} on 127.0.0.1: .*in use.*MICROOPT_HTTP_PORT"):
        HttpServer("127.0.0.1", get.port, registry, health)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_this_machine_names_the_variable(registry, health, host):
    with pytest.raises(ConfigError, match=rf"port 0 on {host}: .*MICROOPT_HTTP_HOST"):
        HttpServer(host, 0, registry, health)
