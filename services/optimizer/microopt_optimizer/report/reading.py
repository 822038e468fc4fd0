"""What streams and buckets hold, for reports: read once, as far as it can be read."""

from collections.abc import Callable, Collection
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from nats.js.errors import NotFoundError

from microopt import codec, desired, streams, subjects
from microopt.bus import Bus
from microopt.cli.table import listed
from microopt.cli.times import time_of
from microopt.errors import ConfigError, InvalidMessageError
from microopt.messages import Answer, Asked, Message, Problem, Solution
from microopt.replay import last_sequence, replay
from microopt.specs import PoolSpec, Route, SliceSpec
from microopt_optimizer.report.figures import Question, Reply, question, reply

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SLACK_S: Final = 60.0
"""How much earlier than a message is looked for than its time says: it is stored by another clock."""


def since_of(text: str, now: datetime) -> datetime:
    """Return the time that `--since` says: `24h` is short for `-24h`.

    Raises:
        ConfigError: it says none, or one to come.
    """
    found = time_of(f"-{text}" if text[:1].isdigit() and text[-1:] in "smhdw" else text, now, "--since")
    if found > now:
        raise ConfigError(f"--since {text!r}: is still to come; write 24h, 7d, or a time before now")
    return max(found, EPOCH)


async def pool_of(bus: Bus, name: str) -> PoolSpec:
    """Return a pool's spec.

    Raises:
        ConfigError: there is none; lists those that there are.
    """
    if (found := await desired.get(bus, PoolSpec, name)) is not None:
        return found
    known, _ = await desired.get_all(bus, PoolSpec)
    raise ConfigError(f"unknown pool {name!r}; pools: {', '.join(known) or 'none, see `microopt apply`'}")


async def slice_of(bus: Bus, name: str) -> SliceSpec:
    """Return a slice's spec.

    Raises:
        ConfigError: there is none; lists those that there are.
    """
    if (found := await desired.get(bus, SliceSpec, name)) is not None:
        return found
    known, _ = await desired.get_all(bus, SliceSpec)
    raise ConfigError(f"unknown slice {name!r}; slices: {listed(list(known)) or 'none, see `microopt apply`'}")


async def each(
    bus: Bus, kind: type[T], subject: str, start: int | datetime, take: Callable[[T], bool | None]
) -> int:
    """Hand what is stored of `subject` to `take` until it returns true; return how many could not be read."""
    unreadable, stream = 0, streams.STREAM_OF[kind]
    last = await last_sequence(bus, stream)
    async with aclosing(replay(bus, stream, subject, start=start, last=last)) as batches:
        async for messages in batches:
            for message in messages:
                try:
                    found = codec.decode(message.data, kind, origin=message.subject)
                except InvalidMessageError:
                    unreadable += 1
                    continue
                if take(found):
                    return unreadable
    return unreadable


async def newest(bus: Bus, kind: type[T], subject: str) -> T | None:
    """Return the message that was stored last on a subject, or None when there is none that can be read."""
    try:
        message = await bus.js.get_last_msg(streams.STREAM_OF[kind], subject)
        return codec.decode(message.data or b"", kind, origin=subject)
    except (NotFoundError, InvalidMessageError):
        return None


async def questions(bus: Bus, pool: str, start: int | datetime) -> tuple[dict[str, Question], int]:
    """Return a pool's questions by their problem's id, the later word for each, and how many cannot be read."""
    found: dict[str, Question] = {}

    def take(asked: Asked) -> None:
        one = question(asked)
        found[one.problem] = one

    return found, await each(bus, Asked, subject_of(Asked, pool), start, take)


class Replies:
    """The replies to known questions, as they are read.

    `strangers` are answers since a time to problems that are not kept; a problem is stored after its first answer.
    """

    def __init__(self, asked: dict[str, Question], since: datetime) -> None:
        self._asked, self._since = asked, since
        self.found: list[Reply] = []
        self.strangers = 0

    def take(self, answer: Answer) -> None:
        """Take one answer."""
        if (asked := self._asked.get(answer.problem)) is None:
            self.strangers += answer.at >= self._since
        else:
            self.found.append(reply(answer, asked))


async def asked_with(bus: Bus, pool: str, is_it: Callable[[Asked], bool], around: datetime) -> Asked | None:
    """Return the first `Asked` of a pool that `is_it`, stored from a minute before `around` on."""
    found: list[Asked] = []

    def take(asked: Asked) -> bool:
        if is_it(asked):
            found.append(asked)
        return bool(found)

    await each(bus, Asked, subject_of(Asked, pool), before(around), take)
    return found[0] if found else None


async def replies(bus: Bus, pool: str, asked: dict[str, Question], since: datetime) -> tuple[Replies, int]:
    """Return the replies to a pool's questions since a time, and how many answers cannot be read."""
    found = Replies(asked, since)
    return found, await each(bus, Answer, subject_of(Answer, pool), before(since), found.take)


async def answers_to(
    bus: Bus, pool: str, problems: Collection[str], optimizer: str, around: datetime
) -> dict[str, Answer]:
    """Return an optimizer's last answer to each of some problems, one with a solution before one without."""
    found: dict[str, Answer] = {}

    def take(answer: Answer) -> None:
        if answer.problem in problems and (answer.solution is not None or answer.problem not in found):
            found[answer.problem] = answer

    await each(bus, Answer, solutions_of(optimizer, pool), before(around), take)
    return found


async def answer_to(bus: Bus, pool: str, problem: str, optimizer: str, around: datetime) -> Answer | None:
    """Return an optimizer's last answer to a problem, one with a solution before one without."""
    return (await answers_to(bus, pool, {problem}, optimizer, around)).get(problem)


async def actives(bus: Bus, pool: str) -> list[str]:
    """Return the optimizers that the pool's route had as active, in order, as far as its history is kept."""
    found: list[str] = []
    stream = f"KV_{streams.ROUTES}"
    last = await last_sequence(bus, stream)
    async for messages in replay(bus, stream, f"$KV.{streams.ROUTES}.{pool}", start=1, last=last):
        for message in messages:
            try:
                found.append(codec.decode(message.data, Route, origin=message.subject).active)
            except InvalidMessageError:  # removed, or of another version
                continue
    return found


def subject_of(kind: type[Message], pool_or_slice: str) -> str:
    """Return the subject of a message type for one pool or slice, of all optimizers and resources."""
    tokens = subjects.ALL[kind].split(".")
    if kind is Answer:
        return ".".join([*tokens[:-1], pool_or_slice])
    return ".".join([*tokens[:2], pool_or_slice, *tokens[3:]])


def solutions_of(optimizer: str, pool: str) -> str:
    """Return the subject of one optimizer's answers for a pool."""
    return f"{subjects.ROOT}.solution.{optimizer}.{pool}"


def timeout_s(deadline_s: float) -> float:
    """Return how long to wait for an optimizer that is given `deadline_s`: the router's share, and a second."""
    return deadline_s / 0.8 + 1.0


def before(around: datetime) -> datetime:
    """Return a time a little before `around`: what belongs to it may be stored by a clock that is behind."""
    return max(around, EPOCH + timedelta(seconds=SLACK_S)) - timedelta(seconds=SLACK_S)


async def ask(bus: Bus, optimizer: str, problem: Problem) -> Solution:
    """Return an optimizer's answer to a problem; nothing is applied.

    Raises:
        TemporaryError: nobody serves it, or it did not answer in time.
    """
    return await bus.request(
        subjects.optimize(optimizer), problem, Solution, timeout_s=timeout_s(problem.deadline_s)
    )
