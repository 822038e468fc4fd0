"""`make bench-forecast`: measure forecasts beside other forecasters'; see ../README.md."""

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import click
import machine
import msgspec
from rich.console import Console

from forecast import neural, peers, rolling, scale, score, table, traces
from forecast.sizes import QUICK, WHOLE, Sizes
from forecast.traces import Trace
from microopt_testbed.traffic import data_folder

FOLDER = Path(__file__).parents[1]
RESULTS = FOLDER / "results" / "forecast.json"
README = FOLDER / "README.md"
KEPT = FOLDER.parent / "var" / "bench"  # of quick runs
BEGIN, END = "<!-- forecast: begin -->", "<!-- forecast: end -->"
ENVIRONMENT = ".venv-neuralprophet"
HOLIDAYS = "auto, holidays"
_KEYS = ("trace", "horizon", "model")
KINDS = {"milan_hourly": "milan-hourly", "lte": "lte"}


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works, on made-up traffic.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of forecast.json.")
@click.option("--only", type=click.Choice(["rows", "scale"]), help="Print one part; results/ stays as it is.")
@click.option("--without-neuralprophet", is_flag=True, help="Skip NeuralProphet, which has its own environment.")
@click.option("--model", "wanted", multiple=True, help="Measure this one; all else stays as results/ has it.")
@click.option(
    "--readme", is_flag=True, help="Measure nothing; write the tables of results/forecast.json to README.md."
)
def main(
    quick: bool,
    out: Path | None,
    only: str | None,
    without_neuralprophet: bool,
    wanted: tuple[str, ...],
    readme: bool,
) -> None:
    """Measure, print tables, and write forecast.json."""
    if readme:
        _refresh(README, msgspec.json.decode(RESULTS.read_bytes()))
    elif wanted:
        _write(RESULTS, _renewed(msgspec.json.decode(RESULTS.read_bytes()), wanted))
    else:
        _measure(quick, out, only, without_neuralprophet)


def _measure(quick: bool, out: Path | None, only: str | None, without_neuralprophet: bool) -> None:
    console = Console(width=140)
    sizes = QUICK if quick else WHOLE
    results: dict[str, Any] = {}
    with console.status("") as status:
        if only in (None, "rows"):
            results |= _rows(sizes, quick, without_neuralprophet, status.update)
            _write(KEPT / "forecast.partial.json", results)
        if only in (None, "scale"):
            status.update(f"{sizes.slices} slices")
            results["scale"] = scale.measure(sizes)
    console.print(table.on_terminal(results))
    if only is not None:
        return
    about = {"machine": machine.describe(), "versions": _versions(), "quick": quick}
    path = (out or (KEPT if quick else RESULTS.parent)) / "forecast.json"
    _write(path, {**results, **about})
    console.print(f"written to {os.path.relpath(path)}", highlight=False)


def _rows(sizes: Sizes, quick: bool, without: bool, says: Callable[[str], None]) -> dict[str, Any]:
    data = data_folder()
    found = traces.measured(data) if sizes.measured else traces.made_up()
    asked = None if without else neural.Asked(neural.beside(ENVIRONMENT), quick, data)
    try:
        rows = [row for trace in found for row in _of_trace(trace, sizes, says)]
        settings = {"auto": rolling.describe(), **peers.SETTINGS}
        if asked is not None:
            says("NeuralProphet")
            theirs = asked.rows()
            rows += theirs["rows"]
            settings |= theirs["settings"]
    finally:
        if asked is not None:
            asked.end()
    return _summed(found, rows, settings)


def _summed(found: list[Trace], rows: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    order = {trace.name: place for place, trace in enumerate(found)}
    rows.sort(key=lambda row: (order[row["trace"]], row["horizon"]))
    summaries = {"default": _summary(rows, "auto"), "neuralprophet": _summary(rows, "neuralprophet")}
    return {"rows": rows, **summaries, "settings": settings}


def _renewed(former: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Return the results with the rows of the `wanted` models of ours measured anew, each in its place."""
    found, rows = traces.measured(data_folder()), list(former["rows"])
    for new in (row for trace in found for row in _of_ours(trace, WHOLE, lambda _: None, wanted)):
        places = [_place(row) for row in rows]
        if _place(new) in places:
            rows[places.index(_place(new))] = new
        else:  # it was not there before: it stands before the choice among all
            rows.insert(places.index((new["trace"], new["horizon"], "auto")), new)
    return {**former, **_summed(found, rows, {**former["settings"], "auto": rolling.describe()})}


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in _KEYS)


def _of_trace(trace: Trace, sizes: Sizes, says: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the rows of our own models and of the peers."""
    count = trace.intervals_in(sizes.hours)
    rows = _of_ours(trace, sizes, says)
    for peer in peers.PEERS:
        says(f"{trace.name}: {peer}")
        for horizon, said in peers.say(trace, peer, sizes.horizons, count).items():
            rows.append(score.row(trace, horizon, peer, said, sizes.last_hours))
    return rows


def _of_ours(
    trace: Trace, sizes: Sizes, says: Callable[[str], None], wanted: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return the rows of our own models, of those that are `wanted` if any are."""
    count, rows = trace.intervals_in(sizes.hours), []
    for horizon in sizes.horizons:
        for model in rolling.models_for(trace):
            if wanted and model not in wanted:
                continue
            says(f"{trace.name}, {horizon} ahead: {model}")
            rows.append(
                score.row(trace, horizon, model, rolling.say(trace, model, horizon, count), sizes.last_hours)
            )
        days = rolling.local_days(trace)
        if days is not None and (not wanted or HOLIDAYS in wanted):
            said = rolling.say(trace, "auto", horizon, count, days=days)
            rows.append(score.row(trace, horizon, HOLIDAYS, said, sizes.last_hours))
    return rows


def _summary(rows: list[dict[str, Any]], model: str) -> dict[str, float] | None:
    """Return the means over the traces of a kind, one interval ahead; None if the model was not measured."""
    mine = [row for row in rows if row["model"] == model and row["horizon"] == 1]
    if not mine:
        return None
    found = {}
    for key, kind in KINDS.items():
        of_kind = [row for row in mine if row["kind"] == kind]
        found[f"{key}_mase"] = mean(row["mase_168"] for row in of_kind)
        found[f"{key}_coverage_90"] = mean(row["coverage_90"] for row in of_kind)
    return found


def _write(path: Path, results: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("numpy", "scikit-learn", "statsforecast")}


def _refresh(path: Path, results: Mapping[str, Any]) -> None:
    """Replace what stands between the marks by the tables of the results."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise click.ClickException(f"{path}: has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{table.as_markdown(results)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
