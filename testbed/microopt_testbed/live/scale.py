"""The paper's numbers brought to the size of this machine: what it can carry decides."""

import math
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from microopt.errors import ConfigError
from microopt.specs import Bounds, PeakSla, ResourceSpec, Sla
from microopt_testbed.live.knobs import MIN_MILLICORES
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

USERS: Final = (1, 2, 3, 4, 5)
BANDWIDTHS: Final = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
"""Mbit/s of the paper."""
CPU_FOR: Final = (10.0, 15.0, 20.0, 25.0, 35.0, 50.0, 70.0, 100.0)
"""Mbit/s of the paper that a gNB is given CPU for, as if one always cost what it costs at a low limit."""
QOS_THRESHOLDS: Final = (3.0, 4.0, 5.0)
DEGRADATION_THRESHOLDS: Final = (0.1, 0.2, 0.3)
UNITS: Final = {TRANSPORT_BANDWIDTH: "Mbit/s", GNB_CPU: "millicores"}
COSTS_ONE: Final = {TRANSPORT_BANDWIDTH: 50.0 / 40.0, GNB_CPU: 4500.0 / 4000.0}
"""Times the largest value that is measured: what costs 1, as in the paper's η."""

_STEP: Final = 0.05
_SHARE: Final = 0.5
"""Of what the machine carries: the rest is for the agents, and for whatever else it does."""


class Scale(Struct, frozen=True, kw_only=True):
    """A Mbit/s of the paper is `factor` Mbit/s here, and one here costs a gNB `millicores_per_mbps`."""

    factor: float
    millicores_per_mbps: float

    @property
    def bandwidths_mbps(self) -> tuple[float, ...]:
        """Return the bandwidths that are measured."""
        return tuple(round(self.factor * mbps, 6) for mbps in BANDWIDTHS)

    @property
    def cpus_millicores(self) -> tuple[float, ...]:
        """Return the CPU limits that are measured."""
        wanted = (max(MIN_MILLICORES, self._millicores(mbps)) for mbps in CPU_FOR)
        return tuple(sorted({float(round(value)) for value in wanted}))

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Return what a slice may be given: what was measured, and nothing beyond."""
        return {
            name: Bounds(min(values), max(values))
            for name, values in ((TRANSPORT_BANDWIDTH, self.bandwidths_mbps), (GNB_CPU, self.cpus_millicores))
        }

    def resources(self, slices: int) -> dict[str, ResourceSpec]:
        """Return weights as in the paper, and capacities that are enough for every slice's ceiling."""
        most = {name: bounds.ceiling for name, bounds in self.bounds.items()}
        return {
            name: ResourceSpec(unit=unit, weight=1 / (COSTS_ONE[name] * most[name]), capacity=slices * most[name])
            for name, unit in UNITS.items()
        }

    def sla(self, qos_threshold: float, degradation_threshold: float) -> Sla:
        """Return an SLA of the paper, its QoS threshold in this machine's size."""
        return Sla(
            qos_threshold=round(self.factor * qos_threshold, 6), degradation_threshold=degradation_threshold
        )

    @property
    def peak(self) -> PeakSla:
        """Return what Peak-alloc plans for (paper §VI-A2)."""
        return PeakSla(qos_threshold=round(self.factor * PeakSla().qos_threshold, 6))

    @property
    def slas(self) -> list[Sla]:
        """Return the paper's pairs of thresholds."""
        return [self.sla(qos, beta) for qos in QOS_THRESHOLDS for beta in DEGRADATION_THRESHOLDS]

    def _millicores(self, paper_mbps: float) -> float:
        return self.factor * paper_mbps * self.millicores_per_mbps


def fitted(carried_mbps: float, limited_mbps: float, limit_millicores: float) -> Scale:
    """Return the scale for a machine.

    Args:
        carried_mbps: what it carries for each slice, all at the same time.
        limited_mbps: the same where each gNB is limited.
        limit_millicores: to this.

    Raises:
        ConfigError: it carries too little to tell anything.
    """
    factor = math.floor(_SHARE * carried_mbps / max(BANDWIDTHS) / _STEP) * _STEP
    if factor < _STEP or limited_mbps <= 0.0:
        raise ConfigError(
            f"this machine carries {carried_mbps:.1f} Mbit/s a slice, {limited_mbps:.1f} at {limit_millicores:g} "
            "millicores, which is too little; let it do less else"
        )
    millicores_per_mbps = limit_millicores / limited_mbps
    digits = 1 - math.floor(math.log10(millicores_per_mbps))
    return Scale(factor=round(factor, 2), millicores_per_mbps=round(millicores_per_mbps, digits))


def load(file: Path) -> Scale | None:
    """Return what was fitted before, or None.

    Raises:
        ConfigError: the file is none of ours.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Scale)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}; remove it to fit it anew") from error


def save(scale: Scale, file: Path) -> None:
    """Keep a scale."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(scale), indent=2) + b"\n")
