"""What an interval of a thousand slices costs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from forecast.sizes import Sizes

INTERVALS = 24


def measure(sizes: Sizes) -> dict[str, Any]:
    """Return times and memory of a process that does nothing but forecast, over a whole season."""
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, "-m", "forecast.scale_process", str(sizes.slices), str(sizes.days), str(INTERVALS)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)
