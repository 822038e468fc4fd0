"""The process whose time and memory are measured: it loads models and problems, and solves.

python -m solver.joint_process FOLDER WEIGHTS REPEATS THREADS
"""

import json
import sys
from pathlib import Path
from statistics import median

import msgspec
import torch

from microopt.messages import Problem, Solution
from microopt_optimizer.solver.base import Models
from microopt_optimizer.solver.microopt import MicroOptSolver
from solver import stack
from solver.problems import timed, warmed


def main(folder: Path, weights: Path, repeats: int, threads: int) -> None:
    """Solve the first interval cold and the second one warm, and write answers, times and memory."""
    torch.set_num_threads(threads)
    first, second = (
        msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Problem) for name in ("first", "second")
    )
    models = stack.models(weights, len(first.slices))
    loaded_mb = _peak_mb()
    _both(_few(first), _few(second), models)  # not counted: the first call of anything is slower
    runs = [_both(first, second, models) for _ in range(repeats)]
    cold, warm = runs[-1][0], runs[-1][2]
    taken = {
        "cold_s": median(run[1] for run in runs),
        "warm_s": median(run[3] for run in runs),
        "repeats": repeats,
        "peak_rss_mb": _peak_mb(),
        "rss_before_solving_mb": loaded_mb,
    }
    (folder / "taken.json").write_text(json.dumps(taken))
    (folder / "cold.json").write_bytes(msgspec.json.encode(cold))
    (folder / "warm.json").write_bytes(msgspec.json.encode(warm))


def _both(first: Problem, second: Problem, models: Models) -> tuple[Solution, float, Solution, float]:
    solver = MicroOptSolver()
    cold, cold_s = timed(solver, first, models)
    warm, warm_s = timed(solver, warmed(second, cold), models)
    return cold, cold_s, warm, warm_s


def _few(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, slices=problem.slices[:2])


def _peak_mb() -> float:
    """Return the most memory that was resident at once; getrusage would count the parent's before the fork."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024.0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
