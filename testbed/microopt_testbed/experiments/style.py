"""How the pictures look: colours that can be told apart by everyone, units, and values where they help."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from PIL import Image

from microopt_testbed.experiments.approaches import LABELS
from microopt_testbed.experiments.lab import Outcomes
from microopt_testbed.experiments.settings import WEIGHTS
from microopt_testbed.surface import GNB_CPU

mpl.use("Agg")

from matplotlib import pyplot as plt  # after the choice of a backend that needs no screen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

BLACK, GREY = "#222222", "#8a8a8a"
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
SEQUENCE: Final = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
COLORS: Final = {
    "oracle": GREY,
    "microopt": BLUE,
    "microopt-paper": SKY,
    "microopt-0sigma": PURPLE,
    "microopt-2sigma": GREEN,
    "atlas": ORANGE,
    "atlas-plus": "#F3CF7D",
    "cadrl": GREEN,
    "cadrl-plus": "#80CFBA",
    "peak": VERMILION,
}
_SETTINGS: Final[dict[str, Any]] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
_DPI: Final = 110
_PALETTE: Final = 96
_ROOM: Final = 0.2
_DARK: Final = 0.6
_LIGHTEN: Final = 0.55


def panels(columns: int, *, width: float = 9.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Return a figure with one row of panels."""
    figure, rows = grid(1, columns, width=width, height=height)
    return figure, rows[0]


def grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with rows of panels."""
    plt.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, [list(row) for row in axes]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a small PNG, of few colours, and forget it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    plt.close(figure)
    few = Image.open(drawn).convert("RGB").quantize(_PALETTE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def allocation_bars(axes: Axes, groups: Mapping[str, Outcomes], *, against: str | None = "peak") -> None:
    """Draw each group's mean normalised allocation by approach: CPU's share below, bandwidth's above.

    Above a bar stands its sum, and by how much it is less than that of the approach `against`.
    """
    names = list(next(iter(groups.values())))
    width = 0.84 / len(names)
    top = max(outcomes.cost(name) or 0.0 for outcomes in groups.values() for name in names)
    for index, name in enumerate(names):
        for place, outcomes in enumerate(groups.values()):
            x = place + (index - (len(names) - 1) / 2) * width
            total, cpu = outcomes.cost(name) or 0.0, _cpu_share(outcomes, name)
            axes.bar(x, cpu, 0.92 * width, color=COLORS[name])
            axes.bar(x, total - cpu, 0.92 * width, bottom=cpu, color=lighter(COLORS[name]))
            decrease = outcomes.decrease(name, against) if against and name != against else None
            label = f"{total:.3f}" + ("" if decrease is None else f" ({_signed(-100 * decrease)} %)")
            axes.text(x, total + 0.015 * top, label, rotation=90, ha="center", va="bottom", fontsize=7)
    _group_axis(axes, list(groups))
    axes.set_ylim(0, 1.42 * top)
    axes.set_ylabel("mean normalised allocation")


def degradation_bars(axes: Axes, groups: Mapping[str, Outcomes], thresholds: Sequence[float]) -> None:
    """Draw each group's mean E(β) by approach, with the group's threshold as a line."""
    names = list(next(iter(groups.values())))
    width = 0.84 / len(names)
    values = [outcomes.degradation(name) or 0.0 for outcomes in groups.values() for name in names]
    top = max([*values, *thresholds])
    for index, name in enumerate(names):
        for place, outcomes in enumerate(groups.values()):
            x, value = place + (index - (len(names) - 1) / 2) * width, outcomes.degradation(name) or 0.0
            axes.bar(x, value, 0.92 * width, color=COLORS[name])
            value_label(axes, x, value, top, COLORS[name])
    for place, threshold in enumerate(thresholds):
        axes.plot([place - 0.46, place + 0.46], [threshold] * 2, color=BLACK, linewidth=1.0, linestyle="--")
    _group_axis(axes, list(groups))
    axes.set_ylim(0, 1.25 * top)
    axes.set_ylabel("mean QoS degradation E(β)")


def legend(figure: Figure, names: Sequence[str], *, shares: bool = True, threshold: bool = False) -> None:
    """Put one legend for all panels above them: approaches, and what dark and light parts mean."""
    handles: list[Any] = [Patch(color=COLORS[name], label=LABELS[name]) for name in names]
    if shares:
        handles.append(Patch(facecolor=BLACK, label="dark: gNB CPU"))
        handles.append(Patch(facecolor=lighter(BLACK), label="light: bandwidth"))
    if threshold:
        handles.append(mpl.lines.Line2D([], [], color=BLACK, linestyle="--", linewidth=1.0, label="threshold"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)), fontsize=8)


def lighter(color: str) -> tuple[float, float, float]:
    """Return a tint of a colour."""
    red, green, blue = mpl.colors.to_rgb(color)
    return tuple(np.asarray((red, green, blue)) * (1 - _LIGHTEN) + _LIGHTEN)


def value_label(axes: Axes, x: float, value: float, top: float, color: str) -> None:
    """Write a bar's value into it where there is room, else above it."""
    inside = value > _ROOM * top
    red, green, blue = mpl.colors.to_rgb(color)
    is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < _DARK
    text = axes.text(
        x,
        value + (-0.015 if inside else 0.012) * top,
        f"{value:.3f}",
        rotation=90,
        ha="center",
        va="top" if inside else "bottom",
        fontsize=7,
        color="white" if inside and is_dark else BLACK,
    )
    # Covers a threshold that runs behind it.
    text.set_path_effects([withStroke(linewidth=2.0, foreground=color if inside else "white")])


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _cpu_share(outcomes: Outcomes, name: str) -> float:
    return float(np.mean([WEIGHTS[GNB_CPU] * one.allocation[GNB_CPU] for one in outcomes[name]]))


def _group_axis(axes: Axes, labels: list[str]) -> None:
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(labels) - 0.45)
