import io
import json
import logging

import pytest
import structlog

from microopt import log
from microopt.bus import Bus, without_secrets
from microopt.errors import ConfigError
from microopt.settings import LogSettings, NatsSettings


@pytest.fixture
def stream():
    """What is logged in this test; afterwards the process logs as before."""
    handlers = logging.getLogger().handlers[:]
    yield io.StringIO()
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def configured(stream):
    def configure(**settings):
        log.configure(LogSettings(**settings), agent="tester", stream=stream)
        return structlog.get_logger("microopt.test")

    return configure


def lines(stream) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_event_is_one_json_object_that_names_agent_level_and_time(configured, stream):
    logger = configured(format="json")
    logger.info("slot_closed", slice="1-000001", users=3.0)
    logger.bind(pool="edge").error("failed", why="line one\nline two", odd={1, 2}, path=object)
    first, second = lines(stream)
    assert first["timestamp"].endswith("Z")
    del first["timestamp"]
    assert first == {"event": "slot_closed", "slice": "1-000001", "users": 3.0, "agent": "tester", "level": "info"}
    assert (second["pool"], second["why"], second["level"]) == ("edge", "line one\nline two", "error")


def test_a_stack_trace_is_one_line_too(configured, stream):
    logger = configured(format="json")
    try:
        raise ZeroDivisionError("as expected")
    except ZeroDivisionError:
        logger.exception("failed")
    [line] = lines(stream)
    assert "ZeroDivisionError: as expected" in line["exception"]


def test_a_stream_that_is_no_terminal_gets_json_by_default_and_text_when_asked(configured, stream):
    configured().info("one")
    assert [line["event"] for line in lines(stream)] == ["one"]
    configured(format="console").info("two")
    last = stream.getvalue().splitlines()[-1]
    assert "two" in last
    assert "\x1b" not in last


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def failing(password: str) -> None:
    raise ConnectionError(f"refused a password of {len(password)} letters")


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("out", [io.StringIO, Terminal])
def test_a_stack_trace_shows_where_but_no_local_variable(stream, form, out):
    secret, to = "hush-" * 3, out()
    log.configure(LogSettings(format=form), agent="tester", stream=to)
    try:
        failing(secret)
    except ConnectionError:
        structlog.get_logger("microopt.test").exception("handler_failed")
        logging.getLogger("library").exception("failed")
    said = to.getvalue()
    assert said.count("refused a password of 15 letters") == 2
    assert said.count("in failing") == 2
    assert secret not in said


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", ["a", "b", "c", "d"]), ("info", ["b", "c", "d"]), ("warning", ["c", "d"]), ("error", ["d"])],
)
def test_what_is_below_the_level_is_not_logged(configured, stream, level, kept):
    logger = configured(level=level)
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [line["event"] for line in lines(stream)] == kept


def test_what_libraries_report_has_the_same_form(configured, stream):
    configured()
    configured()
    logging.getLogger("asyncio").error("Task exception was never retrieved\n%s", "future")
    logging.getLogger("nats").warning("slow")
    logging.getLogger("nats").info("not said")
    try:
        raise ZeroDivisionError("as expected")
    except ZeroDivisionError:
        logging.getLogger("other").exception("failed")
    said = lines(stream)
    assert [(line["event"], line["level"]) for line in said] == [
        ("Task exception was never retrieved\nfuture", "error"),
        ("slow", "warning"),
        ("failed", "error"),
    ]
    assert "ZeroDivisionError: as expected" in said[2]["exception"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://host:4222", "nats://host:4222"),
        ("nats://me:hush@host:4222", "nats://host:4222"),
        ("tls://hush@host", "tls://host"),
        ("nats://me:hush@a:1, nats://hush@b:2", "nats://a:1, nats://b:2"),
        ("me:hush@host:4222", "host:4222"),
        ("nats://me:hu/sh@host", "nats://host"),
        ("nats://me:hu@sh@host", "nats://host"),
        ("a:1,me:hush@b:2", "a:1,b:2"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert without_secrets(url) == shown


SECRETS = ("hush-user", "hush-password", "hush-token", "hush-in-url")


@pytest.mark.parametrize(
    "url", ["nats://hush-user:hush-in-url@{}", "hush-in-url@{}", "nats://{},nats://x:hush-in-url@{}"]
)
async def test_a_connect_that_fails_says_where_and_no_secret(configured, stream, unused_port, url):
    configured(level="debug")
    where = f"127.0.0.1:{unused_port}"
    secrets = dict(zip(("user", "password", "token"), SECRETS, strict=False))
    settings = NatsSettings(url=url.format(where, where), **secrets)
    with pytest.raises(ConfigError, match=f"{where}; start one with `microopt up`, or set NATS_URL") as error:
        await Bus.connect(settings, "tester", within_s=0.3)
    said = lines(stream)
    assert "bus_error" in {line["event"] for line in said}
    for secret in SECRETS:
        assert secret not in stream.getvalue()
        assert secret not in str(error.value)


async def test_a_url_that_is_none_and_a_ca_that_is_absent_are_named_without_secrets(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot connect to NATS at nats://127\.0\.0\.1:port") as error:
        await Bus.connect(NatsSettings(url="nats://me:hush@127.0.0.1:port"), "tester", within_s=5)
    assert "hush" not in str(error.value)
    absent = NatsSettings(url="tls://127.0.0.1:1", tls_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"\[nats\] tls_ca: no such file .*ca\.pem"):
        await Bus.connect(absent, "tester", within_s=5)
