"""What one slice is to have."""

from dataclasses import dataclass
from typing import Literal

from microopt.messages import SliceSolution, Values

Fallback = Literal["", "last", "peak", "force"]


@dataclass(frozen=True)
class Decision:
    """What one slice is to have, who answered so, and what was made of the answer."""

    answer: SliceSolution
    values: Values
    optimizer: str
    changes: tuple[str, ...] = ()
    fallback: Fallback = ""
