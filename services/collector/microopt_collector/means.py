"""The means of what was measured in one slot."""

from microopt_collector.sources.base import Measurement


class SlotMeans:
    """Sums of the measurements of one slot: thousands of them must not be kept to be averaged later."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()
        self._users = _Sum()
        self._qos = _Sum()
        self._qos_by_users = _Sum()
        self._usage: dict[str, _Sum] = {}
        self._pressure: dict[str, _Sum] = {}
        self._throttled: dict[str, _Sum] = {}

    def add(self, measurement: Measurement, time_us: int) -> bool:
        """Take `measurement`; return False if its source said something for that instant before."""
        key = (measurement.source, time_us)
        if key in self._seen:
            return False
        self._seen.add(key)
        users, qos = measurement.users, measurement.qos
        if users is not None:
            self._users.add(users)
        if qos is not None and users != 0.0:  # without users there is no QoS
            self._qos.add(qos)
            if users is not None:
                self._qos_by_users.add(qos, users)
        for sums, values in (
            (self._usage, measurement.usage),
            (self._pressure, measurement.pressure),
            (self._throttled, measurement.throttled),
        ):
            for resource, value in values.items():
                sums.setdefault(resource, _Sum()).add(value)
        return True

    @property
    def users(self) -> float | None:
        """Return the mean of the known numbers of users, or None."""
        return self._users.mean

    @property
    def qos(self) -> float | None:
        """Return the mean of the known QoS, weighted by users; or None.

        Where a source measures QoS but counts no users, all samples weigh the same.
        """
        weighted = self._qos_by_users.count == self._qos.count
        return self._qos_by_users.mean if weighted else self._qos.mean

    @property
    def usage(self) -> dict[str, float]:
        """Return the mean use of each resource for which it is known."""
        return _means(self._usage)

    @property
    def pressure(self) -> dict[str, float]:
        """Return the mean pressure on each resource for which it is known."""
        return _means(self._pressure)

    @property
    def throttled(self) -> dict[str, float]:
        """Return the mean throttled share of each resource for which it is known."""
        return _means(self._throttled)

    @property
    def sources(self) -> str:
        """Return who measured, as a list with commas."""
        return ",".join(sorted({source for source, _ in self._seen}))


class _Sum:
    """A weighted sum and its weight."""

    __slots__ = ("count", "total", "weight")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.weight = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        self.count += 1
        self.total += value * weight
        self.weight += weight

    @property
    def mean(self) -> float | None:
        return self.total / self.weight if self.count else None


def _means(sums: dict[str, _Sum]) -> dict[str, float]:
    return {resource: value for resource, one in sums.items() if (value := one.mean) is not None}
