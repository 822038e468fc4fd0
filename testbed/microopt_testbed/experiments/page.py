"""The results page: what was measured, beside what the paper prints."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

import microopt
from microopt.errors import ConfigError
from microopt_testbed.experiments import sources, tables
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.models import TITLES
from microopt_testbed.experiments.settings import BOUNDS, UNITS

IMAGES: Final = "{images}"
"""Stands in a section's text for the folder of the pictures."""
_MAX_IMAGE_BYTES: Final = 100_000


@dataclass(frozen=True)
class Glance:
    """One line of the summary: a quantity as the paper prints it, as measured, and the oracle's."""

    what: str
    paper: str
    ours: str
    oracle: str = tables.NONE


@dataclass(frozen=True)
class Section:
    """What one experiment says, in Markdown, with the pictures that it shows."""

    text: str
    images: tuple[str, ...] = ()
    glances: list[Glance] = field(default_factory=list)


def paragraphs(*parts: str) -> str:
    """Return parts of a section one below the other, without those that are empty."""
    return "\n\n".join(part for part in parts if part)


def write(lab: Lab, command: str, sections: dict[str, Section], path: Path) -> None:
    """Write the page, and its pictures into a folder beside it that is named after it.

    Raises:
        ConfigError: a file cannot be written, or a picture came out larger than a repository should keep.
    """
    folder = path.parent / path.stem
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections.values():
            for image in section.images:
                _copy(lab.out / image, folder / image)
        path.write_text(compose(lab, command, sections).replace(IMAGES, folder.name), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be written: {error.strerror}") from error


def compose(lab: Lab, command: str, sections: dict[str, Section]) -> str:
    """Return the page as Markdown."""
    parts = [
        "# Results",
        f'Written by `{command}`. Columns named "paper" hold what the paper prints; everything else was '
        "computed by this command.",
        *_warnings(lab),
        *_glance(sections),
        "## What was computed",
        _setup(lab),
    ]
    for title, section in sections.items():
        parts += [f"## {title}", section.text]
    return "\n\n".join(parts) + "\n"


def _copy(image: Path, to: Path) -> None:
    size = image.stat().st_size
    if size > _MAX_IMAGE_BYTES:
        raise ConfigError(
            f"{image}: {size} bytes, more than the {_MAX_IMAGE_BYTES} that a page's picture may have"
        )
    shutil.copyfile(image, to)


def _glance(sections: dict[str, Section]) -> list[str]:
    lines = [line for section in sections.values() for line in section.glances]
    if not lines:
        return []
    rows = [[line.what, line.paper, line.ours, line.oracle] for line in lines]
    return ["## At a glance", tables.markdown(["", "paper", "here", "oracle"], rows)]


def _warnings(lab: Lab) -> Sequence[str]:
    found = []
    if lab.scale.is_quick:
        found.append(
            "**The quick form: a few settings on hardly trained models. It shows that everything runs, and no "
            "number in it can be compared with the paper's.**"
        )
    if lab.source.is_emulated:
        found.append(
            "**Trained on a sweep of the emulated slice, not on the measurements of the paper's authors.**"
        )
    found += [
        f"**{name} is not the file that the authors published.**" for name in sources.changed_files(lab.source)
    ]
    return found


def _setup(lab: Lab) -> str:
    bounds = ", ".join(f"{name} {b.floor:g} to {b.ceiling:g} {UNITS[name]}" for name, b in BOUNDS.items())
    lines = [
        _data(lab),
        f"Approaches are compared on one slice model, {TITLES[lab.main_preset]} with seed 0; where seeds differ, "
        f"they are 0 to {lab.scale.seeds - 1}.",
        f"E(β) is the closed form of eq. (1) on that model, and is recomputed for every allocation. Bounds: "
        f"{bounds}; the paper prints the ceilings, the floors are the least that was measured. η as in §V-D, one "
        "slice, capacities that do not bind.",
        f"The oracle is a grid of {lab.scale.grid_points} × {lab.scale.grid_points} points in float64, its "
        "cheapest border points then polished to 1e-6 of the bounds: the floor under every cost on that model.",
        f"Times are of one core of the machine that ran this. The {len(lab.used):,} outcomes on this page took "
        f"{_minutes(lab)} of one core to solve, the oracle's among them; training comes on top.",
        f"microopt {microopt.__version__}, PyTorch {torch.__version__.partition('+')[0]}, Python "
        f"{platform.python_version()}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _data(lab: Lab) -> str:
    report, test = lab.rows.train_report, lab.rows.test_report
    if report is None or test is None:
        return (
            f"Rows: a sweep of the emulated slice, {len(lab.rows.train)} rows over the grid of §V-D, and "
            f"{len(lab.rows.test)} test rows at a point off it."
        )
    return (
        f"Rows: the authors' train_dataset.csv ({sources.REPOSITORY}, commit {sources.COMMIT}), {report.kept} of "
        f"{report.rows_read}: without {report.duplicates} exact duplicates and {report.unsettled} rows from the "
        f"first {lab.source.settle_s:g} s after a change of resources, which still show the previous bandwidth. "
        f"Test rows: {test.kept} of {test.rows_read}, cleaned alike."
    )


def _minutes(lab: Lab) -> str:
    seconds = sum(one.solve_s for one in lab.used.values())
    return f"{seconds / 60.0:.1f} min"
