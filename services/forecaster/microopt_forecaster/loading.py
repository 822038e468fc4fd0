"""Bringing a slice's history up to now: what was kept of it, then the telemetry since."""

import time

import structlog
from nats.aio.msg import Msg

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Telemetry
from microopt.replay import last_sequence, replay
from microopt.subjects import ALL
from microopt_forecaster import checkpoint, kept
from microopt_forecaster.followed import FollowedSlice

_log = structlog.get_logger("microopt.forecaster")


class Loading:
    """The loading of one slice; telemetry that comes meanwhile waits for its turn."""

    def __init__(self, followed: FollowedSlice) -> None:
        self.done = False
        self._followed = followed
        self._restored = False
        self._waiting: list[tuple[Telemetry, int]] = []

    def note(self, telemetry: Telemetry, sequence: int) -> None:
        """Take one slot that was just published."""
        if self.done:
            self._followed.note(telemetry, sequence)
        else:
            self._waiting.append((telemetry, sequence))

    async def load(self, bus: Bus) -> None:
        """Read what was kept, and the telemetry since; after an error, call again.

        Raises:
            TemporaryError: some of it was lost on its way.
            nats.errors.Error: the server is gone.
        """
        followed = self._followed
        if not self._restored:
            await self._restore(bus)
        last = await last_sequence(bus, streams.TELEMETRY)
        if followed.sequence > last:  # the stream was lost and made anew
            followed.sequence = 0
        subject = ALL[Telemetry].replace("*", followed.slice)
        async for messages in replay(bus, streams.TELEMETRY, subject, start=followed.sequence + 1, last=last):
            for message in messages:
                self._take(message)
        for telemetry, sequence in self._waiting:
            followed.note(telemetry, sequence)
        self._waiting.clear()
        self.done = True

    async def _restore(self, bus: Bus) -> None:
        state = await kept.find(bus, self._followed.slice)
        self._restored = True
        if state is None:
            return
        try:
            checkpoint.restore(self._followed, state)
        except InvalidMessageError as error:
            _log.warning("state_unusable", slice=self._followed.slice, error=str(error))

    def _take(self, message: Msg) -> None:
        try:
            telemetry = codec.decode(message.data, Telemetry, origin=message.subject)
        except InvalidMessageError as error:  # it was a dead letter when it came
            _log.warning("telemetry_unreadable", slice=self._followed.slice, error=str(error))
            return
        if telemetry.time.timestamp() - time.time() <= self._followed.spec.interval_s:
            self._followed.note(telemetry, message.metadata.sequence.stream)
