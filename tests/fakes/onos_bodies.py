"""What ONOS takes for a flow and a meter, and how it writes them; what it does not know is refused."""

import ipaddress
import zlib

CRITERIA = {
    "ETH_TYPE": "ethType",
    "IN_PORT": "port",
    "IPV4_SRC": "ip",
    "IPV4_DST": "ip",
    "VLAN_VID": "vlanId",
    "TUNNEL_ID": "tunnelId",
    "IP_PROTO": "protocol",
    "UDP_DST": "udpPort",
    "IP_DSCP": "ipDscp",
}
INSTRUCTIONS = {"QUEUE": "queueId", "METER": "meterId", "OUTPUT": "port"}
LOGICAL_PORTS = {"NORMAL", "CONTROLLER", "IN_PORT", "FLOOD", "ALL", "LOCAL", "TABLE"}


class Refusal(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def bad(message):
    return Refusal(400, message)


def only(body, *fields):
    if unknown := set(body) - set(fields):
        raise bad(f"the fake knows no field {min(unknown)!r}")


def flow(device, body):
    """Return priority, criteria, instructions as ONOS keeps them: whole numbers, meters first in no order."""
    only(body, "priority", "timeout", "isPermanent", "deviceId", "tableId", "selector", "treatment")
    for field in ("priority", "isPermanent"):
        if field not in body:
            raise bad(f"{field} member is required in FlowRule")
    if not body["isPermanent"] and "timeout" not in body:
        raise bad("timeout member is required in FlowRule if the flow is temporary")
    if body.get("deviceId", device) != device:
        raise bad("Invalid deviceId in flow creation request")
    criteria = dict(_criterion(one) for one in body["selector"]["criteria"])
    instructions = dict(_instruction(one) for one in body["treatment"]["instructions"])
    return body["priority"], criteria, instructions


def _criterion(one):
    kind = one["type"]
    if kind not in CRITERIA:
        raise bad(f"No enum constant Criterion.Type.{kind}")
    only(one, "type", CRITERIA[kind])
    value = one[CRITERIA[kind]]
    if CRITERIA[kind] == "ip":
        return kind, str(ipaddress.IPv4Network(value, strict=False))
    if kind == "IN_PORT" and not isinstance(value, int):
        return kind, 0
    return kind, int(value, 0) if isinstance(value, str) else value


def _instruction(one):
    kind = one["type"]
    if kind not in INSTRUCTIONS:
        raise bad(f"Instruction type {kind} is not supported")
    only(one, "type", INSTRUCTIONS[kind])
    if INSTRUCTIONS[kind] not in one:
        raise bad(f"{INSTRUCTIONS[kind]} member is required in Instruction")
    value = one[INSTRUCTIONS[kind]]
    if kind == "OUTPUT" and value not in LOGICAL_PORTS:
        return kind, str(int(value))
    if kind == "METER":
        return kind, int(value)  # decimal, though ONOS writes it in hexadecimal
    return kind, value


def flow_id(app_number, device, priority, criteria):
    text = repr((device, sorted(criteria.items()), priority, 0))
    return app_number << 48 | zlib.crc32(text.encode())


def written_flow(number, app, device, entry):
    instructions = [{"type": kind, INSTRUCTIONS[kind]: value} for kind, value in entry.instructions.items()]
    for one in instructions:
        if one["type"] == "METER":
            one["meterId"] = f"{one['meterId']:x}"
    instructions.sort(key=lambda one: one["type"] == "METER")  # after the others
    criteria = [
        {"type": kind, CRITERIA[kind]: f"{value:#x}" if kind == "ETH_TYPE" else value}
        for kind, value in sorted(entry.criteria.items())
    ]
    return {
        "groupId": 0,
        "state": entry.state,
        "life": 1,
        "liveType": "UNKNOWN",
        "lastSeen": 1716030000123,
        "packets": 0,
        "bytes": 0,
        "id": str(number),
        "appId": app,
        "priority": entry.priority,
        "timeout": 0,
        "isPermanent": True,
        "deviceId": device,
        "tableId": 0,
        "tableName": "0",
        "treatment": {"instructions": instructions, "deferred": []},
        "selector": {"criteria": criteria},
    }


def meter(device, body):
    """Return what is kept of a meter."""
    only(body, "deviceId", "unit", "burst", "bands")
    if body.get("deviceId", device) != device:
        raise bad("Invalid deviceId in meter creation request")
    if "unit" not in body:
        raise bad("unit member is required in MeterRequest")
    if body["unit"] not in ("KB_PER_SEC", "PKTS_PER_SEC"):
        raise bad(f"The requested unit {body['unit']} is not defined for meter.")
    if "bands" not in body:
        raise Refusal(500, "java.lang.NullPointerException")
    for band in body["bands"]:
        only(band, "type", "rate", "burstSize")
        for field in ("rate", "burstSize"):
            if field not in band:
                raise bad(f"{field} member is required in Band")
            if not isinstance(band[field], int):
                raise bad(f"{field} is not a whole number")
    return {"unit": body["unit"], "burst": bool(body.get("burst")), "bands": body["bands"]}


def written_meter(number, device, kept, state, references):
    bands = [{**band, "packets": 0, "bytes": 0} for band in kept["bands"]]
    return {
        "id": f"{number:x}",
        "life": 1,
        "packets": 0,
        "bytes": 0,
        "referenceCount": references,
        "unit": kept["unit"],
        "burst": kept["burst"],
        "deviceId": device,
        "appId": "org.onosproject.rest",
        "state": state,
        "bands": bands,
    }
