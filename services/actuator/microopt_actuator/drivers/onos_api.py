"""ONOS by REST (`/onos/v1`): one bounded request at a time, and what its refusals mean."""

import asyncio
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec
from msgspec import Struct

from microopt.errors import ConfigError, MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.onos_model import FlowEntry, MeterEntry, number_of
from microopt_actuator.drivers.onos_settings import OnosSettings

MAX_ANSWER: Final = 16 * 1024 * 1024
_MAX_SAID: Final = 200

T = TypeVar("T")


class _Said(Struct, frozen=True):
    message: str = ""


class _Device(Struct, frozen=True):
    available: bool


class _Flows(Struct, frozen=True):
    flows: list[FlowEntry]


class _Meters(Struct, frozen=True):
    meters: list[MeterEntry]


class OnosApi:
    """The requests that the driver makes; each raises what its refusal means.

    A missing device and an ONOS that is away or in trouble pass (`TemporaryError`); a refusal stays until somebody
    does what the text says (`PermanentError`).
    """

    def __init__(self, settings: OnosSettings, password: str) -> None:
        self._where = f"ONOS at {settings.url}"
        self._user = settings.username
        self._timeout_s = settings.timeout_s
        self._client = httpx.AsyncClient(
            base_url=settings.url,
            auth=(settings.username, password),
            timeout=settings.timeout_s,
            trust_env=False,  # neither a proxy nor another password from the environment
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def check_device(self, device: str) -> None:
        """Return if the switch is connected.

        Raises:
            TemporaryError: ONOS does not know it, or has lost it and only remembers what it had.
        """
        found = await self._get(f"/devices/{device}", _Device)
        if found is None or not found.available:
            state = "does not know this device" if found is None else "has lost the connection to this device"
            raise TemporaryError(f"{self._where}: {device}: {state}; waiting for the switch to connect")

    async def flows_of(self, app_id: str) -> list[FlowEntry]:
        """Return the flows of an owner, on all devices."""
        found = await self._get(f"/flows/application/{app_id}", _Flows)  # 404: it has posted none yet
        return found.flows if found else []

    async def flows_on(self, device: str) -> list[FlowEntry]:
        """Return all flows of a device."""
        found = await self._get(f"/flows/{device}", _Flows)  # 404: it has none
        return found.flows if found else []

    async def flow(self, device: str, number: int) -> FlowEntry | None:
        """Return one flow, or None if there is none of this id."""
        found = await self._get(f"/flows/{device}/{number}", _Flows)
        return found.flows[0] if found and found.flows else None

    async def meters_on(self, device: str) -> list[MeterEntry]:
        """Return all meters of a device."""
        found = await self._get(f"/meters/{device}", _Meters)
        return found.meters if found else []

    async def meter(self, device: str, number: int) -> MeterEntry | None:
        """Return one meter, or None if there is none of this id."""
        found = await self._get(f"/meters/{device}/{number}", _Meters)
        return found.meters[0] if found and found.meters else None

    async def post_flow(self, device: str, app_id: str, body: dict[str, Any]) -> int:
        """Post a flow and return its id; one with the same selector and priority is replaced by it."""
        answer, _ = await self._ask("POST", f"/flows/{device}", body, {"appId": app_id})
        return number_of(answer.headers.get("Location"), self._where)

    async def post_meter(self, device: str, body: dict[str, Any]) -> int:
        """Make a meter and return its id."""
        answer, _ = await self._ask("POST", f"/meters/{device}", body)
        return number_of(answer.headers.get("Location"), self._where)

    async def delete_meter(self, device: str, number: int) -> None:
        """Delete a meter; one that is gone already is no error."""
        await self._ask("DELETE", f"/meters/{device}/{number}")

    async def _get(self, path: str, kind: type[T]) -> T | None:
        answer, content = await self._ask("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PermanentError(
                f"{self._where}: GET {path}: the answer is not ONOS's ({error}); check [actuator.onos] url"
            ) from None

    async def _ask(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> tuple[httpx.Response, bytes]:
        request = self._client.build_request(method, path.removeprefix("/"), json=body, params=query)
        what = f"{self._where}: {method} {path}"
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, content = await self._send(request, what)
        except (TimeoutError, httpx.TimeoutException):
            raise TemporaryError(f"{what}: no answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise TemporaryError(f"{what}: {error or type(error).__name__}") from None
        is_missing = method == "GET" and answer.status_code == httpx.codes.NOT_FOUND
        if not (answer.is_success or is_missing):
            raise self._refusal(answer.status_code, _message(content), what)
        return answer, content

    async def _send(self, request: httpx.Request, what: str) -> tuple[httpx.Response, bytes]:
        answer = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MAX_ANSWER:
                    raise PermanentError(f"{what}: the answer is longer than {MAX_ANSWER >> 20} MiB")
            return answer, bytes(content)
        finally:
            await answer.aclose()

    def _refusal(self, status: int, said: str, what: str) -> MicrooptError:
        text = f"{what}: {status} {said}".rstrip()
        if status == httpx.codes.UNAUTHORIZED:
            return PermanentError(f"{text}; check username ({self._user}) and password_file of [actuator.onos]")
        if status == httpx.codes.FORBIDDEN:
            return PermanentError(f"{text}; give user {self._user} the role admin in ONOS, which writing needs")
        if status == httpx.codes.BAD_REQUEST:
            if "deviceId" in said:
                return TemporaryError(f"{text}; waiting for the switch to connect")
            hint = "; does the switch have meters, and any left?" if "cell id" in said else ""
            return PermanentError(f"{text}{hint}")
        if status == httpx.codes.SERVICE_UNAVAILABLE:
            return TemporaryError(f"{text}; is the app openflow active in ONOS?")
        if status in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT) or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return TemporaryError(text)
        return PermanentError(f"{text}; check [actuator.onos] url, which ends with /onos/v1")


def secret(settings: OnosSettings) -> str:
    """Return the password.

    Raises:
        ConfigError: there is no file for it, or nothing in it.
    """
    path = settings.password_file
    if path is None:
        raise ConfigError("[actuator.onos] password_file is missing: give the path of a file with ONOS's password")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"[actuator.onos] password_file {path!r}: cannot be read: {why}") from None
    if not lines or not lines[0]:
        raise ConfigError(f"[actuator.onos] password_file {path!r}: the first line is empty, not the password")
    return lines[0]


def _message(content: bytes) -> str:
    """Return what ONOS says of an error; Jetty, in front of it, answers with a page that says nothing."""
    try:
        return msgspec.json.decode(content, type=_Said).message[:_MAX_SAID]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
