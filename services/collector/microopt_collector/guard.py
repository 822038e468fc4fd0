"""What no slice can have: most often a number in another unit than the settings say."""

from collections.abc import Collection
from typing import Final

from microopt.specs import Sla
from microopt_collector.sources.base import Measurement, Rejected

QOS_FACTOR: Final = 1000.0
"""So many times the SLA's threshold is no QoS of a user; units differ by 1e3 and more."""
NAMED: Final = 20  # known slices quoted in an error


def unknown(slice: str, known: Collection[str]) -> Rejected:
    """Return the error of a measurement of a slice that is not among the `known`."""
    names = ", ".join(sorted(known)[:NAMED]) or "none"
    return Rejected("unknown_slice", f"unknown slice {slice}; known: {names}")


def check(measurement: Measurement, sla: Sla, *, max_users: float, unit_setting: str) -> None:
    """Make sure that `measurement` may be one of a slice with this SLA.

    Raises:
        Rejected: it may not; the text names the setting to look at.
    """
    qos, users = measurement.qos, measurement.users
    if qos is not None and qos > QOS_FACTOR * sla.qos_threshold:
        raise Rejected(
            "implausible",
            f"qos {qos:g} {sla.qos_unit} of slice {measurement.slice} is more than {QOS_FACTOR:g} times the SLA's "
            f"threshold of {sla.qos_threshold:g} {sla.qos_unit}: is the unit right? look at {unit_setting}",
        )
    if users is not None and users > max_users:
        raise Rejected(
            "implausible",
            f"{users:g} users of slice {measurement.slice} are more than max_users, {max_users:g}: "
            "does the users' field or query count users?",
        )
