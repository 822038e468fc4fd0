"""Bytes on the bus to typed messages and back, refusing at both ends what no agent may act on."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from microopt.errors import InvalidMessageError

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast(type[Any], kind))


def decode(data: bytes, kind: type[T], *, origin: str) -> T:
    """Return the `kind` in `data`.

    Raises:
        InvalidMessageError: not JSON, another type, or a field out of range; the text names `origin` and field.
    """
    try:
        message: T = _decoder(kind).decode(data)  # type: ignore[arg-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessageError(f"{origin}: not a valid {kind.__name__}: {error}") from error
    return message


def encode(message: Any) -> bytes:
    """Return `message` as JSON.

    Structs are not checked when they are built, and JSON has no NaN: what would be refused by every reader is
    refused here, where the bug is.

    Raises:
        InvalidMessageError: a value that the message's own type does not allow.
    """
    data = _encoder.encode(message)
    decode(data, type(message), origin=f"outgoing {type(message).__name__}")
    return data
