"""A controller that speaks ONOS's REST as far as flows and meters go, and the switches behind it.

It answers before a switch has anything: states follow at the polls of flows and meters. The switch refuses what
Open vSwitch refuses, and drops every flow whose meter is deleted.
"""

import asyncio
import base64
import itertools
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from fakes import onos_bodies as bodies
from fakes.onos_bodies import Refusal, bad

PASSWORD = "rocks"  # noqa: S105
REST_APP = "org.onosproject.rest"


@dataclass
class Entry:
    priority: int
    criteria: dict
    instructions: dict
    state: str = "PENDING_ADD"

    @property
    def place(self):
        return self.priority, frozenset(self.criteria.items())


@dataclass
class Device:
    """What ONOS believes of a switch, and what the switch has (`table`, `meter_table`)."""

    available: bool = True
    flows: dict = field(default_factory=dict)
    meters: dict = field(default_factory=dict)
    meter_states: dict = field(default_factory=dict)
    references: dict = field(default_factory=dict)
    table: dict = field(default_factory=dict)
    meter_table: set = field(default_factory=set)
    refuses: bool = False
    last_meter: int = 0

    def takes(self, entry):
        meter = entry.instructions.get("METER")
        if self.refuses or (meter is not None and meter not in self.meter_table):
            return False
        is_ip = entry.criteria.get("ETH_TYPE") == 0x800
        return is_ip or not any(kind.startswith("IP") for kind in entry.criteria)

    def push(self, entry):
        if self.takes(entry):
            self.table[entry.place] = dict(entry.instructions)

    def poll_flows(self):
        known = {entry.place for _, entry in self.flows.values()}
        self.table = {place: what for place, what in self.table.items() if place in known}  # no extraneous rules
        for _, entry in self.flows.values():
            has = self.table.get(entry.place) == entry.instructions
            entry.state = "ADDED" if has else "PENDING_ADD"
            if not has:
                self.push(entry)

    def poll_meters(self):
        used = [instructions.get("METER") for instructions in self.table.values()]
        self.references = {number: used.count(number) for number in self.meters}
        for number in list(self.meters):
            if self.meter_states[number] == "PENDING_REMOVE":
                for kept in (self.meters, self.meter_states, self.references):
                    kept.pop(number, None)
            elif number in self.meter_table:
                self.meter_states[number] = "ADDED"

    def delete_meter(self, number):
        if number in self.meters:
            self.meter_states[number] = "PENDING_REMOVE"
        self.meter_table.discard(number)
        self.table = {place: what for place, what in self.table.items() if what.get("METER") != number}


