"""The ledger's shell: reads allocations and telemetry, and publishes what each interval came to."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from microopt import codec, streams, subjects
from microopt.bus import TOGETHER, Bus
from microopt.errors import InvalidMessageError, MicrooptError
from microopt.messages import Allocation, Assurance, Telemetry
from microopt.specs import PoolSpec, SliceSpec
from microopt_optimizer.auditor.assurance import Book, judge
from microopt_optimizer.auditor.following import Following
from microopt_optimizer.auditor.margins import Margins
from microopt_optimizer.auditor.metrics import AuditorMetrics
from microopt_optimizer.auditor.settings import AuditorSettings

FIRST_INTERVALS: Final = 3.0
"""How far back a slice is judged that never was."""
AHEAD_INTERVALS: Final = 3.0
"""How long before its interval an allocation may have been stored."""
AT_ONCE: Final = 32

Judged = tuple[Book, SliceSpec, Assurance]
Last = tuple[Assurance | None, int]
"""A slice's last assurance, None if there is none that can be read, and its sequence in the stream, 0 for none."""


class Assuring:
    """Judges intervals that are over, each once, whatever is restarted or replicated.

    The last assurance of each slice in its stream is the checkpoint. `slices` and `pools` are desired state, which
    others change.
    """

    def __init__(
        self,
        bus: Bus,
        settings: AuditorSettings,
        slices: Mapping[str, SliceSpec],
        pools: Mapping[str, PoolSpec],
        metrics: AuditorMetrics,
        margins: Margins,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._slices = slices
        self._pools = pools
        self._metrics = metrics
        self._margins = margins
        self._books: dict[str, Book] = {}
        self._begin_ms = 0.0
        self._checked: set[str] = set()
        self._heard: list[Assurance] = []
        self._log = structlog.get_logger("microopt.auditor")

    async def open(self) -> None:
        """Find where to begin: behind the last assurances, but not farther back than is worth reading."""
        now = datetime.now(UTC)
        names = list(self._slices)  # others may come and go while the last assurances of these are read
        last = dict(zip(names, await self._last_of(names), strict=True))
        assurances = {name: assurance for name, (assurance, _) in last.items()}
        begin = min([now, *(_begin(spec, assurances.get(name), now) for name, spec in self._slices.items())])
        begin = max(begin, now - timedelta(seconds=self._settings.look_back_s))
        self._begin_ms = begin.timestamp() * 1000.0
        longest_s = max((spec.interval_s for spec in self._slices.values()), default=0.0)
        early = begin - timedelta(seconds=AHEAD_INTERVALS * longest_s)
        self._allocations = Following(self._bus, Allocation, subjects.ALL[Allocation], since=early)
        self._telemetry = Following(self._bus, Telemetry, subjects.ALL[Telemetry], since=begin)
        self._assurances = Following(self._bus, Assurance, subjects.ALL[Assurance], since=now)
        for name, found in last.items():
            await self._note(name, found)

    async def look(self) -> None:
        """Read what came, and judge what was over before it was read: nothing is judged on a part."""
        before_ms = (datetime.now(UTC).timestamp() - self._settings.late_s) * 1000.0
        await self._allocations.read(self._allocate)
        await self._telemetry.read(self._see)
        await self._assurances.read(self._hear)
        await self._learn_heard()
        self._forget_removed()
        while judged := await self._judge_due(before_ms):
            if not await self._publish(judged):
                return  # what was not stored is judged again at the next look, under the same id

    def _book(self, name: str) -> Book:
        return self._books.setdefault(name, Book(self._begin_ms))

    def _allocate(self, allocation: Allocation, stored: Msg.Metadata) -> None:
        spec = self._slices.get(allocation.slice)
        if not self._book(allocation.slice).allocate(allocation, stored.timestamp, spec.sla if spec else None):
            self._unjudged(allocation, "its telemetry is not read any more; see [auditor] look_back_s")

    def _see(self, telemetry: Telemetry, _: Msg.Metadata) -> None:
        spec = self._slices.get(telemetry.slice)
        if spec is None:
            return  # nobody says what its users were promised
        if reason := self._book(telemetry.slice).see(telemetry, spec.sla):
            self._metrics.slots_unused.labels(telemetry.slice, reason).inc()

    def _hear(self, assurance: Assurance, stored: Msg.Metadata) -> None:
        """Take an assurance that another stored, or this auditor without hearing of it."""
        book, sequence = self._book(assurance.slice), stored.sequence.stream
        if sequence > book.sequence:
            self._heard.append(assurance)
        book.judged(assurance, sequence)

    async def _learn_heard(self) -> None:
        """Let margins learn in place of an author that is gone, or does not know that it is one."""
        heard, self._heard = self._heard, []
        for assurance in heard:
            if spec := self._slices.get(assurance.slice):
                await self._learn(assurance, spec)

    def _forget_removed(self) -> None:
        for name in set(self._checked) - set(self._slices):
            self._checked.discard(name)
            if self._books.pop(name, None):
                self._log.info("slice_removed", slice=name)

    async def _judge_due(self, before_ms: float) -> list[Judged]:
        """Return the earliest interval of each slice that is over, judged; one, so that they stay in order."""
        due = {name: found for name, book in self._books.items() if (found := book.due(before_ms))}
        await self._check(sorted(set(due) - self._checked))
        return [one for name in due if (one := self._judge(name, before_ms))]

    def _judge(self, name: str, before_ms: float) -> Judged | None:
        book, spec, at = self._books[name], self._slices.get(name), datetime.now(UTC)
        for tally in book.due(before_ms):
            try:
                if spec is None:
                    raise MicrooptError(f"slice {name} has no specification; see `microopt apply`")
                pool = self._pools.get(tally.ruling().pool)
                found = judge(tally, spec, pool, self._settings.known_share, at)
                codec.encode(found)  # one that is out of range must not keep the others from being published
                return book, spec, found
            except MicrooptError as error:
                self._unjudged(tally.ruling(), str(error))
                book.close(tally)
        return None

    def _unjudged(self, allocation: Allocation, why: str) -> None:
        self._metrics.unjudged.labels(allocation.slice).inc()
        start = allocation.interval.start.isoformat()
        self._log.error("interval_not_judged", slice=allocation.slice, start=start, reason=why)

    async def _publish(self, judged: list[Judged]) -> bool:
        """Publish assurances, each only as the next after the last known one; return whether all were stored."""
        stored_all = True
        for place in range(0, len(judged), TOGETHER):
            part = judged[place : place + TOGETHER]
            last = {subjects.of(assurance): book.sequence for book, _, assurance in part}
            fates = await self._bus.publish_next([assurance for _, _, assurance in part], last)
            for (book, spec, assurance), stored in zip(part, fates, strict=True):
                if stored.fate in ("new", "duplicate"):
                    book.judged(assurance, stored.sequence)
                    await self._tell(assurance, spec, is_new=stored.fate == "new")
                else:  # what has overtaken it is read before the next look's judging
                    stored_all = False
                    self._checked.discard(assurance.slice)
        return stored_all

    async def _tell(self, assurance: Assurance, spec: SliceSpec, *, is_new: bool) -> None:
        if is_new:
            self._count(assurance)
        await self._learn(assurance, spec)

    def _count(self, assurance: Assurance) -> None:
        realised = float("nan") if assurance.realised is None else assurance.realised
        self._metrics.realised.labels(assurance.slice).set(realised)
        self._metrics.intervals.labels(assurance.slice, assurance.status).inc()

    async def _learn(self, assurance: Assurance, spec: SliceSpec) -> None:
        try:
            await self._margins.learn(assurance, spec)
        except Exception:  # the ledger goes on; what was missed is not learned later
            self._log.exception("margin_not_learned", slice=spec.slice)

    async def _check(self, names: list[str]) -> None:
        """Read the last assurance of slices that came later than this auditor."""
        for name, found in zip(names, await self._last_of(names), strict=True):
            await self._note(name, found)

    async def _note(self, name: str, last: Last) -> None:
        """Take a checkpoint, and let the margin learn from it in case a crash came between."""
        self._checked.add(name)
        assurance, sequence = last
        book = self._book(name)
        book.sequence = sequence  # also a lower one: the stream may have been purged or lost
        if assurance is None:
            return
        book.judged(assurance, sequence)
        if spec := self._slices.get(name):
            await self._learn(assurance, spec)

    async def _last_of(self, names: list[str]) -> list[Last]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def read(name: str) -> Last:
            async with turns:
                return await _last(self._bus, name)

        return await asyncio.gather(*(read(name) for name in names))


def _begin(spec: SliceSpec, last: Assurance | None, now: datetime) -> datetime:
    """Return since when a slice is not judged."""
    if last is not None:
        return min(last.interval.end, now)
    return now - timedelta(seconds=FIRST_INTERVALS * spec.interval_s)


async def _last(bus: Bus, name: str) -> Last:
    subject = f"{subjects.ROOT}.assurance.{name}"
    try:
        message = await bus.js.get_last_msg(streams.ASSURANCES, subject)
    except NotFoundError:
        return None, 0
    data, sequence = message.data or b"", message.seq or 0
    try:
        return codec.decode(data, Assurance, origin=subject), sequence
    except InvalidMessageError as error:
        await bus.dead_letter(data, subject=subject, error=error, kind="Assurance", stream_sequence=sequence)
        return None, sequence  # the next assurance is stored behind it all the same
