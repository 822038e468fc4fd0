"""Every subject of the bus, built in one place (docs/architecture.md has the table)."""

from functools import singledispatch
from typing import Any

from microopt.errors import ConfigError
from microopt.messages import Actuation, Allocation, Answer, Asked, Assurance, Event, Forecast, Telemetry

ROOT = "microopt"

ALL: dict[type[Any], str] = {
    Telemetry: f"{ROOT}.telemetry.*",
    Forecast: f"{ROOT}.forecast.*",
    Answer: f"{ROOT}.solution.*.*",
    Allocation: f"{ROOT}.allocation.*",
    Actuation: f"{ROOT}.actuation.*.*",
    Asked: f"{ROOT}.problem.*",
    Assurance: f"{ROOT}.assurance.*",
    Event: f"{ROOT}.event.*",
}
"""The wildcard subject of each published message type."""


CHECK = f"{ROOT}.check"
"""The request subject of what the slice models say of allocations; workers answer as one queue group."""

HELD = f"{ROOT}.held"
"""The request subject of what is in force; every actuator answers for itself."""


def optimize(optimizer: str) -> str:
    """Return the request subject that workers of `optimizer` answer as one queue group."""
    return f"{ROOT}.optimize.{_token(optimizer)}"


def dead(agent: str) -> str:
    """Return where `agent` keeps the messages that it could not use."""
    return f"{ROOT}.dead.{_token(agent)}"


@singledispatch
def of(message: Any) -> str:
    """Return the subject that `message` is published on."""
    raise ConfigError(f"{type(message).__name__} has no subject; messages with one: {_published()}")


def _published() -> list[str]:
    return sorted(kind.__name__ for kind in ALL)


@of.register
def _(message: Telemetry) -> str:
    return f"{ROOT}.telemetry.{_token(message.slice)}"


@of.register
def _(message: Forecast) -> str:
    return f"{ROOT}.forecast.{_token(message.slice)}"


@of.register
def _(message: Answer) -> str:
    return f"{ROOT}.solution.{_token(message.optimizer)}.{_token(message.pool)}"


@of.register
def _(message: Allocation) -> str:
    return f"{ROOT}.allocation.{_token(message.slice)}"


@of.register
def _(message: Actuation) -> str:
    return f"{ROOT}.actuation.{_token(message.slice)}.{_token(message.resource)}"


@of.register
def _(message: Asked) -> str:
    return f"{ROOT}.problem.{_token(message.problem.pool)}"


@of.register
def _(message: Assurance) -> str:
    return f"{ROOT}.assurance.{_token(message.slice)}"


@of.register
def _(message: Event) -> str:
    return f"{ROOT}.event.{_token(message.pool)}"


def _token(text: str) -> str:
    if not text or any(c in ".*> \t\r\n" for c in text):
        raise ConfigError(f"{text!r} cannot be part of a subject: use letters, digits, '-' and '_'")
    return text
