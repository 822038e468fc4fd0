"""What an interval of a thousand slices costs, shared by a replica a core."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from forecast.sizes import Sizes

INTERVALS = 24
REPLICAS = 2


def measure(sizes: Sizes) -> dict[str, Any]:
    """Return times and memory of processes that do nothing but forecast, side by side, over a whole season.

    Times are those of the slower one, memory is that of both.
    """
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    shares = [sizes.slices // REPLICAS, sizes.slices - sizes.slices // REPLICAS]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "forecast.scale_process", str(share), str(sizes.days), str(INTERVALS)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for share in shares
    ]
    said = [(process, process.communicate()[0]) for process in running]
    for process, _ in said:
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    each = [json.loads(output) for _, output in said]
    found = {key: max(one[key] for one in each) for key in each[0]}
    together = {key: sum(one[key] for one in each) for key in ("slices", "rss_mb", "rss_before_mb")}
    return {**found, **together, "replicas": REPLICAS}
