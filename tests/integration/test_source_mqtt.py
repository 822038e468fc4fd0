"""The MQTT source, against a real broker."""

import asyncio
import gc
import json
import ssl
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from microopt import codec, streams
from microopt.broker import free_port
from microopt.cancel import cancel
from microopt.errors import ConfigError, TemporaryError
from microopt.messages import Telemetry
from microopt.settings import NatsSettings, Settings
from microopt.testing import eventually, running
from microopt_collector.agent import build
from microopt_collector.check.run import check
from microopt_collector.settings import CollectorSettings
from microopt_collector.sources.mqtt import MqttSource, MqttSourceSettings

SLICE = "1-000001"


def settings(broker, **changes) -> dict:
    found = {
        "kind": "mqtt",
        "port": broker.port,
        "topics": ["slice/+/kpi"],
        "slice_token": 1,
        "time_field": "t",
        "users_field": "ues",
        "qos_field": "thpt",
    }
    return found | changes


def source(broker, **changes) -> MqttSource:
    return MqttSource(msgspec.convert(settings(broker, **changes), MqttSourceSettings))


def kpi(slice_=SLICE, **changes) -> tuple[str, bytes]:
    return f"slice/{slice_}/kpi", json.dumps({"t": time.time(), "ues": 3, "thpt": 4.5} | changes).encode()


async def is_up(heard) -> None:
    await eventually(lambda: heard.states and heard.states[-1])


async def test_messages_of_a_topic_become_measurements(mosquitto, measuring):
    broker = mosquitto()
    await broker.start()
    async with measuring(source(broker)) as heard:
        await is_up(heard)
        await broker.say(kpi(), kpi("2", ues=0), ("other", b"{}"), kpi("embb"), ("slice/1/kpi", b"{"))
        await eventually(lambda: len(heard.rejected) == 2)
    assert [(m.slice, m.users, m.qos, m.source) for m in heard.measurements] == [
        (SLICE, 3.0, 4.5, "mqtt"),
        ("2", 0.0, 4.5, "mqtt"),
    ]
    assert [reason for reason, _ in heard.rejected] == ["no_slice", "not_json"]
    assert heard.subjects == ["slice/embb/kpi", "slice/1/kpi"]
    assert len(heard.durations) == 4


async def test_a_bug_costs_one_message_and_not_the_next(mosquitto, measuring, recorder, monkeypatch):
    broker = mosquitto()
    await broker.start()
    emit = recorder.emit

    def buggy(measurement):
        if measurement.users == 7:
            raise ZeroDivisionError("a bug")
        emit(measurement)

    monkeypatch.setattr(recorder, "emit", buggy)
    async with measuring(source(broker)) as heard:
        await is_up(heard)
        await broker.say(kpi(ues=7), kpi(ues=5))
        await eventually(lambda: heard.measurements)
    assert heard.rejected == [("error", "cannot be handled: ZeroDivisionError('a bug')")]


async def test_the_check_does_not_push_a_running_collector_aside(mosquitto, measuring):
    broker = mosquitto()
    await broker.start()
    table = settings(broker, client_id="collector-1")
    async with measuring(source(broker, client_id="collector-1")) as heard:
        await is_up(heard)
        nats = NatsSettings(url=f"nats://127.0.0.1:{free_port()}")
        report = await check(msgspec.convert({"sources": [table]}, CollectorSettings), nats, for_s=0.3)
        assert report.sources[0].connected
        await broker.say(kpi())
        await eventually(lambda: heard.measurements)


async def test_what_the_broker_remembers_is_no_measurement_of_now(mosquitto, measuring):
    broker = mosquitto()
    await broker.start()
    await broker.say(kpi(), retain=True)
    async with measuring(source(broker)) as heard:
        await is_up(heard)
        await broker.say(kpi(ues=5))
        await eventually(lambda: heard.measurements)
    assert [m.users for m in heard.measurements] == [5.0]
    assert heard.reasons == {"retained"}


async def test_retained_messages_are_taken_when_asked_for(mosquitto, measuring):
    broker = mosquitto()
    await broker.start()
    await broker.say(kpi(), retain=True)
    async with measuring(source(broker, take_retained=True)) as heard:
        await eventually(lambda: heard.measurements)
    assert heard.rejected == []


async def test_a_huge_message_is_refused_and_the_next_is_taken(mosquitto, measuring):
    broker = mosquitto("message_size_limit 0")
    await broker.start()
    async with measuring(source(broker)) as heard:
        await is_up(heard)
        await broker.say((f"slice/{SLICE}/kpi", bytes(100_000_000)), kpi(), timeout=60)
        await eventually(lambda: heard.measurements, within_s=60)
    [(reason, text)] = heard.rejected
    assert reason == "too_big"
    assert text.startswith("100,000,000 bytes")


