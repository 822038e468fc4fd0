"""The rows of NeuralProphet, in an environment of its own: it needs numpy before 2.

python -m forecast.neural_process OUT QUICK DATA
"""

import json
import sys
from pathlib import Path

from forecast import neural_own, rolling, score, traces
from forecast.sizes import QUICK, WHOLE

REFIT_HOURS = 168


def main(out: Path, quick: bool, data: Path) -> None:
    """Measure NeuralProphet as one of our models and by itself, and write the rows."""
    sizes = QUICK if quick else WHOLE
    rows = []
    for trace in traces.measured(data) if sizes.measured else traces.made_up():
        count = trace.intervals_in(sizes.hours)
        for horizon in sizes.horizons:
            said = {
                "neuralprophet": rolling.say(trace, "neuralprophet", horizon, count, refit_hours=REFIT_HOURS),
                neural_own.NAME: neural_own.say(trace, horizon, count),
            }
            for model, one in said.items():
                rows.append(score.row(trace, horizon, model, one, sizes.last_hours))
                print(f"{trace.name}, {horizon} ahead, {model}", flush=True)
    out.write_text(json.dumps({"rows": rows, "settings": {neural_own.NAME: neural_own.SETTINGS}}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "quick", Path(sys.argv[3]))
