"""Names that must mean the same everywhere: S-NSSAI, tokens, and deterministic message ids."""

import re
from datetime import datetime

from microopt.errors import ConfigError

# Six hex digits that are not all f, without a lookahead: RE2, which validators in Go use, has none.
_SD = "|".join(f"f{{{n}}}[0-9a-e][0-9a-f]{{{5 - n}}}" for n in range(6))

SLICE_PATTERN = rf"^(0|[1-9][0-9]?|1[0-9]{{2}}|2[0-4][0-9]|25[0-5])(-({_SD}))?$"
"""A canonical S-NSSAI: lower case, and without the SD that means none, so that one slice has one subject."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

_SLICE = re.compile(SLICE_PATTERN)
_NO_SD = "-ffffff"  # TS 23.003 §28.4.2: this SD means "no SD"


def slice_id(text: str) -> str:
    """Return the canonical S-NSSAI string (TS 29.571 §5.4.4.2), so that one slice has one subject.

    Raises:
        ConfigError: `text` is not `SST` or `SST-SD`.
    """
    canonical = text.strip().lower().removesuffix(_NO_SD)
    if not _SLICE.fullmatch(canonical):
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
