"""Results that outlive the process: one line of JSON each, appended as soon as it is known."""

import os
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from microopt.errors import ConfigError
from microopt_testbed.experiments.settings import Setting

FILE: Final = "outcomes.jsonl"


class Outcome(Struct, frozen=True, kw_only=True):
    """What one approach allocates in one setting.

    `expected_degradation` is E(β) of the slice model under the setting's own traffic, whatever traffic the
    approach planned for; `status` is what the approach says of itself.
    """

    approach: str
    setting: Setting
    allocation: dict[str, float]
    cost: float
    expected_degradation: float
    status: Literal["optimal", "feasible", "infeasible"]
    solve_s: float
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Return whether E(β) is within its threshold, strictly judged."""
        return self.expected_degradation <= self.setting.degradation_threshold


class _Line(Struct, frozen=True):
    key: str
    outcome: Outcome


class Store:
    """Outcomes by key, in a file of which every whole line counts."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._outcomes = _read(self._path)

    def __contains__(self, key: str) -> bool:
        return key in self._outcomes

    def get(self, key: str) -> Outcome:
        """Return the outcome of a key that the store has."""
        return self._outcomes[key]

    def put(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome; it is on the disk when this returns.

        Raises:
            ConfigError: the file cannot be written.
        """
        self._outcomes[key] = outcome
        try:
            with self._path.open("ab") as file:
                # An interrupted run may have left half a line; this one must not be glued to it.
                if file.tell() and not _ends_with_newline(self._path):
                    file.write(b"\n")
                file.write(msgspec.json.encode(_Line(key, outcome)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}; see --out") from error


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> dict[str, Outcome]:
    """Return the outcomes of a file; lines cut off or of another format are as if they were not there."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; see --out") from error
    outcomes = {}
    for line in lines:
        try:
            one = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError:
            continue
        outcomes[one.key] = one.outcome
    return outcomes
