"""The transactions that give a queue its rate, make one that is missing, and remove what is left of such ones."""

from collections.abc import Mapping
from typing import Final

from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.ovs_place import SHAPERS, Place
from microopt_actuator.drivers.ovs_rows import Rows
from microopt_actuator.drivers.ovs_target import OvsTarget
from microopt_actuator.drivers.ovsdb_wire import Operation, Outcome, is_row, mapping, reference

OWNER: Final = ("microopt-owner", "actuator")
"""What marks, in external_ids, the rows that we have made, and may remove."""
_KEYS: Final = ("max-rate", "min-rate")
_NEW_BURST: Final = "400000"
"""In bits. Open vSwitch's own is one packet, with which a host that is busy for a moment loses rate."""
_NEW_QUEUE: Final = "newqueue"
_NEW_QOS: Final = "newqos"

RAISE_CONFIG: Final[list[Operation]] = [
    {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]},
    {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]},
]
"""Say that there is a new configuration, and learn its number: ovs-vswitchd sets cur_cfg to it in its turn."""

ABORT: Final[Operation] = {"op": "abort"}
"""Undo a transaction, once all before it was tried."""
_ABORTED: Final = "aborted"


def said(place: Place, rate: int, port_mbps: float | None) -> list[str]:
    """Return what `operations` would change, for people."""
    rates = " ".join(f"other_config:{key}={rate}" for key in reversed(_KEYS))
    where = f"queue {place.number} of port {place.port.name}"
    if place.queue is not None:
        return [] if place.has(rate) else [f"ovs {where} ({place.queue.uuid}): {rates}"]
    made = [f"ovs {where}, a new one: {rates}"]
    if place.qos is None:
        made.insert(0, f"ovs port {place.port.name}: a new QoS linux-htb of {port_mbps:g} Mbit/s")
    return made


def operations(place: Place, rate: int, target: OvsTarget, port_mbps: float | None) -> list[Operation]:
    """Return the transaction that gives the queue its rate, if everything is still as it was found."""
    todo = _unchanged(place)
    if place.queue is not None:
        todo.append(_mutate("Queue", place.queue.uuid, *_new_rates(rate)))
        return todo + RAISE_CONFIG
    ids = mapping([OWNER, ("microopt-target", str(target))])
    config = mapping([*((key, str(rate)) for key in _KEYS), ("burst", _NEW_BURST)])
    todo.append(_insert("Queue", _NEW_QUEUE, other_config=config, external_ids=ids))
    queues = mapping([(place.number, ["named-uuid", _NEW_QUEUE])])
    if place.qos is not None:
        todo.append(_mutate("QoS", place.qos.uuid, ["queues", "insert", queues]))
        return todo + RAISE_CONFIG
    whole = mapping([("max-rate", str(round((port_mbps or 0) * 1e6)))])
    todo.append(
        _insert("QoS", _NEW_QOS, type=SHAPERS[0], other_config=whole, queues=queues, external_ids=mapping([OWNER]))
    )
    changed = {"qos": ["named-uuid", _NEW_QOS]}
    todo.append({"op": "update", "table": "Port", "where": is_row(place.port.uuid), "row": changed})
    return todo + RAISE_CONFIG


def new_config(target: OvsTarget, done: list[Operation], outcomes: list[Outcome | None]) -> int:
    """Return the number of the configuration that a transaction has made, once all of it is known to be done.

    Raises:
        TemporaryError: what was found before has changed meanwhile.
        PermanentError: the database refuses it.
    """
    for outcome in outcomes:
        if outcome is not None and outcome.error is not None:
            raise _refusal(target, outcome)
    number = 0
    for operation, outcome in zip(done, outcomes, strict=True):
        is_change = operation["op"] in ("mutate", "update")
        if outcome is None or (is_change and outcome.count != 1):
            raise _changed(target, f"no row of {operation['table']} was changed")
        if operation["op"] == "select":
            number = outcome.rows[0]["next_cfg"]
    return number


def why_refused(target: OvsTarget, outcomes: list[Outcome | None]) -> MicrooptError | None:
    """Return what the database has against a transaction that ends with `ABORT`; `None` is nothing."""
    errors = [one for one in outcomes if one is not None and one.error is not None]
    return None if not errors or errors[0].error == _ABORTED else _refusal(target, errors[0])


def leftovers(rows: Rows) -> list[Operation]:
    """Return the transaction that removes what we have made and nothing refers to any more."""
    qoses = {uuid for uuid, one in rows.qoses.items() if _is_ours(one.external_ids) and not rows.holders(uuid)}
    queues = [
        uuid
        for uuid, one in rows.queues.items()
        if _is_ours(one.external_ids) and all(qos.uuid in qoses for qos, _ in rows.users(uuid))
    ]
    todo = [("QoS", uuid) for uuid in sorted(qoses)] + [("Queue", uuid) for uuid in sorted(queues)]
    return [{"op": "delete", "table": table, "where": is_row(uuid)} for table, uuid in todo]


def _unchanged(place: Place) -> list[Operation]:
    """Return operations that end the transaction unless all is as it was found.

    So a request that a server which hung takes up late changes nothing that was changed since.
    """
    qos = ["set", []] if place.qos is None else reference(place.qos.uuid)
    checks = [_wait("Port", is_row(place.port.uuid), qos=qos)]
    if place.qos is not None:
        where = is_row(place.qos.uuid)
        config = mapping(place.qos.other_config.items())
        if place.queue is not None:
            holds = mapping([(place.number, reference(place.queue.uuid))])
            where = [*where, ["queues", "includes", holds]]
        checks.append(_wait("QoS", where, type=place.qos.type, other_config=config))
    if place.queue is not None:
        config = mapping(place.queue.other_config.items())
        checks.append(_wait("Queue", is_row(place.queue.uuid), other_config=config))
    return checks


def _new_rates(rate: int) -> list[list[object]]:
    """Return mutations; inserting alone would leave a key that is there as it is."""
    new = mapping((key, str(rate)) for key in _KEYS)
    return [["other_config", "delete", ["set", list(_KEYS)]], ["other_config", "insert", new]]


def _wait(table: str, where: list[list[object]], **row: object) -> Operation:
    columns = {"columns": list(row), "until": "==", "rows": [row]}
    return {"op": "wait", "table": table, "timeout": 0, "where": where} | columns


def _mutate(table: str, uuid: str, *mutations: list[object]) -> Operation:
    return {"op": "mutate", "table": table, "where": is_row(uuid), "mutations": list(mutations)}


def _insert(table: str, name: str, **row: object) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _refusal(target: OvsTarget, outcome: Outcome) -> MicrooptError:
    text = f"{outcome.error} {outcome.details}".strip()
    if outcome.error == "timed out":  # what a `wait` says
        return _changed(target, "what was found there is no longer so")
    if outcome.error in ("referential integrity violation", "I/O error", "resources exhausted"):
        return TemporaryError(f"ovs {target}: the database: {text}; nothing was changed")
    if outcome.error in ("not allowed", "permission error"):
        text += (
            "; name the server in charge, not its standby, and a client that its role lets change QoS and Queue"
        )
    return PermanentError(f"ovs {target}: the database refuses: {text}")


def _changed(target: OvsTarget, what: str) -> TemporaryError:
    return TemporaryError(f"ovs {target}: {what}: somebody else changes the switch; nothing was changed")


def _is_ours(external_ids: Mapping[str, str]) -> bool:
    key, value = OWNER
    return external_ids.get(key) == value
