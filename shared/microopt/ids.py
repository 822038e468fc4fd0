"""Names that must mean the same everywhere: S-NSSAI, tokens, and deterministic message ids."""

import re
from datetime import datetime

from microopt.errors import ConfigError

SLICE_PATTERN = r"^(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])(-[0-9a-f]{6})?$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

_SLICE = re.compile(SLICE_PATTERN)
_NO_SD = "-ffffff"  # TS 23.003 §28.4.2: this SD means "no SD"


def slice_id(text: str) -> str:
    """Return the canonical S-NSSAI string (TS 29.571 §5.4.4.2), so that one slice has one subject.

    Raises:
        ConfigError: `text` is not `SST` or `SST-SD`.
    """
    canonical = text.strip().lower().removesuffix(_NO_SD)
    if not _SLICE.match(canonical):
        raise ConfigError(
            f"slice {text!r}: not an S-NSSAI; write SST (0-255), optionally '-' and six hex digits of SD, "
            "such as 1-000001"
        )
    return canonical


def unix_ms(time: datetime) -> int:
    """Return `time` as whole milliseconds since 1970, the form in which times enter message ids."""
    return round(time.timestamp() * 1000)


def message_id(*parts: str | int) -> str:
    """Return the `Nats-Msg-Id` for one fact: the same parts give the same id on every attempt and replica."""
    return ":".join(str(part) for part in parts)
