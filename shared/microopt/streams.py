"""The streams, KV buckets and object store of microopt, provisioned idempotently in this one place."""

from typing import Any, Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, BucketNotFoundError, NotFoundError, ServiceUnavailableError

from microopt.errors import ConfigError
from microopt.messages import Actuation, Allocation, Answer, Asked, Assurance, Event, Forecast, Telemetry
from microopt.subjects import ALL, ROOT

log = structlog.get_logger("microopt.streams")

DAY_S: Final = 86_400.0
MIB: Final = 1024 * 1024
DUPLICATE_WINDOW_S: Final = 120.0

TELEMETRY: Final = "TELEMETRY"
FORECASTS: Final = "FORECASTS"
SOLUTIONS: Final = "SOLUTIONS"
ALLOCATIONS: Final = "ALLOCATIONS"
ACTUATIONS: Final = "ACTUATIONS"
PROBLEMS: Final = "PROBLEMS"
ASSURANCES: Final = "ASSURANCES"
EVENTS: Final = "EVENTS"
DEAD: Final = "DEAD"

STREAM_OF: Final[dict[type[Any], str]] = {
    Telemetry: TELEMETRY,
    Forecast: FORECASTS,
    Answer: SOLUTIONS,
    Allocation: ALLOCATIONS,
    Actuation: ACTUATIONS,
    Asked: PROBLEMS,
    Assurance: ASSURANCES,
    Event: EVENTS,
}

SLICES: Final = "slices"
POOLS: Final = "pools"
ROUTES: Final = "routes"
STATE: Final = "state"
MARGINS: Final = "margins"
FORECASTER: Final = "forecaster"
MODELS: Final = "models"
MODEL_ROUTES: Final = "model_routes"


def _stream(name: str, subject: str, *, max_age_s: float, max_mib: int, per_subject: int = -1) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=[subject],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=max_age_s,
        max_bytes=max_mib * MIB,
        max_msgs_per_subject=per_subject,
        duplicate_window=min(DUPLICATE_WINDOW_S, max_age_s),
    )


STREAM_CONFIGS: Final = (
    _stream(TELEMETRY, ALL[Telemetry], max_age_s=30 * DAY_S, max_mib=4096),
    _stream(FORECASTS, ALL[Forecast], max_age_s=7 * DAY_S, max_mib=512, per_subject=1000),
    _stream(SOLUTIONS, ALL[Answer], max_age_s=7 * DAY_S, max_mib=512, per_subject=1000),
    _stream(ALLOCATIONS, ALL[Allocation], max_age_s=365 * DAY_S, max_mib=512, per_subject=10_000),
    _stream(ACTUATIONS, ALL[Actuation], max_age_s=30 * DAY_S, max_mib=512, per_subject=10_000),
    _stream(PROBLEMS, ALL[Asked], max_age_s=7 * DAY_S, max_mib=512, per_subject=1000),
    _stream(ASSURANCES, ALL[Assurance], max_age_s=365 * DAY_S, max_mib=512, per_subject=10_000),
    _stream(EVENTS, ALL[Event], max_age_s=30 * DAY_S, max_mib=128, per_subject=10_000),
    _stream(DEAD, f"{ROOT}.dead.*", max_age_s=30 * DAY_S, max_mib=256, per_subject=10_000),
)

BUCKET_HISTORY: Final = {
    SLICES: 16,
    POOLS: 16,
    ROUTES: 64,
    STATE: 4,
    MARGINS: 16,
    FORECASTER: 1,
    MODEL_ROUTES: 64,
}

# What decides whether a message is kept: a server that quietly ignores one of these must not go unnoticed.
_CHECKED: Final = (
    "subjects", "retention", "storage", "discard", "max_age", "max_bytes", "max_msgs_per_subject",
    "duplicate_window",
)  # fmt: skip


async def provision(js: JetStreamContext) -> None:
    """Create or update every stream, bucket and object store that the agents use.

    Raises:
        ConfigError: the server has no JetStream, refuses one, or echoes another configuration than was asked.
    """
    try:
        for config in STREAM_CONFIGS:
            await _ensure_stream(js, config)
        for bucket, history in BUCKET_HISTORY.items():
            await _ensure_bucket(js, bucket, history)
        await _ensure_models(js)
    except ServiceUnavailableError as error:
        raise ConfigError(
            f"the NATS server offers no JetStream ({error.description or 'nothing answers'}); "
            "start it with `-js`, or see `microopt up`"
        ) from error


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        info = await js.add_stream(config)
    except BadRequestError:  # it exists, configured otherwise: an older microopt's, or changed by hand
        try:
            info = await js.update_stream(config)
        except BadRequestError as error:
            raise ConfigError(
                f"stream {config.name}: the server refuses this project's configuration ({error.description}); "
                f"remove or rename the stream that stands in its place"
            ) from error
        log.warning("stream_reconfigured", stream=config.name)
    for field in _CHECKED:
        asked, got = getattr(config, field), getattr(info.config, field)
        if asked != got:
            raise ConfigError(
                f"stream {config.name}: asked for {field}={asked!r}, the server made it {got!r}; "
                "nats-server 2.10 or newer is required"
            )


async def _ensure_bucket(js: JetStreamContext, bucket: str, history: int) -> None:
    try:
        await js.key_value(bucket)
    except (BucketNotFoundError, NotFoundError):
        await js.create_key_value(KeyValueConfig(bucket=bucket, history=history, storage=StorageType.FILE))


async def _ensure_models(js: JetStreamContext) -> None:
    try:
        await js.object_store(MODELS)
    except (BucketNotFoundError, NotFoundError):
        await js.create_object_store(MODELS, ObjectStoreConfig(bucket=MODELS, storage=StorageType.FILE))
