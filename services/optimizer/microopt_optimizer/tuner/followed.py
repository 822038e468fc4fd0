"""One slice model as the tuner follows it: its slots, and what was found of it. No I/O."""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from microopt.messages import Telemetry
from microopt.specs import PoolSpec, SliceSpec
from microopt_optimizer.slice_model.model_file import ModelHeader, TrainedModel
from microopt_optimizer.tuner.drift import Window
from microopt_optimizer.tuner.fresh import Row, row
from microopt_optimizer.tuner.report import Drift
from microopt_optimizer.tuner.settings import TunerSettings
from microopt_optimizer.versions.names import parsed


class Followed:
    """A model by the name that slices have for it, and the version of it that is in force."""

    def __init__(self, name: str, settings: TunerSettings) -> None:
        self.name = name
        self._settings = settings
        self._waiting: deque[Telemetry] = deque(maxlen=settings.window)
        self.model: TrainedModel | None = None
        self.window = self._new_window(None)
        self.said_drifted = False
        self.offered: int | None = None
        self.held_out_nll: float | None = None
        self.offered_nll: float | None = None
        self.note = ""
        """What keeps the tuner from offering."""
        self.trouble = ""
        """What keeps it from measuring."""
        self.next_at = 0
        """How many rows must have been seen before the model is tuned again."""

    @property
    def is_pinned(self) -> bool:
        """Return whether slices name a version, which no route and no tuning changes."""
        return parsed(self.name)[1] > 0

    @property
    def version(self) -> int:
        """Return which version is in force."""
        return parsed(self.model.name)[1] if self.model else 0

    @property
    def is_due(self) -> bool:
        """Return whether the model is to be tuned: it has drifted, and enough has been seen of that."""
        return (
            self.window.has_drifted
            and not self.is_pinned
            and self.offered is None
            and self.window.seen >= self.next_at
            and len(self.window.since_drift) >= self._settings.tune_rows
        )

    def wait(self, slot: Telemetry) -> None:
        """Keep a slot until the next measurement."""
        self._waiting.append(slot)

    def begin(self, model: TrainedModel, former: Drift | None) -> list[Row]:
        """Follow another version, and return the rows that are to be measured again under it.

        `former` is what was found before the tuner began: an offer that stands is not made twice.
        """
        is_alike = self.model is not None and _meaning(self.model.header) == _meaning(model.header)
        rows = self.window.rows if is_alike else []
        self.model = model
        self.window = self._new_window(reference_of(model.header))
        self.said_drifted, self.note, self.next_at = False, "", 0
        is_same = former is not None and former.digest == model.digest
        self.offered = former.offered if former and is_same else None
        self.held_out_nll = former.held_out_nll if former and is_same else None
        self.offered_nll = former.offered_nll if former and is_same else None
        if self.window.reference is None:
            self.note = "its header has no validation NLL to compare with; train it with validation rows"
        elif self.is_pinned:
            self.note = "slices name this version itself: it is measured, not tuned"
        return rows

    def drain(self, slices: Mapping[str, SliceSpec], pools: Mapping[str, PoolSpec]) -> list[Row]:
        """Return the rows that have come since, of slices that the model fits; `trouble` names what does not."""
        self.trouble = ""
        found: list[Row] = []
        header = self.model.header if self.model else None
        while self._waiting and header is not None:
            slot = self._waiting.popleft()
            spec = slices.get(slot.slice)
            if spec is None or spec.model != self.name:
                continue
            if mistake := unfit(spec, pools.get(spec.pool), header):
                self.trouble = mistake
            elif taken := row(slot, header.resource_names):
                found.append(taken)
        return found

    def retry_later(self, note: str) -> None:
        """Say why nothing is offered, and wait for as many more rows as a tuning takes."""
        self.note = note
        self.next_at = self.window.seen + self._settings.tune_rows

    def report(self) -> Drift:
        """Return what was found."""
        return Drift(
            model=self.name,
            version=self.version,
            digest=self.model.digest if self.model else "",
            at=datetime.now(UTC),
            rows=len(self.window),
            fresh_nll=self.window.fresh_nll,
            validation_nll=self.window.reference,
            drifted=self.window.has_drifted,
            offered=self.offered,
            held_out_nll=self.held_out_nll,
            offered_nll=self.offered_nll,
            note="; ".join(filter(None, (self.trouble, self.note)))[:2000],
        )

    def _new_window(self, reference: float | None) -> Window:
        settings = self._settings
        return Window(
            reference,
            margin=settings.margin,
            samples=settings.samples,
            judged=settings.judged,
            kept=settings.window,
        )


def reference_of(header: ModelHeader) -> float | None:
    """Return the NLL that a model had on rows it was not trained on, None where there were none."""
    metrics = header.metrics.get("validation") or header.metrics.get("test")
    return metrics.nll if metrics else None


def _meaning(header: ModelHeader) -> tuple[object, ...]:
    """Return what the numbers of a row are to a model."""
    inputs = tuple((resource.name, resource.unit) for resource in header.resources)
    return inputs, header.qos_metric, header.qos_unit, header.higher_is_better


def unfit(spec: SliceSpec, pool: PoolSpec | None, header: ModelHeader) -> str:
    """Return why a slice's telemetry tells nothing of a model, or nothing."""
    trained = (header.qos_metric, header.qos_unit, header.higher_is_better)
    if trained != (spec.sla.qos_metric, spec.sla.qos_unit, spec.sla.higher_is_better):
        return (
            f"slice {spec.slice} is about {spec.sla.qos_metric} in {spec.sla.qos_unit}, the model about "
            f"{header.qos_metric} in {header.qos_unit}"
        )
    if pool is None:
        return f"slice {spec.slice}: pool {spec.pool} is not known"
    for resource in header.resources:
        own = pool.resources.get(resource.name)
        if own is None or own.unit != resource.unit:
            has = f"in {own.unit}" if own else "not"
            return f"the model takes {resource.name} in {resource.unit}, pool {spec.pool} has it {has}"
    return ""
