"""The drivers there are, each loaded only where something is bound to it."""

import importlib
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, cast

from microopt.agent import Context
from microopt.errors import ConfigError
from microopt_actuator.drivers.base import Driver
from microopt_actuator.settings import ActuatorSettings

DRIVERS: Final = ("cgroup", "kubernetes", "onos", "ovs", "record", "systemd", "tc", "testbed")
"""Each is a module of `drivers` with a function `opened`."""
REAL_DRIVERS: Final = tuple(name for name in DRIVERS if name not in ("record", "testbed"))
"""Those that set something outside microopt, on which `microopt actuator conformance` tries them."""


class _Module(Protocol):
    def opened(self, settings: ActuatorSettings, ctx: Context) -> AbstractAsyncContextManager[Driver]: ...


def opened(name: str, settings: ActuatorSettings, ctx: Context) -> AbstractAsyncContextManager[Driver]:
    """Return the driver `name` as a context in which it works.

    Raises:
        ConfigError: what it needs is not installed.
    """
    try:
        module = importlib.import_module(f"microopt_actuator.drivers.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"driver {name!r} needs {error.name}, which is not installed: pip install 'microopt[actuator]'"
        ) from error
    return cast(_Module, module).opened(settings, ctx)
