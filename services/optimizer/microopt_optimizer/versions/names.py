"""How versions of slice models are called: `embb--3` is version 3 of `embb`, for objects and for slices."""

import re
from typing import Final

from microopt.errors import ConfigError
from microopt.ids import NAME_PATTERN

SEPARATOR: Final = "--"
"""What names, subjects and KV keys all allow; a name that ends like a version cannot have versions of its own."""

_VERSION: Final = re.compile(r"^(?P<name>.+)--(?P<number>[1-9][0-9]*)$")


def versioned(name: str, version: int) -> str:
    """Return what a version of a model is called; version 0 is the model without a version."""
    return name if version == 0 else f"{name}{SEPARATOR}{version}"


def parsed(text: str) -> tuple[str, int]:
    """Return the model and the version that an object's name, or a slice's `model`, stands for."""
    match = _VERSION.fullmatch(text)
    return (match["name"], int(match["number"])) if match else (text, 0)


def require_name(name: str, version: int = 1) -> None:
    """Make sure that a model can be called `name` and have this version.

    Raises:
        ConfigError: it has other characters, is too long, or is itself the name of a version.
    """
    if not re.fullmatch(NAME_PATTERN, name) or parsed(name)[1]:
        raise ConfigError(
            f"model name {name!r}: use a-z, 0-9, '-' and '_', at most 63 characters, without "
            f"{SEPARATOR!r} and a number at the end, which names a version"
        )
    if not re.fullmatch(NAME_PATTERN, versioned(name, version)):
        raise ConfigError(
            f"model name {name!r}: too long for a version; 63 characters hold {SEPARATOR}{version}, too"
        )
