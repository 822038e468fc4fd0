"""Figure 4: learning curves, errors and surface of the slice model."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from microopt_optimizer.slice_model.model_file import Metrics, TrainedModel
from microopt_optimizer.slice_model.training import Progress
from microopt_testbed.experiments import paper, sources, style, tables
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.models import TITLES, Fitted, Preset
from microopt_testbed.experiments.page import Glance, Section, paragraphs
from microopt_testbed.experiments.settings import BOUNDS
from microopt_testbed.experiments.tables import NONE, markdown, number
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, Floats

PARTS = ("train", "validation", "test")
MEASURES = ("nll", "mse", "mae")
WRITTEN = (*MEASURES, "coverage_50", "coverage_80", "coverage_90")
PRESETS: tuple[Preset, ...] = ("paper", "default")
_MESH = 91
_RISE = 0.1


def make(lab: Lab) -> Section:
    """Write fig4.png and the csv files of its curves and errors; return the errors beside the paper's."""
    fitted = {preset: lab.fitted(preset) for preset in PRESETS}
    _draw(lab, fitted)
    _write(lab, fitted)
    unit = lab.rows.train.qos_unit
    text = paragraphs(
        "![Learning curves and the surface of the slice model]({images}/fig4.png)",
        f"Mean over {lab.scale.seeds} seeds, least and greatest in brackets. NLL is L_QoS (eq. 4, the paper "
        f"prints it with the other sign), MSE in ({unit})², MAE in {unit}. The shipped default first fits several "
        "networks, then the one that ships to what these say, which is where its curves begin anew; at last, "
        "standard deviations and weights alone, without noise on the inputs, which is where its NLL falls once "
        "more (docs/slice-model.md).",
        _errors(fitted),
        _floors(lab),
        _rising(fitted["paper"]),
        _reading(),
    )
    glances = [
        Glance(
            f"Slice model, {TITLES[preset]}: test {measure.upper()}, mean of {lab.scale.seeds} seeds",
            number(getattr(paper.FIT["test"], measure), 2),
            number(fmean(_metric(one, "test", measure) or 0.0 for one in fitted[preset])),
        )
        for preset in PRESETS
        for measure in ("mse", "mae")
    ]
    return Section(text, ("fig4.png",), glances)


def _errors(fitted: dict[Preset, list[Fitted]]) -> str:
    header = ["rows", "measure", "paper", *(TITLES[preset] for preset in PRESETS)]
    rows = []
    for part in PARTS:
        for measure in MEASURES:
            ours = [_spread([_metric(one, part, measure) for one in fitted[preset]]) for preset in PRESETS]
            rows.append([part, measure.upper(), number(getattr(paper.FIT[part], measure), 2), *ours])
        covered = [_spread([_metric(one, part, "coverage_90") for one in fitted[preset]]) for preset in PRESETS]
        rows.append([part, "within the central 90 %", NONE, *covered])
    return markdown(header, rows)


def _floors(lab: Lab) -> str:
    train, test = (sources.variance_within_cells(rows) for rows in (lab.rows.train, lab.rows.test))
    text = (
        "Two rows with the same users, CPU and bandwidth differ: the variance within such cells is "
        f"{train:.2f} in the training and validation rows and {test:.2f} in the test rows. No model of these "
        "inputs can have a lower MSE on these rows."
    )
    if not lab.source.is_emulated and lab.source.settle_s > 0.0:
        kept = sources.read(_unsettled(lab.source))
        train, test = (sources.variance_within_cells(rows) for rows in (kept.train, kept.test))
        text += (
            f" With the first {lab.source.settle_s:g} s after each change of resources, in which the testbed "
            f"still shows the previous bandwidth, they would be {train:.2f} and {test:.2f}."
        )
    return text


def _unsettled(source: sources.Source) -> sources.Source:
    return sources.Source(folder=source.folder, settle_s=0.0, samples=source.samples)


def _rising(fitted: list[Fitted]) -> str:
    """Return in how many seeds the validation NLL rises again, which the paper does not see."""
    rising = 0
    for one in fitted:
        curve = [point.validation_nll for point in one.curve if point.validation_nll is not None]
        rising += bool(curve) and curve[-1] > min(curve) + _RISE
    return (
        "The paper reports no overfitting. With its schedule, the validation NLL ends more than "
        f"{_RISE:g} above its least in {rising} of {len(fitted)} seeds."
        if rising
        else ""
    )


def _reading() -> str:
    printed = paper.FIT["test"]
    return (
        "The paper does not print how it splits training from validation rows, nor its batch size, nor whether it "
        "removed the rows before the slice had settled. Here blocks of ten successive rows of a cell are held out "
        "together, since neighbours in time are near copies, so that validation errors are not flattered. Test "
        f"rows are one point (CPU, bandwidth) that lies between the points trained on: their errors say how a "
        f"model interpolates there, and differ much from seed to seed. The caption of the paper's figure 4b "
        f"prints a test MSE of 0.62, its text {printed.mse:g} (and 0.62 as the validation MAE)."
    )


