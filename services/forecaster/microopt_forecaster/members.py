"""Which replica forecasts which slice."""

import hashlib
from typing import Final

BEAT_S: Final = 1.0
SILENCE_S: Final = 3.5
"""After so long a replica that was not heard is taken for gone."""


class Members:
    """The replicas that were heard lately, this one among them; `now_s` is any steady clock.

    Each slice belongs to the one whose name and the slice's hash highest together (rendezvous hashing), so that
    one that comes or goes moves no slice but its own.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._heard: dict[str, float] = {}

    def hear(self, member: str, now_s: float) -> None:
        """Note that `member` is alive."""
        self._heard[member] = now_s

    def alive(self, now_s: float) -> list[str]:
        """Return who was heard lately, and this one, in order."""
        self._heard = {m: at for m, at in self._heard.items() if now_s - at <= SILENCE_S}
        return sorted({self.own, *self._heard})

    def owns(self, slice: str, now_s: float) -> bool:
        """Return whether `slice` is this replica's."""
        return max(self.alive(now_s), key=lambda member: _weight(member, slice)) == self.own


def _weight(member: str, slice: str) -> bytes:
    return hashlib.sha256(f"{member}\n{slice}".encode()).digest()
