"""systemd's manager on D-Bus (org.freedesktop.systemd1(5)): one connection, made anew whenever it was lost."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, AuthTimeoutError, DBusFastError, InvalidAddressError

from microopt.errors import MicrooptError, PermanentError, TemporaryError

NAME: Final = "org.freedesktop.systemd1"
PATH: Final = "/org/freedesktop/systemd1"
MANAGER: Final = f"{NAME}.Manager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

_BUS: Final = "org.freedesktop.DBus"
_ERROR: Final = f"{_BUS}.Error."
_NOT_LOADED = frozenset({f"{NAME}.NoSuchUnit", f"{_ERROR}UnknownObject"})
_NOT_ON_BUS = frozenset({f"{_ERROR}NameHasNoOwner", f"{_ERROR}ServiceUnknown"})
_FORBIDDEN = frozenset(
    {f"{_ERROR}AccessDenied", f"{_ERROR}AuthFailed", f"{_ERROR}InteractiveAuthorizationRequired"}
)
_UNUSABLE = frozenset({f"{NAME}.UnitMasked", f"{NAME}.BadUnitSetting", f"{NAME}.LoadFailed"})
_UNACCEPTABLE = frozenset(
    {
        f"{_ERROR}InvalidArgs",
        f"{_ERROR}InvalidSignature",
        f"{_ERROR}NotSupported",
        f"{_ERROR}PropertyReadOnly",
        f"{_ERROR}UnknownInterface",
        f"{_ERROR}UnknownMethod",
        f"{_ERROR}UnknownProperty",
        "System.Error.EINVAL",
        "System.Error.ENXIO",  # a value of another type than expected
    }
)
ALLOW: Final = (
    "run the actuator as root, or allow its user the action org.freedesktop.systemd1.manage-units by a polkit rule"
)


class SystemdBus:
    """Asks systemd for properties of units, and to set them.

    Args:
        address: the D-Bus address, such as `unix:path=/run/dbus/system_bus_socket`; `None` is the system bus.
        timeout_s: how long to wait for one answer, the connection included.
    """

    def __init__(self, address: str | None, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._connecting = asyncio.Lock()
        self._bus: MessageBus | None = None
        self._watch: asyncio.Task[None] | None = None

    async def number(self, unit: str, name: str) -> int:
        """Return a property, a number, of a unit that systemd has loaded.

        Raises:
            TemporaryError: the unit is not loaded, or systemd does not answer.
            PermanentError: it may not be asked, or knows no such property.
        """
        return int(await self._property(unit, name, "t"))

    async def text(self, unit: str, name: str) -> str:
        """Return a property, a text, of a unit that systemd has loaded; errors as of `number`."""
        return str(await self._property(unit, name, "s"))

    async def set_runtime(self, unit: str, properties: Mapping[str, int]) -> None:
        """Set properties of a unit until the next boot.

        Raises:
            TemporaryError: the unit is not loaded, or systemd does not answer.
            PermanentError: systemd refuses; the text names the remedy.
        """
        values = [[name, Variant("t", value)] for name, value in properties.items()]
        await self._call(unit, _asked(PATH, MANAGER, "SetUnitProperties", "sba(sv)", [unit, True, values]))

    async def is_trusted(self, unit: str) -> bool:
        """Return whether systemd lets us set properties without asking anybody: as root, or as its own user.

        Raises:
            TemporaryError: the bus does not answer.
            PermanentError: it may not be asked.
        """
        manager = await self._user(unit, NAME)
        own_name = self._bus.unique_name if self._bus is not None else None
        return await self._user(unit, own_name or "") in (0, manager)

    async def close(self) -> None:
        """Disconnect; the next call connects again."""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
        if self._watch is not None:
            await self._watch

    async def _property(self, unit: str, name: str, signature: str) -> Any:
        (path,) = await self._call(unit, _asked(PATH, MANAGER, "GetUnit", "s", [unit]))
        interface = f"{NAME}.{unit.rpartition('.')[2].capitalize()}"
        (value,) = await self._call(unit, _asked(path, PROPERTIES, "Get", "ss", [interface, name]))
        if not isinstance(value, Variant) or value.signature != signature:
            raise PermanentError(
                f"systemd unit {unit}: {name} is {value!r}, which is not systemd's; what is on this bus?"
            )
        return value.value

    async def _user(self, unit: str, name: str) -> int:
        """Return the number of the user who is called `name` on the bus."""
        asked = _asked("/org/freedesktop/DBus", _BUS, "GetConnectionUnixUser", "s", [name], of=_BUS)
        (user,) = await self._call(unit, asked)
        return int(user)

    async def _call(self, unit: str, message: Message) -> list[Any]:
        doing = f"systemd unit {unit}: {message.member}"
        try:
            async with asyncio.timeout(self._timeout_s):
                bus = await self._connected()
                reply = await bus.call(message)
        except TimeoutError:
            raise TemporaryError(f"{doing}: no answer within {self._timeout_s:g} s") from None
        except (OSError, EOFError, DBusFastError) as error:
            raise _unreachable(error, doing) from error
        if reply is None:
            raise TemporaryError(f"{doing}: the connection to D-Bus was lost")
        if reply.message_type is MessageType.ERROR:
            raise refusal(reply.error_name or "", _text(reply), doing)
        return list(reply.body)

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._bus = await MessageBus(self._address, BusType.SYSTEM, auth_timeout=self._timeout_s).connect()
                self._watch = asyncio.create_task(_ended(self._bus), name="systemd-bus")
            return self._bus


def _asked(path: str, interface: str, member: str, signature: str, body: list[Any], of: str = NAME) -> Message:
    return Message(of, path, interface, member, flags=MessageFlag.NO_AUTOSTART, signature=signature, body=body)


def refusal(name: str, text: str, doing: str) -> MicrooptError:
    """Return the error to raise for an error of D-Bus, by its name and text, while `doing` something."""
    said = f"{doing}: {text or name}"
    if name in _NOT_LOADED:
        return TemporaryError(f"{said}; it may come back when the unit is started")
    if name in _FORBIDDEN:
        return PermanentError(f"{said}; {ALLOW}")
    if name in _UNUSABLE:
        return PermanentError(f"{said}; see systemctl status of the unit, and mend or unmask its unit file")
    if name in _UNACCEPTABLE:
        return PermanentError(f"{said} ({name}); this systemd does not take what was asked: is it older than 242?")
    if name in _NOT_ON_BUS:
        return TemporaryError(f"{said}; is systemd running, and on this bus?")
    return TemporaryError(f"{said} ({name})")


def _unreachable(error: Exception, doing: str) -> MicrooptError:
    if isinstance(error, InvalidAddressError):
        return PermanentError(
            f"{doing}: {error}; set address in [actuator.systemd] to a D-Bus address, such as "
            "unix:path=/run/dbus/system_bus_socket"
        )
    if isinstance(error, PermissionError) or (
        isinstance(error, AuthError) and not isinstance(error, AuthTimeoutError)
    ):
        return PermanentError(f"{doing}: D-Bus does not let us in: {error}; {ALLOW}")
    return TemporaryError(f"{doing}: D-Bus is not there: {error or type(error).__name__}")


def _text(reply: Message) -> str:
    return str(reply.body[0]) if reply.signature.startswith("s") else ""


async def _ended(bus: MessageBus) -> None:
    """Wait until a connection has ended, for whatever reason; the next call makes a new one."""
    with contextlib.suppress(Exception):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
