"""Running the sources for a while, into a sink that remembers instead of publishing."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from nats.aio.client import Client

from microopt import desired
from microopt.bus import Bus, without_secrets
from microopt.errors import ConfigError, MicrooptError
from microopt.settings import NatsSettings
from microopt.specs import SliceSpec
from microopt_collector import guard, sources
from microopt_collector.check.report import Rejections, Report, SliceReport, SourceReport
from microopt_collector.settings import CollectorSettings
from microopt_collector.sources.base import Measurement, Rejected, Source
from microopt_collector.sources.mqtt import MqttSourceSettings

CONNECT_WITHIN_S: Final = 2.0
LOOK_ON_S: Final = 1.0
"""How long a source is looked at after it gave something: a counter needs two readings."""
AGAIN_S: Final = 0.5


async def check(
    settings: CollectorSettings,
    nats_settings: NatsSettings,
    for_s: float,
    make: Callable[..., Source] = sources.make,
) -> Report:
    """Return what each source gives until all have given something, or `for_s` have passed."""
    url = without_secrets(nats_settings.url)
    try:
        bus = await Bus.connect(nats_settings, "check", within_s=CONNECT_WITHIN_S)
    except ConfigError as error:
        return await _check(settings, None, None, str(error), for_s, make)
    async with bus:
        specs, said = await _declared(bus, url)
        return await _check(settings, bus.nc, specs, said, for_s, make)


async def _declared(bus: Bus, url: str) -> tuple[dict[str, SliceSpec] | None, str]:
    try:
        specs, _ = await desired.get_all(bus, SliceSpec)
    except Exception as error:  # no JetStream, no bucket, no permission: the sources can be looked at all the same
        return None, f"{url} does not give them: {error or type(error).__name__}"
    return specs, url


async def _check(
    settings: CollectorSettings,
    client: Client | None,
    specs: Mapping[str, SliceSpec] | None,
    bus: str,
    for_s: float,
    make: Callable[..., Source],
) -> Report:
    began = time.monotonic()
    sinks = [_CheckSink(one, specs) for one in settings.sources]
    tasks = [
        asyncio.create_task(_keep(one, client, sink, bus, make))
        for one, sink in zip(settings.sources, sinks, strict=True)
    ]
    try:
        async with asyncio.timeout(for_s):
            await asyncio.gather(*(sink.done.wait() for sink in sinks))
    except TimeoutError:
        pass  # the report tells what was not given in time
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Report(
        bus=bus,
        seconds=time.monotonic() - began,
        declared=None if specs is None else {name: spec.sla.qos_unit for name, spec in specs.items()},
        sources=[sink.report for sink in sinks],
    )


async def _keep(
    settings: sources.SourceSettings,
    client: Client | None,
    sink: "_CheckSink",
    bus: str,
    make: Callable[..., Source],
) -> None:
    """Run one source, again and again if it ends."""
    if client is None and isinstance(settings, sources.ON_THE_BUS):
        sink.failed(bus)
        sink.done.set()
        return
    source = make(_apart(settings), client)
    while True:
        try:
            await source.run(sink)
            sink.failed("it ended")
        except MicrooptError as error:
            sink.failed(str(error))
        except Exception as error:
            sink.failed(repr(error))
        await asyncio.sleep(AGAIN_S)


def _apart(settings: sources.SourceSettings) -> sources.SourceSettings:
    """Return `settings` with which a source does not push that of a running collector aside."""
    if isinstance(settings, MqttSourceSettings) and settings.client_id:
        return msgspec.structs.replace(settings, client_id=f"{settings.client_id}-check")
    return settings


class _CheckSink:
    """What one source gave."""

    def __init__(self, settings: sources.SourceSettings, specs: Mapping[str, SliceSpec] | None) -> None:
        kind = str(type(settings).__struct_config__.tag)
        self.report = SourceReport(name=settings.name, kind=kind, where=settings.where)
        self._settings = settings
        self._specs = specs
        self.done = asyncio.Event()
        """There is nothing more to wait for."""

    def emit(self, measurement: Measurement) -> None:
        """Take a measurement as the collector would.

        Raises:
            Rejected: the collector would not.
        """
        settings = self._settings
        if self._specs is not None:
            spec = self._specs.get(measurement.slice)
            if spec is None:
                raise guard.unknown(measurement.slice, self._specs)
            guard.check(measurement, spec.sla, max_users=settings.max_users, unit_setting=settings.unit_setting)
        if not self.report.slices:
            asyncio.get_running_loop().call_later(LOOK_ON_S, self.done.set)
        self.report.slices.setdefault(measurement.slice, SliceReport()).note(measurement)

    def reject(self, data: bytes, *, subject: str, error: Rejected) -> None:
        """Count it, and remember the first of its reason."""
        found = self.report.rejected.setdefault(error.reason, Rejections(0, subject, str(error)))
        found.count += 1

    def up(self, is_up: bool) -> None:
        """Note whether it is connected."""
        self.report.connected = is_up

    def took(self, seconds: float) -> None:
        """Pass over durations."""

    def hint(self, text: str) -> None:
        """Remember each text once."""
        if text not in self.report.hints:
            self.report.hints.append(text)

    def failed(self, text: str) -> None:
        """Remember each error once."""
        if text not in self.report.errors:
            self.report.errors.append(text)
