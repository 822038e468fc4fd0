"""Figure 10: the QoS degradation that MicroOpt's allocations realise on the emulated testbed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec
import numpy as np
from matplotlib.axes import Axes
from msgspec.structs import replace

from microopt.specs import SliceSpec
from microopt_testbed.experiments import distributions, paper, style, tables
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.models import TITLES, Preset
from microopt_testbed.experiments.page import Glance, Section, paragraphs
from microopt_testbed.experiments.settings import Setting
from microopt_testbed.experiments.store import Outcome
from microopt_testbed.experiments.tables import NONE, markdown, number, percent
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, QosSurface

APPROACH = "microopt"
PRESETS: tuple[Preset, ...] = ("paper", "default")
HEADER = (
    "slice model", "margin on q_thresh", "q_thresh, Mbit/s", "β_thresh", "β realised", "paper",
    "E(β) by the model", "mean allocation",
)  # fmt: skip


@dataclass(frozen=True)
class Realised:
    """One bar of the figure: means over the centres of the traffic."""

    preset: Preset
    margin: float
    qos_threshold: float
    degradation_threshold: float
    degradation: float
    by_model: float
    cost: float

    @property
    def is_above(self) -> bool:
        """Return whether more of the user-time is missed than the SLA allows."""
        return self.degradation > self.degradation_threshold


def make(lab: Lab) -> Section:
    """Write fig10.png and fig10.csv; return what was realised with and without the shipped margin."""
    sigma = distributions.week(lab.milan).chosen().sigma_mean
    realised = [
        one
        for preset in PRESETS
        for margin in (0.0, _shipped_margin())
        for one in _realise(lab, preset, margin, sigma)
    ]
    tables.write_csv(lab.out / "fig10.csv", HEADER, [_row(one) for one in realised])
    _draw(lab, realised)
    text = paragraphs(
        "![QoS degradation on the emulated testbed]({images}/fig10.png)",
        f"Traffic with σ_mean = {sigma:.3f} users around {_centres(lab)} users; {lab.scale.slots:,} slots for "
        "each centre and pair of thresholds, of each of which the QoS is drawn; β by eq. (1), mean over the "
        "centres. The emulated testbed draws from the quantiles of the authors' measurements at each point of "
        "their grid, interpolated between them and made monotone: it is made of the same rows as the slice "
        "model, but is not the slice model, so that the model's errors count.",
        _summary(lab, realised),
        markdown(HEADER, [_shown(one) for one in realised]),
        _reading(),
    )
    return Section(text, ("fig10.png",), _glances(lab, realised))


def _shipped_margin() -> float:
    (field,) = (field for field in msgspec.structs.fields(SliceSpec) if field.name == "qos_margin")
    return float(field.default)


def _realise(lab: Lab, preset: Preset, margin: float, sigma: float) -> list[Realised]:
    (fitted,) = lab.fitted(preset, seeds=1)
    pairs = [(q, beta) for q in lab.scale.qos_thresholds for beta in lab.scale.degradation_thresholds]
    true = {pair: distributions.spread_settings(lab.scale, sigma, *pair) for pair in pairs}
    asked = {pair: [_tightened(setting, margin) for setting in group] for pair, group in true.items()}
    everything = [setting for group in asked.values() for setting in group]
    outcomes = dict(zip(everything, lab.solve([APPROACH], everything, fitted)[APPROACH], strict=True))
    found = []
    for (qos_threshold, degradation_threshold), group in asked.items():
        ours = [outcomes[setting] for setting in group]
        each = [
            _degradation(one, qos_threshold, lab.scale.slots)
            for one in ours
        ]  # fmt: skip
        found.append(
            Realised(
                preset=preset,
                margin=margin,
                qos_threshold=qos_threshold,
                degradation_threshold=degradation_threshold,
                degradation=fmean(each),
                by_model=fmean(one.expected_degradation for one in ours),
                cost=fmean(one.cost for one in ours),
            )
        )
    return found


def _tightened(setting: Setting, margin: float) -> Setting:
    return replace(setting, qos_threshold=setting.qos_threshold * (1.0 + margin))


def _degradation(one: Outcome, qos_threshold: float, slots: int) -> float:
    """Return β of eq. (1) over `slots` slots of the setting's traffic on the emulated testbed."""
    rng = np.random.default_rng(_seed(one.setting))
    users = rng.choice(one.setting.users, size=slots, p=one.setting.weights)
    qos = QosSurface.shipped().sample(
        users, one.allocation[GNB_CPU], one.allocation[TRANSPORT_BANDWIDTH], rng
    )  # fmt: skip
    return float(users[qos <= qos_threshold].sum() / users.sum())


def _seed(setting: Setting) -> int:
    return int.from_bytes(hashlib.sha256(msgspec.json.encode(setting.weights)).digest()[:8], "big")


def _centres(lab: Lab) -> str:
    return ", ".join(str(users) for users in lab.scale.users)


