"""What the tuner has found of each slice model, in the bucket `state`. Needs no torch: operators read it."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct
from nats.js.errors import KeyDeletedError, KeyNotFoundError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError

PREFIX: Final = "drift."


class Drift(Struct, frozen=True, kw_only=True, tag="microopt.drift.v1"):
    """How well the version in force of a model predicts fresh telemetry; NLLs are means, None while unknown.

    `digest` is the version's. `offered` is the version that was made from it and found better, with both NLLs on
    the rows that were held out; `note` says what keeps the tuner from measuring or offering.
    """

    model: str
    version: int
    digest: str
    at: datetime
    rows: int = 0
    fresh_nll: float | None = None
    validation_nll: float | None = None
    drifted: bool = False
    offered: int | None = None
    held_out_nll: float | None = None
    offered_nll: float | None = None
    note: Annotated[str, Meta(max_length=2_000)] = ""


async def put(bus: Bus, drift: Drift) -> None:
    """Write what was found of a model."""
    await bus.put_spec(streams.STATE, f"{PREFIX}{drift.model}", drift)


async def get(bus: Bus, model: str) -> Drift | None:
    """Return what was found of a model, None where nothing was, or nothing that can be read."""
    kv = await bus.js.key_value(streams.STATE)
    try:
        entry = await kv.get(f"{PREFIX}{model}")
        return codec.decode(entry.value or b"", Drift, origin=f"{streams.STATE}/{PREFIX}{model}")
    except (KeyNotFoundError, KeyDeletedError, InvalidMessageError):
        return None


async def get_all(bus: Bus) -> list[Drift]:
    """Return what was found, by model."""
    prefix = f"$KV.{streams.STATE}.{PREFIX}"
    state = (await bus.js.stream_info(f"KV_{streams.STATE}", subjects_filter=f"{prefix}*")).state
    found = [await get(bus, subject.removeprefix(prefix)) for subject in sorted(state.subjects or {})]
    return [drift for drift in found if drift]


def described(drift: Drift) -> str:
    """Return in a line what `microopt model drift` says of a model."""
    fresh, validation = (_number(each) for each in (drift.fresh_nll, drift.validation_nll))
    said = (
        f"{drift.model} version {drift.version}: {'drifted' if drift.drifted else 'not drifted'}; "
        f"NLL {fresh} on {drift.rows} fresh slots, {validation} in validation; at {drift.at:%Y-%m-%d %H:%M:%S}"
    )
    if drift.offered is not None:
        said += (
            f"; version {drift.offered} is better on held-out slots ({_number(drift.offered_nll)} to "
            f"{_number(drift.held_out_nll)}): microopt model promote {drift.model} {drift.offered}"
        )
    return said + (f"; {drift.note}" if drift.note else "")


def _number(nll: float | None) -> str:
    return "unknown" if nll is None else f"{nll:.3f}"
