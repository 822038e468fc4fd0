"""The driver `onos` where ONOS, its switch or its password is not as it should be."""

import asyncio

import pytest
from aiohttp import web

from fakes.onos import FakeOnos
from fakes.onos_driver import DEVICE, OTHER, Onos, holds, put
from microopt.errors import ConfigError, PermanentError, TemporaryError


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE) as server:
        yield server


@pytest.fixture
def settings(fake, tmp_path):
    return Onos(fake, tmp_path)


@pytest.fixture
def open_driver(settings):
    """Open a driver as another process would have it."""
    return settings.opened


@pytest.fixture
async def driver(open_driver):
    async with open_driver() as it:
        yield it


async def test_a_device_that_is_gone_or_away_is_waited_for(fake, driver):
    with pytest.raises(TemporaryError, match=rf"{OTHER}: does not know this device"):
        await driver.read("elsewhere")
    await put(driver, "metered", 10.0)
    fake.devices[DEVICE].available = False
    for call in (driver.read("metered"), driver.plan("metered", 20.0)):
        with pytest.raises(TemporaryError, match="has lost the connection to this device"):
            await call


@pytest.mark.parametrize("status", [404, 409, 500, 503])
async def test_an_onos_in_trouble_passes_and_its_words_are_told(fake, driver, status):
    async def fail(method, _):
        return status if method == "POST" else None

    fake.trouble = fail
    with pytest.raises(TemporaryError, match=rf"POST /meters/{DEVICE}: {status} .*the store is away"):
        await put(driver, "metered", 10.0)
    fake.trouble = None
    assert await holds(driver, "metered", 10.0)


async def test_an_onos_that_hangs_is_named_within_the_timeout(fake, open_driver):
    async def hang(*_):
        await asyncio.Event().wait()

    async with open_driver(timeout_s=0.2) as driver:
        fake.trouble = hang
        with pytest.raises(TemporaryError, match=r"GET /devices/of:\d+: no answer within 0\.2 s"):
            await driver.read("metered")


async def test_an_onos_that_is_not_there_is_named(open_driver, unused_port):
    async with open_driver(url=f"http://127.0.0.1:{unused_port}/onos/v1") as driver:
        with pytest.raises(TemporaryError, match=rf"ONOS at http://127\.0\.0\.1:{unused_port}.*connect"):
            await driver.read("metered")


async def test_a_wrong_password_or_a_viewer_is_told_with_the_remedy_and_without_the_password(
    settings, open_driver
):
    settings.password_file.write_text("s3cret\n")
    async with open_driver() as driver:
        with pytest.raises(PermanentError, match=r"401; check username \(onos\) and password_file") as caught:
            await driver.read("metered")
        assert "s3cret" not in str(caught.value)
    settings.password_file.write_text("guest\n")
    async with open_driver(username="guest") as driver:
        assert await driver.read("metered") is None
        with pytest.raises(PermanentError, match="give user guest the role admin"):
            await put(driver, "metered", 10.0)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", "the answer is not ONOS's"),
        (200, b'{"available": "yes"}', r"the answer is not ONOS's .*available"),
        (200, b" " * (16 * 1024 * 1024 + 1), "the answer is longer than 16 MiB"),
        (302, b"", "302; check .* url, which ends with /onos/v1"),
    ],
)
async def test_another_web_server_is_told_from_onos(open_driver, http_part, status, body, error):
    async def answer(_):
        return web.Response(status=status, body=body)

    server = await http_part(answer)
    async with open_driver(url=f"http://127.0.0.1:{server.port}/onos/v1") as driver:
        with pytest.raises(PermanentError, match=error):
            await driver.read("metered")


async def test_without_a_password_the_driver_says_what_is_missing(open_driver, tmp_path):
    for given, error in ((None, "is missing"), (str(tmp_path / "none"), "cannot be read")):
        with pytest.raises(ConfigError, match=rf"password_file .*{error}"):
            async with open_driver(password_file=given):
                pass
