"""Resources of the emulated slices, by request and reply on core NATS in the testbed's own plain JSON."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Final

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client

from microopt.agent import Context
from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.base import Driver, Write
from microopt_actuator.settings import ActuatorSettings

SUBJECT: Final = "testbed.resource"
_JSON_SLACK: Final = 1e-9
"""Relative; a value goes there and back as decimal text."""


class _Reply(Struct, frozen=True):
    value: float | None = None
    error: str | None = None


class TestbedDriver:
    """The `Driver` for the emulated slices; a target is `<slice>.<resource>`, a value in the resource's unit.

    Args:
        nc: the connection to ask through; it belongs to the caller.
        timeout_s: how long to wait for an answer.
    """

    name = "testbed"
    unit = None  # the testbed has the units of its pool

    def __init__(self, nc: Client, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s

    async def plan(self, target: str, value: float) -> Write:
        """Return the request that puts `value` in force, none if it is.

        Raises:
            TemporaryError: no testbed answers for this target now.
            PermanentError: the testbed has no such resource.
        """
        write = Write(target, value, holds=value, tolerance=abs(value) * _JSON_SLACK, steps=())
        if write.is_held_by(await self.read(target)):
            return write
        return replace(write, steps=(f"ask {SUBJECT}.{target} to set {value:g}",))

    async def apply(self, write: Write) -> None:
        """Ask for the value.

        Raises:
            TemporaryError: no testbed answers for this target now.
            PermanentError: the testbed has no such resource, or refuses the value.
        """
        await self._ask(write.target, {"set": write.value})

    async def read(self, target: str) -> float | None:
        """Return the value in force.

        Raises:
            TemporaryError: no testbed answers for this target now.
            PermanentError: the testbed has no such resource.
        """
        return await self._ask(target, {})

    async def _ask(self, target: str, request: dict[str, float]) -> float:
        subject = f"{SUBJECT}.{target}"
        if not self._nc.is_connected:  # else it would be buffered, and obeyed when nobody expects it any more
            raise TemporaryError(f"{subject}: not connected to the bus")
        try:
            answer = await self._nc.request(subject, msgspec.json.encode(request), timeout=self._timeout_s)
        except nats.errors.BadSubjectError as error:
            raise PermanentError(f"testbed target {target!r}: write <slice>.<resource>") from error
        except nats.errors.NoRespondersError as error:
            raise TemporaryError(f"nobody serves {subject}; is the testbed running?") from error
        except nats.errors.Error as error:
            raise TemporaryError(f"{subject}: no answer within {self._timeout_s:g} s ({error!r})") from error
        return _value(answer.data, subject)


def opened(settings: ActuatorSettings, ctx: Context) -> AbstractAsyncContextManager[Driver]:
    """Return the driver, which asks through the agent's connection."""
    return nullcontext(TestbedDriver(ctx.bus.nc, settings.testbed.timeout_s))


def _value(data: bytes, subject: str) -> float:
    try:
        reply = msgspec.json.decode(data, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PermanentError(f"{subject}: the answer is not the testbed's: {error}") from error
    if reply.error is not None or reply.value is None:
        raise PermanentError(f"{subject}: {reply.error or 'the answer has neither value nor error'}")
    return reply.value
