"""What one slice is to have."""

from dataclasses import dataclass

from microopt.messages import Fallback, SliceSolution, Values


@dataclass(frozen=True)
class Decision:
    """What one slice is to have, who answered so, and what was made of the answer."""

    answer: SliceSolution
    values: Values
    optimizer: str
    changes: tuple[str, ...] = ()
    fallback: Fallback = ""
