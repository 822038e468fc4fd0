"""Which driver and target holds which resource of which slice, by the table [actuator]."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from msgspec import Struct, structs

from microopt.errors import ConfigError
from microopt.ids import NAME_PATTERN, slice_id

ANY: Final = "*"

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_NAME = re.compile(NAME_PATTERN)


class Binding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `bindings`: slice and resource may be `*`, the target may hold `{slice}` and `{resource}`."""

    slice: str
    resource: str
    driver: str
    target: str


@dataclass(frozen=True, slots=True)
class Bound:
    """What one resource of one slice is bound to."""

    driver: str
    target: str


class Bindings:
    """Finds the binding of a resource: a named slice goes before a named resource, both before `*`.

    Args:
        bindings: the entries, in any order.
        drivers: the names of the drivers that there are.

    Raises:
        ConfigError: an entry that cannot be used, or two that say the same; the text names entry and field.
    """

    def __init__(self, bindings: Iterable[Binding], drivers: Collection[str]) -> None:
        self._of: dict[tuple[str, str], Binding] = {}
        for index, binding in enumerate(bindings):
            where = f"[actuator] bindings[{index}] (slice {binding.slice!r}, resource {binding.resource!r})"
            one = _checked(binding, drivers, where)
            if (one.slice, one.resource) in self._of:
                raise ConfigError(f"{where}: slice and resource are bound twice; remove one of the two")
            for other in self._of.values():
                if _collide(one, other):
                    raise ConfigError(
                        f"{where}: target {one.target!r} is also that of slice {other.slice!r}, resource "
                        f"{other.resource!r}; give each its own"
                    )
            self._of[one.slice, one.resource] = one

    @property
    def drivers(self) -> frozenset[str]:
        """Return the names of the drivers that a binding uses."""
        return frozenset(binding.driver for binding in self._of.values())

    def find(self, slice_: str, resource: str) -> Bound | None:
        """Return what a resource is bound to, or None where it is not this actuator's."""
        for key in ((slice_, resource), (slice_, ANY), (ANY, resource), (ANY, ANY)):
            if binding := self._of.get(key):
                target = binding.target.replace("{slice}", slice_).replace("{resource}", resource)
                return Bound(binding.driver, target)
        return None


def _checked(binding: Binding, drivers: Collection[str], where: str) -> Binding:
    """Return `binding` with the canonical slice."""
    if binding.driver not in drivers:
        raise ConfigError(f"{where}: driver {binding.driver!r} is not one of {', '.join(sorted(drivers))}")
    if binding.resource != ANY and not _NAME.match(binding.resource):
        raise ConfigError(f"{where}: resource must be '*' or a name of a-z, 0-9, '-' and '_', such as gnb_cpu")
    _check_target(binding, where)
    if binding.slice == ANY:
        return binding
    try:
        return structs.replace(binding, slice=slice_id(binding.slice))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; or '*' for all") from error


def _collide(one: Binding, other: Binding) -> bool:
    """Return whether two entries send different things to one target."""
    if (one.driver, one.target) != (other.driver, other.target):
        return False
    return any(
        getattr(one, field) != getattr(other, field) and f"{{{field}}}" not in one.target
        for field in ("slice", "resource")
    )


def _check_target(binding: Binding, where: str) -> None:
    if not binding.target:
        raise ConfigError(f"{where}: target is empty; write what driver {binding.driver!r} shall set")
    placeholders = set(_PLACEHOLDER.findall(binding.target))
    if unknown := placeholders - {"slice", "resource"}:
        raise ConfigError(f"{where}: target has {{{min(unknown)}}}; only {{slice}} and {{resource}} are replaced")
    for field in ("slice", "resource"):
        if getattr(binding, field) == ANY and field not in placeholders:
            raise ConfigError(
                f"{where}: target {binding.target!r} would be shared by every {field}; write {{{field}}} into it"
            )
