"""One emulated slice: the resources in force, and the QoS that its users get in a slot."""

import math
from collections.abc import Mapping

import numpy as np

from microopt.errors import PermanentError
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, QosSurface

RESOURCES = (GNB_CPU, TRANSPORT_BANDWIDTH)


class EmulatedSlice:
    """A slice that answers like the measured testbed, one slot after the other; it keeps no time of its own.

    Two slices with the same seed, resources and users give the same QoS.
    """

    def __init__(self, surface: QosSurface, resources: Mapping[str, float], seed: int = 0) -> None:
        self._surface = surface
        self._rng = np.random.default_rng(seed)
        self._values: dict[str, float] = dict.fromkeys(RESOURCES, 0.0)
        for name, value in resources.items():
            self.set_resource(name, value)
        missing = sorted(set(RESOURCES) - set(resources))
        if missing:
            raise PermanentError(f"resources {missing}: an emulated slice needs a value for each to start with")

    def set_resource(self, name: str, value: float) -> None:
        """Put `value` in force from the next slot on, in millicores (gnb_cpu) or Mbit/s (transport_bandwidth).

        Raises:
            PermanentError: the resource is unknown, or the value is negative or not finite; nothing changes.
        """
        _known(name)
        if not (math.isfinite(value) and value >= 0.0):
            raise PermanentError(f"resource {name!r}: {value!r} must be finite and at least 0")
        self._values[name] = float(value)

    def get_resource(self, name: str) -> float:
        """Return the value in force.

        Raises:
            PermanentError: the resource is unknown.
        """
        _known(name)
        return self._values[name]

    def slot(self, users: float) -> float | None:
        """Return the mean throughput per user of one slot in Mbit/s, or None: without users there is no QoS.

        Raises:
            PermanentError: `users` is negative or not finite.
        """
        if not (math.isfinite(users) and users >= 0.0):
            raise PermanentError(f"users {users!r} must be finite and at least 0")
        if users == 0.0:
            return None
        cpu, bandwidth = self._values[GNB_CPU], self._values[TRANSPORT_BANDWIDTH]
        return float(self._surface.sample(users, cpu, bandwidth, self._rng))


def _known(name: str) -> None:
    if name not in RESOURCES:
        raise PermanentError(f"resource {name!r}: an emulated slice has only {', '.join(RESOURCES)}")
