"""Desired state that the bus lost, written again by the routers that live, or from a file (docs/adr/0018)."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog
from nats.js.errors import NotFoundError

from microopt import desired, streams
from microopt.bus import Bus
from microopt.desired import Desired
from microopt.errors import ConfigError, MicrooptError
from microopt_optimizer.router.lease import UNREACHABLE
from microopt_optimizer.router.state import RouterState

LOOK_S: Final = 1.0
Specs = Mapping[str, Any]


class Restoring:
    """Looks whether a bucket of desired state was lost, and writes what is known of it.

    A bucket that was never written to, while this router has read entries of it, is another one than it read them
    from: the store was lost. Only then are they written, so that what was deleted by whoever, in a bucket that
    stands or since it was made anew, does not come back. A file's entries are written where none ever stood, but
    not those that this router saw deleted.

    Args:
        file: as for `microopt apply`; none if empty.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, bus: Bus, state: RouterState, file: str) -> None:
        self._bus = bus
        self._state = state
        self._path = Path(file) if file else None
        self._wanted = desired.read_file(self._path) if self._path else None
        self._read_at = self._path.stat().st_mtime_ns if self._path else 0
        self._filled: dict[str, datetime | None] = {}
        self._log = structlog.get_logger("microopt.router")

    async def run(self) -> None:
        """Look for ever; a bus that is away is looked at later."""
        while True:
            try:
                await self.look()
            except (*UNREACHABLE, MicrooptError) as error:
                self._log.warning("desired_state_not_looked_at", error=str(error) or repr(error))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look at each bucket once."""
        known: dict[str, Specs] = {
            streams.POOLS: self._state.pools,
            streams.SLICES: self._state.slices,
            streams.ROUTES: self._state.routes,
            streams.MARGINS: self._state.margins,
        }
        for bucket, specs in known.items():
            await self._look_at(bucket, dict(specs))

    async def _look_at(self, bucket: str, specs: Specs) -> None:
        try:
            info = await self._bus.js.stream_info(f"KV_{bucket}")
        except NotFoundError:
            await streams.provision(self._bus.js)
            info = await self._bus.js.stream_info(f"KV_{bucket}")
        if info.state.last_seq == 0 and specs:
            self._say(bucket, await desired.put_missing(self._bus, bucket, specs), "memory")
        if info.state.messages == 0 or self._filled.get(bucket) != info.created:
            self._say(bucket, await desired.put_missing(self._bus, bucket, self._from_file(bucket)), "file")
        self._filled[bucket] = info.created

    def _say(self, bucket: str, written: list[str], source: str) -> None:
        if written:
            self._log.warning("desired_state_written", bucket=bucket, entries=sorted(written), source=source)

    def _from_file(self, bucket: str) -> Specs:
        if self._path is None or self._wanted is None or bucket == streams.MARGINS:
            return {}
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._read_at, self._wanted = changed_at, desired.read_file(self._path)
        except (ConfigError, OSError) as error:
            self._log.error("file_not_usable", error=str(error), remedy="what it said before is used")
        found = _entries(self._wanted).get(bucket, {})
        return {key: spec for key, spec in found.items() if (bucket, key) not in self._state.removed}


def _entries(wanted: Desired) -> dict[str, Specs]:
    return {
        streams.POOLS: {one.pool: one for one in wanted.pools},
        streams.SLICES: {one.slice: one for one in wanted.slices},
        streams.ROUTES: {one.pool: one for one in wanted.routes},
    }
