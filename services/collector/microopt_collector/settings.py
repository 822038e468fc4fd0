"""The table `[collector]`."""

from collections import Counter
from typing import Annotated

from msgspec import Meta, Struct

from microopt_collector.sources import SourceSettings
from microopt_collector.sources.testbed import TestbedSourceSettings


class CollectorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to measure with."""

    sources: Annotated[tuple[SourceSettings, ...], Meta(min_length=1)] = (TestbedSourceSettings(),)
    """Tables with a `kind`: `nats` or `testbed`."""
    lateness_slots: Annotated[float, Meta(ge=0.0, le=1_000.0)] = 1.0
    """How many slots after its end a slot still waits for measurements."""

    def __post_init__(self) -> None:
        names = Counter(source.name for source in self.sources)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"sources: {', '.join(twice)} given twice; give each source a name of its own")
