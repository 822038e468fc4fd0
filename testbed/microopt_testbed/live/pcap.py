"""Packet captures in the classic pcap format, read for the sizes and times of their packets."""

import struct
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError

MAX_BYTES: Final = 256 * 1024 * 1024
_FILE_HEADER: Final = 24
_RECORD_HEADER: Final = 16
_MAGIC: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"

Recording = tuple[tuple[float, int], ...]
"""Seconds since the first packet, and bytes on the wire, in the order of time."""


def read(path: Path) -> Recording:
    """Return when each packet of a capture came, and how long it was.

    Raises:
        ConfigError: the file cannot be read, is too large, of another format, cut off, or holds no packet.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB; cut it, such as by editcap -c")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if data[:4] == _PCAPNG:
        raise ConfigError(f"{path}: is pcapng; convert it: editcap -F pcap {path.name} OUT.pcap")
    if data[:4] not in _MAGIC or len(data) < _FILE_HEADER:
        raise ConfigError(f"{path}: is no pcap file")
    packets = sorted(_records(path, data, *_MAGIC[data[:4]]))
    if not packets:
        raise ConfigError(f"{path}: holds no packet")
    first_s = packets[0][0]
    return tuple((at_s - first_s, size) for at_s, size in packets)


def _records(path: Path, data: bytes, order: str, fraction_s: float) -> list[tuple[float, int]]:
    header = struct.Struct(f"{order}IIII")
    found, at = [], _FILE_HEADER
    while at < len(data):
        if at + _RECORD_HEADER > len(data):
            raise ConfigError(f"{path}: cut off at byte {at}")
        seconds, fraction, kept, size = header.unpack_from(data, at)
        at += _RECORD_HEADER + kept
        if at > len(data):
            raise ConfigError(f"{path}: cut off in the packet before byte {at}")
        found.append((seconds + fraction * fraction_s, size))
    return found
