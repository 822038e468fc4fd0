"""What every experiment works with: data, models, approaches, and the store of what was computed before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from microopt_testbed.experiments import models
from microopt_testbed.experiments.approaches import LABELS, Available
from microopt_testbed.experiments.models import Fitted, Preset, Training
from microopt_testbed.experiments.runner import Job, Runner
from microopt_testbed.experiments.settings import Scale, Setting
from microopt_testbed.experiments.sources import Rows, Source, read
from microopt_testbed.experiments.store import Outcome, Store


class Outcomes(Mapping[str, list[Outcome]]):
    """The outcomes of each approach, in the order of the settings that were asked for."""

    def __init__(self, of: dict[str, list[Outcome]]) -> None:
        self._of = of

    def __getitem__(self, approach: str) -> list[Outcome]:
        return self._of[approach]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def cost(self, approach: str) -> float | None:
        """Return the mean normalised allocation, or None where the approach was not run."""
        return fmean(one.cost for one in self[approach]) if self.get(approach) else None

    def degradation(self, approach: str) -> float | None:
        """Return the mean E(β), or None where the approach was not run."""
        return fmean(one.expected_degradation for one in self[approach]) if self.get(approach) else None

    def decrease(self, approach: str, against: str) -> float | None:
        """Return by which share the first allocates less than the second, on average."""
        less, more = self.cost(approach), self.cost(against)
        return 1.0 - less / more if less is not None and more else None

    def only(self, chosen: Sequence[Setting]) -> "Outcomes":
        """Return the outcomes in some of the settings."""
        keep = set(chosen)
        return Outcomes({name: [one for one in rows if one.setting in keep] for name, rows in self.items()})


@dataclass
class Lab:
    """Everything that an experiment needs; `main` is the preset of the model that approaches are compared on."""

    out: Path
    scale: Scale
    source: Source
    milan: Path
    main_preset: Preset
    available: Available
    run: Runner
    rows: Rows = field(init=False)
    store: Store = field(init=False)
    used: dict[str, Outcome] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = read(self.source)
        self.store = Store(self.out)

    def fitted(self, preset: Preset, source: Source | None = None, seeds: int | None = None) -> list[Fitted]:
        """Return the models of a preset, one a seed, trained where they are not kept from before."""
        source = source or self.source
        data = self.rows.train if source == self.source else read(source).train
        trainings = [
            Training(
                preset=preset,
                seed=seed,
                epochs_share=self.scale.epochs_share,
                source=source,
                data_sha256=data.sha256(),
                code=models.code(),
                folder=str(self.out / "models"),
            )
            for seed in range(self.scale.seeds if seeds is None else seeds)
        ]
        return models.fit(trainings, self.run)

    def main(self) -> Fitted:
        """Return the model that the approaches are compared on: the main preset's with seed 0."""
        return self.fitted(self.main_preset, seeds=1)[0]

    def solve(self, names: Sequence[str], settings: Sequence[Setting], fitted: Fitted | None = None) -> Outcomes:
        """Return the outcomes of those approaches that there are; what was not computed before is now."""
        fitted = fitted or self.main()
        known = [name for name in names if name in self.available]
        jobs = {(name, setting): self._job(name, setting, fitted) for name in known for setting in settings}
        self.run.run_missing(jobs.values(), self.store)
        self.used |= {job.key: self.store.get(job.key) for job in jobs.values()}
        return Outcomes(
            {name: [self.store.get(jobs[name, setting].key) for setting in settings] for name in known}
        )

    def not_run(self, names: Sequence[str]) -> str:
        """Return a sentence on approaches that are missing, or nothing."""
        absent = [LABELS[name] for name in names if name not in self.available]
        return f"Not run here: {', '.join(absent)}." if absent else ""

    def _job(self, approach: str, setting: Setting, fitted: Fitted) -> Job:
        return Job(
            approach=approach,
            setting=setting,
            model_path=str(fitted.path),
            model_digest=fitted.model.digest,
            code=self.available.code[approach],
            grid_points=self.scale.grid_points,
        )
