"""A systemd manager on a real bus, as far as CPU quotas go: what is not in here is refused as systemd refuses it.

Its errors and their texts are those of systemd 252, as is when it writes a unit's cgroup, here a plain file.
"""

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import RequestNameReply

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
INFINITY_US = 2**64 - 1
QUOTA, PERIOD, CGROUP = "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "ControlGroup"
TYPES = {"service": "Service", "scope": "Scope", "slice": "Slice"}
SIGNATURES = {
    (MANAGER, "GetUnit"): "s",
    (MANAGER, "LoadUnit"): "s",
    (MANAGER, "SetUnitProperties"): "sba(sv)",
    (PROPERTIES, "Get"): "ss",
}

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
    <allow own="*"/>
    {rule}
  </policy>
</busconfig>
"""


def write_bus_config(folder: Path, rule: str = "") -> Path:
    """Write the configuration of a private bus whose socket is `folder`/bus; `rule` is added to its policy."""
    config = folder / "bus.conf"
    config.write_text(CONFIG.format(socket=folder / "bus", rule=rule))
    return config


class Refused(Exception):
    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass
class Unit:
    """A unit that systemd has loaded; `kept` are the settings that a daemon-reload finds in its files.

    `cgroup` is the directory of one that runs.
    """

    cgroup: Path | None
    load_state: str = "loaded"
    properties: dict[str, int] = field(default_factory=lambda: {QUOTA: INFINITY_US, PERIOD: INFINITY_US})
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def cpu_max(self) -> Path:
        return self.cgroup / "cpu.max"

    def realize(self) -> None:
        """Write the cgroup; without a limit there is no file, since nothing asks for the controller."""
        if self.cgroup is None:
            return
        if self.properties[QUOTA] == INFINITY_US:
            self.cpu_max.unlink(missing_ok=True)
            return
        quota_us, period_us = self.properties[QUOTA], self.properties[PERIOD]
        period_us = 100_000 if period_us == INFINITY_US else period_us
        period_us = min(max(period_us, 1_000, 1_000_000_000 // quota_us), 1_000_000)
        self.cpu_max.write_text(f"{max(quota_us * period_us // 1_000_000, 1_000)} {period_us}\n")


class FakeSystemd:
    """The manager; a test puts units in and looks at what was set.

    `units` are loaded, `on_disk` are names that it would load when asked to. `root` becomes a cgroup hierarchy.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "system.slice").mkdir(parents=True)
        (root / "cgroup.controllers").write_text("cpu\n")
        (root / "system.slice" / "cpu.max").write_text("max 100000\n")
        self.units: dict[str, Unit] = {}
        self.on_disk: set[str] = set()
        self.sets: list[tuple[str, bool, dict[str, int]]] = []
        self.asked: list[str] = []
        self.denied: tuple[str, str] | None = None
        self.is_silent = False
        self.knows_period = True
        self._bus: MessageBus | None = None

    async def start(self, address: str) -> None:
        self._bus = await MessageBus(address).connect()
        self._bus.add_message_handler(self._handle)
        assert await self._bus.request_name(NAME) is RequestNameReply.PRIMARY_OWNER

    async def stop(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(EOFError):  # the bus went first
                await self._bus.wait_for_disconnect()
            self._bus = None

    def add(self, name: str, *, runs: bool = True, **fields) -> Unit:
        cgroup = self.root / "system.slice" / name if runs else None
        if cgroup is not None:
            cgroup.mkdir(exist_ok=True)
        self.units[name] = Unit(cgroup, **fields)
        return self.units[name]

    def daemon_reload(self) -> None:
        """Read all units' files anew, as `systemctl daemon-reload`: what is in none of them is forgotten."""
        for unit in self.units.values():
            unit.properties = {QUOTA: INFINITY_US, PERIOD: INFINITY_US} | unit.kept
            unit.realize()

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or not message.path.startswith(PATH):
            return None
        self.asked.append(message.member)
        if self.is_silent:
            return True
        try:
            return Message.new_method_return(message, *self._answer(message))
        except Refused as refused:
            return Message.new_error(message, refused.name, str(refused))

    def _answer(self, message: Message) -> tuple[str, list]:
        called = (message.interface, message.member)
        if called not in SIGNATURES or (message.interface == MANAGER) != (message.path == PATH):
            raise Refused(
                "org.freedesktop.DBus.Error.UnknownMethod",
                f"Unknown method {message.member} or interface {message.interface}.",
            )
        if message.signature != SIGNATURES[called]:
            raise Refused(
                "org.freedesktop.DBus.Error.InvalidArgs",
                f"Invalid arguments '{message.signature}' to call {message.interface}.{message.member}(), "
                f"expecting '{SIGNATURES[called]}'.",
            )
        if message.member == "Get":
            return "v", [self._get(message.path, *message.body)]
        if message.member == "SetUnitProperties":
            self._set(*message.body)
            return "", []
        return "o", [path_of(self._named(message.body[0], loads=message.member == "LoadUnit"))]

    def _named(self, name: str, *, loads: bool) -> str:
        if loads and (not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.[a-z]+", name) or len(name) > 255):
            raise Refused("org.freedesktop.DBus.Error.InvalidArgs", f"Unit name {name} is not valid.")
        if name not in self.units:
            if not loads:
                raise Refused(f"{NAME}.NoSuchUnit", f"Unit {name} not loaded.")
            self.add(name, runs=False, load_state="loaded" if name in self.on_disk else "not-found")
        return name

    def _get(self, path: str, interface: str, name: str) -> Variant:
        unit = next((unit for unit in self.units if path_of(unit) == path), None)
        if unit is None:
            raise Refused("org.freedesktop.DBus.Error.UnknownObject", f"Unknown object '{path}'.")
        known = {QUOTA, PERIOD, CGROUP} if self.knows_period else {QUOTA, CGROUP}
        if interface != f"{NAME}.{TYPES[unit.rpartition('.')[2]]}" or name not in known:
            raise Refused(
                "org.freedesktop.DBus.Error.UnknownProperty", f"Unknown interface {interface} or property {name}."
            )
        if name == CGROUP:
            cgroup = self.units[unit].cgroup
            return Variant("s", f"/{cgroup.relative_to(self.root)}" if cgroup else "")
        return Variant("t", self.units[unit].properties[name])

    def _set(self, name: str, runtime: bool, properties: list) -> None:
        unit = self.units[self._named(name, loads=True)]
        if unit.load_state == "not-found":
            raise Refused(f"{NAME}.NoSuchUnit", f"Unit {name} not found.")
        if unit.load_state == "masked":
            raise Refused(f"{NAME}.UnitMasked", f"Unit {name} is masked.")
        if self.denied is not None:
            raise Refused(*self.denied)
        for key, value in properties:  # all are looked at before one is set
            self._check(key, value)
        self.sets.append((name, runtime, {key: value.value for key, value in properties}))
        for key, value in properties:
            unit.properties[key] = value.value
            # Most versions write whole percents into the file that they will read again.
            unit.kept[key] = value.value // 10_000 * 10_000 if key == QUOTA else value.value
        unit.realize()

    def _check(self, key: str, value: Variant) -> None:
        if key not in ({QUOTA, PERIOD} if self.knows_period else {QUOTA}):
            raise Refused(
                "org.freedesktop.DBus.Error.PropertyReadOnly", f"Cannot set property {key}, or unknown property."
            )
        if value.signature != "t":
            raise Refused("System.Error.ENXIO", "Failed to set unit properties: No such device or address")
        if key == QUOTA and value.value == 0:
            raise Refused("org.freedesktop.DBus.Error.InvalidArgs", f"{QUOTA}= value out of range")


def path_of(name: str) -> str:
    """Return a unit's object path: all but letters and digits as `_` and two hexadecimal digits."""
    return f"{PATH}/unit/{re.sub(r'[^A-Za-z0-9]', lambda found: f'_{ord(found[0]):02x}', name)}"
