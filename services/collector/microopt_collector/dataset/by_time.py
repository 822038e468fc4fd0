"""Telemetry in the order of its time, the latest word on each slot, with little memory for any number of slots."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from microopt import codec
from microopt.errors import ConfigError
from microopt.ids import unix_ms
from microopt.messages import Telemetry

_TABLE: Final = "CREATE TABLE slot (time_ms INTEGER PRIMARY KEY, known INTEGER NOT NULL, data BLOB NOT NULL)"
_PUT: Final = """\
INSERT INTO slot VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET known = excluded.known, data = excluded.data
WHERE excluded.known >= known"""


class ByTime:
    """A private database in the folder of temporary files, which is gone when it is closed.

    A word that says `missing` takes nothing back: what was measured stays known.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # the empty name: on disk as far as the cache is too small
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(_TABLE)

    def __enter__(self) -> "ByTime":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def put(self, telemetry: Telemetry, data: bytes) -> None:
        """Note the latest word on a slot, with the bytes that it was read from.

        Raises:
            ConfigError: the disk is full.
        """
        try:
            self._database.execute(_PUT, (unix_ms(telemetry.time), telemetry.quality != "missing", data))
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f"cannot sort the telemetry in the folder of temporary files: {error}; set SQLITE_TMPDIR to a "
                "folder with more room"
            ) from error

    def __iter__(self) -> Iterator[Telemetry]:
        """Yield the telemetry in the order of its time."""
        for (data,) in self._database.execute("SELECT data FROM slot ORDER BY time_ms"):
            yield codec.decode(data, Telemetry, origin="sorted telemetry")