async def test_a_broker_that_is_killed_ends_the_source_and_takes_it_again(mosquitto, recorder):
    broker = mosquitto()
    await broker.start()
    listening = asyncio.create_task(source(broker).run(recorder))
    await is_up(recorder)
    await broker.kill()
    with pytest.raises(TemporaryError, match=f"MQTT broker 127.0.0.1:{broker.port}: "):
        await asyncio.wait_for(listening, 20)
    with pytest.raises(TemporaryError, match="refused"):
        await source(broker).run(recorder)
    await broker.start()
    listening = asyncio.create_task(source(broker).run(recorder))
    await eventually(lambda: len(recorder.states) == 2)
    await broker.say(kpi())
    await eventually(lambda: recorder.measurements)
    await cancel([listening])


def account_of_the_collector(folder) -> Path:
    """Return a file of accounts, with `collector` and its password `right`."""
    accounts = folder / "accounts"
    accounts.touch()
    subprocess.run(["mosquitto_passwd", "-b", accounts, "collector", "right"], check=True, capture_output=True)
    return accounts


async def test_a_wrong_password_is_said_without_the_password(mosquitto, recorder, tmp_path):
    accounts = account_of_the_collector(tmp_path)
    broker = mosquitto("allow_anonymous false", f"password_file {accounts}")
    await broker.start()
    password = tmp_path / "password"
    password.write_text("wrong\n")
    login = {"username": "collector", "password_file": str(password)}
    with pytest.raises(TemporaryError, match="check username and password_file") as caught:
        await source(broker, **login).run(recorder)
    assert "wrong" not in str(caught.value)
    password.write_text("right\n")
    listening = asyncio.create_task(source(broker, **login).run(recorder))
    await is_up(recorder)
    await cancel([listening])


async def test_a_topic_that_the_broker_refuses_is_said(mosquitto, recorder, measuring, tmp_path):
    accounts, rules, password = account_of_the_collector(tmp_path), tmp_path / "rules", tmp_path / "password"
    rules.write_text("user collector\ntopic readwrite slice/#\n")
    password.write_text("right")
    broker = mosquitto("allow_anonymous false", f"password_file {accounts}", f"acl_file {rules}")
    await broker.start()
    login = {"username": "collector", "password": "right"}
    found = source(broker, username="collector", password_file=str(password), topics=["slice/+/kpi", "secret/#"])
    async with measuring(found) as heard:
        await is_up(heard)
        await broker.say(kpi(), **login)
        await eventually(lambda: heard.measurements)


def certificates(folder) -> None:
    """Make a CA and the certificate of a server on 127.0.0.1."""

    def openssl(*arguments) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem")


# The MQTT library leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
async def test_tls_is_checked_by_the_ca_that_is_given(mosquitto, recorder, measuring, tmp_path):
    certificates(tmp_path)
    broker = mosquitto(
        f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key"
    )
    await broker.start()
    with pytest.raises(TemporaryError, match="certificate verify failed"):
        await source(broker, tls=True).run(recorder)
    gc.collect()
    ca = tmp_path / "ca.pem"
    async with measuring(source(broker, tls_ca=str(ca))) as heard:
        await is_up(heard)
        await broker.say(kpi(), tls_context=ssl.create_default_context(cafile=ca))
        await eventually(lambda: heard.measurements)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tls_ca": "missing.pem"}, "tls_ca 'missing.pem': No such file"),
        ({"username": "x", "password_file": "missing"}, "password_file 'missing': cannot be read: No such file"),
    ],
)
async def test_a_file_that_is_missing_is_named(mosquitto, recorder, changes, text):
    with pytest.raises(ConfigError, match=text):
        await source(mosquitto(), **changes).run(recorder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"topics": []}, "topics"),
        ({"topics": ["a/#/b"]}, "topics"),
        ({"topics": ["a+/b"]}, "topics"),
        ({"password_file": "x"}, "needs username"),
        ({"password": "x"}, "did you mean 'password_file'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes, text):
    table = {"kind": "mqtt", "topics": ["a"], "users_field": "u"} | changes
    with pytest.raises(ConfigError, match=text):
        build(Settings({"collector": {"sources": [table]}}, origin="test"))


async def test_duplicates_and_a_killed_broker_cost_no_slot_its_truth(mosquitto, bus, broker, make_slice):
    mqtt = mosquitto()
    await mqtt.start()
    await bus.put_spec(streams.SLICES, SLICE, make_slice())
    table = {"sources": [settings(mqtt)], "lateness_slots": 10.0}

    async def heard() -> list[Telemetry]:
        said = kpi()
        await mqtt.say(said, (said[0], said[1].replace(b'"ues": 3', b'"ues": 9')))  # the same instant, said twice
        info = await bus.js.stream_info(streams.TELEMETRY)
        found = [await bus.js.get_msg(streams.TELEMETRY, n + 1) for n in range(info.state.last_seq)]
        return [t for m in found if (t := codec.decode(m.data, Telemetry, origin="test")).users is not None]

    async with running(build(Settings({"collector": table}, origin="test")), broker.url):
        before = await eventually(heard, every_s=0.1)
        await mqtt.kill()
        await mqtt.start()
        after = await eventually(lambda: _more_than(heard, len(before) + 2), every_s=0.1)
    assert {t.users for t in after} == {3.0}
    assert {t.source for t in after} == {"mqtt"}


async def _more_than(heard, count):
    found = await heard()
    return found if len(found) > count else None