class FakeOnos:
    """ONOS on a loopback port. `trouble(method, path)` may return a status to answer with, or wait."""

    def __init__(self, *devices, poll_s=0.02):
        self.devices = {name: Device() for name in devices}
        self.apps = {REST_APP: 1}
        self.requests = []
        self.trouble = None
        self.polls = True
        self.reuses_ids = True
        self._poll_s = poll_s
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        self._polling = None
        self.url = ""

    async def __aenter__(self):
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/onos/v1"
        self._polling = asyncio.create_task(self._poll_for_ever())
        return self

    async def __aexit__(self, *_):
        self._polling.cancel()
        await asyncio.gather(self._polling, return_exceptions=True)
        await self._runner.cleanup()

    async def _poll_for_ever(self):
        while True:
            await asyncio.sleep(self._poll_s)
            if self.polls:
                self.poll()

    def poll(self):
        for device in self.devices.values():
            if device.available:
                device.poll_flows()
                device.poll_meters()

    # --- what somebody else does ---

    @property
    def writes(self):
        return [f"{method} {path}" for method, path in self.requests if method != "GET"]

    def add_meter(self, device, kbps, burst_kbit=1, **changes):
        band = {"type": "DROP", "rate": kbps, "burstSize": burst_kbit}
        number = self._make_meter(device, {"unit": "KB_PER_SEC", "burst": True, "bands": [band], **changes})
        self.devices[device].poll_meters()
        return number

    def add_flow(self, device, app, body):
        number = self._post_flow(device, app, body)
        self.poll()
        return number

    def delete_flows(self, device):
        self.devices[device].flows.clear()
        self.devices[device].table.clear()

    def rates(self, device):
        """Return the rates in kbit/s that the switch polices by, one for each flow with a meter."""
        has = self.devices[device]
        return [has.meters[what["METER"]]["bands"][0]["rate"] for what in has.table.values() if "METER" in what]

    def meters(self, device):
        """Return the ids of the meters that are not about to go."""
        states = self.devices[device].meter_states
        return sorted(number for number, state in states.items() if state != "PENDING_REMOVE")

    def queues(self, device):
        return [what["QUEUE"] for what in self.devices[device].table.values() if "QUEUE" in what]

    # --- REST ---

    async def _answer(self, request):
        path = request.path.removeprefix("/onos/v1/")
        if refused := _not_authorized(request):
            return refused
        self.requests.append((request.method, path))
        if self.trouble is not None and (status := await self.trouble(request.method, path)):
            return _said(status, "java.lang.IllegalStateException: the store is away")
        try:
            return self._route(request, await request.read(), *path.split("/"))
        except Refusal as refusal:
            return _said(refusal.status, refusal.message)
        except (KeyError, ValueError, TypeError) as error:
            return _said(400, repr(error))

    def _route(self, request, raw, what, *rest):
        body = msgspec.json.decode(raw) if raw else None
        match (request.method, what, *rest):
            case ("GET", "devices", name):
                device = self._device(name)
                return web.json_response({"id": name, "type": "SWITCH", "available": device.available})
            case ("GET", "flows", "application", app):
                if app not in self.apps:
                    raise Refusal(404, "Application Id is not found")
                return self._flows(lambda _, its, __: its == app)
            case ("GET", "flows", device):
                if device not in self.devices or not self.devices[device].flows:
                    raise Refusal(404, "Device is not found")
                return self._flows(lambda name, _, __: name == device)
            case ("GET", "flows", device, number):
                return self._flows(lambda name, _, its: (name, its) == (device, int(number)))
            case ("POST", "flows", device):
                bodies.only(request.query, "appId")
                number = self._post_flow(device, request.query.get("appId", REST_APP), body)
                return _created(request, number)
            case ("GET", "meters", device):
                return self._meters(device, *self._device(device).meters)
            case ("GET", "meters", device, number):
                if int(number) not in self._device(device).meters:
                    raise Refusal(404, f"Meter is not found for {number}")
                return self._meters(device, int(number))
            case ("POST", "meters", device):
                return _created(request, self._make_meter(device, bodies.meter(device, body)))
            case ("DELETE", "meters", device, number):
                self._device(device).delete_meter(int(number))
                return web.Response(status=204)
        raise Refusal(404, "the fake has no such path")

    def _device(self, name):
        if name not in self.devices:
            raise Refusal(404, f"Device {name} is not found")
        return self.devices[name]

    def _flows(self, wanted):
        found = [
            bodies.written_flow(number, app, name, entry)
            for name, device in self.devices.items()
            for number, (app, entry) in device.flows.items()
            if wanted(name, app, number)
        ]
        return web.json_response({"flows": found})

    def _meters(self, name, *numbers):
        device = self.devices[name]
        found = [
            bodies.written_meter(
                number, name, device.meters[number], device.meter_states[number], device.references.get(number, 0)
            )
            for number in numbers
        ]
        return web.json_response({"meters": found})

    def _post_flow(self, name, app, body):
        device = self._device(name)
        priority, criteria, instructions = bodies.flow(name, body)
        app_number = self.apps.setdefault(app, len(self.apps) + 1)
        number = bodies.flow_id(app_number, name, priority, criteria)
        entry = Entry(priority, criteria, instructions)
        device.flows[number] = app, entry
        if device.available:
            device.push(entry)
        return number

    def _make_meter(self, name, kept):
        if name not in self.devices:
            raise bad("Invalid deviceId in meter creation request")
        device = self.devices[name]
        number = next(n for n in itertools.count(1) if n not in device.meters)  # ids come again
        if not self.reuses_ids:
            number = device.last_meter + 1
        device.last_meter = max(number, device.last_meter)
        device.meters[number], device.meter_states[number] = kept, "PENDING_ADD"
        if device.available and not device.refuses:
            device.meter_table.add(number)
        return number


def _said(status, message):
    return web.json_response({"code": status, "message": message}, status=status)


def _created(request, number):
    return web.Response(status=201, headers={"Location": f"{request.url.with_query(None)}/{number}"})


def _not_authorized(request):
    given = request.headers.get("Authorization", "").removeprefix("Basic ")
    user, _, password = base64.b64decode(given).decode().partition(":")
    if (user, password) not in (("onos", PASSWORD), ("guest", "guest")):
        return web.Response(status=401, text="<html>Unauthorized</html>", content_type="text/html")
    if user == "guest" and request.method != "GET":
        return _said(403, "Forbidden")
    return None