def _metric(one: Fitted, part: str, measure: str) -> float | None:
    metrics: Metrics | None = one.model.header.metrics.get(part)
    value = None if metrics is None else getattr(metrics, measure)
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.3f} [{min(known):.3f}, {max(known):.3f}]" if known else NONE


def _draw(lab: Lab, fitted: dict[Preset, list[Fitted]]) -> None:
    figure, rows = style.grid(len(PRESETS), 3, width=10.0, height=5.6)
    for axes, preset in zip(rows, PRESETS, strict=True):
        ours = fitted[preset]
        _curves(axes[0], ours, "negative log-likelihood", lambda p: p.nll, lambda p: p.validation_nll)
        _curves(axes[1], ours, f"MSE, ({lab.rows.train.qos_unit})²", lambda p: p.mse, lambda p: p.validation_mse)
        _surface(axes[2], ours[0].model, lab)
        axes[0].set_title(f"{TITLES[preset]}", loc="left", fontsize=9, fontweight="bold")
        axes[1].legend(fontsize=8, loc="upper right")
    style.save(figure, lab.out / "fig4.png")


def _curves(
    axes: Axes,
    fitted: list[Fitted],
    label: str,
    train: Callable[[Progress], float | None],
    validation: Callable[[Progress], float | None],
) -> None:
    """Draw the first seed's curves in full, and the others' faintly."""
    shown: list[float] = []
    for index, one in reversed(list(enumerate(fitted))):
        first = index == 0
        look: dict[str, Any] = {"alpha": 1.0 if first else 0.25, "linewidth": 1.2 if first else 0.8}
        for pick, color, name in ((train, style.BLUE, "training"), (validation, style.VERMILION, "validation")):
            points = [(p.epoch, value) for p in one.curve if (value := pick(p)) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=name if first else None, **look)
                shown.extend(value for _, value in points[len(points) // 10 :])
    if shown:
        low, high = min(shown), float(np.quantile(shown, 0.98))
        axes.set_ylim(low - 0.08 * (high - low), high + 0.35 * (high - low))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)


def _surface(axes: Axes, model: TrainedModel, lab: Lab) -> None:
    cpu, bandwidth, qos = surface(model, lab.scale.users)
    levels = np.arange(0.0, np.ceil(qos.max()) + 1.0)
    filled = axes.contourf(bandwidth, cpu, qos, levels=levels, cmap="cividis")
    lines = axes.contour(bandwidth, cpu, qos, levels=[3.0, 4.0, 5.0], colors="white", linewidths=0.9)
    axes.clabel(lines, fmt="%g", fontsize=7)
    axes.figure.colorbar(filled, ax=axes, label=f"mean QoS over users, {lab.rows.train.qos_unit}")
    trained = {name: lab.rows.train.resources[:, place] for place, name in enumerate(model.header.resource_names)}
    axes.set_xlim(trained[TRANSPORT_BANDWIDTH].min(), trained[TRANSPORT_BANDWIDTH].max())
    axes.set_ylim(trained[GNB_CPU].min(), trained[GNB_CPU].max())
    axes.grid(visible=False)
    axes.set_xlabel("transport bandwidth, Mbit/s")
    axes.set_ylabel("gNB CPU, millicores")


def surface(model: TrainedModel, users: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Return CPU [C], bandwidth [B] and the mean QoS [C, B], averaged over numbers of users (figure 4c)."""
    axes = {
        name: torch.linspace(bounds.floor, bounds.ceiling, _MESH, dtype=torch.float64)
        for name, bounds in BOUNDS.items()
    }
    mesh = dict(zip(axes, torch.meshgrid(*axes.values(), indexing="ij"), strict=True))
    points = torch.stack([mesh[name] for name in model.header.resource_names], dim=-1)
    with torch.no_grad():
        each = [model(torch.full((1,), float(u), dtype=torch.float64), points).expectation for u in users]
    return axes[GNB_CPU].numpy(), axes[TRANSPORT_BANDWIDTH].numpy(), torch.stack(each).mean(0).numpy()


def _write(lab: Lab, fitted: dict[Preset, list[Fitted]]) -> None:
    curves = [
        (preset, one.training.seed, p.epoch, p.nll, p.mse, p.validation_nll, p.validation_mse)
        for preset, ours in fitted.items()
        for one in ours
        for p in one.curve
    ]
    header = ("model", "seed", "epoch", "train_nll", "train_mse", "validation_nll", "validation_mse")
    tables.write_csv(lab.out / "fig4_curves.csv", header, curves)
    errors = [
        (preset, one.training.seed, part, *(_metric(one, part, measure) for measure in WRITTEN))
        for preset, ours in fitted.items()
        for one in ours
        for part in PARTS
    ]
    tables.write_csv(lab.out / "fig4_errors.csv", ("model", "seed", "rows", *WRITTEN), errors)