def _summary(lab: Lab, realised: list[Realised]) -> str:
    header = [
        "slice model",
        "margin on q_thresh",
        "above threshold",
        "greatest excess",
        "mean β",
        "mean allocation",
    ]
    groups = [
        [one for one in realised if one.preset == preset and one.margin == margin]
        for preset in PRESETS
        for margin in (0.0, _shipped_margin())
    ]
    pairs = len(lab.scale.qos_thresholds) * len(lab.scale.degradation_thresholds)
    exceeded = f"{len(paper.ABOVE_THRESHOLD)} of {pairs}"
    printed = ["the paper, on its own testbed", percent(0.0, 0), exceeded, '"slightly"', NONE, NONE]
    return markdown(header, [*(_summarised(group) for group in groups), printed])


def _summarised(group: list[Realised]) -> list[str]:
    return [
        TITLES[group[0].preset],
        percent(group[0].margin, 0),
        f"{sum(one.is_above for one in group)} of {len(group)}",
        f"{max(one.degradation - one.degradation_threshold for one in group):+.3f}",
        number(fmean(one.degradation for one in group)),
        number(fmean(one.cost for one in group)),
    ]


def _glances(lab: Lab, realised: list[Realised]) -> list[Glance]:
    pairs = len(lab.scale.qos_thresholds) * len(lab.scale.degradation_thresholds)
    lines = []
    for margin, printed in ((0.0, f"{len(paper.ABOVE_THRESHOLD)} of {pairs}"), (_shipped_margin(), NONE)):
        group = [one for one in realised if one.preset == lab.main_preset and one.margin == margin]
        what = f"Testbed: thresholds exceeded with {percent(margin, 0)} margin on q_thresh"
        lines.append(Glance(what, printed, f"{sum(one.is_above for one in group)} of {pairs}"))
    return lines


def _row(one: Realised) -> list[tables.Cell]:
    return [
        TITLES[one.preset],
        one.margin,
        one.qos_threshold,
        one.degradation_threshold,
        one.degradation,
        _printed(one),
        one.by_model,
        one.cost,
    ]


def _printed(one: Realised) -> str | None:
    if one.margin > 0.0:
        return None
    return "above" if (one.degradation_threshold, one.qos_threshold) in paper.ABOVE_THRESHOLD else "not above"


def _shown(one: Realised) -> list[str]:
    realised = number(one.degradation)
    return [
        TITLES[one.preset],
        percent(one.margin, 0),
        f"{one.qos_threshold:g}",
        f"{one.degradation_threshold:g}",
        f"**{realised}**" if one.is_above else realised,
        _printed(one) or NONE,
        number(one.by_model),
        number(one.cost),
    ]


def _reading() -> str:
    return (
        "Bold is above the threshold. E(β) by the model is what the solver was held to, at the tightened "
        "threshold where there is a margin. A solver that goes to the edge of its constraint finds the places "
        "where the model is too optimistic; and where the QoS at a given allocation is spread little, a small "
        "bias of the model's mean is a large part of the user-time. The paper names a safety margin as a remedy "
        "(§VI-D); the product ships with one (docs/adr/0004-qos-margin.md). The paper prints no values for this "
        "figure, only which pairs of thresholds were exceeded, and on its testbed."
    )


def _draw(lab: Lab, realised: list[Realised]) -> None:
    figure, rows = style.grid(1, len(PRESETS) * 2, width=11.0, height=3.5)
    combinations = [(preset, margin) for preset in PRESETS for margin in (0.0, _shipped_margin())]
    top = 1.08 * max(max(one.degradation, one.degradation_threshold) for one in realised)
    for axes, (preset, margin) in zip(rows[0], combinations, strict=True):
        group = [one for one in realised if one.preset == preset and one.margin == margin]
        thresholds = lab.scale.qos_thresholds, lab.scale.degradation_thresholds
        panel(axes, *thresholds, {_pair(one): one.degradation for one in group}, top)
        axes.set_ylim(0, top)
        axes.set_title(f"{TITLES[preset]},\n{100 * margin:g} % margin on q_thresh", fontsize=8, loc="left")
        axes.set_xlabel("β_thresh")
    rows[0][0].set_ylabel("β realised on the emulated testbed")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)
    style.save(figure, lab.out / "fig10.png")


def _pair(one: Realised) -> tuple[float, float]:
    return one.qos_threshold, one.degradation_threshold


def panel(
    axes: Axes,
    qos_thresholds: Sequence[float],
    degradation_thresholds: Sequence[float],
    realised: Mapping[tuple[float, float], float],
    top: float,
) -> None:
    """Draw what was realised of each pair of thresholds, bars a threshold on β, up to `top`."""
    width = 0.8 / len(qos_thresholds)
    for index, qos in enumerate(qos_thresholds):
        for place, beta in enumerate(degradation_thresholds):
            degradation = realised[qos, beta]
            x = place + (index - (len(qos_thresholds) - 1) / 2) * width
            name, color = f"q_thresh {qos:g} Mbit/s", style.SEQUENCE[index]
            axes.bar(x, degradation, 0.9 * width, color=color, label=name if place == 0 else None)
            style.value_label(axes, x, degradation, top, color)
    for place, beta in enumerate(degradation_thresholds):
        label = "threshold" if place == 0 else None
        axes.plot([place - 0.46, place + 0.46], [beta, beta], color=style.BLACK, ls="--", lw=1.0, label=label)
    axes.set_xticks(range(len(degradation_thresholds)), [f"{beta:g}" for beta in degradation_thresholds])
