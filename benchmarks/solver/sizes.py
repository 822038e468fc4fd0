"""How much of everything is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from solver.peers import Peer, grid, microopt_paper, scbo


@dataclass(frozen=True)
class Sizes:
    """Of a run; `every` takes each so many of the 45 settings, `quicker` replaces peers."""

    every: int
    lines: int
    models: int
    rows: int
    epochs: int
    long_runs: int
    pools: tuple[int, ...]
    stacked: int
    steps: int
    repeats: int
    threads: int
    quicker: Mapping[str, Peer] = field(default_factory=dict)


WHOLE = Sizes(
    every=1,
    lines=1_000,
    models=6,
    rows=4_000,
    epochs=60,
    long_runs=10,
    pools=(10, 100, 1_000, 10_000),
    stacked=1_000,
    steps=400,
    repeats=3,
    threads=2,
)
QUICK = Sizes(
    every=44,
    lines=200,
    models=1,
    rows=400,
    epochs=5,
    long_runs=1,
    pools=(2,),
    stacked=4,
    steps=40,
    repeats=1,
    threads=1,
    quicker={
        "scbo": partial(scbo.cheapest, evaluations=20),
        "grid": partial(grid.cheapest, lines=200),
        "microopt_paper": partial(microopt_paper.cheapest, deadline_s=0.3),
    },
)
