"""What a query may be of."""

from typing import Final, Generic, Literal, TypeVar, get_args

from msgspec import Struct

T = TypeVar("T")
Kind = Literal["users", "qos", "usage", "pressure", "throttled"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Key = tuple[Kind, str]
"""A quantity and its resource; users and QoS have none."""


class Quantities(Struct, Generic[T], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something for each quantity; of usage, pressure and throttling for each resource."""

    users: T | None = None
    qos: T | None = None
    usage: dict[str, T] = {}
    pressure: dict[str, T] = {}
    throttled: dict[str, T] = {}

    def flat(self) -> dict[Key, T]:
        """Return what is given."""
        found: dict[Key, T] = {}
        if self.users is not None:
            found["users", ""] = self.users
        if self.qos is not None:
            found["qos", ""] = self.qos
        found |= {("usage", resource): value for resource, value in self.usage.items()}
        found |= {("pressure", resource): value for resource, value in self.pressure.items()}
        found |= {("throttled", resource): value for resource, value in self.throttled.items()}
        return found
