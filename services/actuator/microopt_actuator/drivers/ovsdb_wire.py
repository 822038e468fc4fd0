"""OVSDB's messages (RFC 7047): JSON objects that follow each other on a stream with nothing in between."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from microopt.errors import TemporaryError

MAX_MESSAGE: Final = 64 << 20
"""Far more than a switch with ten thousand queues has to say at once."""

# All up to the next brace that is in no string. Possessive: what does not end in a brace yet fails at once.
_TO_BRACE = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+([{}])', re.DOTALL)

Operation = dict[str, Any]


class Message(Struct):
    """What the server says: an answer, a notification, or a request of its own."""

    id: Any = None
    method: str | None = None
    params: Raw = Raw(b"null")
    result: Raw = Raw(b"null")
    error: Any = None


class Outcome(Struct):
    """What became of one operation of a transaction."""

    count: int | None = None
    rows: list[dict[str, Any]] = []
    error: str | None = None
    details: str = ""


class Splitter:
    """Cuts a stream into its messages."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._seen = 0
        self._depth = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that `data` completes.

        Raises:
            TemporaryError: this is no JSON-RPC.
        """
        self._data += data
        while found := _TO_BRACE.match(self._data, self._seen):
            self._seen = found.end()
            self._depth += 1 if found[1] == b"{" else -1
            if self._depth <= 0:
                yield self._taken()
        if len(self._data) > MAX_MESSAGE:
            raise TemporaryError(f"a message is longer than {MAX_MESSAGE >> 20} MiB")

    def _taken(self) -> Message:
        text = bytes(self._data[: self._seen])
        del self._data[: self._seen]
        self._seen = self._depth = 0
        try:
            return msgspec.json.decode(text, type=Message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TemporaryError(f"what answers does not speak OVSDB: {error}") from None


def request(number: int, method: str, params: list[Any]) -> bytes:
    """Return a request."""
    return msgspec.json.encode({"id": number, "method": method, "params": params})


def echo_reply(message: Message) -> bytes:
    """Return the answer to an `echo`, without which the server hangs up."""
    return msgspec.json.encode({"id": message.id, "result": message.params, "error": None})


def outcomes(result: Raw) -> list[Outcome | None]:
    """Return what became of each operation; `None` was not tried."""
    return msgspec.json.decode(result, type=list[Outcome | None])


def reference(uuid: str) -> list[str]:
    """Return a row's uuid as it stands in operations."""
    return ["uuid", uuid]


def mapping(values: Iterable[tuple[object, object]]) -> list[object]:
    """Return pairs as a map stands in operations."""
    return ["map", [[key, value] for key, value in values]]


def is_row(uuid: str) -> list[list[object]]:
    """Return the condition that names one row."""
    return [["_uuid", "==", reference(uuid)]]


def elements(value: Any) -> list[Any]:
    """Return the elements of a set, which stands for itself where it has one; those that are uuids as text."""
    many = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    return [one[1] if isinstance(one, list) else one for one in many]


def pairs(value: Any) -> dict[Any, Any]:
    """Return a map's pairs; values that are uuids as text."""
    return {key: one[1] if isinstance(one, list) else one for key, one in value[1]}
