"""Sizes of a video's segments: measured ones where the data is at hand, else drawn from what they are like."""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from microopt.errors import ConfigError

FILE: Final = Path("dash") / "bbb4k.json"
KBPS: Final = 16_000
"""The representation that is streamed: above what a UE gets, so that its player always wants more."""

_SEGMENT_S: Final = 3.0
_SEGMENTS: Final = 199
_SPREAD: Final = 0.175
"""Standard deviation of the log of segment sizes, of Big Buck Bunny at 16 Mbit/s (UMass-LIDS/sabre)."""


class _Movie(msgspec.Struct, frozen=True):
    bitrates_kbps: list[int]
    segment_sizes_bits: list[list[int]]


def segments_bits(data: Path, kbps: int = KBPS) -> tuple[int, ...]:
    """Return the sizes of a movie's segments at the lowest bitrate that is `kbps` or more.

    Raises:
        ConfigError: the file at hand is no such description, or no bitrate is high enough.
    """
    path = data / FILE
    if not path.is_file():
        drawn = np.random.default_rng(0).lognormal(-(_SPREAD**2) / 2, _SPREAD, _SEGMENTS)
        return tuple(int(size) for size in drawn * kbps * 1000 * _SEGMENT_S)
    try:
        movie = msgspec.json.decode(path.read_bytes(), type=_Movie)
        column = movie.bitrates_kbps.index(min(rate for rate in movie.bitrates_kbps if rate >= kbps))
        return tuple(sizes[column] for sizes in movie.segment_sizes_bits)
    except (msgspec.DecodeError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: no segments of {kbps} kbit/s or more in it: {error}") from error
